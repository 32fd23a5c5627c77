"""scripts/calibrate_regeneration.py: the threshold it draws, and a small run on the shipped model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from ig_subnet.validating.gate_settings import GateSettings

PROFILE = """
rewarder:
  experts:
    pick_score: {weights: package:pocket/weights/clip, weight: 1.0}
prompter: null
gates:
  duplicates:  # a comment
    hash_distance: 30
    laid_over: 0.9
    times_nearer: 4
    expert: pick_score
    cosine: 0.98
    history: 10
    provenance: made up
  regeneration:
    unproven: 0.7
    models: {another: {cosine: 0.9, provenance: made up}}
"""


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("calibrate_regeneration")


def test_the_threshold_is_twice_as_far_as_the_farthest_honest_image(script: ModuleType) -> None:
    honest = [np.array([1.0, 0.9996], np.float32), np.array([0.9998, 1.0000001], np.float32)]
    limits = script.limits_of(honest, [np.array([0.0, 0.4]), np.array([0.5])])
    assert (limits.cosine, limits.levels) == (pytest.approx(1 - 2 * 0.0004, abs=2e-5), 1.0)
    same = script.limits_of([np.array([1.0])], [np.array([0.0])])
    assert (same.cosine, same.levels) == (pytest.approx(1 - script.SMALLEST_DISTANCE), script.SMALLEST_LEVELS)


def test_a_row_tells_how_many_are_found_out(script: ModuleType) -> None:
    case = script.Case("another seed", script.FALSE, lambda prompt, seed: None)
    levels, limits = np.array([0.1, 0.2, 5.0, 0.1]), script.Limits(0.95, 2.0)
    row = script.row_of("pocket", case, np.array([0.5, 0.9, 0.99, 1.0]), levels, limits)
    assert row["levels_max"] == 5
    assert (row["images"], row["cosine_min"], row["cosine_median"]) == (4, 0.5, pytest.approx(0.945))
    assert row["beyond_limits_share"] == 0.75


@pytest.mark.timeout(600)
def test_a_false_declaration_is_farther_than_an_honest_one(script: ModuleType, tmp_path: Path) -> None:
    profile, written, told = tmp_path / "mine.yaml", tmp_path / "written.yaml", tmp_path / "told.json"
    profile.write_text(PROFILE)
    status = script.main(
        ["--profile", str(profile), "--images", "3", "--steps", "8", "--write", str(written), "--json", str(told)]
    )
    assert status == 0
    rows = {row["case"]: row for row in json.loads(told.read_text())["rows"]}
    assert rows["made again"]["cosine_min"] == pytest.approx(1, abs=1e-5)
    assert rows["another seed"]["cosine_max"] < rows["in bfloat16"]["cosine_min"]
    assert rows["2 steps"]["beyond_limits_share"] == 1
    assert [row["beyond_limits_share"] for row in rows.values() if row["kind"] == script.HONEST] == [0, 0, 0]
    text = written.read_text()
    gates = GateSettings.parse(yaml.safe_load(text)["gates"], "mine")
    assert gates.regeneration is not None and "# a comment" in text
    pocket = gates.regeneration.models["pocket"]
    assert rows["another seed"]["cosine_max"] < pocket.cosine < rows["in bfloat16"]["cosine_min"]
    assert rows["in bfloat16"]["levels_max"] < pocket.levels < rows["another seed"]["levels_max"]
    assert "3 images of 8 steps" in pocket.provenance
    assert gates.regeneration.unproven == 0.7  # all else of the section is as it was


def test_what_cannot_be_measured_is_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ungated = tmp_path / "ungated.yaml"
    ungated.write_text(PROFILE[: PROFILE.index("gates:")])
    assert script.main(["--profile", str(ungated), "--quick"]) == 1
    assert "needs a rewarder, and gates.duplicates" in capsys.readouterr().err
    assert script.main(["--model", str(tmp_path / "nowhere"), "--quick"]) == 1
    assert "nowhere is none of pocket, noise" in capsys.readouterr().err
