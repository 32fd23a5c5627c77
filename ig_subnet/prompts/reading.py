"""Reading sources: batches of rows, so that nothing is loaded whole; a collection may have 14 million."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from loguru import logger

from ig_subnet.pocket.captions import pocket_captions
from ig_subnet.prompts.errors import DatabaseError, PromptConfigurationError
from ig_subnet.prompts.sources import BATCH_ROWS, HubSource, PocketCaptions, PromptFile, SourceConfig

Reader = Callable[[Path, pa.Schema, int], Iterator[list[pa.Array]]]

SCHEMA = pa.schema([("text", pa.string()), ("row", pa.int64()), ("nsfw", pa.float32())])


def source_files(config: SourceConfig) -> dict[str, Path]:
    """Files that a source is read from, by the name they were published under; from the hub if they have to be."""
    if isinstance(config, PocketCaptions):
        return {}
    if isinstance(config, PromptFile):
        found = {Path(config.path).name: Path(config.path).expanduser()}
    elif config.path is None:
        return {name: _download(config, name) for name in config.files}
    else:
        root = Path(config.path).expanduser()
        if not root.is_dir() and len(config.files) > 1:
            raise DatabaseError(
                f"{root} is no folder; a local copy of {config.repository} has {', '.join(config.files)}"
            )
        found = {name: root / name if root.is_dir() else root for name in config.files}
    for path in found.values():
        if not path.is_file():
            raise DatabaseError(f"prompt file {path} does not exist; check the source's path")
    return found


def read_source(
    config: SourceConfig, files: Mapping[str, Path] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Batches of `text` (string, null where missing), `row` (int64, from 0) and `nsfw` (float32, null where unknown).

    Rows are counted through all files of the source. `files` are its `source_files`, where the caller has them. Raises
    `DatabaseError` for what is missing or unreadable, `PromptConfigurationError` for a file of unknown kind.
    """
    row = 0
    for columns in _columns(config, source_files(config) if files is None else files, batch_rows):
        text, nsfw = columns if len(columns) == 2 else (columns[0], pa.nulls(len(columns[0]), pa.float32()))
        yield pa.record_batch([text, np.arange(row, row + len(text)), nsfw], schema=SCHEMA)
        row += len(text)


def _columns(config: SourceConfig, files: Mapping[str, Path], batch_rows: int) -> Iterator[list[pa.Array]]:
    """Prompts and, where the source has them, scores."""
    if isinstance(config, PocketCaptions):
        for texts in _batched(pocket_captions(config.count, config.seed), batch_rows):
            yield [pa.array(texts)]
        return
    columns = pa.schema([(config.column, pa.string())])
    if config.nsfw_column is not None:
        columns = columns.append(pa.field(config.nsfw_column, pa.float32()))
    for path in files.values():
        read = _reader(path)
        try:
            for text, *nsfw in read(path, columns, batch_rows):
                yield [_text(text, config.column), *map(_scores, nsfw)]
        except (OSError, ValueError) as error:  # JSON, Unicode and Arrow errors are ValueErrors
            raise DatabaseError(f"prompt file {path} cannot be read: {error}") from error


def _text(column: pa.Array, name: str) -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise ValueError(f"column {name!r} holds {kind}, not text")
    column.validate(full=True)  # that it is UTF-8
    return column.cast(pa.string())


def _scores(column: pa.Array) -> pa.Array:
    scores = column.cast(pa.float32())
    return pc.if_else(pc.is_nan(scores), None, scores)  # not a number is no score


def _reader(path: Path) -> Reader:
    readers: dict[str, Reader] = {
        ".txt": _read_lines,
        ".csv": _read_csv,
        ".jsonl": _read_json_lines,
        ".parquet": _read_parquet,
    }
    if path.suffix.lower() not in readers:
        raise PromptConfigurationError(f"prompt file {path} is of no known kind: use {', '.join(readers)}")
    return readers[path.suffix.lower()]


def _read_lines(path: Path, columns: pa.Schema, batch_rows: int) -> Iterator[list[pa.Array]]:
    if len(columns) > 1:
        raise ValueError(f"a text file has no column {columns.names[1]!r}")
    with path.open(encoding="utf-8-sig") as file:
        for lines in _batched(file, batch_rows):
            yield [pa.array(lines)]


def _read_csv(path: Path, columns: pa.Schema, batch_rows: int) -> Iterator[list[pa.Array]]:
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    convert = pa.csv.ConvertOptions(include_columns=columns.names, column_types=columns)
    try:
        with pa.csv.open_csv(path, parse_options=parse, convert_options=convert) as reader:
            for batch in reader:
                yield batch.columns
    except KeyError as error:
        raise ValueError(error.args[0]) from error


def _read_json_lines(path: Path, columns: pa.Schema, batch_rows: int) -> Iterator[list[pa.Array]]:
    with path.open("rb") as file:  # a field that no record has would only be null everywhere
        first = json.loads(next((line for line in file if line.strip()), b"{}"))
    for name in columns.names:
        if not isinstance(first, dict) or name not in first:
            raise ValueError(f"its first record is no object with the field {name!r}")
    parse = pa.json.ParseOptions(explicit_schema=columns, unexpected_field_behavior="ignore")
    with pa.json.open_json(path, parse_options=parse) as reader:
        for batch in reader:
            yield batch.columns


def _read_parquet(path: Path, columns: pa.Schema, batch_rows: int) -> Iterator[list[pa.Array]]:
    with pa.parquet.ParquetFile(path) as table:
        there = table.schema_arrow.names
        for name in columns.names:
            if name not in there:
                raise ValueError(f"no column {name!r}, only {', '.join(there)}")
        for batch in table.iter_batches(batch_rows, columns=columns.names):
            yield [batch[name] for name in columns.names]


def _batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _download(config: HubSource, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    logger.info("prompts: {} of {} at {}", name, config.repository, config.revision[:12])
    try:
        return Path(hf_hub_download(config.repository, name, repo_type="dataset", revision=config.revision))
    except (OSError, ValueError) as error:
        raise DatabaseError(
            f"cannot get {name} of {config.repository} at {config.revision[:12]}: {error}; check the network and "
            "HF_HUB_OFFLINE, or give the source the path of a local copy"
        ) from error
