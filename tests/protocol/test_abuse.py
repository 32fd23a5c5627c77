"""scripts/abuse_wire.py in short: under every kind of abuse the honest get every answer. No times are asserted."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from wire_peers import PATIENCE_SECONDS, Keys, Serve

from protocol import Target

ATTACKS = [
    "invalid signatures, 64 addresses",
    "replay storm, 64 addresses",
    "slow headers",
    "slow bodies",
    "100 MB bodies, announced",
    "headers as large as may be",
]
COLUMNS = {
    *("victim", "abuse", "attempts", "served", "asked", "answered", "p50_ms", "p99_ms"),
    *("peak_mib", "grown_mib", "cores", "outcomes"),
}


@pytest.fixture
def callers(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_root / "scripts"))
    from wire_abuse import callers

    return callers


def test_the_honest_get_every_answer_and_attackers_none(project_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(project_root / "scripts" / "abuse_wire.py"), "--seconds", "0.8", "--attacks"]
    command += [*ATTACKS, "--miners", "22", "--rounds", "1", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["rows"]
    assert [row["abuse"] for row in rows] == ["nothing", *ATTACKS, "nothing", "22 hostile miners"]
    for row in rows:
        assert set(row) == COLUMNS
        assert row["answered"] == row["asked"] > 0 and row["served"] == 0
        assert (row["attempts"] > 0) == (row["abuse"] != "nothing")
    assert rows[-1]["outcomes"] == {"as expected": 22}


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ({}, 0),
        ({"answered": 9}, 1),
        ({"abuse": "replay storm, 64 addresses", "served": 1}, 1),
        ({"abuse": "silent connections, the validator's own address", "answered": 0}, 0),
    ],
)
def test_the_exit_status_tells_a_missing_answer(
    callers: ModuleType, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], status: int
) -> None:
    import abuse_wire

    async def measured(_: object) -> list[dict[str, Any]]:
        return [{"abuse": "slow headers", "asked": 10, "answered": 10, "served": 0} | row]

    monkeypatch.setattr(abuse_wire, "measure", measured)
    assert abuse_wire.main([]) == status


async def test_an_attack_stops_at_its_number_of_attempts(callers: ModuleType, serve: Serve, keys: Keys) -> None:
    async with serve() as axon:
        siege = siege_of(callers, keys, axon.port)
        await callers.besiege(callers.Attack(callers.invalid_signature, workers=4, most=10), siege, PATIENCE_SECONDS)
    assert siege.tally == {"401": 10}


async def test_an_attack_stops_when_its_time_is_up_and_leaves_no_connection(callers: ModuleType, keys: Keys) -> None:
    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.put_nowait(await reader.read())
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        siege = siege_of(callers, keys, server.sockets[0].getsockname()[1])
        await callers.besiege(callers.Attack(callers.silent, workers=4), siege, 0.2)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert [await ended.get() for _ in range(4)] == [b""] * 4
    assert not siege.tally


async def test_a_captured_request_is_good_once(callers: ModuleType, serve: Serve, keys: Keys) -> None:
    async with serve() as axon:
        siege = siege_of(callers, keys, axon.port)
        await callers.besiege(callers.Attack(callers.replay, workers=1, most=5), siege, PATIENCE_SECONDS)
    assert siege.tally == {"captured": 1, "200": 1, "401": 4}


def siege_of(callers: ModuleType, keys: Keys, port: int) -> Any:
    return callers.Siege(Target(keys.miner.hotkey, "127.0.0.1", port), keys.validator, cycle(["127.0.0.2"]))
