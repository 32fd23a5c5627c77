"""A node that answers nonsense, or changes its mind: nothing but this package's errors, and none that stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
from collections.abc import AsyncIterator

import pytest
from garbling_proxy import NONSENSE, GarblingProxy

from ig_subnet.chain import (
    Chain,
    ChainError,
    EpochTiming,
    MetagraphSnapshot,
    WeightsSet,
    WeightsTooEarly,
    WeightsUnreachable,
    open_chain,
)
from ig_subnet.localnet import LocalNode

VALIDATOR = "//Validator"


@pytest.fixture
async def proxy(node) -> AsyncIterator[GarblingProxy]:
    async with GarblingProxy(node.endpoint) as proxy:
        yield proxy


async def everything_read(chain: Chain, hotkey: str) -> list[object]:
    """What each read returned or raised."""
    reads = (
        chain.block_number,
        chain.metagraph,
        lambda: chain.registered_uid(hotkey),
        lambda: chain.epoch_timing(0),
        chain.weights_on_chain,
        lambda: chain.sealed_weights(hotkey),
        lambda: chain.commitment_of(hotkey),
    )
    return await asyncio.gather(*(read() for read in reads), return_exceptions=True)


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "from the start"])
async def test_nonsense_is_this_packages_error_and_forgotten_when_it_ends(connected: bool, node, wallet) -> None:
    """Every kind of it, each through a proxy of its own, at the same time."""
    hotkey = wallet(VALIDATOR).hotkey_address
    async with open_chain(node.endpoint, 1, None) as honest:
        truth = await everything_read(honest, hotkey)

    async def outlive(kind: str) -> None:
        async with (
            GarblingProxy(node.endpoint) as proxy,
            open_chain(proxy.endpoint, 1, wallet(VALIDATOR), timeout_seconds=2, submit_seconds=2) as chain,
        ):
            if connected:
                await until_it_answers(chain)
            proxy.garble = NONSENSE[kind]
            found = await everything_read(chain, hotkey)
            errors = [answer for answer in found if isinstance(answer, BaseException)]
            assert errors and all(isinstance(error, ChainError) for error in errors), (kind, errors)
            assert not isinstance(await chain.set_weights({1: 1.0}, 0), WeightsSet), kind
            assert proxy.garbled, kind
            proxy.garble = None
            assert await until_it_answers(chain) == truth[1], kind
            assert await everything_read(chain, hotkey) == truth, kind

    async with asyncio.TaskGroup() as kinds:
        for kind in NONSENSE:
            kinds.create_task(outlive(kind))
    assert node.block_number == 10, "nothing was sent"


async def until_it_answers(chain: Chain) -> MetagraphSnapshot:
    """The metagraph; a connection that the nonsense has broken may cost a look or two."""
    for _ in range(5):
        with contextlib.suppress(ChainError):
            return await chain.metagraph()
    return await chain.metagraph()


async def test_digits_that_change_now_and_then_are_lived_with(node, wallet, proxy: GarblingProxy) -> None:
    """One answer in ten is garbled: reads fail or are of the right kind, and many come through."""
    hotkey, chance, came = wallet(VALIDATOR).hotkey_address, random.Random(7), 0

    def now_and_then(message: str, generator: random.Random) -> str | bytes | None:
        return NONSENSE["flipped digits"](message, generator) if chance.random() < 0.1 else message

    async with open_chain(proxy.endpoint, 1, wallet(VALIDATOR), timeout_seconds=1) as chain:
        proxy.garble = now_and_then
        for _ in range(20):
            for found in await everything_read(chain, hotkey):
                assert not isinstance(found, BaseException) or isinstance(found, ChainError)
                came += isinstance(found, MetagraphSnapshot | EpochTiming)
        assert came > 5


async def test_a_fork_under_the_watch_is_not_taken_for_a_failure_of_the_weights(node, wallet, proxy) -> None:
    """The block that had the weights is given up; they are in the next one, and the retry learns it from the chain."""

    def retracted(message: str, generator: random.Random) -> str:
        told = json.loads(message)
        status = told.get("params", {}).get("result") if "params" in told else None
        if isinstance(status, dict) and status.keys() & {"inBlock", "finalized"}:
            told["params"]["result"] = {"retracted": next(iter(status.values()))}
        return json.dumps(told)

    async with open_chain(proxy.endpoint, 1, wallet(VALIDATOR)) as chain:
        proxy.garble = retracted
        outcome = await chain.set_weights({1: 1.0}, 0)
        assert isinstance(outcome, WeightsUnreachable)
        assert "retracted" in outcome.reason
        proxy.garble = None
        assert await chain.weights_on_chain() == {0: {1: 1.0}}
        assert await chain.set_weights({1: 1.0}, 0) == WeightsTooEarly(4)


async def test_a_fork_that_forgets_the_weights_is_noticed_at_the_next_look(genesis, wallet, tmp_path) -> None:
    """The node goes on from a block before the weights, as after a reorganisation deeper than finality."""
    state, fork = tmp_path / "chain", tmp_path / "fork"
    async with LocalNode(genesis=genesis(), state=state, instant_seal=True) as node:
        await node.produce_block(10)
        port = int(node.endpoint.rpartition(":")[2])
    shutil.copytree(state, fork)
    async with open_chain(f"ws://127.0.0.1:{port}", 1, wallet(VALIDATOR)) as chain:
        async with LocalNode(genesis=genesis(), state=state, port=port, instant_seal=True) as node:
            assert isinstance(await chain.set_weights({1: 1.0}, 0), WeightsSet)
            await node.produce_block(5)
            assert (await chain.epoch_timing(0)).blocks_since_last_update == 5
        async with LocalNode(genesis=genesis(), state=fork, port=port, instant_seal=True) as node:
            await node.produce_block(2)
            await until_it_answers(chain)
            assert await chain.weights_on_chain() == {}
            assert (await chain.epoch_timing(0)).blocks_since_last_update == 12
            assert isinstance(await chain.set_weights({2: 1.0}, 0), WeightsSet)
            assert await chain.weights_on_chain() == {0: {2: 1.0}}
