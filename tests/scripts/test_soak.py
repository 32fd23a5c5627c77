"""scripts/soak.py in short, and that its ledger and its checks see what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ig_subnet.validating.moving_average import Registration, average_of, update
from ig_subnet.validating.records import AnswerRow, AverageRow, ImageRow, MinerRow

REGISTERED = {"alice": (0, 1), "bob": (1, 1)}


@pytest.fixture
def script(load_script: Callable[[str], ModuleType], project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_root / "scripts"))  # where it finds the modules beside it
    return load_script("soak")


def answer(round_id: int, hotkey: str, incentive: float) -> AnswerRow:
    return AnswerRow(round_id, 0, hotkey, 0, "answered", 1.0, 7, incentive, "")


def image(round_id: int, hotkey: str, incentive: float) -> ImageRow:
    return ImageRow(round_id, 0, hotkey, 0, "ab" * 32, "png", 32, 32, 9, "valid", None, incentive)


@pytest.mark.timeout(600)
def test_a_short_soak_finds_nothing_wrong(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = 16
    status = script.main(["--quick", "--rounds", str(rounds), "--json", str(tmp_path / "soak.json")])
    assert status == 0, capsys.readouterr().err
    rows = json.loads((tmp_path / "soak.json").read_text())["rows"]
    summary, roles = rows[0], {row["role"]: row for row in rows if "role" in row}
    assert (summary["rounds"], summary["starts"], summary["wrong"]) == (rounds, script.LIVES, 0)
    assert summary["answers"] == summary["averages_checked"] == rounds * script.QUICK.miners // 2
    assert roles.keys() >= {script.HONEST, *script.NOTHING_EARNED} and roles[script.HONEST]["earned"] > 0.3
    assert [row["round"] for row in rows if "round" in row] == list(range(1, rounds + 1))


# --- the ledger


@pytest.fixture
def ledger(script: ModuleType) -> Any:
    return script.Ledger(alpha=0.1, images=1, absence_seconds=30)


def played(ledger: Any, rounds: int) -> tuple[dict[str, MinerRow], list[AnswerRow]]:
    """The validator's own averages, of rounds that the ledger has followed too."""
    miners: dict[str, MinerRow] = {}
    registrations = {hotkey: Registration(*found) for hotkey, found in REGISTERED.items()}
    answers: list[AnswerRow] = []
    for number in range(1, rounds + 1):
        observed = {"alice": 0.1 * number, "bob": 0.0}
        answers = [answer(number, hotkey, incentive) for hotkey, incentive in observed.items()]
        miners = update(miners, registrations, observed, alpha=0.1, round_id=number, now=10.0 * number)
        ledger.follow(number, 10.0 * number, answers, REGISTERED)
    return miners, answers


def test_the_ledger_agrees_with_the_validator(ledger: Any) -> None:
    miners, answers = played(ledger, 5)
    averages = [AverageRow(5, hotkey, 0, 0.0, average_of(miner)) for hotkey, miner in miners.items()]
    assert ledger.complaints(miners.values(), averages, answers, [image(5, "alice", 0.5)]) == []
    assert ledger.checked == 2


def test_the_ledger_sees_the_last_bit_of_an_average(ledger: Any) -> None:
    miners, answers = played(ledger, 3)
    wrong = replace(miners["alice"], accumulator=miners["alice"].accumulator * (1 + 2**-52))
    (complaint,) = ledger.complaints([wrong, miners["bob"]], [], answers, [image(3, "alice", 0.30000000000000004)])
    assert "the store has" in complaint and "alice" in complaint


def test_the_ledger_sees_a_miner_too_many_an_average_and_a_payment_that_do_not_fit(ledger: Any) -> None:
    miners, answers = played(ledger, 3)
    stranger = replace(miners["bob"], hotkey="mallory")
    paid = [image(3, "alice", 0.2)]
    found = ledger.complaints([*miners.values(), stranger], [AverageRow(3, "alice", 0, 0.3, 0.3)], answers, paid)
    assert len(found) == 3
    assert any("mallory" in line for line in found) and any("does not follow" in line for line in found)
    assert any("paid other than its images" in line for line in found)


def test_the_ledger_drops_who_stays_away_and_begins_anew_with_who_registers_again(ledger: Any) -> None:
    played(ledger, 2)
    for number, at in ((3, 30.0), (4, 50.0)):
        ledger.follow(number, at, [], {"alice": (0, 9)})
        assert ledger.accounts.keys() == {"bob"} and ledger.accounts["bob"].row.absent_since == 30.0
    ledger.follow(5, 60.0, [answer(5, "alice", 0.5)], {"alice": (0, 9)})
    (alice,) = ledger.accounts.values()
    assert (alice.row.hotkey, alice.row.observations, alice.row.accumulator) == ("alice", 1, 0.05)


# --- the checks of weights


@pytest.mark.parametrize(
    ("shares", "complaint"),
    [
        ({20: 0.5, 21: 0.5}, "out of bounds"),
        (dict.fromkeys(range(20, 29), 0.1), "sum to 0.9"),
        (dict.fromkeys(range(20, 29), 0.1) | {999: 0.1}, "who are gone"),
        (dict.fromkeys(range(20, 29), 0.1) | {0: 0.1}, "have earned nothing"),
    ],
)
def test_weights_that_make_no_sense_are_seen(
    shares: dict[int, float], complaint: str, script: ModuleType, tmp_path: Path
) -> None:
    soak = script.Soak(script.QUICK, 1, tmp_path)
    soak.check_weights(dict.fromkeys(range(20, 30), 0.1))
    assert soak.wrong == []
    soak.check_weights(shares)
    assert any(complaint in line for line in soak.wrong)
