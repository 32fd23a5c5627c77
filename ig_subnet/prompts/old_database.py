"""Prompt databases: distinct prompts, each with the row of the source it came from.

A source is chosen from three kinds by its `source` field in the configuration: the captions of the pocket world, the
prompts of ImageRewardDB, or any local text, CSV, JSON Lines or Parquet file.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from loguru import logger
from pydantic import BaseModel, ConfigDict, Field

from ig_subnet.prompts.errors import DatabaseError, PromptConfigurationError


class PocketCaptions(BaseModel):
    """Captions of the pocket world: always the same ones for a count and a seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["pocket_captions"]
    count: int = Field(2000, ge=1, le=100_000)
    seed: int = 0


class ImageRewardDB(BaseModel):
    """Prompts of zai-org/ImageRewardDB (Xu et al., https://arxiv.org/abs/2304.05977), from its metadata tables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["image_reward_db"]
    splits: tuple[Literal["train", "validation", "test"], ...] = Field(("train", "validation", "test"), min_length=1)
    revision: str = "main"


class PromptFile(BaseModel):
    """A local .txt (one prompt a line), .csv, .jsonl or .parquet file; tables have their prompts in `column`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["file"]
    path: str
    column: str = "prompt"


MAX_CHARACTERS = 1024  # the longest prompt that a synapse carries

DatabaseConfig = Annotated[PocketCaptions | ImageRewardDB | PromptFile, Field(discriminator="source")]


@dataclass(frozen=True)
class PromptDatabase:
    """Distinct, non-empty prompts. `rows[i]` is where `texts[i]` first stands in `source`."""

    source: str
    texts: tuple[str, ...]
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the prompts in their order, hexadecimal."""
        return hashlib.sha256("\0".join(self.texts).encode("utf-8", "surrogatepass")).hexdigest()


def load_database(config: PocketCaptions | ImageRewardDB | PromptFile) -> PromptDatabase:
    """The database that a configuration describes. Raises `DatabaseError` when it is missing, unreadable or empty."""
    if isinstance(config, PocketCaptions):
        from ig_subnet.pocket.captions import pocket_captions

        return collect(f"pocket_captions(seed={config.seed})", pocket_captions(config.count, config.seed))
    if isinstance(config, ImageRewardDB):
        return collect(f"zai-org/ImageRewardDB@{config.revision}", _image_reward_prompts(config))
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise DatabaseError(f"prompt file {path} does not exist; check database.path")
    return collect(path.name, read_prompts(path, config.column))


def collect(source: str, prompts: Iterable[object]) -> PromptDatabase:
    """A database of the prompts: outer white space stripped; empty, repeated and too long ones dropped; order kept."""
    first_row: dict[str, int] = {}
    too_long = 0
    for row, prompt in enumerate(prompts):
        text = prompt.strip() if isinstance(prompt, str) else ""
        if len(text) > MAX_CHARACTERS:
            too_long += 1
        elif text:
            first_row.setdefault(text, row)
    if too_long:
        logger.warning("{}: {} prompts of over {} characters dropped", source, too_long, MAX_CHARACTERS)
    if not first_row:
        raise DatabaseError(f"{source} holds no prompts")
    return PromptDatabase(source, tuple(first_row), tuple(first_row.values()))


def read_prompts(path: Path, column: str) -> Iterator[Any]:
    """Prompts of a file in its order; what is not text (a missing value) is passed on and dropped later."""
    readers = {".txt": _read_lines, ".csv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise PromptConfigurationError(f"prompt file {path} is of no known kind: use {', '.join(readers)}")
    try:
        yield from readers[path.suffix.lower()](path, column)
    except (OSError, ValueError, csv.Error) as error:  # JSON, Unicode and Arrow errors are ValueErrors
        raise DatabaseError(f"prompt file {path} cannot be read: {error}") from error


def _read_lines(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file


def _read_csv(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if column not in (reader.fieldnames or ()):
            raise ValueError(f"no column {column!r}, only {', '.join(reader.fieldnames or ['none'])}")
        yield from (row[column] for row in reader)


def _read_json_lines(path: Path, column: str) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            record = json.loads(line)
            if not isinstance(record, dict) or column not in record:
                raise ValueError(f"line {number} is no object with the field {column!r}")
            yield record[column]


def _read_parquet(path: Path, column: str) -> Iterator[Any]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as table:
        names = table.schema_arrow.names
        if column not in names:
            raise ValueError(f"no column {column!r}, only {', '.join(names)}")
        for batch in table.iter_batches(columns=[column]):
            yield from batch.column(0).to_pylist()


def _image_reward_prompts(config: ImageRewardDB) -> Iterator[Any]:
    from huggingface_hub import hf_hub_download

    for split in config.splits:
        name = f"metadata-{split}.parquet"
        try:
            path = hf_hub_download("zai-org/ImageRewardDB", name, repo_type="dataset", revision=config.revision)
        except (OSError, ValueError) as error:
            raise DatabaseError(
                f"cannot get {name} of zai-org/ImageRewardDB at {config.revision}: {error}; check the network and "
                "HF_HUB_OFFLINE, or use a local file (database: {source: file, path: ...})"
            ) from error
        yield from read_prompts(Path(path), "prompt")
