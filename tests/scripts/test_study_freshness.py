from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from word_embedder import WordEmbedder

from ig_subnet.prompts import Prompter
from ig_subnet.prompts.prompter import PrompterConfig, open_prompter

PROMPTS = [f"a {animal} {place}, {style}" for animal in ("cat", "dog") for place in ("here", "there")
           for style in ("oil painting", "watercolour, 4k", "pencil, soft light", "poster", "macro, 35mm")]  # fmt: skip


@pytest.fixture
def study(load_script: Callable[[str], ModuleType], project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(project_root / "scripts")  # where it finds the module beside it
    return load_script("study_freshness")


def prompter_of(folder: Path, **changes: Any) -> Prompter:
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    config = {
        "model": "words",
        "database": {"source": "file", "path": str(folder / "prompts.txt")},
        "curation": {"english": False, "gibberish": False, "near_duplicates": None},
        "topics": [{"name": "cats", "text": "a cat"}, {"name": "there", "text": "there"}],
        "candidates": 5,
    }
    return open_prompter(PrompterConfig.model_validate(config | changes), WordEmbedder(), folder / "cache")


def test_only_choosing_asks_all_before_it_repeats_one(study: ModuleType, tmp_path: Path) -> None:
    rows = {row["way"]: row for row in study.freshness("a test", prompter_of(tmp_path), 8)}
    assert list(rows) == ["nearest", "sampled", "chosen"]
    assert rows["chosen"]["rounds_before_first_repeat_median"] == 5 == len(PROMPTS) / study.PER_ROUND
    assert rows["sampled"]["rounds_before_first_repeat_median"] < 4
    assert rows["nearest"]["rounds_before_first_repeat_median"] < 4
    assert all(-1 <= row["cosine_to_topic"] <= 1 and -1 <= row["cosine_in_round"] <= 1 for row in rows.values())


def test_a_round_that_repeats_nothing_is_counted(study: ModuleType, tmp_path: Path) -> None:
    prompter = prompter_of(tmp_path)
    assert study.first_repeat(prompter, study.chosen, 3, seed=1) == 3
    assert (
        study.first_repeat(prompter, lambda prompter, topic, asked, seed: [prompter.candidates(topic).prompts[0]], 9, 1)
        < 3
    )
    everything = Counter({prompt.id: 1 for prompt in prompter.retrieve("a cat", len(PROMPTS))})
    assert len(study.widened(prompter, prompter.topics[0], everything)) == len(PROMPTS)


def test_expanded_prompts_are_compared_with_those_they_are_made_from(study: ModuleType, tmp_path: Path) -> None:
    row = study.expansion(2, prompter_of(tmp_path, expand={"modifiers": 2}), WordEmbedder())
    assert row["drawn"] == 10 and row["expanded_share"] == 1 and 1 <= row["added_modifiers"] <= 2
    assert row["cosine_other_candidate_to_base"] < row["cosine_expanded_to_base"] < 1
    plain = study.expansion(2, prompter_of(tmp_path), WordEmbedder())
    assert plain["expanded_share"] == 0 and plain["cosine_expanded_to_base"] == 1
    assert plain["cosine_expanded_to_topic"] == plain["cosine_base_to_topic"]
