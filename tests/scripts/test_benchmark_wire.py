"""scripts/benchmark_wire.py at a tiny size: a complete row for every stack, and every byte verified."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest

COLUMNS = {
    *("stack", "miners", "image_kb", "wall_seconds", "cpu_seconds", "p50_ms", "p95_ms", "ratio_to_bare", "rss_mib"),
    *("rounds", "grown_to_round", "authentication_ms"),
}
STACKS = ["bare", "ig_subnet", "ig_subnet, unsigned"]


@pytest.fixture
def serving(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_root / "scripts"))
    from wire_benchmark import serve

    return serve


def test_every_stack_has_a_complete_row(project_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(project_root / "scripts" / "benchmark_wire.py"), "--miners", "1", "--image-kb", "20"]
    command += ["--turns", "1", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "bittensor 10.5.0 is left out" in done.stderr and "taowire 0.1.0a2 is left out" in done.stderr
    report = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert [row["stack"] for row in report["rows"]] == STACKS
    assert set(report["machine"]["stacks"]) == set(STACKS)
    for row in report["rows"]:
        assert set(row) == COLUMNS
        assert (row["miners"], row["image_kb"], row["rounds"]) == (1, 20, 160)
        assert 0 < row["p50_ms"] <= row["p95_ms"] and row["cpu_seconds"] > 0 and row["rss_mib"] > 10
        assert row["grown_to_round"] is None
        assert (row["authentication_ms"] is not None) == (row["stack"] == "ig_subnet")
    assert report["rows"][0]["ratio_to_bare"] == 1


def test_an_answer_of_the_wrong_size_ends_the_benchmark(serving: ModuleType) -> None:
    class Lying:
        """A stack whose miners answer with a byte less than is asked for."""

        @asynccontextmanager
        async def connect(self, ports: Sequence[int]):  # type: ignore[no-untyped-def]
            async def ask(miner: int, image_bytes: int) -> bytes:
                return bytes(image_bytes - 1)

            asking: Callable[[int, int], Awaitable[bytes]] = ask
            yield asking

    server = serving.Server(Lying())
    try:
        server.connect([1, 2])
        with pytest.raises(RuntimeError, match="miner 0 answered with 99 bytes instead of 100"):
            server.rounds(rounds=1, image_bytes=100, together=False)
    finally:
        server.close()
