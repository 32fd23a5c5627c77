"""scripts/mimic.py as a person runs it, on the pocket profile with a few prompts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest
import yaml

from ig_subnet.config.profiles import load_profile
from ig_subnet.studies.results import read_results

DEADLINE_SECONDS = 240


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("mimic")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """The pocket profile with a database that is embedded in a moment, two experts and two topics."""
    content = load_profile("pocket")
    content["prompter"]["database"]["count"] = 24
    content["prompter"]["topics"] = content["prompter"]["topics"][:2]
    del content["rewarder"]["experts"]["image_reward"], content["rewarder"]["experts"]["hps_v2"]
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_study_from_prompts_to_the_report(
    script: ModuleType, profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = tmp_path / "study", tmp_path / "figures.json"
    command = ["--profile", str(profile), "--out", str(out), "--device", "cpu", "--steps", "1"]
    command += ["--prompts-per-topic", "3", "--images-per-prompt", "2"]
    command += ["--models", "pocket", "pocket:steps=2,name=twice", "nobody/nothing"]
    assert script.main([*command, "--stage", "prompts"]) == 0
    assert [row["topic"] for row in pq.read_table(out / "prompts.parquet").to_pylist()].count("cartoon") == 3
    assert not (out / "images").exists()
    assert script.main([*command, "--stage", "scores"]) == 1
    assert "run --stage images, and see what it says" in capsys.readouterr().err
    assert script.main([*command, "--json", str(figures)]) == 0
    told = capsys.readouterr()
    assert "nothing failed: the model nobody/nothing cannot be loaded from the hub" in told.err
    assert "twice" in told.out and "nothing failed" in told.out
    scores = read_results(out / "scores.parquet")
    assert scores.num_rows == 2 * 3 * 2 * 2 and scores["error"].null_count == scores.num_rows
    rows = json.loads((out / "ranking.json").read_text())["rows"]
    assert {"model", "topic", "expert", "mean", "low", "high", "rank"} <= rows[0].keys()
    assert {row["model"] for row in rows} == {"pocket", "twice"}
    assert json.loads(figures.read_text())["rows"] == rows
    assert "nobody/nothing" in (out / "report.html").read_text(encoding="utf-8")

    made = {path: path.stat().st_mtime_ns for path in out.rglob("*.png") if path.parent.parent.parent.name == "images"}
    assert len(made) == 24
    assert script.main([*command, "--stage", "images", "scores"]) == 0
    assert made == {path: path.stat().st_mtime_ns for path in made}, "what is there is not made again"
    assert script.main([*command, "--seed", "1"]) == 1
    assert "holds a study with another seed" in capsys.readouterr().err
    assert script.main([*command, "--stage", "report", "--push-to-hub", "nobody/images"]) == 1
    assert "the images cannot be pushed to nobody/images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "some/model"], "give --profile with --models"),
        (["--study", "nothing"], "no study 'nothing': use pocket, author"),
        (["--models", "pocket:steps=many"], "models.0.steps: "),
        (["--topics", "nonsense"], "no set of topics 'nonsense'"),
        (["--profile", "none"], "no profile 'none'"),
        (["--models", "pocket", "--steps", "0"], "steps"),
        (["--steps", "5"], "every model has steps of its own"),
        (["--stage", "dinner"], "invalid choice: 'dinner'"),
        (["--device", "tpu"], "--device tpu: use auto, cpu, cuda or cuda:N"),
        (["--json", "no/such/folder/a.json"], "the folder of no/such/folder/a.json does not exist"),
        (["--public"], "--public belongs to --push-to-hub"),
    ],
)
def test_a_wrong_command_is_one_clear_error(
    script: ModuleType,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = script.main(arguments)
    except SystemExit as end:
        status = end.code
    told = capsys.readouterr().err
    assert status == 2
    assert message in told.splitlines()[-1] and "Traceback" not in told
    assert not list(tmp_path.iterdir())


def test_topics_are_a_set_or_texts_with_names(script: ModuleType) -> None:
    assert script.topics_of(["study"]) == "study"
    assert script.topics_of(["cats=a photo of a cat", "an old dog"]) == [
        {"name": "cats", "text": "a photo of a cat"},
        {"name": "an_old_dog", "text": "an old dog"},
    ]


def test_help_comes_at_once_and_without_torch(project_root: Path) -> None:
    command = [sys.executable, "-X", "importtime", "scripts/mimic.py", "--help"]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.returncode == 0 and "--push-to-hub ID" in done.stdout
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded and not loaded & {"torch", "pyarrow", "PIL", "numpy", "diffusers", "datasets", "rich"}


def test_the_ways_of_making_images_are_measured(load_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = ["--models", "pocket:steps=1", "--prompts", "1", "--turns", "1", "--batches", "2", "4"]
    assert load_script("benchmark_images").main([*command, "--device", "cpu", "--json", str(figures)]) == 0
    rows = json.loads(figures.read_text())["rows"]
    assert [(row["way"], row["batch"]) for row in rows] == [("plain loop", 1), ("study", 2), ("study", 4)]
    assert rows[0]["ratio_to_plain"] == 1 and all(row["images_per_second"] > 0 for row in rows)
