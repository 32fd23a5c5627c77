"""The fuzzer's corpus against what it fuzzes, and the fuzzer itself, in short, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parents[1] / "fuzz_corpus"
NAMES = sorted(folder.name for folder in CORPUS.iterdir())


@pytest.fixture
def targets(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(project_root / "scripts"))
    return importlib.import_module("wire_fuzzing.targets").TARGETS


def test_every_target_has_a_corpus(targets: Any, load_script: Any) -> None:
    assert NAMES == sorted(targets) == sorted(load_script("fuzz_wire").NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus(name: str, targets: Any) -> None:
    """Among it is all that was ever found."""
    failed = {}
    with targets[name].make() as check:
        for file in sorted((CORPUS / name).iterdir()):
            data = file.read_bytes()
            assert len(data) <= targets[name].longest + 1, file
            try:
                check(data)
            except Exception as error:
                failed[file.name] = repr(error)
    assert failed == {}


@pytest.mark.parametrize("name", NAMES)
def test_changed_inputs(name: str, targets: Any) -> None:
    """The same invariants where there is no fuzzer: the corpus with some bytes changed, added or missing."""
    files = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def run(chosen: st.DataObject) -> None:
        data = bytearray(chosen.draw(st.sampled_from(files)))
        for _ in range(chosen.draw(st.integers(1, 3))):
            position = chosen.draw(st.integers(0, len(data)))
            removed = chosen.draw(st.integers(0, 4))
            data[position : position + removed] = chosen.draw(st.binary(max_size=4))
        check(bytes(data))

    with targets[name].make() as check:
        run()


def test_the_corpus_gets_all_the_way(targets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is honest in it is answered, taken, decoded: the targets do not stop at the door."""
    reached = []
    responses = importlib.import_module("wire_fuzzing.responses")
    images = importlib.import_module("wire_fuzzing.images")

    def seen(module: Any, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, **more: (reached.append(name), function(*given, **more))[1])

    seen(responses, "encode_images")  # of images that were taken
    seen(images, "decode_image")
    with targets["requests"].make() as check:
        check((CORPUS / "requests" / "honest").read_bytes())
        assert check._made == 1
    with targets["responses"].make() as check:
        check((CORPUS / "responses" / "honest").read_bytes())
    with targets["manifests"].make() as check:
        check((CORPUS / "manifests" / "honest").read_bytes())
    with targets["images"].make() as check:
        check((CORPUS / "images" / "png").read_bytes())
    assert reached == ["encode_images", "encode_images", "decode_image"]


@pytest.mark.parametrize("name", ["requests", "responses", "images"])
def test_a_fault_is_found(name: str, targets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that the code under test was not meant to raise."""

    def fault(*_: object, **__: object) -> Any:
        raise KeyError("not foreseen")

    for place in (
        "protocol.server.parse_auth_headers",
        "protocol.dendrite.decode_images",
        "wire_fuzzing.images.decode_image",
    ):
        monkeypatch.setattr(place, fault)
    with targets[name].make() as check, pytest.raises((AssertionError, KeyError)):
        check((CORPUS / name / ("png" if name == "images" else "honest")).read_bytes())


def test_a_finding_is_repeated(load_script: Any, targets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    script = load_script("fuzz_wire")
    assert script.main(["--replay", str(CORPUS / "images" / "png"), "--target", "images"]) == 0
    assert capsys.readouterr().out == "nothing was found\n"


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has wheels for Linux on x86-64 only, and is not here"
)
def test_a_short_run(project_root: Path, tmp_path: Path) -> None:
    """A thousand new inputs for each of those that read a stranger's bytes first; the same ones each time."""
    program = [sys.executable, str(project_root / "scripts" / "fuzz_wire.py"), "--runs", "1000", "--seconds", "60"]
    chosen = ["--target", "requests", "--target", "responses", "--target", "images"]
    done = subprocess.run(
        [*program, *chosen, "--seed", "1", "--out", str(tmp_path), "--json", str(tmp_path / "figures.json")],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["target"] for row in rows] == ["requests", "responses", "images"]
    assert all(row["executions"] >= 1000 and row["findings"] == 0 for row in rows)
    assert not list((tmp_path / "findings").iterdir())
