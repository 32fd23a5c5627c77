"""Exact search by a matrix product of numpy, all vectors in memory as float32: what every index has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prompts_benchmark.serve import Search

VECTORS = "vectors.npy"


def build(vectors: Path, examples: Path, directory: Path, kind: str, threads: int) -> dict[str, Any]:
    (directory / VECTORS).hardlink_to(vectors)
    return {"kind": kind, "version": f"numpy {np.__version__}"}


def open_index(directory: Path, threads: int) -> Search:
    """Threads are those of the matrix product, set by the process's environment."""
    vectors = np.load(directory / VECTORS, mmap_mode="r").astype(np.float32)

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        similarities = queries @ vectors.T
        nearest = np.argpartition(similarities, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(similarities, nearest, axis=1), axis=1, kind="stable")
        return np.take_along_axis(nearest, order, axis=1)

    return search
