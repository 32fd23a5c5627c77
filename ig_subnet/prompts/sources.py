"""Where prompts come from: published collections at a pinned commit, local files, and the pocket world's captions.

A source is chosen by the `source` field of its configuration. Each has a `name` that says which version of what it is,
and the `licence` that its publisher states. Nothing is loaded whole: a source of 14 million rows is read in batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from loguru import logger
from pydantic import BaseModel, ConfigDict, Field

from ig_subnet.prompts.errors import DatabaseError, PromptConfigurationError

BATCH_ROWS = 8192
ROW_SCHEMA = pa.schema([("text", pa.string()), ("row", pa.int64()), ("nsfw", pa.float32())])


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PocketCaptions(_Source):
    """Captions of the pocket world: always the same ones for a seed; a longer list begins with the shorter one."""

    licence: ClassVar[str] = "MIT"

    source: Literal["pocket_captions"] = "pocket_captions"
    count: int = Field(2000, ge=1, le=10_000)
    seed: int = Field(0, ge=0)

    @property
    def name(self) -> str:
        return f"pocket_captions(seed={self.seed})"


class _HubSource(_Source):
    """Parquet files of a Hugging Face data set at a commit, or a local copy of them.

    `path` is a folder that is laid out as the repository is, or the file itself where there is only one. Then the hub
    is not asked, and the name claims no revision.
    """

    repository: ClassVar[str]
    licence: ClassVar[str]
    column: ClassVar[str] = "prompt"
    nsfw_column: ClassVar[str | None] = None

    revision: str = Field(pattern="^[0-9a-f]{40}$")  # a branch or a tag can move
    path: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Paths in the repository, in the order in which they are read."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        version = self.repository if self.path else f"{self.repository}@{self.revision[:12]}"
        return f"{version}/{'+'.join(Path(file).stem for file in self.files)}"


class ImageRewardDB(_HubSource):
    """Prompts of ImageRewardDB (Xu et al., https://arxiv.org/abs/2304.05977); a row is an image, so they repeat."""

    repository: ClassVar[str] = "zai-org/ImageRewardDB"
    licence: ClassVar[str] = "Apache-2.0"

    source: Literal["image_reward_db"] = "image_reward_db"
    splits: tuple[Literal["train", "validation", "test"], ...] = Field(("train", "validation", "test"), min_length=1)
    revision: str = Field("ce70065c88f101956e294bb65f78879ef89d68f9", pattern="^[0-9a-f]{40}$")

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"metadata-{split}.parquet" for split in self.splits)


class DiffusionDB(_HubSource):
    """Prompts of DiffusionDB (Wang et al., https://arxiv.org/abs/2210.14896); a row is an image, so they repeat.

    `metadata.parquet` has 2 million rows (1.5 million prompts, 195 MB), `metadata-large.parquet` 14 million (1.8
    million prompts, 825 MB). `prompt_nsfw` is a text classifier's estimate in [0, 1] that a prompt is toxic or sexual.
    `image_nsfw` is not used: it judges one image of a prompt, and 2.0 in it marks one that had been blurred.
    """

    repository: ClassVar[str] = "poloclub/diffusiondb"
    licence: ClassVar[str] = "CC0-1.0"
    nsfw_column: ClassVar[str | None] = "prompt_nsfw"

    source: Literal["diffusion_db"] = "diffusion_db"
    file: Literal["metadata.parquet", "metadata-large.parquet"] = "metadata.parquet"
    revision: str = Field("100e6df7a779ef015ff6f2c4c93284466afb06cc", pattern="^[0-9a-f]{40}$")

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,)


class StableDiffusionPrompts(_HubSource):
    """The 73,718 training rows of Gustavosta/Stable-Diffusion-Prompts, collected from lexica.art."""

    repository: ClassVar[str] = "Gustavosta/Stable-Diffusion-Prompts"
    licence: ClassVar[str] = "unknown"  # as its card says
    column: ClassVar[str] = "Prompt"

    source: Literal["stable_diffusion_prompts"] = "stable_diffusion_prompts"
    revision: str = Field("f40484704ca5bdeb389483123ba017897f1bfcdc", pattern="^[0-9a-f]{40}$")

    @property
    def files(self) -> tuple[str, ...]:
        return ("data/train.parquet",)


class PromptFile(_Source):
    """A local .txt (one prompt a line), .csv, .jsonl or .parquet file; tables have their prompts in `column`."""

    source: Literal["file"] = "file"
    path: str
    column: str = "prompt"
    name: str = Field(default_factory=lambda fields: Path(fields.get("path", "")).name, min_length=1)
    licence: str = "unknown"


HubSource = ImageRewardDB | DiffusionDB | StableDiffusionPrompts
SourceConfig = Annotated[PocketCaptions | HubSource | PromptFile, Field(discriminator="source")]


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
    config: SourceConfig, files: dict[str, Path] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Batches of `text` (string, null where missing), `row` (int64, from 0) and `nsfw` (float32, null where unknown).

    Rows are counted through all files of the source. `files` are its `source_files`, where the caller has them. Raises
    `DatabaseError` for what is missing or unreadable, `PromptConfigurationError` for a file of unknown kind.
    """
    offset = 0
    for text, nsfw in _columns(config, source_files(config) if files is None else files, batch_rows):
        rows = pa.array(range(offset, offset + len(text)), pa.int64())
        scores = pa.nulls(len(text), pa.float32()) if nsfw is None else _scores(nsfw)
        yield pa.record_batch([text.cast(pa.string()), rows, scores], schema=ROW_SCHEMA)
        offset += len(text)


def _columns(
    config: SourceConfig, files: dict[str, Path], batch_rows: int
) -> Iterator[tuple[pa.Array, pa.Array | None]]:
    """Prompts and, where the source has them, scores."""
    if isinstance(config, PocketCaptions):
        from ig_subnet.pocket.captions import pocket_captions

        for texts in _batched(pocket_captions(config.count, config.seed), batch_rows):
            yield pa.array(texts, pa.string()), None
        return
    for path in files.values():
        try:
            if isinstance(config, PromptFile):
                for text in _reader(path)(path, config.column, batch_rows):
                    yield text, None
            else:
                names = [config.column] if config.nsfw_column is None else [config.column, config.nsfw_column]
                for columns in _read_parquet_columns(path, names, batch_rows):
                    yield columns[0], columns[1] if config.nsfw_column else None
        except (OSError, ValueError) as error:  # JSON, Unicode and Arrow errors are ValueErrors
            raise DatabaseError(f"prompt file {path} cannot be read: {error}") from error


def _scores(column: pa.Array) -> pa.Array:
    scores = column.cast(pa.float32())
    return pc.if_else(pc.is_nan(scores), None, scores)  # not a number is no score, and no number is below a limit


def _reader(path: Path) -> Any:
    readers = {".txt": _read_lines, ".csv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise PromptConfigurationError(f"prompt file {path} is of no known kind: use {', '.join(readers)}")
    return readers[path.suffix.lower()]


def _read_lines(path: Path, column: str, batch_rows: int) -> Iterator[pa.Array]:
    with path.open(encoding="utf-8-sig") as file:
        for lines in _batched(file, batch_rows):
            yield pa.array(lines, pa.string())


def _read_csv(path: Path, column: str, batch_rows: int) -> Iterator[pa.Array]:
    from pyarrow import csv

    parse = csv.ParseOptions(newlines_in_values=True)
    convert = csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
    try:
        with csv.open_csv(path, parse_options=parse, convert_options=convert) as reader:
            for batch in reader:
                yield batch.column(0)
    except KeyError as error:
        raise ValueError(f"no column {column!r}") from error


def _read_json_lines(path: Path, column: str, batch_rows: int) -> Iterator[pa.Array]:
    import json

    from pyarrow import json as arrow_json

    with path.open("rb") as file:  # a field that no record has would be null everywhere
        first = json.loads(next((line for line in file if line.strip()), b"{}"))
    if not isinstance(first, dict) or column not in first:
        raise ValueError(f"its first record is no object with the field {column!r}")
    parse = arrow_json.ParseOptions(
        explicit_schema=pa.schema([(column, pa.string())]), unexpected_field_behavior="ignore"
    )
    with arrow_json.open_json(path, parse_options=parse) as reader:
        for batch in reader:
            yield batch.column(0)


def _read_parquet(path: Path, column: str, batch_rows: int) -> Iterator[pa.Array]:
    for (text,) in _read_parquet_columns(path, [column], batch_rows):
        yield text


def _read_parquet_columns(path: Path, names: list[str], batch_rows: int) -> Iterator[list[pa.Array]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as table:
        there = table.schema_arrow.names
        missing = [name for name in names if name not in there]
        if missing:
            raise ValueError(f"no column {missing[0]!r}, only {', '.join(there)}")
        for batch in table.iter_batches(batch_rows, columns=names):
            yield [batch.column(name) for name in names]


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
