"""Search among the embeddings of a database: an index directory, mapped into memory, that knows its own recall.

    embeddings.npy   float16 [N, D] of unit length, in the order of the database
    index.faiss      the search structure: flat (exact), hnsw (a graph) or ivf (inverted lists of 2-bit codes)
    index.json       what both are: model, database, kind, parameters, measured recall, sizes and digests

`building` writes it, index.json last. Opening maps the files and reads 33 MiB of each at most: what is cut, mixed up or
of another model is an error that names the command that mends it.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ig_subnet.prompts.embedding import ModelIdentity
from ig_subnet.prompts.errors import PromptIndexError

if TYPE_CHECKING:
    import faiss

EMBEDDINGS = "embeddings.npy"
STRUCTURE = "index.faiss"
INDEX_MANIFEST = "index.json"
BUILD = "python scripts/build_prompt_index.py build --out"

Kind = Literal["flat", "hnsw", "ivf"]
Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Similarities [Q, k] and positions [Q, k], nearest first."""

BLOCK = 65_536  # vectors that are float32 at a time: 200 MB at 768 dimensions
HEAD, TAIL = 32 << 20, 1 << 20  # bytes read at opening: headers, centroids, sizes of lists; and where a cut file ends
CANDIDATES = {"flat": 1, "hnsw": 1, "ivf": 6}
"""How many a structure names for each one wanted, to be compared by their embeddings. Of the recall, 2-bit codes lose
0.001 with 3 at 100 thousand embeddings of prompts and 0.013 at 2 million synthetic ones; with 6 nothing and 0.001."""
MAPPED_BYTES = 256 << 20  # of larger embeddings single vectors are read: 600 in 0.7 ms instead of 0.1, see `_read`
FEW_ALLOWED = 2048  # compared one by one in 2 ms (384 dimensions); of 100 thousand, lists take 1.5 ms to find these few
FAR_ALLOWED = (
    4  # times as wide with a filter: recall 0.96 instead of 0.90 (2) where it leaves the half far from the query
)
FEW_OF_A_GRAPH = 0.2  # below this share of allowed vectors a graph leads through others for most of its time


class StoredFile(BaseModel):
    """A file as it was written. `ends` is the SHA-256 of its first 32 MiB and its last MiB, quick to check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str
    ends: str

    @classmethod
    def of(cls, path: Path) -> Self:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(bytes=path.stat().st_size, sha256=sha256, ends=_ends(path))

    def check(self, path: Path, *, completely: bool) -> None:
        """Raises `PromptIndexError` when the file is missing or not what was written; `completely` reads all of it."""
        try:
            size = path.stat().st_size
            same = size == self.bytes and (StoredFile.of(path) == self if completely else _ends(path) == self.ends)
        except OSError as error:
            raise PromptIndexError(f"{path} cannot be read ({error.strerror}); {BUILD} {path.parent}") from error
        if not same:
            what = f"has {size} bytes instead of {self.bytes}" if size != self.bytes else "is not what was written"
            raise PromptIndexError(f"{path} is damaged: it {what}; make it again: {BUILD} {path.parent}")


def _ends(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(HEAD))
        file.seek(max(0, path.stat().st_size - TAIL))
        digest.update(file.read(TAIL))
    return digest.hexdigest()


class EmbeddingRecord(BaseModel):
    """What embeddings are of: the model, the SHA-256 of the database's prompts.parquet, and how many there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelIdentity
    database: str
    count: int = Field(ge=1)


class IndexManifest(BaseModel):
    """index.json. `recall` is the share of the exact `recall_at` nearest that a search finds, by kind of query."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    count: int = Field(ge=1)
    dimension: int = Field(ge=1)
    kind: Kind
    parameters: dict[str, int]
    width: int = Field(ge=1)
    """What a search looks at, tuned when the index was built: lists (ivf), candidates (hnsw); 1 where all are."""
    recall: dict[str, float]
    recall_at: int
    recall_queries: int
    embedding: EmbeddingRecord | None
    """None for an index of bare vectors, without texts."""
    structure: StoredFile
    embeddings: StoredFile
    versions: dict[str, str]

    @property
    def disk_bytes(self) -> int:
        return self.structure.bytes + self.embeddings.bytes


def embed_again(directory: Path, model: ModelIdentity) -> str:
    """The command that replaces the embeddings of a directory by those of a model."""
    revision = f" --revision {model.revision}" if model.revision else ""
    return f"{BUILD} {directory} --fresh --model {model.name}{revision} --dtype {model.dtype}"


def read_index_manifest(directory: Path) -> IndexManifest:
    """Raises `PromptIndexError` when there is no index, its build was cut, or index.json is not one of ours."""
    path = directory / INDEX_MANIFEST
    try:
        return IndexManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        begun = "its build was cut" if any(directory.glob(f"{EMBEDDINGS}*")) else "nothing has been built there"
        raise PromptIndexError(f"{directory} holds no index: {begun}; {BUILD} {directory}") from error
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise PromptIndexError(f"{path} is damaged ({reason}); make it again: {BUILD} {directory}") from error


class VectorIndex:
    """Nearest neighbours by cosine in an index directory. Safe to search from several threads."""

    def __init__(self, manifest: IndexManifest, structure: faiss.Index, embeddings: np.memmap, threads: int) -> None:
        self.manifest = manifest
        self._structure = structure
        self._embeddings = embeddings
        self._threads = threads
        self._file = os.open(str(embeddings.filename), os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    @classmethod
    def open(
        cls, directory: str | Path, model: ModelIdentity | None = None, *, threads: int | None = None
    ) -> VectorIndex:
        """The index in a directory, whose files are mapped and not read.

        `model` is what queries will be embedded with, `threads` the most that a search uses (default: OpenMP's).
        Raises `PromptIndexError` when the index is missing, cut, damaged or of another model.
        """
        import faiss

        directory = Path(directory)
        manifest = read_index_manifest(directory)
        made_with = manifest.embedding.model if manifest.embedding else None
        if model is not None and (made_with is None or model.fingerprint != made_with.fingerprint):
            raise PromptIndexError(
                f"{directory} was embedded with {made_with or 'no model'}, and queries come from {model}; use that "
                f"model, another directory, or embed again: {embed_again(directory, model)}"
            )
        # A graph that is damaged anywhere would be followed out of its memory: it is read whole (0.1 s for 100 MB).
        manifest.structure.check(directory / STRUCTURE, completely=manifest.kind == "hnsw")
        manifest.embeddings.check(directory / EMBEDDINGS, completely=False)
        try:
            embeddings = np.load(directory / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
            structure = faiss.read_index(str(directory / STRUCTURE), faiss.IO_FLAG_MMAP_IFC)
        except (OSError, ValueError, RuntimeError) as error:
            raise PromptIndexError(f"{directory} cannot be read ({error}); {BUILD} {directory}") from error
        shape = (manifest.count, manifest.dimension)
        if embeddings.shape != shape or embeddings.dtype != np.float16 or (structure.ntotal, structure.d) != shape:
            raise PromptIndexError(
                f"{directory}: {INDEX_MANIFEST} says {shape}, {EMBEDDINGS} is {embeddings.dtype} {embeddings.shape}, "
                f"{STRUCTURE} {(structure.ntotal, structure.d)}; make the index again: {BUILD} {directory}"
            )
        return cls(manifest, structure, embeddings, threads or faiss.omp_get_max_threads())

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def dimension(self) -> int:
        return self.manifest.dimension

    def vectors(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [n, D]: the embeddings at these positions. Raises `ValueError` for a position that is none."""
        positions = np.asarray(positions, dtype=np.int64)
        if positions.size and not 0 <= positions.min() <= positions.max() < len(self):
            raise ValueError(f"positions must be from 0 to {len(self) - 1}")
        return self._read(positions).astype(np.float32)

    def _read(self, positions: NDArray[np.int64]) -> NDArray[np.float16]:
        """Some of the embeddings, float16 [n, D].

        Out of a map the system would make resident what lies around each of them as well: after 256 topics all 3 GB of
        2 million. So large ones are read from the file.
        """
        if self._embeddings.nbytes <= MAPPED_BYTES:
            return self._embeddings[positions]
        vectors = np.empty((len(positions), self.dimension), np.float16)
        size = self._embeddings.strides[0]
        into = vectors.data.cast("B")
        for row, start in enumerate((self._embeddings.offset + positions * size).tolist()):
            if os.preadv(self._file, [into[row * size : (row + 1) * size]], start) != size:
                raise PromptIndexError(f"{self._embeddings.filename} has been cut; open the index again")
        return vectors

    def search(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None) -> Found:
        """The `k` nearest to each of the queries float32 [Q, D] (unit length) among those `allowed` (bool [N]).

        Cosines float32 [Q, k] in [-1, 1] and positions int64 [Q, k], nearest first, equal ones in database order. Where
        fewer than `k` are allowed, the rest is nan and -1. Whatever the kind, cosines are those of the embeddings.
        """
        import faiss

        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise ValueError(f"queries must be [Q, {self.dimension}], not {list(queries.shape)}")
        if not np.isfinite(queries).all():
            raise ValueError("queries must be finite numbers")
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if allowed is not None and (allowed.shape != (len(self),) or allowed.dtype != np.bool_):
            raise ValueError(f"allowed must be bool [{len(self)}], not {allowed.dtype} {list(allowed.shape)}")
        # A setting of the calling thread, whichever that is. One query is searched for by one thread: two took 100 ms
        # instead of 3 where another process held the second core (2 million at 768 dimensions).
        faiss.omp_set_num_threads(self._threads)
        available = len(self) if allowed is None else int(np.count_nonzero(allowed))
        similarities = np.full((len(queries), k), np.nan, dtype=np.float32)
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        found = min(k, available)
        if len(queries) and found:
            similarities[:, :found], positions[:, :found] = self._search(queries, found, allowed, available)
        return np.clip(similarities, -1, 1), positions

    def _search(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, available: int) -> Found:
        import faiss

        among = None if allowed is None else np.flatnonzero(allowed)
        few = max(FEW_ALLOWED, int(FEW_OF_A_GRAPH * len(self)) if self.manifest.kind == "hnsw" else 0)
        if among is not None and available <= few:
            return search_exactly(self._embeddings, queries, k, among)
        selector = None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        # As many are looked at as without a filter, and in proportion more when more are wanted.
        width = int(self.manifest.width * len(self) / available * max(1, k / self.manifest.recall_at))
        if selector is not None:
            width *= FAR_ALLOWED

        def nearest(count: int) -> Found:
            if count * CANDIDATES[self.manifest.kind] > BLOCK:  # so many that comparing all is hardly more work
                return search_exactly(self._embeddings, queries, count, among)
            similarities, positions = self._nearest(queries, count, width, selector)
            if positions.min() < 0:  # parts of a graph may be out of reach
                return search_exactly(self._embeddings, queries, count, among)
            return similarities, positions

        return in_order(nearest, k, available)

    def _nearest(self, queries: NDArray[np.float32], k: int, width: int, selector: faiss.IDSelector | None) -> Found:
        """As many as there are, up to `k`: where the tuned search finds fewer, a wider one is made."""
        kind, widest = self.manifest.kind, self.manifest.parameters.get("lists", len(self))
        while True:
            found = search_structure(self._structure, kind, self._read, queries, k, min(width, widest), selector)
            if width >= widest or found[1].min() >= 0:
                return found
            width *= 4


def search_structure(
    structure: faiss.Index,
    kind: Kind,
    read: Callable[[NDArray[np.int64]], NDArray[np.float16]],
    queries: NDArray[np.float32],
    k: int,
    width: int,
    selector: faiss.IDSelector | None = None,
) -> Found:
    """One search: of the candidates that a structure names, the `k` nearest by their embeddings, nearest first.

    `read` gives the embeddings [n, D] at n positions, `width` is the number of lists (ivf) or candidates (hnsw) looked
    at. Where fewer than `k` are found, the rest is -inf and -1. Raises `PromptIndexError` for a structure that names
    what does not exist.
    """
    count = min(CANDIDATES[kind] * k, structure.ntotal)
    similarities, positions = structure.search(queries, count, params=search_parameters(kind, width, selector))
    if positions.max() >= structure.ntotal:
        raise PromptIndexError(f"{STRUCTURE} is damaged: it has positions that do not exist; build it again")
    if kind == "flat":
        return similarities, positions
    positions = np.sort(positions, axis=1)  # to read forwards through the file
    for query, of_query, row in zip(queries, similarities, positions, strict=True):
        # einsum adds up every row in the same order, so that equal embeddings are equally near; a BLAS need not
        np.einsum("cd,d->c", read(np.maximum(row, 0)).astype(np.float32), query, out=of_query)
    similarities[positions < 0] = -np.inf
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, nearest, axis=1), np.take_along_axis(positions, nearest, axis=1)


def search_parameters(kind: Kind, width: int, selector: faiss.IDSelector | None = None) -> Any:
    """faiss's parameters of one search: `width` lists of an ivf or candidates of an hnsw, only what is selected."""
    import faiss

    if kind == "ivf":
        return faiss.SearchParametersIVF(nprobe=width, sel=selector)
    if kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=width, sel=selector)
    return faiss.SearchParameters(sel=selector)


def in_order(nearest: Callable[[int], Found], k: int, available: int) -> Found:
    """The `k` nearest of a search, equal similarities by position, those at the end of the `k` included.

    `nearest(count)` gives `count` of `available` ones in any order among equals. It is asked for one more than `k`, and
    again for more while the last of them is as near as the `k`-th, since which of the equal ones it left out is chance.
    """
    count = min(k + 1, available)
    while True:
        similarities, positions = nearest(count)
        order = np.lexsort((positions, -similarities), axis=1)
        similarities = np.take_along_axis(similarities, order, axis=1)
        positions = np.take_along_axis(positions, order, axis=1)
        if count == available or not np.any(similarities[:, k - 1] == similarities[:, -1]):
            return similarities[:, :k], positions[:, :k]
        count = min(2 * count, available)


def search_exactly(
    embeddings: NDArray[Any], queries: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
) -> Found:
    """The exact `k` nearest to queries float32 [Q, D], of all embeddings [N, D] or those `among` (ascending positions).

    Similarities float32 [Q, k] and positions int64 [Q, k] in `embeddings`, nearest first, equal ones by position. A
    block at a time is converted to float32. `k` is at most the number of vectors.
    """
    import faiss

    available = len(embeddings) if among is None else len(among)

    def nearest(count: int) -> Found:
        heap = faiss.ResultHeap(len(queries), count, keep_max=True)
        for start in range(0, available, BLOCK):
            rows = slice(start, start + BLOCK) if among is None else among[start : start + BLOCK]
            block = np.asarray(embeddings[rows], dtype=np.float32)
            similarities, positions = faiss.knn(queries, block, min(count, len(block)), faiss.METRIC_INNER_PRODUCT)
            heap.add_result(similarities, positions + start)
        heap.finalize()
        return heap.D, heap.I if among is None else among[heap.I]

    return in_order(nearest, k, available)


def default_cache_directory() -> Path:
    """Where indexes are kept unless told otherwise: ig_subnet/prompts under XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ig_subnet" / "prompts"
