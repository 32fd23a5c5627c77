"""Search in an index directory: exact or measured, in order, among what is allowed; damage and mismatch are named."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_subnet.prompts import index as index_module
from ig_subnet.prompts.building import TARGET_RECALL, build_vector_index, choose_kind, recall_of
from ig_subnet.prompts.embedding import ModelIdentity
from ig_subnet.prompts.errors import PromptIndexError
from ig_subnet.prompts.index import EmbeddingRecord, VectorIndex, search_exactly

KINDS = ("flat", "hnsw", "ivf")
COUNT, DIMENSION = 3000, 24
HALF_ERROR = 1e-3  # of a similarity: embeddings are stored in 16 bits
MODEL = ModelIdentity(name="some/model", revision="a" * 40, dtype="float32", dimension=DIMENSION, fingerprint="c" * 64)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made_up(count: int, seed: int = 0) -> np.ndarray:
    """Clusters of different size, unit length."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((30, DIMENSION))
    return unit(centres[generator.integers(0, 30, count) % 23] + 0.6 * generator.standard_normal((count, DIMENSION)))


VECTORS = made_up(COUNT)
QUERIES = unit(VECTORS[::400] + 0.1 * np.random.default_rng(1).standard_normal((8, DIMENSION)))


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    record = EmbeddingRecord(model=MODEL, database="d" * 64, count=COUNT)
    found = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, directory in found.items():
        build_vector_index(VECTORS, directory, kind, record=record, threads=1)
    return found


@pytest.fixture(params=KINDS)
def index(request: pytest.FixtureRequest, directories: dict[str, Path]) -> VectorIndex:
    return VectorIndex.open(directories[request.param], MODEL, threads=1)


def test_the_recall_in_the_manifest_is_what_a_search_has(index: VectorIndex) -> None:
    manifest = index.manifest
    assert (manifest.count, manifest.dimension, manifest.recall_at) == (len(index), index.dimension, 100)
    exact = search_exactly(VECTORS, QUERIES, 100)[1]
    recall = recall_of(index.search(QUERIES, 100)[1], exact)
    if manifest.kind == "flat":
        assert manifest.recall == {"noisy": 1.0} and recall > 0.995  # float16 may swap the 100th and the 101st
    else:
        assert manifest.recall["noisy"] >= TARGET_RECALL - 0.02 and recall >= 0.9


def test_results_are_in_order_and_their_similarities_right(index: VectorIndex) -> None:
    similarities, positions = index.search(QUERIES, 50)
    assert similarities.dtype == np.float32 and positions.dtype == np.int64
    assert (np.diff(similarities, axis=1) <= 0).all() and similarities.max() <= 1
    right = np.einsum("qd,qkd->qk", QUERIES, VECTORS[positions])
    assert np.abs(similarities - right).max() < HALF_ERROR
    assert all(len(set(row)) == 50 for row in positions.tolist())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
@pytest.mark.parametrize("k", [1, 100, COUNT, COUNT + 7])
def test_only_what_is_allowed_is_found_and_all_of_it(index: VectorIndex, share: float, k: int) -> None:
    allowed = np.random.default_rng(2).random(COUNT) < share
    similarities, positions = index.search(QUERIES, k, allowed)
    found = min(k, int(allowed.sum()))
    assert positions.shape == similarities.shape == (len(QUERIES), k)
    assert (positions[:, found:] == -1).all() and np.isnan(similarities[:, found:]).all()
    assert allowed[positions[:, :found]].all() and not np.isnan(similarities[:, :found]).any()
    assert all(len(set(row)) == found for row in positions[:, :found].tolist())


def test_among_few_the_search_is_exact_and_among_many_nearly(
    index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = np.random.default_rng(3).random(COUNT) < 0.4
    exact = search_exactly(VECTORS.astype(np.float16), QUERIES, 20, np.flatnonzero(allowed))
    assert np.array_equal(index.search(QUERIES, 20, allowed)[1], exact[1])
    monkeypatch.setattr(index_module, "FEW_ALLOWED", 10)
    assert recall_of(index.search(QUERIES, 20, allowed)[1], exact[1]) > 0.9


def test_large_embeddings_are_read_and_give_the_same(index: VectorIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = np.array([7, 0, 7, COUNT - 1])
    mapped = index.search(QUERIES, 30), index.vectors(positions)
    monkeypatch.setattr(index_module, "MAPPED_BYTES", 0)
    read = index.search(QUERIES, 30), index.vectors(positions)
    assert np.array_equal(mapped[0][0], read[0][0]) and np.array_equal(mapped[0][1], read[0][1])
    assert np.array_equal(mapped[1], read[1])


def test_embeddings_that_are_cut_while_they_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_vector_index(VECTORS, tmp_path, "flat", threads=1)
    index = VectorIndex.open(tmp_path)
    monkeypatch.setattr(index_module, "MAPPED_BYTES", 0)
    os.truncate(tmp_path / "embeddings.npy", 1000)
    with pytest.raises(PromptIndexError, match=r"embeddings\.npy has been cut; open the index again"):
        index.vectors(np.array([COUNT - 1]))


def test_everything_can_be_asked_for(index: VectorIndex) -> None:
    _, positions = index.search(QUERIES[:2], COUNT)
    assert np.array_equal(np.sort(positions, axis=1), np.tile(np.arange(COUNT), (2, 1)))


def test_answers_do_not_depend_on_company_nor_on_the_thread(index: VectorIndex) -> None:
    together = index.search(QUERIES, 30)
    results: list[tuple[np.ndarray, np.ndarray]] = []
    thread = threading.Thread(target=lambda: results.append(index.search(QUERIES[3:4], 30)))
    thread.start()
    thread.join(60)
    assert np.array_equal(results[0][1][0], together[1][3])
    assert np.allclose(results[0][0][0], together[0][3], atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_search_uses_the_threads_it_was_given(directories: dict[str, Path], threads: int) -> None:
    VectorIndex.open(directories["ivf"], threads=threads).search(QUERIES, 5)
    assert faiss.omp_get_max_threads() == threads


def test_files_are_mapped_and_not_read(index: VectorIndex, directories: dict[str, Path]) -> None:
    index.search(QUERIES, 5)
    mapped = {Path(region.path).resolve() for region in psutil.Process().memory_maps()}
    directory = directories[index.manifest.kind].resolve()
    assert {directory / "index.faiss", directory / "embeddings.npy"} <= mapped


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 60), k=st.integers(1, 70), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_exact_search_has_equal_ones_in_database_order(count: int, k: int, seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    vectors = np.sign(generator.standard_normal((count, 4))).astype(np.float32) / 2  # at most 16 different ones
    among = np.flatnonzero(generator.random(count) <= share)
    k = min(k, len(among))
    if k:
        similarities, positions = search_exactly(vectors, vectors[:1], k, among)
        products = vectors[among] @ vectors[0]
        wanted = np.lexsort((among, -products))[:k]
        assert positions[0].tolist() == among[wanted].tolist()
        assert np.array_equal(similarities[0], products[wanted])


@pytest.mark.parametrize("kind", KINDS)
def test_equal_embeddings_are_found_in_database_order(tmp_path: Path, kind: str) -> None:
    vectors = np.tile(made_up(10), (9, 1))
    build_vector_index(vectors, tmp_path, kind, threads=1)
    _, positions = VectorIndex.open(tmp_path).search(vectors[4:5], 5)
    assert positions[0].tolist() == [4, 14, 24, 34, 44]


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = search_exactly(VECTORS, QUERIES, 30), search_exactly(VECTORS, QUERIES, 30, np.arange(5, COUNT, 3))
    monkeypatch.setattr(index_module, "BLOCK", 17)
    for among, (similarities, positions) in zip((None, np.arange(5, COUNT, 3)), whole, strict=True):
        again = search_exactly(VECTORS, QUERIES, 30, among)
        assert np.array_equal(again[1], positions) and np.allclose(again[0], similarities, atol=1e-6)


def test_vectors_are_those_of_the_positions(index: VectorIndex) -> None:
    found = index.vectors(np.array([7, 0, 7, COUNT - 1]))
    assert found.dtype == np.float32 and np.allclose(found, VECTORS[[7, 0, 7, COUNT - 1]], atol=1e-3)
    assert index.vectors(np.array([], dtype=np.int64)).shape == (0, DIMENSION)
    for wrong in (-1, COUNT):
        with pytest.raises(ValueError, match=f"positions must be from 0 to {COUNT - 1}"):
            index.vectors(np.array([0, wrong]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((QUERIES[0], 5), rf"queries must be \[Q, {DIMENSION}\], not \[{DIMENSION}\]"),
        ((QUERIES[:, :5], 5), r"not \[8, 5\]"),
        ((QUERIES * np.nan, 5), "queries must be finite numbers"),
        ((QUERIES, 0), "k must be at least 1, not 0"),
        ((QUERIES, 5, np.ones(7, dtype=bool)), r"allowed must be bool \[3000\], not bool \[7\]"),
        ((QUERIES, 5, np.ones(COUNT)), "not float64"),
    ],
)
def test_what_cannot_be_searched_is_named(index: VectorIndex, arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        index.search(*arguments)


def test_no_queries_have_no_answers(index: VectorIndex) -> None:
    assert index.search(QUERIES[:0], 5)[1].shape == (0, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "e" * 64}, r"was embedded with some/model \(float32.*cccccccccccc.*come from some/model"),
        (
            {"name": "other", "revision": None, "dtype": "bfloat16", "dimension": 7, "fingerprint": "b" * 64},
            r"queries come from other \(bfloat16, 7 dimensions.* --fresh --model other --dtype bfloat16$",
        ),
    ],
)
def test_another_model_is_refused_by_name(directories: dict[str, Path], change: dict, message: str) -> None:
    with pytest.raises(PromptIndexError, match=message):
        VectorIndex.open(directories["flat"], MODEL.model_copy(update=change))
    renamed = MODEL.model_copy(update={"name": "a copy of it"})
    assert len(VectorIndex.open(directories["flat"], renamed)) == COUNT


def test_bare_vectors_are_of_no_model(tmp_path: Path) -> None:
    build_vector_index(VECTORS[:50], tmp_path, threads=1)
    with pytest.raises(PromptIndexError, match="was embedded with no model"):
        VectorIndex.open(tmp_path, MODEL)


def test_where_nothing_or_half_of_it_is(tmp_path: Path) -> None:
    with pytest.raises(
        PromptIndexError, match=rf"nothing has been built there; .* build --out {re.escape(str(tmp_path))}"
    ):
        VectorIndex.open(tmp_path)
    (tmp_path / "embeddings.npy.part").write_bytes(b"half")
    with pytest.raises(PromptIndexError, match=r"its build was cut; python scripts/build_prompt_index\.py build --out"):
        VectorIndex.open(tmp_path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(at: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(at * (len(content) - 1))] ^= 0x40
        path.write_bytes(bytes(content))

    return flip


def huge(path: Path) -> None:
    """A head that asks for more memory than there is."""
    content = bytearray(path.read_bytes())
    content[8:16] = (1 << 60).to_bytes(8, "little")
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["index.faiss", "embeddings.npy"])
@pytest.mark.parametrize("damage", [cut, emptied, flipped(0), flipped(0.5), flipped(1), huge, Path.unlink])
def test_damage_is_an_error_before_anything_is_read(
    directories: dict[str, Path], tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    for kind in KINDS:
        shutil.copytree(directories[kind], tmp_path / kind)
        damage(tmp_path / kind / name)
        with pytest.raises(PromptIndexError, match=rf"{name} (is damaged|cannot be read).*build --out"):
            VectorIndex.open(tmp_path / kind)


def test_an_index_of_other_embeddings_is_found_out(directories: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(directories["flat"], tmp_path / "mixed")
    build_vector_index(made_up(COUNT, seed=5), tmp_path / "other", "flat", threads=1)
    shutil.copy(tmp_path / "other" / "index.faiss", tmp_path / "mixed")
    with pytest.raises(PromptIndexError, match=r"index\.faiss is damaged: it is not what was written"):
        VectorIndex.open(tmp_path / "mixed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "index.json is damaged"),
        (b"\xff{", "index.json is damaged"),
        (b'{"format": 1}', "Field required"),
        (b'{"format": 2}', "index.json is damaged"),
        (b"[" * 100_000, "index.json is damaged"),
    ],
)
def test_a_damaged_manifest_is_named(
    directories: dict[str, Path], tmp_path: Path, content: bytes, message: str
) -> None:
    shutil.copytree(directories["flat"], tmp_path / "copy")
    (tmp_path / "copy" / "index.json").write_bytes(content)
    with pytest.raises(PromptIndexError, match=message):
        VectorIndex.open(tmp_path / "copy")


def test_a_manifest_of_other_shapes_is_found_out(directories: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(directories["flat"], tmp_path / "copy")
    path = tmp_path / "copy" / "index.json"
    path.write_text(path.read_text().replace(f'"count": {COUNT}', '"count": 2999'))
    with pytest.raises(PromptIndexError, match=r"says \(2999, 24\), embeddings.npy is float16 \(3000, 24\)"):
        VectorIndex.open(tmp_path / "copy")


@pytest.mark.parametrize(
    ("count", "dimension", "kind"),
    [(2000, 384, "flat"), (20_000, 768, "flat"), (100_000, 384, "ivf"), (2e6, 768, "ivf")],
)
def test_the_size_decides_about_the_kind(count: int, dimension: int, kind: str) -> None:
    assert choose_kind(int(count), dimension) == kind
