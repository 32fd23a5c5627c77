"""The embeddings of a database, computed once and kept on disk, and exact search among them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from ig_subnet.prompts.embedding import SentenceEmbedder
from ig_subnet.prompts.old_database import PromptDatabase


def default_cache_directory() -> Path:
    """Where indexes are kept unless told otherwise: ig_subnet/prompts under XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ig_subnet" / "prompts"


def cached_embeddings(database: PromptDatabase, embedder: SentenceEmbedder, directory: Path) -> NDArray[np.float32]:
    """Unit embeddings float32 [N, D] of the database: read from `directory`, or computed and written there.

    The file is named after the model's and the database's fingerprints, so that neither can change under it. A file
    that is cut or damaged is computed again.
    """
    path = directory / f"{embedder.fingerprint[:16]}-{database.digest[:16]}.npy"
    if path.is_file():
        try:
            return _read(path, len(database))
        except (OSError, EOFError, ValueError) as error:
            logger.warning("prompt index {} is damaged ({}); computing it again", path, error)
    logger.info("embedding {} prompts of {} with {}", len(database), database.source, embedder.name)
    embeddings = embedder.embed(database.texts, progress=True)
    _write(path, embeddings)
    return embeddings


def _read(path: Path, count: int) -> NDArray[np.float32]:
    embeddings = np.load(path, allow_pickle=False)
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or len(embeddings) != count:
        raise ValueError(f"expected {count} rows of float32, found {embeddings.dtype} {embeddings.shape}")
    if not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-4):
        raise ValueError("its vectors are not of unit length")
    return embeddings


def _write(path: Path, embeddings: NDArray[np.float32]) -> None:
    """All or nothing: another process, or the next start, never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".part", delete=False) as file:
        try:
            np.save(file, embeddings)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    Path(file.name).replace(path)


class FlatIndex:
    """Exact search by cosine similarity over unit vectors (faiss IndexFlatIP)."""

    def __init__(self, embeddings: NDArray[np.float32]) -> None:
        import faiss

        self._index = faiss.IndexFlatIP(embeddings.shape[1])
        self._index.add(np.ascontiguousarray(embeddings))

    def search(self, query: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """(position, cosine) of the `k` nearest to a query float32 [D], nearest first; equal ones in database order."""
        similarities, positions = self._index.search(query[None, :], k)
        found = zip(positions[0].tolist(), similarities[0].tolist(), strict=True)
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))
