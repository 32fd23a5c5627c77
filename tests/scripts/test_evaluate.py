"""scripts/evaluate.py: from the command to its files, on small data of the published schema and made-up experts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from made_up_experts import Brightness, brightness_mixture
from PIL import Image

from ig_subnet.rewards import Mixture


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType], project_root: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(project_root / "scripts"))  # where a program finds the modules beside it
        yield load_script("evaluate")


@pytest.fixture
def mixture(monkeypatch: pytest.MonkeyPatch) -> Mixture:
    """The mixture that every profile has here."""
    mixture = brightness_mixture()
    mixture.topics = {}
    monkeypatch.setattr("ig_subnet.rewards.load_mixture", lambda *arguments: mixture)
    return mixture


def write_image_reward_db(folder: Path, split: str = "test", prompts: int = 6) -> None:
    """Of each prompt three images, the brighter the better; of the last prompt the other way round."""
    rows: list[dict[str, Any]] = []
    for prompt in range(prompts):
        for rank, brightness in enumerate((200, 150, 100), start=1):
            path = f"images/{split}/{split}_1/{prompt}-{rank}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (brightness + prompt,) * 3).save(folder / path)
            row = {"image_path": path, "prompt_id": str(prompt), "prompt": f"prompt {prompt}"}
            rows.append(row | {"rank": rank if prompt < prompts - 1 else 4 - rank})
    pa.parquet.write_table(pa.Table.from_pylist(rows), folder / f"metadata-{split}.parquet")


def command(folder: Path, *more: str) -> list[str]:
    return ["--dataset", f"image_reward_db={folder / 'data'}", "--device", "cpu", "--out", str(folder / "out"), *more]


def test_from_the_command_to_its_files(
    script: ModuleType, mixture: Mixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image_reward_db(tmp_path / "data")
    (tmp_path / "data/images/test/test_1/0-1.png").unlink()
    assert script.main(command(tmp_path, "--json", str(tmp_path / "figures.json"))) == 0
    report = json.loads((tmp_path / "out/agreement.json").read_text())
    assert {"machine", "versions"} < set(report)
    assert report["rows"] == json.loads((tmp_path / "figures.json").read_text())["rows"]
    brightness, total, incentive = report["rows"]
    assert (brightness["scorer"], total["scorer"], incentive["scorer"]) == ("brightness", "total", "incentive")
    assert (brightness["dataset"], brightness["pairs"], brightness["prompts"]) == ("image_reward_db", 16, 6)
    assert brightness["accuracy"] == pytest.approx(13 / 16) and brightness["low"] < 13 / 16 < brightness["high"]
    assert (incentive["best_expert"], incentive["gain"], incentive["gain_high"]) == ("brightness", 0, 0)
    assert (brightness["missing_images"], brightness["missing_pairs"]) == (1, 2)
    printed = capsys.readouterr()
    assert "1 of 18 images have no score, so 2 of 18 pairs are left out" in printed.err and "0-1.png" in printed.err
    assert "81.25%" in printed.out
    with (tmp_path / "out/agreement.csv").open() as file:
        assert [row["scorer"] for row in csv.DictReader(file)] == ["brightness", "total", "incentive"]
    with Image.open(tmp_path / "out/agreement.png") as plot:
        assert plot.width > 300
    expert = mixture.members[0].expert
    assert isinstance(expert, Brightness) and expert.scored == 17
    assert script.main(command(tmp_path)) == 0 and expert.scored == 17  # each image once


def test_the_tie_threshold_comes_from_the_other_split(
    script: ModuleType, mixture: Mixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ig_subnet.studies import preferences

    read = preferences.PUBLISHED["image_reward_db"].read
    for split in ("test", "validation"):
        write_image_reward_db(tmp_path / "data", split)

    def with_ties(place: Any, split: Any) -> Any:
        found = read(place, split)
        pairs = preferences.replace(found.pairs, label=found.pairs.label * 0 + 0.5)
        return preferences.replace(found, counting="tie threshold", pairs=pairs)

    published = preferences.replace(preferences.PUBLISHED["image_reward_db"], read=with_ties)
    monkeypatch.setitem(preferences.PUBLISHED, "image_reward_db", published)
    assert script.main(command(tmp_path)) == 0
    row = json.loads((tmp_path / "out/agreement.json").read_text())["rows"][0]
    assert row["accuracy"] == 1 and row["tie_threshold"] == pytest.approx(100 / 25.5, rel=1e-3)  # all are ties
    assert (tmp_path / "out/image_reward_db-validation.parquet").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "pocket=here"], "--dataset pocket: give pocket alone"),
        (["--dataset", "hpdv2"], "--dataset hpdv2: give pocket alone, and any other as NAME=FOLDER"),
        (["--dataset", "pocket", "--dataset", "pocket"], "give each data set once"),
        (["--captions", "0"], "argument --captions: invalid positive value: '0'"),
    ],
)
def test_wrong_commands(script: ModuleType, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.main(flags)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--dataset", "hpdv2=nowhere"], 1, "hpdv2=nowhere: no such folder"),
        (["--profile", "none"], 2, "no profile 'none'"),
    ],
)
def test_what_cannot_be_had(
    script: ModuleType, flags: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image_reward_db(tmp_path / "data", prompts=1)
    given = flags if "--dataset" in flags else command(tmp_path, *flags)
    assert script.main(given) == status
    assert message in capsys.readouterr().err
