"""The program an operator reads a running validator with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from recorded_validator import ALICE, BOB, CAROL, record_rounds

from ig_subnet.validating.store import STORE_FILE


@pytest.fixture
def program(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("inspect_validator")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "cold" / "hot" / "netuid7" / "validator" / STORE_FILE
    record_rounds(path, 6)
    return path


def test_tables_of_a_validator(program: ModuleType, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--store", str(store)]) == 0
    printed = capsys.readouterr().out
    for text in (ALICE, BOB, CAROL, "copy of another miner's image", "round_id", "too_early", "agrees", "colours"):
        assert text in printed
    assert "\x1b" not in printed


def test_a_store_is_found_by_its_wallet(
    program: ModuleType, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--neuron.root", str(tmp_path), "--wallet.name", "cold", "--wallet.hotkey", "hot", "--netuid", "7"]
    assert program.main([*where, "--json", "-"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {miner["hotkey"] for miner in content["miners"]} == {ALICE, BOB, CAROL}
    assert [view["round"]["round_id"] for view in content["rounds"]] == [1, 2, 3, 4, 5, 6]
    assert content["weight_settings"][0]["agrees"] is True
    assert content["stopped"][0]["evidence"] is not None


def test_why_a_miner_has_its_weight(
    program: ModuleType, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["--store", str(store), "--miner", "2"]) == 0
    printed = capsys.readouterr().out
    for text in (f"why {BOB} has its weight", "moving average", "limit by uncertainty", "share", "block 1000: set"):
        assert text in printed
    assert "DOES NOT AGREE" not in printed
    out = tmp_path / "bob.json"
    assert program.main(["--store", str(store), "--miner", BOB, "--rounds", "1", "--json", str(out)]) == 0
    content = json.loads(out.read_text())
    assert (content["hotkey"], len(content["rounds"]), content["older"]) == (BOB, 1, 5)
    assert [step["name"] for step in content["why"]][1] == "moving average"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--store", "/nowhere/scores.sqlite3"], "no score store at /nowhere/scores.sqlite3"),
        (["--store", "{store}", "--miner", "nobody"], "no miner 'nobody' is on record"),
        (["--store", "{text}"], "is damaged or no score store"),
        (["--store", "{store}", "--json", "/nowhere/out.json"], "/nowhere"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    flags: list[str],
    said: str,
    program: ModuleType,
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = tmp_path / "text"
    text.write_text("no database, but long enough to look at. " * 99)
    assert program.main([flag.format(store=store, text=text) for flag in flags]) == 1
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rounds", "0"], "not a number from 1 on"),
        (["--before", "3"], "--before goes with --miner"),
        (["--miner", "3", "--rounds", "33"], "--rounds is at most 32 with --miner"),
    ],
)
def test_wrong_usage(flags: list[str], said: str, program: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(flags)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
