"""scripts/kill_validator.py: a few kills of a real validator process, and that every fault of a store is seen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

KILLS = 4


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("kill_validator")


@pytest.fixture(scope="module")
def survived(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a validator that was killed a few times."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = ["--restarts", str(KILLS), "--seed", "3", "--out", str(folder), "--json", str(folder / "kills.json")]
    assert script.main(arguments) == 0, (folder / "validator.log").read_text()
    return folder


@pytest.fixture
def store(script: ModuleType, survived: Path, tmp_path: Path) -> Path:
    """A copy of what it left, with the log that its last kill left unfinished."""
    source = script.settings_in(survived).state_directory / script.STORE_FILE
    for file in source.parent.glob(f"{source.name}*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / source.name


@pytest.mark.timeout(300)  # 8 s on a machine with nothing else to do
def test_a_validator_that_is_killed_goes_on_where_it_was(survived: Path) -> None:
    (row,) = json.loads((survived / "kills.json").read_text())["rows"]
    assert row["restarts"] == KILLS
    assert row["rounds"] > 0 and row["rounds_lost"] == 0
    assert row["commitments"] in (row["rounds"], row["rounds"] + 1)
    assert row["observations"] == 6 * row["rounds"]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("DELETE FROM answers WHERE rowid = (SELECT MAX(rowid) FROM answers)", "is not whole"),
        ("DELETE FROM prompts WHERE position = 1", "is not whole"),
        ("UPDATE answers SET incentive = incentive / 2", "have changed"),
        ("DELETE FROM rounds WHERE round_id = (SELECT MAX(round_id) FROM rounds)", "of no round, or a round without"),
        ("UPDATE rounds SET round_id = round_id + 1000", "of no round, or a round without"),
        ("DELETE FROM images WHERE number = 1", "the details of round .* are not whole"),
        ("DELETE FROM expert_scores WHERE number = 0", "the details of round .* are not whole"),
        ("UPDATE miners SET observations = observations + 1", "observations of .* its answers come to"),
        ("UPDATE miners SET accumulator = 0.9 * accumulator + 0.1", "accumulator of .* its answers come to"),
        ("DELETE FROM miners WHERE accumulator = 0", "miners have an average"),
        ("DELETE FROM commitments WHERE id = 1", "commitment 1: it has number 2"),
        ("UPDATE commitments SET outcome = 'void' WHERE id = 1", "commitment 2: round 1 was due"),
        ("DELETE FROM commitments WHERE id = (SELECT MAX(id) FROM commitments)", "was on record, and is not any more"),
    ],
)
def test_every_fault_is_seen(script: ModuleType, store: Path, damage: str, fault: str) -> None:
    known = script.Known()
    known.check(store)
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute(damage)
    with pytest.raises(script.Fault, match=fault):
        known.check(store)


def test_a_round_that_is_gone_is_missed(script: ModuleType, store: Path) -> None:
    known = script.Known()
    known.check(store)
    with closing(sqlite3.connect(store)) as connection, connection:
        for table in ("rounds", "prompts", "answers", "images", "expert_scores", "averages"):
            connection.execute(f"DELETE FROM {table} WHERE round_id = ?", (known.last_round,))
    with pytest.raises(script.Fault, match=f"round {known.last_round} was on record"):
        known.check(store)
