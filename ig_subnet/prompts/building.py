"""Builds an index directory: embeds its database, chooses the kind of search by size, tunes it, measures its recall."""

from __future__ import annotations

import fcntl
import math
import os
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from ig_subnet.prompts.embedding import Embedder
from ig_subnet.prompts.embedding_file import RECORD, embed_database, store_embeddings, write_text
from ig_subnet.prompts.errors import PromptIndexError
from ig_subnet.prompts.index import (
    BLOCK,
    EMBEDDINGS,
    INDEX_MANIFEST,
    STRUCTURE,
    EmbeddingRecord,
    IndexManifest,
    Kind,
    StoredFile,
    VectorIndex,
    search_exactly,
    search_structure,
)

if TYPE_CHECKING:
    import faiss

    from ig_subnet.prompts.database import PromptDatabase

LOCK = "build.lock"

FLAT_VALUES = 16_000_000  # N x D: an exact search takes 1.1 ms on one core of an AMD EPYC with AVX-512
POINTS_PER_LIST, ITERATIONS = 39, 5  # of k-means: recall at 100 thousand as with 64 and 10, in 1.8 s instead of 5.4
NEIGHBOURS, CONSTRUCTION = 32, 80  # of the graph

RECALL_AT = 100
TARGET_RECALL = 0.97  # tuned to 0.965, other topics found 0.960 at 100 thousand embeddings; chromadb finds 0.959 there
QUERIES = 256  # of each kind: half of them tune, the other half measure
NOISE = 0.75  # length of the noise added to a vector of the database to make a query: cosine 0.8 to it
TOPIC_WORDS = 4  # of a prompt, after "a image of": as general as a topic

SEED = 0


def build_index(
    directory: str | Path,
    embedder: Embedder,
    kind: Kind | Literal["auto"] = "auto",
    *,
    progress: bool = False,
    threads: int | None = None,
    fresh: bool = False,
    wait_seconds: float = 0.0,
) -> IndexManifest:
    """Embeds the database of the directory and indexes it; goes on where an earlier run was cut.

    What is there already and right is kept, so that a finished index costs nothing and another `kind` no embedding.
    `fresh` drops embeddings of another model or database, which are an error otherwise. Raises `DatabaseError` or
    `PromptIndexError`, the latter too when another process still builds there after `wait_seconds`.
    """
    from ig_subnet.prompts.database import PromptDatabase

    directory = Path(directory)
    database = PromptDatabase.open(directory)
    record = EmbeddingRecord(model=embedder.identity, database=database.digest, count=len(database))
    with locked(directory, wait_seconds):
        if fresh:
            for name in (INDEX_MANIFEST, STRUCTURE, EMBEDDINGS, f"{EMBEDDINGS}.part", RECORD):
                (directory / name).unlink(missing_ok=True)
        elif (finished := _finished(directory, record, kind)) is not None:
            return finished
        embed_database(directory, database, embedder, record, progress=progress)
        embeddings = np.load(directory / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
        resolved = choose_kind(len(embeddings), record.model.dimension) if kind == "auto" else kind
        topics = None if resolved == "flat" else topic_queries(database, embedder)
        return build_vector_index(embeddings, directory, resolved, queries=topics, record=record, threads=threads)


def _finished(directory: Path, record: EmbeddingRecord, kind: str) -> IndexManifest | None:
    """The manifest of the index that is there, if it is whole, of this record and of this kind."""
    if not (directory / INDEX_MANIFEST).is_file():
        return None
    try:
        index = VectorIndex.open(directory, record.model)
    except PromptIndexError as error:
        logger.warning("{}", error)
        return None
    wanted = choose_kind(record.count, record.model.dimension) if kind == "auto" else kind
    return index.manifest if (index.manifest.embedding, index.manifest.kind) == (record, wanted) else None


@contextmanager
def locked(directory: Path, wait_seconds: float) -> Iterator[None]:
    """Keeps other processes from building in the directory. The lock ends with its process, however that ends."""
    deadline = time.monotonic() + wait_seconds
    with (directory / LOCK).open("wb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    raise PromptIndexError(
                        f"another process is building an index in {directory}: wait for it, or use another directory"
                    ) from None
                time.sleep(0.1)
        yield


def build_vector_index(
    embeddings: NDArray[np.float16] | NDArray[np.float32],
    directory: str | Path,
    kind: Kind | Literal["auto"] = "auto",
    *,
    queries: NDArray[np.float32] | None = None,
    record: EmbeddingRecord | None = None,
    threads: int | None = None,
) -> IndexManifest:
    """Indexes embeddings [N, D] of unit length, and measures what the search finds of the exact nearest.

    The directory has embeddings.npy (not written again if `embeddings` is its memory map), index.faiss and index.json
    afterwards. The search is tuned and measured with noisy copies of embeddings and with `queries` float32 [Q, D],
    which are like those to come, two at least; `record` says what was embedded. Uses 1 GB beside the index of 2 million
    embeddings at 768 dimensions. Raises `ValueError` for embeddings that are none.
    """
    import faiss

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / INDEX_MANIFEST).unlink(missing_ok=True)
    faiss.omp_set_num_threads(threads or faiss.omp_get_max_threads())
    vectors = store_embeddings(embeddings, directory)
    if kind == "auto":
        kind = choose_kind(*vectors.shape)
    logger.info("building a search structure of kind {} over {} x {} embeddings", kind, *vectors.shape)
    structure, parameters = _make(kind, vectors)
    for start in range(0, len(vectors), BLOCK):
        structure.add(vectors[start : start + BLOCK].astype(np.float32))
    part = directory / f"{STRUCTURE}.part"
    faiss.write_index(structure, str(part))
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(directory / STRUCTURE)

    samples = {"noisy": noisy_queries(vectors)} | ({} if queries is None else {"topics": queries})
    width, recall = _tune(kind, structure, parameters, vectors, samples)
    manifest = IndexManifest(
        count=len(vectors),
        dimension=vectors.shape[1],
        kind=kind,
        parameters=parameters,
        width=width,
        recall=recall,
        recall_at=min(RECALL_AT, len(vectors)),
        recall_queries=sum(len(sample[1::2]) for sample in samples.values()),
        embedding=record,
        structure=StoredFile.of(directory / STRUCTURE),
        embeddings=StoredFile.of(directory / EMBEDDINGS),
        versions={name: version(name) for name in ("faiss-cpu", "numpy", "sentence-transformers", "torch")},
    )
    write_text(directory / INDEX_MANIFEST, manifest.model_dump_json(indent=2))
    return manifest


def choose_kind(count: int, dimension: int) -> Kind:
    """Exact search as long as it takes about a millisecond, inverted lists beyond.

    A graph over 100 thousand embeddings of prompts (384 dimensions) answers in half the time that lists of the same
    recall take, and takes three times as long to build. Embedding a topic takes 10 ms, so the graph is for those who
    ask for it.
    """
    return "flat" if count * dimension <= FLAT_VALUES else "ivf"


def _make(kind: Kind, vectors: NDArray[np.float16]) -> tuple[faiss.Index, dict[str, int]]:
    """An empty search structure, trained on a sample, and its parameters."""
    import faiss

    count, dimension = vectors.shape
    quantizer, metric = faiss.ScalarQuantizer, faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return faiss.IndexScalarQuantizer(dimension, quantizer.QT_fp16, metric), {}
    lists = min(2 ** round(math.log2(4 * math.sqrt(count))), max(1, count // 39))  # faiss wants 39 points a centroid
    rows = np.random.default_rng(SEED).choice(count, min(count, POINTS_PER_LIST * lists), replace=False)
    sample = vectors[np.sort(rows)].astype(np.float32)
    if kind == "hnsw":
        structure = faiss.IndexHNSWSQ(dimension, quantizer.QT_8bit, NEIGHBOURS, metric)
        structure.hnsw.efConstruction = CONSTRUCTION
        parameters = {"neighbours": NEIGHBOURS, "construction": CONSTRUCTION}
    else:
        pieces = dimension // 2 if dimension % 2 == 0 else dimension  # each is a code of 4 bits
        structure = faiss.IndexIVFPQFastScan(faiss.IndexFlatIP(dimension), dimension, lists, pieces, 4, metric)
        structure.pq.cp.min_points_per_centroid = 1
        sample = np.resize(sample, (max(len(sample), 16), dimension))  # a code has 16 values, each from a point
        structure.cp.niter = ITERATIONS
        structure.cp.min_points_per_centroid, structure.cp.max_points_per_centroid = 1, POINTS_PER_LIST
        parameters = {"lists": lists}
    structure.train(sample)
    return structure, parameters


def _tune(
    kind: Kind,
    structure: faiss.Index,
    parameters: Mapping[str, int],
    vectors: NDArray[np.float16],
    samples: Mapping[str, NDArray[np.float32]],
) -> tuple[int, dict[str, float]]:
    """The least width that reaches the target with the even queries of every sample; its recall with the odd ones."""
    k = min(RECALL_AT, len(vectors))
    together = search_exactly(vectors, np.concatenate(list(samples.values())), k)[1]  # one pass over the embeddings
    ends = np.cumsum([len(queries) for queries in samples.values()])[:-1]
    exact = dict(zip(samples, np.split(together, ends), strict=True))

    def recall(width: int, half: int) -> dict[str, float]:
        found = {}
        for name, queries in samples.items():
            _, positions = search_structure(structure, kind, vectors.__getitem__, queries[half::2], k, width)
            found[name] = recall_of(positions, exact[name][half::2])
        return found

    widest = parameters.get("lists", len(vectors))
    narrowest = 1 if kind == "ivf" else k
    steps = range(math.ceil(4 * math.log2(widest / narrowest)) + 1)
    widths = [1] if kind == "flat" else sorted({min(widest, round(narrowest * 2 ** (step / 4))) for step in steps})
    best = bisect_left(widths, TARGET_RECALL, key=lambda width: min(recall(width, half=0).values()))
    if best == len(widths):
        logger.warning("no search of kind {} reaches a recall of {}; taking the widest", kind, TARGET_RECALL)
        best -= 1
    return widths[best], {name: round(share, 4) for name, share in recall(widths[best], half=1).items()}


def recall_of(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    """The share of the exact positions [Q, k] that are among those found [Q, k], in [0, 1]."""
    common = (len(np.intersect1d(one, other)) for one, other in zip(found, exact, strict=True))
    return sum(common) / exact.size


def noisy_queries(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """float32 [Q, D] of unit length: embeddings with noise, cosine about 0.8 to themselves; the same each time."""
    rng = np.random.default_rng(SEED)
    queries = vectors[np.sort(rng.integers(0, len(vectors), QUERIES))].astype(np.float32)
    queries += NOISE / math.sqrt(vectors.shape[1]) * rng.standard_normal(queries.shape, dtype=np.float32)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True)


def topic_queries(database: PromptDatabase, embedder: Embedder) -> NDArray[np.float32]:
    """float32 [Q, D]: embeddings of topics made of the first words of some prompts; the same each time."""
    positions = np.random.default_rng(SEED).integers(0, len(database), QUERIES).tolist()
    return embedder.embed([f"a image of {' '.join(text.split()[:TOPIC_WORDS])}" for text in database.texts(positions)])
