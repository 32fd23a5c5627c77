"""This project's index, for prompts_benchmark.serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from prompts_benchmark.serve import Search

from ig_subnet import __version__
from ig_subnet.prompts.building import build_vector_index
from ig_subnet.prompts.index import Kind, VectorIndex


def build(vectors: Path, examples: Path, directory: Path, kind: Kind | Literal["auto"], threads: int) -> dict[str, Any]:
    """The embeddings are there already, as they are when a model has written them."""
    embeddings = directory / "embeddings.npy"
    embeddings.hardlink_to(vectors)
    stored, queries = np.load(embeddings, mmap_mode="r"), np.load(examples)
    manifest = build_vector_index(stored, directory, kind, queries=queries, threads=threads)
    return {
        "kind": manifest.kind,
        "parameters": manifest.parameters | {"width": manifest.width},
        "promised_recall": manifest.recall,
        "version": f"ig_subnet {__version__}, faiss {faiss.__version__}",
    }


def open_index(directory: Path, threads: int) -> Search:
    index = VectorIndex.open(directory, threads=threads)

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        return index.search(queries, k)[1]

    return search
