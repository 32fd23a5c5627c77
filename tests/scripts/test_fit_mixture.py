"""scripts/fit_mixture.py: what it learns from made-up preferences, and the profile that it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ig_subnet.config.profiles import load_profile, profile_path
from ig_subnet.rewards.configuration import parse_rewarder
from ig_subnet.studies.agreement import Scored
from ig_subnet.studies.errors import StudyError
from ig_subnet.studies.preferences import Pairs, Preferences
from ig_subnet.studies.sources import Items

EXPERTS = ("image_reward", "clip_aesthetic", "pick_score", "hps_v2")
TOPICS = ("cartoon", "row")


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType], project_root: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(project_root / "scripts"))  # where a program finds the modules beside it
        yield load_script("fit_mixture")


def made_up(prompts: int = 200) -> Scored:
    """Four images of each prompt. People see two things; two experts see one of them each, the others nothing. For
    every second prompt only the first thing matters.
    """
    rng = np.random.default_rng(0)
    images = 4 * prompts
    seen = rng.uniform(0.1, 0.9, (images, 4))
    place = np.arange(images)
    quality = np.where(place // 4 % 2 == 0, seen[:, 0] + seen[:, 3], 2 * seen[:, 0]) + rng.normal(0, 0.1, images)
    columns: dict[str, Any] = {"image": [str(n) for n in place], "prompt": [f"{n // 4}" for n in place]}
    for column, name in enumerate(EXPERTS):
        columns |= {name: seen[:, column].astype(np.float32), f"{name}_calibrated": seen[:, column].astype(np.float32)}
    columns["incentive"] = seen.mean(axis=1).astype(np.float32)
    rows = [
        (one, other, float(quality[one] > quality[other]), prompt, "")
        for prompt in range(prompts)
        for one, other in (4 * prompt + np.array([(0, 1), (2, 3), (0, 2), (1, 3)])).tolist()
    ]
    pairs = Pairs.of(rows)
    preferences = Preferences("made_up", "test", "made up", Items("made up", images, lambda: iter(())), pairs, "strict")
    return Scored(preferences, pa.table(columns), pairs, {})


@pytest.fixture(scope="module")
def learnt(script: ModuleType) -> list[dict[str, Any]]:
    topics = {str(prompt): TOPICS[prompt % 2] for prompt in range(200)}
    return list(script.fit_rows(made_up(), topics, script.parse_arguments(["--topics"])))


def test_the_mixture_beats_every_expert_on_held_out_pairs(learnt: list[dict[str, Any]]) -> None:
    rows = {row["scorer"]: row for row in learnt if "scorer" in row}
    assert list(rows) == [*EXPERTS, "incentive", "equal weights", "fitted", "fitted by topic"]
    assert rows["equal weights"]["accuracy"] == rows["incentive"]["accuracy"]
    assert rows["fitted by topic"]["best_expert"] == "image_reward" and rows["fitted by topic"]["gain_low"] > 0
    assert rows["fitted by topic"]["accuracy"] > rows["fitted"]["accuracy"] + 0.01
    assert all(row["pairs"] == 800 and row["missing_pairs"] == 0 for row in rows.values())


def test_the_weights_are_what_people_weigh(learnt: list[dict[str, Any]]) -> None:
    weights = {(row["topic"], row["expert"]): row["weight"] for row in learnt if "weight" in row}
    assert len(weights) == 12 and min(weights.values()) >= 0
    assert weights["cartoon", "image_reward"] == pytest.approx(0.5, abs=0.08)
    assert weights["cartoon", "hps_v2"] == pytest.approx(0.5, abs=0.08)
    assert weights["row", "image_reward"] == pytest.approx(1.0, abs=0.12)
    assert weights["", "image_reward"] > weights["", "hps_v2"] > weights["", "pick_score"]


def test_the_profile_that_is_written(script: ModuleType, learnt: list[dict[str, Any]], tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    script.write_profile(script.parse_arguments(["--topics", "--write", str(target)]), learnt)
    before, after = load_profile("pocket"), load_profile(target)
    section = parse_rewarder(after["rewarder"])
    general = {name: expert.weight for name, expert in section.experts.items()}
    assert sum(general.values()) == pytest.approx(1, abs=1e-3) and general["image_reward"] > 0.5
    assert set(section.topics) == set(TOPICS)
    assert sum(section.topics["row"].values()) == pytest.approx(1, abs=1e-3)
    assert section.fitted is not None
    provenance = section.fitted.provenance
    assert provenance.startswith("scripts/fit_mixture.py: 800 pairs of 200 prompts, made up; in 5 folds of held-out")
    assert "more than image_reward alone" in provenance
    for name, expert in before["rewarder"]["experts"].items():
        assert after["rewarder"]["experts"][name] == expert | {"weight": general[name]}
    assert {key: value for key, value in after.items() if key != "rewarder"} == {
        key: value for key, value in before.items() if key != "rewarder"
    }
    text = profile_path("pocket").read_text()
    assert target.read_text().count("#") == text.count("#")  # comments stay


def test_too_few_prompts_are_not_written(script: ModuleType, tmp_path: Path) -> None:
    row = {"scorer": "fitted", "prompts": 99}
    with pytest.raises(StudyError, match="99 prompts are too few to learn weights from"):
        script.write_profile(script.parse_arguments(["--write", str(tmp_path / "mine.yaml")]), [row])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "pocket", "--dataset", "hpdv2=x"], "weights are learnt from one data set at a time"),
        (["--folds", "1"], "--folds must be at least 2, not 1"),
    ],
)
def test_wrong_commands(script: ModuleType, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.main(flags)
    assert message in capsys.readouterr().err


def test_the_pocket_world_in_small(script: ModuleType, tmp_path: Path) -> None:
    """The shipped generator, experts and checker: weights are learnt from what evaluate.py has made and scored."""
    import evaluate

    flags = ["--captions", "4", "--device", "cpu", "--out", str(tmp_path)]
    assert evaluate.main(flags) == 0
    made = [*tmp_path.rglob("*-*.png"), *tmp_path.rglob("part-*.parquet")]
    before = {path: path.stat().st_mtime_ns for path in made}
    assert len(before) == 4 * 14 + 1
    rows = json.loads((tmp_path / "agreement.json").read_text())["rows"]
    whole = {row["scorer"]: row for row in rows if row["dataset"] == "pocket"}
    assert list(whole) == [*EXPERTS, "total", "incentive"]
    assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in rows)
    assert sum(row["pairs"] for row in rows if row["scorer"] == "total") == 2 * whole["total"]["pairs"]

    assert script.main([*flags, "--topics", "--folds", "2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = json.loads((tmp_path / "fit.json").read_text())["rows"]
    assert {row["scorer"] for row in rows if "scorer" in row} >= {"fitted", "fitted by topic", "equal weights"}
    general = [row["weight"] for row in rows if row.get("topic") == ""]
    assert len(general) == 4 and sum(general) == pytest.approx(1) and min(general) >= 0


def test_what_it_refuses(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.yaml").write_text("rewarder: {}")
    assert script.main(["--write", str(tmp_path / "there.yaml")]) == 1
    assert "exists; take another name" in capsys.readouterr().err
