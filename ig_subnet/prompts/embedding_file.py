"""embeddings.npy: made chunk by chunk so that a cut run goes on, never taken for those of another model or database.

Embeddings are appended to embeddings.npy.part, which becomes embeddings.npy when it is whole; embeddings.json says from
the beginning what they are of. A run that was killed loses the chunk in flight.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from pydantic import ValidationError

from ig_subnet.prompts.embedding import Embedder
from ig_subnet.prompts.errors import PromptIndexError
from ig_subnet.prompts.index import BLOCK, EMBEDDINGS, INDEX_MANIFEST, EmbeddingRecord, embed_again, read_index_manifest

if TYPE_CHECKING:
    from ig_subnet.prompts.database import PromptDatabase

RECORD = "embeddings.json"
CHUNK = 2048  # prompts embedded between two writes: 1.5 to 4 s on two cores, and enough to sort by length


def embed_database(
    directory: Path, database: PromptDatabase, embedder: Embedder, record: EmbeddingRecord, *, progress: bool
) -> None:
    """Writes embeddings.npy, or what is missing of it. Raises `PromptIndexError` where other ones are there."""
    from tqdm import tqdm

    _check_embeddings(directory, record)
    if (directory / EMBEDDINGS).is_file():
        return
    write_text(directory / RECORD, record.model_dump_json(indent=2))
    part = directory / f"{EMBEDDINGS}.part"
    count, row_bytes = record.count, 2 * record.model.dimension
    with part.open("r+b" if part.is_file() else "w+b") as file:
        header = _write_header(file, (count, record.model.dimension))
        # Whole chunks only: what a batch is padded to shows in the last bit, and a resumed run shall give the same.
        done = max(0, part.stat().st_size - header) // row_bytes // CHUNK * CHUNK
        file.truncate(header + done * row_bytes)
        file.seek(0, os.SEEK_END)
        if done:
            logger.info("going on with {}: {} of {} prompts are embedded", part, done, count)
        with tqdm(total=count, initial=done, unit="prompt", desc="embedding", disable=not progress) as bar:
            for start in range(done, count, CHUNK):
                texts = database.texts(range(start, min(start + CHUNK, count)))
                file.write(_half_precision(embedder.embed(texts), start))
                file.flush()
                os.fsync(file.fileno())
                bar.update(len(texts))
    part.replace(directory / EMBEDDINGS)


def read_record(directory: Path) -> EmbeddingRecord | None:
    """What the embeddings in a directory, whole or cut, are of. None where nothing says so."""
    try:
        return EmbeddingRecord.model_validate_json((directory / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def _check_embeddings(directory: Path, record: EmbeddingRecord) -> None:
    """Raises `PromptIndexError` where embeddings, whole or cut, are of another model or database, or damaged."""
    whole = directory / EMBEDDINGS
    if not whole.is_file() and not (directory / f"{EMBEDDINGS}.part").is_file():
        return
    again = f"embed again ({embed_again(directory, record.model)}) or use another directory"
    found = read_record(directory)
    if found is None:
        raise PromptIndexError(f"{directory} has embeddings, and no {RECORD} that says what of; {again}")
    if found.model.fingerprint != record.model.fingerprint:
        raise PromptIndexError(f"{directory} is embedded with {found.model}, not with {record.model}; {again}")
    if (found.database, found.count) != (record.database, record.count):
        raise PromptIndexError(
            f"{directory} has embeddings of the database {found.database[:12]} with {found.count} prompts, not of the "
            f"present {record.database[:12]} with {record.count}; {again}"
        )
    if whole.is_file():
        try:
            embeddings = np.load(whole, mmap_mode="r", allow_pickle=False)
            if embeddings.shape != (record.count, record.model.dimension) or embeddings.dtype != np.float16:
                raise ValueError(f"{embeddings.dtype} {embeddings.shape}")
            if (directory / INDEX_MANIFEST).is_file():
                read_index_manifest(directory).embeddings.check(whole, completely=False)
        except (OSError, ValueError, PromptIndexError) as error:
            raise PromptIndexError(f"{whole} is damaged ({error}); {again}") from error


def store_embeddings(embeddings: NDArray, directory: Path) -> NDArray[np.float16]:
    """The memory map of embeddings.npy, which is written first unless `embeddings` is that."""
    if embeddings.ndim != 2 or not embeddings.size:
        raise ValueError(f"embeddings must be [N, D], not {list(embeddings.shape)}")
    path = directory / EMBEDDINGS
    if not (isinstance(embeddings, np.memmap) and path.is_file() and path.samefile(str(embeddings.filename))):
        (directory / RECORD).unlink(missing_ok=True)
        part = directory / f"{EMBEDDINGS}.part"
        with part.open("w+b") as file:
            _write_header(file, embeddings.shape)
            for start in range(0, len(embeddings), BLOCK):
                file.write(_half_precision(embeddings[start : start + BLOCK], start))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _half_precision(vectors: NDArray, start: int) -> bytes:
    """The vectors as float16, row by row. Raises `ValueError` naming the first that has no unit length."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 0.01))  # nan is wrong too
    if len(wrong):
        raise ValueError(f"embedding {start + wrong[0]} has the length {lengths[wrong[0]]:.3g} instead of 1")
    return vectors.astype("<f2").tobytes()


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> int:
    """The head of a .npy file of float16, at the beginning of the file; how many bytes it has."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return file.tell()


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
