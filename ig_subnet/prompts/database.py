"""A curated prompt database on disk: distinct prompts, each with where it came from, and a manifest that tells how.

prompts.parquet and manifest.json are the database: the same bytes for the same sources and settings. prompts.arrow has
the same rows uncompressed, so that it is mapped into memory and any row is read in microseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from ig_subnet.prompts.errors import DatabaseError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = "prompts.parquet"
MANIFEST = "manifest.json"
ARROW = "prompts.arrow"


def prompt_id(text: str) -> str:
    """The first 16 hexadecimal digits of SHA-256 of the text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


@dataclass(frozen=True)
class Prompt:
    """A prompt of a database: `row` is where it first stands in `source`, counted from 0."""

    id: str
    text: str
    source: str
    row: int
    licence: str


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StepCount(_Record):
    """How many prompts entered a step of the curation, and what became of them."""

    step: str
    entered: int
    dropped: int
    kept: int


class SourceRecord(_Record):
    """A source as it was read: its settings, SHA-256 of each of its files, rows read and prompts kept."""

    name: str
    licence: str
    settings: dict[str, JsonValue]
    files: dict[str, str]
    rows: int
    kept: int


class Manifest(_Record):
    """What a database is and how it was made. `sha256` is that of prompts.parquet, hexadecimal."""

    format: Literal[1] = 1
    prompts: int
    sha256: str
    sources: tuple[SourceRecord, ...]
    curation: dict[str, JsonValue]
    steps: tuple[StepCount, ...]
    versions: dict[str, str]


class PromptDatabase:
    """A database that `curate` wrote. Positions are from 0 to `len`, in the order of the sources."""

    def __init__(self, manifest: Manifest, table: pa.Table) -> None:
        self.manifest = manifest
        self.table = table

    @classmethod
    def open(cls, directory: str | Path) -> PromptDatabase:
        """The database in a directory, mapped into memory: its size costs neither time nor memory.

        Where only prompts.parquet and manifest.json are there, prompts.arrow is made from them. Raises `DatabaseError`
        when it is not there, cut or damaged.
        """
        import pyarrow as pa

        from ig_subnet.prompts.storing import DIGEST_KEY, unpack

        directory = Path(directory)
        manifest = _read_manifest(directory)
        if not (directory / ARROW).is_file():
            unpack(directory, manifest)
        path = directory / ARROW
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise DatabaseError(f"{path} is damaged ({error}); remove it, it is made again from {PARQUET}") from error
        if (table.schema.metadata or {}).get(DIGEST_KEY) != manifest.sha256.encode() or len(table) != manifest.prompts:
            raise DatabaseError(f"{path} is not of the database that {MANIFEST} describes; remove it, it is made again")
        return cls(manifest, table)

    def __len__(self) -> int:
        return self.manifest.prompts

    @property
    def digest(self) -> str:
        """SHA-256 of prompts.parquet, hexadecimal: equal for equal databases on every machine."""
        return self.manifest.sha256

    def texts(self, positions: Iterable[int]) -> list[str]:
        """The prompts at these positions, in this order."""
        column = self.table["text"]
        return [column[int(position)].as_py() for position in positions]

    def prompts(self, positions: Iterable[int]) -> list[Prompt]:
        """The prompts at these positions, in this order, with where they came from.

        Raises `DatabaseError` for one whose text is not what its id says: then the file on disk has changed.
        """
        columns = [self.table[name] for name in ("id", "text", "source", "row", "licence")]
        found = [Prompt(*(column[int(position)].as_py() for column in columns)) for position in positions]
        for prompt in found:
            if prompt_id(prompt.text) != prompt.id:
                raise DatabaseError(f"{ARROW} is damaged at prompt {prompt.id}; remove it, it is made again")
        return found

    def batches(self, size: int) -> Iterator[list[str]]:
        """All prompts in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.table["text"].slice(start, size).to_pylist()


def _read_manifest(directory: Path) -> Manifest:
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DatabaseError(
            f"{directory} holds no prompt database: {MANIFEST} is missing; build one with scripts/build_prompt_index.py"
        ) from error
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DatabaseError(f"{path} is no manifest of a prompt database ({reason}); build it again") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
