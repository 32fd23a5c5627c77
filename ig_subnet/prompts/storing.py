"""Writing a database: every file is whole or not there; the same rows give the same Parquet file, byte for byte."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from ig_subnet.prompts.database import ARROW, MANIFEST, PARQUET, Manifest, file_digest
from ig_subnet.prompts.errors import DatabaseError

CHUNK_ROWS = 65_536  # of a Parquet row group and an Arrow batch
DIGEST_KEY = b"prompts.parquet.sha256"

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int64()),
        ("licence", pa.dictionary(pa.int32(), pa.string())),
        ("clip_tokens", pa.int16()),
        ("bert_tokens", pa.int16()),
        ("nsfw", pa.float32()),
    ]
)


def write_database(directory: Path, table: pa.Table, **facts: Any) -> Manifest:
    """Write a table of `SCHEMA` and its manifest (`facts` are the manifest's other fields).

    Each file is whole or not there, and the manifest, without which there is no database, comes last.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".curating-") as temporary:
        parquet = Path(temporary) / PARQUET
        _write_parquet(table, parquet)
        manifest = Manifest(prompts=len(table), sha256=file_digest(parquet), **facts)
        _write_arrow(table, Path(temporary) / ARROW, manifest.sha256)
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (Path(temporary) / MANIFEST).write_text(text, encoding="utf-8")
        (directory / MANIFEST).unlink(missing_ok=True)  # a cut from here on leaves no database, and never a mixed one
        for name in (PARQUET, ARROW, MANIFEST):
            _synchronise(Path(temporary) / name)
            (Path(temporary) / name).replace(directory / name)
    return manifest


def unpack(directory: Path, manifest: Manifest) -> None:
    """prompts.arrow out of prompts.parquet, once that is what the manifest says it is."""
    path = directory / PARQUET
    if not path.is_file():
        raise DatabaseError(f"{path} is missing; fetch it again or build the database again")
    if file_digest(path) != manifest.sha256:
        raise DatabaseError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}; fetch or build it again")
    table = pa.parquet.read_table(path)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".unpacking-") as temporary:
        _write_arrow(table, Path(temporary) / ARROW, manifest.sha256)
        _synchronise(Path(temporary) / ARROW)
        (Path(temporary) / ARROW).replace(directory / ARROW)


def _write_parquet(table: pa.Table, path: Path) -> None:
    """The same bytes for the same rows, however they are chunked."""
    names = ["source", "licence"]
    with pa.parquet.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=names) as writer:
        for start in range(0, len(table), CHUNK_ROWS):
            writer.write_table(table.slice(start, CHUNK_ROWS).combine_chunks(), row_group_size=CHUNK_ROWS)


def _write_arrow(table: pa.Table, path: Path, digest: str) -> None:
    schema = SCHEMA.with_metadata({DIGEST_KEY: digest.encode()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for start in range(0, len(table), CHUNK_ROWS):
            writer.write_table(table.slice(start, CHUNK_ROWS).combine_chunks(), max_chunksize=CHUNK_ROWS)


def _synchronise(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
