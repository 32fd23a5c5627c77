"""chromadb as its users have it: a persistent client, its defaults, cosine. Runs in an environment of its own.

python3.11 -m venv DIR && DIR/bin/pip install -r scripts/prompts_benchmark/requirements-chromadb.txt
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.config import Settings
from numpy.typing import NDArray
from prompts_benchmark.serve import Search

COLLECTION = "prompts"


def _client(directory: Path) -> Any:
    return chromadb.PersistentClient(str(directory), Settings(anonymized_telemetry=False))


def build(vectors: Path, examples: Path, directory: Path, kind: str, threads: int) -> dict[str, Any]:
    every = np.load(vectors, mmap_mode="r")
    client = _client(directory)
    collection = client.create_collection(
        COLLECTION,
        configuration={"hnsw": {"space": "cosine", "num_threads": threads}},
        embedding_function=None,  # the vectors are given; its default would fetch a model
    )
    size = client.get_max_batch_size()
    for start in range(0, len(every), size):
        batch = every[start : start + size].astype(np.float32)
        collection.add(ids=[str(start + offset) for offset in range(len(batch))], embeddings=batch)
    settings = collection.configuration["hnsw"]
    parameters = {name: settings[name] for name in ("ef_construction", "ef_search", "max_neighbors")}
    return {"kind": "hnsw", "parameters": parameters, "version": f"chromadb {chromadb.__version__}"}


def open_index(directory: Path, threads: int) -> Search:
    """Threads were fixed when it was built. Positions and distances are asked for, not the texts."""
    collection = _client(directory).get_collection(COLLECTION, embedding_function=None)

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        answer = collection.query(query_embeddings=queries, n_results=k, include=["distances"])
        return np.array(answer["ids"], dtype=np.int64)

    return search
