"""scripts/study_ranking.py: what its tau measures, its generators, and a small run that goes on where it was cut."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from made_up_experts import brightness_mixture
from PIL import Image

from ig_subnet.pocket import corrupt, is_held_out, parse_caption, render
from ig_subnet.studies.configuration import ModelSettings
from ig_subnet.studies.making import LoadedModel
from ig_subnet.studies.series import ModelFacts


@pytest.fixture
def modules(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The script, and the modules beside it."""
    monkeypatch.syspath_prepend(project_root / "scripts")
    names = ("study_ranking", "ranking_study.tau", "ranking_study.generators", "ranking_study.scores")
    return SimpleNamespace(**{name.split(".")[-1]: importlib.import_module(name) for name in names})


def ladder(noise: float, models: int = 6, prompts: int = 60) -> np.ndarray:
    """[models, prompts] of rising quality."""
    return np.arange(models)[:, None] + np.random.default_rng(0).normal(0, noise, (models, prompts))


def test_tau_is_one_where_scores_say_what_is_true_and_falls_with_noise(modules: SimpleNamespace) -> None:
    sure = modules.tau.tau_row(ladder(0.1), ladder(0.1), 20, 0)
    assert (sure["tau"], sure["low"], sure["high"], sure["share_of_studies_at_goal"]) == (1, 1, 1, 1)
    taus = [modules.tau.tau_row(ladder(0.1), ladder(0.1), 20, 0, disturbance=noise)["tau"] for noise in (0, 4, 40)]
    assert taus == sorted(taus, reverse=True) and taus[1] < 1


def test_the_truth_shares_no_prompt_with_the_study(modules: SimpleNamespace) -> None:
    """Otherwise chance would agree with itself."""
    chance = np.random.default_rng(0).normal(size=(8, 100))
    assert modules.tau.tau_row(chance, chance, 50, 0)["tau"] < 0.2


def test_of_some_pairs_only_these_count(modules: SimpleNamespace) -> None:
    values = np.array([[3.0] * 9, [1.0] * 9, [2.0] * 9])
    truth = np.array([[3.0] * 9, [2.0] * 9, [1.0] * 9])
    assert modules.tau.tau_row(values, truth, 4, 0)["tau"] == pytest.approx(1 / 3, abs=1e-4)
    assert modules.tau.tau_row(values, truth, 4, 0, apart=[0, 1])["tau"] == 1


def test_prompts_are_held_out_and_more_of_them_begin_with_fewer(modules: SimpleNamespace) -> None:
    prompts = modules.study_ranking.held_out_prompts(8, 0)
    assert len({prompt.prompt for prompt in prompts}) == 8
    assert all(is_held_out(parse_caption(prompt.prompt)) for prompt in prompts)
    assert modules.study_ranking.held_out_prompts(3, 0) == prompts[:3]


def test_a_generator_ignores_its_share_of_prompts(modules: SimpleNamespace) -> None:
    answered = modules.generators._answered
    best = {(f"prompt {number % 20}", number): Path() for number in range(400)}
    for generator in modules.generators.GENERATORS:
        others = [answered(generator, drawn, best) for drawn in best]
        ignored = [drawn[0] != other[0] for drawn, other in zip(best, others, strict=True)]
        assert all(drawn == other or other[0] != drawn[0] for drawn, other in zip(best, others, strict=True))
        assert np.mean(ignored) == pytest.approx(generator.ignored, abs=0.08)


def test_a_study_ranks_what_it_made_and_makes_nothing_twice(
    modules: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = {"steps-20": 0.0, "steps-8": 0.5, "steps-4": 1.0}
    made: list[str] = []
    script: ModuleType = modules.study_ranking
    monkeypatch.setattr(script, "GENERATORS", [g for g in modules.generators.GENERATORS if g.name in spoilt])
    monkeypatch.setattr(script, "load_generator", lambda generator, *_: drawing(generator.settings, spoilt, made))
    monkeypatch.setattr("ig_subnet.rewards.load_mixture", lambda *_: brightness_mixture())
    arguments = ["--quick", "--out", str(tmp_path / "study"), "--json", str(tmp_path / "rows.json")]
    assert script.main([*arguments, "--figure", str(tmp_path / "tau.png")]) == 0
    assert len(made) == 3 * script.QUICK_PROMPTS
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    right = {row["generator"]: row["right"] for row in rows if "generator" in row}
    assert list(right) == ["steps-20", "steps-8", "steps-4"] and right["steps-20"] == 1 and right["steps-4"] < 0.3
    taus = [row for row in rows if "tau" in row]
    assert {"prompts", "scorer", "noise of scores", "noise on images"} <= {row["varied"] for row in taus}
    assert next(row["tau"] for row in taus if row["varied"] == "prompts" and row["scorer"] == "checker") > 0.9
    with Image.open(tmp_path / "tau.png") as picture:
        assert picture.width > 1000
    assert script.main(arguments) == 0
    assert len(made) == 3 * script.QUICK_PROMPTS


def drawing(settings: ModelSettings, spoilt: dict[str, float], made: list[str]) -> LoadedModel:
    """A model that draws exactly what is asked and spoils it."""

    def make(prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        made.extend(prompts)
        rngs = [np.random.default_rng(seed) for seed in seeds]
        pictures = [render(parse_caption(prompt), rng) for prompt, rng in zip(prompts, rngs, strict=True)]
        severity = spoilt[settings.name]
        return [
            corrupt(picture, "blur", severity, rng) if severity else picture
            for picture, rng in zip(pictures, rngs, strict=True)
        ]

    facts = ModelFacts("made up", None, None, "made up", 1, None, "none", "", 64, 64, "float32")
    return LoadedModel(facts, 8, make)
