"""Both neurons as processes, and a chain that talks nonsense, is slow, gone, or forks away: they go on through it."""

from __future__ import annotations

import random
import shutil
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from garbling_proxy import NONSENSE, GarblingProxy
from neuron_processes import GENESIS, Store, free_port, neuron, prepare

from ig_subnet.localnet import Genesis, LocalNode

SILENT = {"nothing", "another id"}  # cost 30 s each, and are a node that hangs: tests/chain has them


def any_nonsense(message: str, chance: random.Random) -> str | bytes | None:
    return NONSENSE[chance.choice(sorted(NONSENSE.keys() - SILENT))](message, chance)


@pytest.mark.timeout(900)  # 30 s on a machine with nothing else to do
async def test_scoring_and_serving_go_on_whatever_becomes_of_the_chain(project_root: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    store, port, state, fork = Store(tmp_path), free_port(), tmp_path / "chain", tmp_path / "fork"

    def node(folder: Path) -> LocalNode:
        return LocalNode(Genesis.parse(GENESIS), folder, port=port, block_time=0.25)

    async with node(state) as first:  # the fork begins here, before anything has happened
        await first.produce_block(2)
    shutil.copytree(state, fork)

    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(GarblingProxy(f"ws://127.0.0.1:{port}"))
        chain_flags = ("--subtensor.chain_endpoint", proxy.endpoint)
        async with node(state):
            validator = await stack.enter_async_context(
                neuron(
                    *(project_root, tmp_path, "validator", "validator", *chain_flags),
                    *("--profile", str(tmp_path / "profile.yaml"), "--neuron.torch_threads", "1"),
                    *("--neuron.decoder_workers", "1", "--neuron.round_seconds", "0.1", "--neuron.timeout", "20"),
                    *("--neuron.weight_floor", "0"),  # noise earns next to nothing
                )
            )
            miner = await stack.enter_async_context(
                neuron(
                    *(project_root, tmp_path, "miner", "miner", *chain_flags, "--neuron.resync_seconds", "0.2"),
                    *("--axon.port", "0", "--axon.ip", "127.0.0.1", "--miner.model", "noise"),
                )
            )

            async def goes_on(rounds: int) -> None:
                before = store.rounds()
                await validator.until(lambda: store.rounds() >= before + rounds)
                assert miner.process.returncode is None, miner.log.read_text()

            async def sets_weights() -> None:
                before = store.settings("set")
                await validator.until(lambda: store.settings("set") > before)

            await sets_weights()
            proxy.garble = any_nonsense
            await goes_on(8)
            assert proxy.garbled
            proxy.garble = None
            await sets_weights()
            proxy.delay = 0.2  # of every message: a read takes seconds
            await goes_on(2)
            proxy.delay = 0.0
            await sets_weights()
        await goes_on(2)  # nobody listens
        async with node(fork):
            await sets_weights()  # on a chain that knows nothing of the axon: the miner publishes it again
            await goes_on(2)
            for process in (validator, miner):
                process.process.send_signal(signal.SIGTERM)
                assert await process.ends() == 0, process.log.read_text()
    found = store.open()
    assert found is not None
    missed = [answer for answer in found.answers() if answer.status != "answered"]
    assert {answer.detail for answer in missed} <= {"no axon is announced any more"}, "but on the fork, for a moment"
    assert [row.round_id for row in found.rounds()] == list(range(1, store.rounds() + 1))
    store.close()
    for process in (validator, miner):
        said = process.log.read_text()
        assert "Traceback" not in said
        assert "going on with the metagraph of" in said
    assert miner.log.read_text().count("axon published in block") == 2
