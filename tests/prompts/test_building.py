"""Building an index directory: what is there is kept, a killed build goes on, and nothing is mixed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ig_subnet.prompts import building, embedding_file
from ig_subnet.prompts.building import build_index, build_vector_index, locked, noisy_queries, topic_queries
from ig_subnet.prompts.database import PromptDatabase, prompt_id
from ig_subnet.prompts.embedding import ModelIdentity
from ig_subnet.prompts.embedding_file import CHUNK
from ig_subnet.prompts.errors import DatabaseError, PromptIndexError
from ig_subnet.prompts.index import VectorIndex, read_index_manifest
from ig_subnet.prompts.storing import SCHEMA, write_database

COUNT = 3 * CHUNK + 100  # three whole chunks and a part of one
MODEL = ModelIdentity(name="counting", revision=None, dtype="float32", dimension=8, fingerprint="c" * 64)


class CountingEmbedder:
    """Unit vectors that follow from the text alone, and how many texts were embedded."""

    def __init__(self, seconds: float = 0.0, **change: object) -> None:
        self.identity = MODEL.model_copy(update=change)
        self.embedded = 0
        self._seconds = seconds

    def embed(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        time.sleep(self._seconds)
        self.embedded += len(texts)
        bytes_of = [text.encode()[-self.identity.dimension :].rjust(self.identity.dimension) for text in texts]
        vectors = np.array([list(each) for each in bytes_of], dtype=np.float32) - 40
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_prompts(directory: Path, count: int = COUNT) -> PromptDatabase:
    texts = [f"prompt number {(7919 * row) % 1_000_003:07d}" for row in range(count)]
    columns = {
        "id": [prompt_id(text) for text in texts],
        "text": texts,
        "source": pa.array(["made up"] * count).dictionary_encode(),
        "row": range(count),
        "licence": pa.array(["MIT"] * count).dictionary_encode(),
        "clip_tokens": pa.array([4] * count, pa.int16()),
        "bert_tokens": pa.array([4] * count, pa.int16()),
        "nsfw": pa.nulls(count, pa.float32()),
    }
    write_database(directory, pa.table(columns, SCHEMA), sources=(), curation={}, steps=(), versions={})
    return PromptDatabase.open(directory)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("built")
    write_prompts(directory)
    build_index(directory, CountingEmbedder(), threads=1)
    return directory


@pytest.fixture
def directory(built: Path, tmp_path: Path) -> Path:
    """A copy of a finished index that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "index"))


def test_an_index_finds_the_prompts_of_its_database(built: Path) -> None:
    index, database = VectorIndex.open(built, MODEL), PromptDatabase.open(built)
    assert len(index) == len(database) == COUNT and index.manifest.kind == "flat"
    record = index.manifest.embedding
    assert record is not None and (record.model, record.database, record.count) == (MODEL, database.digest, COUNT)
    texts = database.texts([5, COUNT - 1])
    similarities, positions = index.search(CountingEmbedder().embed(texts), 3)
    assert [database.texts(row[similar > 0.999]) for row, similar in zip(positions, similarities, strict=True)] == [
        [text] for text in texts
    ]
    assert not list(built.glob("*.part"))


def test_what_is_finished_costs_nothing(directory: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    embedder = CountingEmbedder()
    manifest = build_index(directory, embedder, threads=1)
    after = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    assert (embedder.embedded, after) == (0, before | {"build.lock": after["build.lock"]})
    assert manifest == read_index_manifest(directory)


def test_another_kind_costs_no_embedding_but_of_queries(directory: Path) -> None:
    embedder = CountingEmbedder()
    manifest = build_index(directory, embedder, "ivf", threads=1)
    assert manifest.kind == "ivf" and set(manifest.recall) == {"noisy", "topics"}
    assert embedder.embedded == building.QUERIES
    assert VectorIndex.open(directory, MODEL).manifest == manifest


BUILD = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_building import CountingEmbedder
from ig_subnet.prompts.building import build_index
build_index(sys.argv[1], CountingEmbedder(seconds=0.3), threads=1)
"""


def test_a_killed_build_goes_on_and_gives_the_same(built: Path, tmp_path: Path, project_root: Path) -> None:
    write_prompts(tmp_path)
    part = tmp_path / "embeddings.npy.part"
    paths = [str(project_root), str(Path(__file__).parent)]
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path), *paths])
    try:
        deadline = time.monotonic() + 120
        while not (part.is_file() and part.stat().st_size > CHUNK * 16) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    with pytest.raises(PromptIndexError, match="its build was cut"):
        VectorIndex.open(tmp_path)
    with part.open("ab") as file:
        file.write(b"half of a row")
    embedder = CountingEmbedder()
    build_index(tmp_path, embedder, threads=1)
    assert 0 < embedder.embedded <= COUNT - CHUNK
    for name in ("embeddings.npy", "embeddings.json", "index.faiss"):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()


@pytest.mark.parametrize("size", [0, 50, 128, 128 + 16 * CHUNK - 1, 128 + 16 * 3 * CHUNK, 128 + 16 * COUNT])
def test_a_build_goes_on_from_any_byte(directory: Path, built: Path, size: int) -> None:
    whole = (built / "embeddings.npy").read_bytes()
    for name in ("embeddings.npy", "index.faiss", "index.json"):
        (directory / name).unlink()
    (directory / "embeddings.npy.part").write_bytes(whole[:size])
    embedder = CountingEmbedder()
    build_index(directory, embedder, threads=1)
    assert (directory / "embeddings.npy").read_bytes() == whole
    assert embedder.embedded == COUNT - max(0, size - 128) // 16 // CHUNK * CHUNK


@pytest.mark.parametrize("state", ["whole", "cut"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "e" * 64}, r"is embedded with counting .*cccccccccccc\), not with counting .*eeeeeeeeeeee\)"),
        ({"name": "b", "dtype": "bfloat16", "fingerprint": "b" * 64}, "--fresh --model b --dtype bfloat16"),
        ({"name": "c", "dimension": 6, "fingerprint": "a" * 64}, "8 dimensions.*not with c .*6 dimensions"),
    ],
)
def test_embeddings_of_another_model_are_kept_unless_told(
    directory: Path, state: str, change: dict, message: str
) -> None:
    if state == "cut":
        (directory / "embeddings.npy").rename(directory / "embeddings.npy.part")
        (directory / "index.json").unlink()
    embedder = CountingEmbedder(**change)
    with pytest.raises(PromptIndexError, match=message):
        build_index(directory, embedder, threads=1)
    assert embedder.embedded == 0
    manifest = build_index(directory, embedder, threads=1, fresh=True)
    assert manifest.embedding is not None and manifest.embedding.model == embedder.identity
    assert embedder.embedded == COUNT


def test_embeddings_of_another_database_are_refused(directory: Path) -> None:
    write_prompts(directory, COUNT - 1)
    with pytest.raises(
        PromptIndexError, match=rf"with {COUNT} prompts, not of the present .* with {COUNT - 1}; .*--fresh"
    ):
        build_index(directory, CountingEmbedder(), threads=1)


def test_a_damaged_search_structure_is_built_again(directory: Path) -> None:
    whole = (directory / "index.faiss").read_bytes()
    (directory / "index.faiss").write_bytes(whole[:-7])
    embedder = CountingEmbedder()
    build_index(directory, embedder, threads=1)
    assert (directory / "index.faiss").read_bytes() == whole and embedder.embedded == 0


@pytest.mark.parametrize("damage", ["cut", "changed", "no array", "no record"])
def test_damaged_embeddings_are_an_error_that_says_what_to_do(directory: Path, damage: str) -> None:
    path = directory / "embeddings.npy"
    whole = path.read_bytes()
    if damage == "no record":
        (directory / "embeddings.json").unlink()
        (directory / "index.json").unlink()
    else:
        path.write_bytes({"cut": whole[:-2], "changed": whole[:-1] + b"!", "no array": b"x" * 500}[damage])
    with pytest.raises(PromptIndexError, match=r"embed again .*--fresh --model counting --dtype float32"):
        build_index(directory, CountingEmbedder(), threads=1)
    assert build_index(directory, CountingEmbedder(), threads=1, fresh=True).count == COUNT
    assert path.read_bytes() == whole


def test_without_a_database_nothing_is_built(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="holds no prompt database"):
        build_index(tmp_path, CountingEmbedder())
    assert list(tmp_path.iterdir()) == []


def test_two_builds_of_one_directory_take_turns(directory: Path) -> None:
    with locked(directory, 0), pytest.raises(PromptIndexError, match="another process is building an index in"):
        build_index(directory, CountingEmbedder(), threads=1)
    entered = threading.Event()

    def hold() -> None:
        with locked(directory, 0):
            entered.set()
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(30)
    assert build_index(directory, CountingEmbedder(), threads=1, wait_seconds=60).count == COUNT
    thread.join(30)


@pytest.mark.parametrize(("row", "value"), [(70, 0.0), (3, np.nan), (99, 2.0), (0, np.inf)])
def test_what_is_no_embedding_is_named(tmp_path: Path, row: int, value: float) -> None:
    vectors = np.eye(4, dtype=np.float32)[np.arange(100) % 4]
    vectors[row, row % 4] = value
    with pytest.raises(ValueError, match=f"embedding {row} has the length .* instead of 1"):
        build_vector_index(vectors, tmp_path)
    with pytest.raises(PromptIndexError):
        VectorIndex.open(tmp_path)


@pytest.mark.parametrize("shape", [(0, 4), (5,), (2, 3, 4)])
def test_embeddings_are_a_table(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"embeddings must be \[N, D\]"):
        build_vector_index(np.ones(shape, dtype=np.float32), tmp_path)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_few_embeddings_can_be_indexed_too(tmp_path: Path, kind: str, count: int) -> None:
    vectors = noisy_queries(np.eye(64, dtype=np.float16))[:count]
    build_vector_index(vectors, tmp_path, kind, threads=1)
    assert VectorIndex.open(tmp_path).search(vectors, 1)[1][:, 0].tolist() == list(range(count))


def test_embeddings_that_are_in_place_are_not_written_again(tmp_path: Path) -> None:
    vectors = np.eye(16, dtype=np.float16)
    np.save(tmp_path / "embeddings.npy", vectors)
    before = (tmp_path / "embeddings.npy").stat()
    build_vector_index(np.load(tmp_path / "embeddings.npy", mmap_mode="r"), tmp_path)
    after = (tmp_path / "embeddings.npy").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert np.array_equal(VectorIndex.open(tmp_path).vectors(np.arange(16)), np.eye(16))


def test_a_failed_write_leaves_what_was_there(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(vectors: np.ndarray, start: int) -> bytes:
        raise OSError("no space left on device")

    monkeypatch.setattr(embedding_file, "_half_precision", full)
    with pytest.raises(OSError, match="no space left"):
        build_index(directory, CountingEmbedder(fingerprint="e" * 64), threads=1, fresh=True)
    monkeypatch.undo()
    assert build_index(directory, CountingEmbedder(fingerprint="e" * 64), threads=1).count == COUNT


def test_queries_to_tune_with_are_the_same_each_time(built: Path) -> None:
    embeddings = np.load(built / "embeddings.npy", mmap_mode="r")
    noisy = noisy_queries(embeddings)
    assert np.array_equal(noisy, noisy_queries(embeddings)) and len(noisy) == building.QUERIES
    assert np.allclose(np.linalg.norm(noisy, axis=1), 1, atol=1e-5)
    nearest = (noisy @ embeddings.astype(np.float32).T).max(axis=1)
    assert 0.7 < np.median(nearest) < 1
    asked: list[str] = []

    class Listening(CountingEmbedder):
        def embed(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
            asked.extend(texts)
            return super().embed(texts)

    assert len(topic_queries(PromptDatabase.open(built), Listening())) == building.QUERIES
    assert all(text.startswith("a image of prompt number ") for text in asked)
