"""How gates are measured: on rendered pictures instead of a generator's, without models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_images import GATES
from PIL import Image

from ig_subnet.pocket import parse_caption, render
from ig_subnet.validating.device import Findings
from ig_subnet.validating.gates import prints_of

CAPTIONS = (
    "a large red circle above a small blue square on a white background",
    "a small yellow star left of a large green heart on a purple background",
)


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType], project_root: Path) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(project_root / "scripts"))  # where it finds the modules beside it
        return load_script("calibrate_gates")


@pytest.fixture(scope="module")
def honest(script: ModuleType) -> list:
    """Six pictures of each caption by three miners; their embedding says which caption they show."""
    return pictures(miners=3)


def pictures(miners: int) -> list:
    from gates_calibration.honest import entries

    rng = np.random.default_rng(0)
    shown = entries(
        (caption, f"miner {miner}", number, float(miner), render(parse_caption(caption), rng))
        for caption in CAPTIONS
        for miner in range(miners)
        for number in range(2)
    )
    return [
        replace(one, entry=replace(one.entry, findings=Findings(0, 1, 0, 1, {}, embedding=embedding, alignment=2.0)))
        for one, embedding in zip(shown, np.repeat(np.eye(2, dtype=np.float32), 2 * miners, axis=0), strict=True)
    ]


def test_pictures_are_compared_with_earlier_ones_of_their_prompt(script: ModuleType, honest: list) -> None:
    assert [one.entry.key.position for one in honest] == [0] * 6 + [1] * 6
    nearest = script.nearest_honest(honest, prints_of([one.entry for one in honest]), cosine=0.5)
    nothing_before = {name: figures[[0, 6]].tolist() for name, figures in nearest.items()}
    assert nothing_before == {"bits": [np.inf] * 2, "laid_over": [0.0] * 2, "times_nearer": [0.0] * 2}
    bits, laid_over = (np.delete(nearest[name], [0, 6]) for name in ("bits", "laid_over"))
    assert ((bits > 0) & (bits < 128)).all() and (laid_over < 0.999).all()


@given(st.lists(st.integers(0, 200), min_size=1, max_size=50), st.floats(0.01, 0.4))
def test_no_more_than_the_share_lies_within_the_distance(
    script: ModuleType, bits: list[int], false_alarms: float
) -> None:
    distances = np.array(bits, dtype=float)
    widest = script.widest_distance(distances, false_alarms)
    assert widest == 0 or (distances <= widest).mean() <= false_alarms
    assert widest == 127 or (distances <= widest + 1).mean() > false_alarms


@pytest.mark.parametrize(("false_alarms", "suspected"), [(0.04, 0.2), (0.3, 0.5)])
def test_more_is_suspected_than_stopped_and_no_more_than_wanted(
    script: ModuleType, false_alarms: float, suspected: float
) -> None:
    honest = pictures(miners=7)
    options = SimpleNamespace(false_alarms=false_alarms, suspected=suspected, history=9)
    shares: list[float] = []

    def told(share: float) -> str:
        shares.append(share)
        return f"stops {share}"

    gate, rows = script.measure_duplicates(honest, {"none": honest[:1]}, "pick_score", options, told)
    assert gate.suspicion is not None
    wider = gate.suspecting()
    assert (wider.laid_over, wider.times_nearer) == (gate.suspicion.laid_over, gate.suspicion.times_nearer)
    assert gate.suspicion.provenance.startswith("suspects ") and gate.provenance.startswith("stops ")
    assert shares[0] <= suspected + 2 / len(honest)  # each of the two tests may take one image too many
    assert rows[-1]["suspected"] == shares[0]


def test_too_few_images_of_a_prompt_are_told(script: ModuleType, honest: list) -> None:
    options = SimpleNamespace(false_alarms=0.04, suspected=0.2, history=9)
    with pytest.raises(script.CalibrationError, match="more images of the same prompts are needed"):
        script.measure_duplicates(honest, {"none": honest[:1]}, "pick_score", options, str)


def test_all_gates_together_are_told_by_miner(script: ModuleType, honest: list) -> None:
    gates = GATES.model_copy(update={"duplicates": GATES.duplicates.model_copy(update={"hash_distance": 0})})
    stolen = replace(honest[0], entry=replace(honest[0].entry, key=honest[0].entry.key._replace(hotkey="thief")))
    stolen = replace(stolen, entry=replace(stolen.entry, arrived=9.0))
    everybody, copier = script.measure_together(honest, {"none": [stolen]}, gates, history=None)
    assert (everybody["miners"], everybody["images"], everybody["stopped"]) == ("all", 12, 0)
    assert (copier["miners"], copier["stopped"], copier["copy of another miner's image"]) == ("copier, none", 1, 1)


def test_a_file_is_not_overwritten(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mine.yaml"
    target.write_text("rewarder: {}")
    assert script.main(["--write", str(target)]) == 1
    assert "mine.yaml exists" in capsys.readouterr().err


def test_too_few_prompts_are_refused(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["--prompts", "3"])
    assert "at least 10 prompts" in capsys.readouterr().err


def test_grain_is_measured_however_images_are_sent(script: ModuleType, honest: list) -> None:
    rng = np.random.default_rng(2)
    levels = [np.asarray(one.image, np.float32) for one in honest]
    noisy = [Image.fromarray((one + rng.normal(0, 3, one.shape)).clip(0, 255).astype(np.uint8)) for one in levels]
    seen, gate, rows = script.measure_grain(
        [replace(one, image=image) for one, image in zip(honest, noisy, strict=True)],
        64,
        lambda share: f"stops {share}",
    )
    assert [row["sent_as"] for row in rows] == ["as made", "JPEG 80", "WEBP 80"]
    highest = max(row["highest_honest"] for row in rows)
    assert gate.threshold == pytest.approx(1.2 * highest, abs=1e-4) and all(row["false_alarms"] == 0 for row in rows)
    assert gate.suspicion <= rows[0]["highest_honest"] < gate.threshold and rows[0]["suspected"] <= 0.1
    assert gate.provenance.startswith("stops 0.0; as they are made, and as JPEG 80 and WEBP 80; suspects ")
    assert max(one.entry.findings.grain for one in seen) == rows[0]["highest_honest"]


def test_images_without_any_grain_leave_room_for_rounding(script: ModuleType, honest: list) -> None:
    _, gate, _ = script.measure_grain(honest, 64, str)
    assert (gate.threshold, gate.suspicion) == (0.5, 0)
