"""A validator's process tells a miner its record over the chain's address, and is read beside, while it runs."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from bittensor.keyfiles import Keypair
from neuron_processes import GENESIS, PATIENCE_SECONDS, Store, neuron, prepare

from ig_subnet.localnet import Genesis, LocalNode

VALIDATOR, MINER = (Keypair.create_from_uri(f"//{name}").ss58_address for name in ("Validator", "Miner"))


async def run_script(project_root: Path, name: str, *flags: str) -> Any:
    """What the program prints with --json -."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(project_root / "scripts" / name), *flags, "--json", "-"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(printed)


@pytest.mark.timeout(900)  # 20 s on a machine with nothing else to do
async def test_a_running_validator_tells_and_is_read(project_root: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    store = Store(tmp_path)
    async with LocalNode(Genesis.parse(GENESIS), block_time=0.25) as node, AsyncExitStack() as stack:
        chain = ("--subtensor.network", "local", "--subtensor.chain_endpoint", node.endpoint)
        await stack.enter_async_context(
            neuron(
                *(project_root, tmp_path, "miner", "miner", *chain, "--axon.port", "0"),
                *("--axon.ip", "127.0.0.1", "--miner.model", "noise"),
            )
        )
        validator = await stack.enter_async_context(
            neuron(
                *(project_root, tmp_path, "validator", "validator", *chain, "--axon.port", "0"),
                *("--axon.ip", "127.0.0.1", "--profile", str(tmp_path / "profile.yaml")),
                *("--neuron.torch_threads", "1", "--neuron.decoder_workers", "1", "--neuron.round_seconds", "0.1"),
                *("--neuron.weight_floor", "0"),  # noise earns next to nothing
            )
        )
        await validator.until(lambda: "records are told at 127.0.0.1" in validator.log.read_text())
        wallets = ("--wallet.path", str(tmp_path / "wallets"), "--wallet.name", "owner", "--wallet.hotkey", "miner")
        record = await run_script(project_root, "my_record.py", *chain, *wallets, "--validator", VALIDATOR)
        where = ("--wallet.name", "owner", "--wallet.hotkey", "validator", "--neuron.root", str(tmp_path / "state"))
        overview = await run_script(project_root, "inspect_validator.py", *where, "--rounds", "1000")
        before = store.rounds()
        await validator.until(lambda: store.rounds() > before)  # nobody was in its way
    store.close()
    assert record["hotkey"] == MINER
    assert record["rounds"][0]["answers"][0]["images"][0]["verdict"] == "valid"
    assert record["weights"][-1]["share"] == 1.0
    assert [step["agrees"] for step in record["why"]][1] is True
    assert [miner["hotkey"] for miner in overview["miners"]] == [MINER]
    assert overview["rounds"][-1]["round"]["round_id"] >= record["rounds"][0]["round_id"]
    assert {setting["agrees"] for setting in overview["weight_settings"] if setting["weights"]} == {True}
