"""scripts/calibrate_robust.py: the limits that it takes from honest images, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from ig_subnet.config.profiles import load_profile
from ig_subnet.pocket import parse_caption, pocket_captions, render
from ig_subnet.rewards import load_mixture

COUNT = 100


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType], project_root: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(project_root / "scripts"))  # where it finds the modules beside it
        yield load_script("calibrate_robust")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of drawn scenes with their captions, and of one file that is not there."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(4)
    rows = []
    for number, caption in enumerate(pocket_captions(COUNT, seed=4)):
        render(parse_caption(caption), rng).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "prompt": caption})
    rows.append({"image": "missing.png", "prompt": "a red circle"})
    (folder / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "set.jsonl"


def test_limits_go_into_the_profile_and_figures_into_a_file(
    script: ModuleType, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, figures = tmp_path / "mine.yaml", tmp_path / "figures.json"
    arguments = ["--images", str(images), "--copies", "1", "--write", str(target), "--json", str(figures)]
    assert script.main([*arguments, "--device", "cpu"]) == 0
    assert "missing.png: left out" in capsys.readouterr().err
    written = load_profile(target)
    robust = written["rewarder"].pop("robust")
    shipped = load_profile("pocket")
    shipped["rewarder"].pop("robust", None)
    assert written == shipped
    assert robust["copies"] == 1 and f"{COUNT} images of set.jsonl" in robust["provenance"]
    assert robust["distrusted_spread"] == pytest.approx(1.3 * robust["tolerated_spread"], abs=2e-4)  # both are rounded

    rows = json.loads(figures.read_text())["rows"]
    assert [(row["copies"], row["count"]) for row in rows] == [(copies, COUNT) for copies in (1, 2, 3, 4)]
    assert {row["ratio_to_first"] for row in rows} == {1.0}
    lost = [row["lost_to_copies"] for row in rows]
    assert lost == sorted(lost) and 0 < lost[0] < 0.3  # each copy can only take more
    assert rows[0]["distrusted_images"] == 5  # of a hundred

    mixture = load_mixture({**shipped["rewarder"], "robust": robust}, "cpu")
    pictures = [Image.open(images.with_name(f"{number}.png")) for number in range(COUNT)]
    seeds = [f"set.jsonl {number}".encode() for number in range(COUNT)]
    paid = mixture.score_robustly(pictures, pocket_captions(COUNT, seed=4), None, seeds).incentive
    assert float(paid.mean()) == pytest.approx(rows[0]["incentive"], abs=1e-5)


@pytest.mark.parametrize(
    ("profile", "complaint"),
    [
        ("prompter: {model: x}", "has no rewarder section"),
        (
            "rewarder: {experts: {clip_aesthetic: {weights: package:pocket/weights/clip, weight: 1}}}",
            "calibrate.py first",
        ),
    ],
)
def test_a_profile_that_is_not_ready_is_refused(
    script: ModuleType, images: Path, tmp_path: Path, profile: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(profile)
    assert script.main(["--profile", str(tmp_path / "mine.yaml"), "--images", str(images), "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert complaint in said and said.startswith("calibrate_robust.py: error: ") and said.count("\n") == 1


def test_no_other_file_is_overwritten(
    script: ModuleType, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.yaml").write_text("precious: true\n")
    assert script.main(["--images", str(images), "--write", str(tmp_path / "precious.yaml")]) == 1
    assert "precious.yaml exists" in capsys.readouterr().err


def test_too_few_images_give_no_limit(
    script: ModuleType, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = images.with_name("few.jsonl")
    few.write_text("".join(images.read_text().splitlines(keepends=True)[:3]))
    assert script.main(["--images", str(few), "--write", str(tmp_path / "mine.yaml"), "--device", "cpu"]) == 1
    assert "3 images are too few for a limit; at least 100" in capsys.readouterr().err
    assert not (tmp_path / "mine.yaml").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--copies", "5"], "--copies must be 1 to 4, not 5"),
        (["--captions", "1"], "--captions must be at least 2"),
        (["--ascents", "2", "--images", "x"], "leave out --images"),
    ],
)
def test_wrong_flags_are_named(
    script: ModuleType, flags: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script.parse_arguments(flags)
    assert complaint in capsys.readouterr().err


def test_climbed_images_are_of_each_goal_and_lose_by_copies(script: ModuleType) -> None:
    """A pattern climbed to for one expert, by a few steps from noise, is worth nothing once it is moved a little."""
    from adversaries.ascent import Goal, ascend
    from adversaries.experts import load_climbable

    rewarder = load_profile("pocket")["rewarder"]
    caption = pocket_captions(1, seed=4)[0]
    noise = Image.fromarray(np.random.default_rng(5).integers(0, 256, (64, 64, 3), np.uint8))
    goal = Goal("pick_score", steps=50)
    climbed = ascend([noise], [caption], goal, load_climbable(rewarder), 1)
    mixture = load_mixture(rewarder, "cpu")
    rows = {}
    for kind, pictures in (("noise", [noise]), ("climbed", climbed)):
        robust = {"copies": 2, "tolerated_spread": 0.8, "distrusted_spread": 1.1}
        _, rows[kind], *_ = script.table(mixture, [script.Sample(kind, pictures, [caption])], robust)
    assert rows["climbed"]["plain_incentive"] > 20 * rows["noise"]["plain_incentive"]
    assert rows["climbed"]["incentive"] < 0.1 * rows["climbed"]["plain_incentive"]
