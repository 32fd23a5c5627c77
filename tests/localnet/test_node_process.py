"""The node as a process: it starts, says what is wrong, ends when told, and loses nothing when it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import bittensor as bt
import pytest
from localnet_chain import RAO, key, ss58
from websockets.asyncio.client import connect

START_SECONDS = 60
STOP_SECONDS = 30
MODULE = [sys.executable, "-m", "ig_subnet.localnet"]


class NodeProcess:
    """A running node and where it listens."""

    def __init__(self, process: asyncio.subprocess.Process, endpoint: str):
        self.process = process
        self.endpoint = endpoint

    async def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait for the exit status."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)


@asynccontextmanager
async def node_process(*arguments: str | Path) -> AsyncIterator[NodeProcess]:
    """Start a node on a free port; it is killed at the end if it still runs."""
    command = [*MODULE, "--port", "0", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    reader = process.stderr
    try:
        line = (await asyncio.wait_for(reader.readline(), START_SECONDS)).decode()
        found = re.search(r"ws://\S+:\d+", line)
        assert found, line
        draining = asyncio.create_task(reader.read())
        yield NodeProcess(process, found.group())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await draining


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a node that should end by itself."""
    return subprocess.run([*MODULE, *map(str, arguments)], capture_output=True, text=True, timeout=START_SECONDS)


def test_help_is_cheap() -> None:
    completed = run("--help")
    assert completed.returncode == 0
    for flag in ("--port", "--block-time", "--tempo", "--state", "--genesis", "--no-loopback-axons"):
        assert flag in completed.stdout
    program = (
        "import sys; from ig_subnet.localnet.__main__ import parse_arguments; parse_arguments([]);"
        "print(sorted({'torch', 'numpy', 'bittensor', 'bittensor_core', 'yaml', 'websockets'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--tempo", "0"],
        ["--block-time", "0"],
        ["--block-time", "nan"],
        ["--port", "x"],
        ["--nonsense"],
    ],
)
def test_wrong_flags_are_refused(arguments: list[str]) -> None:
    completed = run(*arguments)
    assert completed.returncode == 2
    assert completed.stderr.startswith("usage:")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_status_0(number: signal.Signals) -> None:
    async with node_process("--block-time", "0.05") as node:
        async with connect(node.endpoint) as connection:
            await connection.send('{"id": 1, "method": "chain_subscribeNewHeads"}')
            await connection.recv()
            assert await node.stop(number) == 0


async def test_a_taken_port_is_one_clear_error() -> None:
    async with node_process() as node:
        port = node.endpoint.rpartition(":")[2]
        completed = await asyncio.to_thread(run, "--port", port)
    assert completed.returncode == 1
    assert completed.stderr == (
        f"error: port {port} on 127.0.0.1 is in use: stop the other process or choose another --port\n"
    )


async def test_a_state_directory_belongs_to_one_chain_and_one_process(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with node_process("--state", state, "--tempo", "5") as node:
        busy = await asyncio.to_thread(run, "--port", "0", "--state", state, "--tempo", "5")
        assert busy.stderr == f"error: another node uses the state directory {state}: stop it first\n"
        assert await node.stop(signal.SIGTERM) == 0
    other = await asyncio.to_thread(run, "--port", "0", "--state", state, "--tempo", "6")
    assert (busy.returncode, other.returncode) == (1, 1)
    assert other.stderr.startswith(f"error: {state} holds the chain of another genesis")
    (state / "chain.sqlite3").write_bytes(b"no database" * 1000)
    broken = await asyncio.to_thread(run, "--port", "0", "--state", state, "--tempo", "5")
    assert broken.returncode == 1
    assert broken.stderr.startswith(f"error: cannot read the chain in {state}")


async def test_a_genesis_file_that_is_wrong_is_one_clear_error(tmp_path: Path) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_text(json.dumps({"subnets": [{"netuid": 0}]}))
    completed = await asyncio.to_thread(run, "--port", "0", "--genesis", genesis)
    assert completed.returncode == 1
    assert completed.stderr == "error: subnets[0]: netuid must be a number from 1 to 4095, not 0\n"


async def test_loopback_axons_can_be_refused() -> None:
    async with node_process("--no-loopback-axons", "--block-time", "0.05") as node, bt.Client(node.endpoint) as client:
        call = bt.calls.SubtensorModule.burned_register(netuid=1, hotkey=ss58("H"))
        assert (await client.submit_call(call, key("Alice"))).success
        result = await client.execute(bt.ServeAxon(netuid=1, ip="127.0.0.1", port=8091), key("H"))
        assert not result.success and result.error.name == "InvalidIpAddress"
        result = await client.execute(bt.ServeAxon(netuid=1, ip="192.168.0.9", port=8091), key("H"))
        assert result.success


async def watch_heads(endpoint: str, seen: dict[int, str]) -> None:
    """Record the parent hash of every head until the connection ends: blocks that this client knows to exist."""
    async with connect(endpoint) as connection:
        await connection.send('{"id": 1, "method": "chain_subscribeNewHeads"}')
        async for message in connection:
            head = json.loads(message).get("params", {}).get("result")
            if head and head["number"] != "0x0":
                seen[int(head["number"], 16) - 1] = head["parentHash"]


async def transfer_until_it_dies(endpoint: str, included: list[tuple[int, str]]) -> None:
    """Send one TAO after another to //Bob, recording the block of each that succeeded."""
    async with bt.Client(endpoint) as client:
        while True:
            result = await client.submit_call(
                bt.calls.Balances.transfer_keep_alive(dest=ss58("Bob"), value=RAO), key("Alice")
            )
            if not result.success:
                assert result.block_hash is None, result.message  # it was not included: the connection ended first
                return
            included.append((int(result.extrinsic_id.partition("-")[0]), result.block_hash))


async def test_nothing_a_client_saw_is_lost_by_kills(tmp_path: Path) -> None:
    """Ten times kill -9 at a random moment while transfers run; every block seen, and what it did, is still there."""
    moments = random.Random(7)
    seen: dict[int, str] = {}
    included: list[tuple[int, str]] = []
    for lives in range(1, 12):
        async with node_process("--state", tmp_path, "--block-time", "0.02") as node:
            async with bt.Client(node.endpoint) as client:
                newest = 50 if lives < 11 else 10**6  # all of them once more at the end
                known = [*list(seen.items())[-newest:], *included[-newest:]]
                blocks = await asyncio.gather(*(client.block_info(number) for number, _ in known))
                assert [block.hash for block in blocks] == [block_hash for _, block_hash in known]
                bob = await client.query(("System", "Account"), [ss58("Bob")])
                assert bob["data"]["free"] >= (1_000_000 + len(included)) * RAO
                alice = await client.query(("System", "Account"), [ss58("Alice")])
                assert alice["nonce"] >= len(included)
            watching = asyncio.create_task(watch_heads(node.endpoint, seen))
            sending = asyncio.create_task(transfer_until_it_dies(node.endpoint, included))
            async with asyncio.timeout(START_SECONDS):
                while len(included) < 2 * lives or len(seen) < 2 * lives:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)  # however slow the machine, a life is worth ending
            await asyncio.sleep(moments.uniform(0.0, 0.4))
            await node.stop(signal.SIGKILL)
            for task in (watching, sending):
                task.cancel()
            endings = await asyncio.gather(watching, sending, return_exceptions=True)
            assert not any(isinstance(ending, AssertionError) for ending in endings)
    assert len(included) >= 22 and len(seen) >= 22
