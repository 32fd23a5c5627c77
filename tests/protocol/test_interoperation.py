"""Peers that know nothing but docs/wire.md and the SDK's `http_auth` get along with the axon and the dendrite."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import btauth_peers
import pytest
from bittensor.keyfiles import Keypair
from wire_peers import Keys, Serve

from protocol import Axon, Busy, Dendrite, GeneratedImage, QueryStatus, Target, TextToImageSynapse

VALIDATOR = Keypair.create_from_uri("//Validator")
MINER = Keypair.create_from_uri("//Miner")
SYNAPSE: dict[str, Any] = {
    "prompt": "ein roter Kreis: 赤い円 🔴",
    "width": 64,
    "height": 48,
    "num_images": 2,
    "seed": 2**32 - 1,
    "deadline_seconds": 15,
}


@pytest.fixture
def call() -> Iterator[Any]:
    """`await call(axon, synapse)`: the independent validator asks, on one connection for each axon."""
    callers: dict[int, btauth_peers.Caller] = {}

    async def asking(axon: Axon, synapse: dict[str, Any]) -> btauth_peers.Reply:
        if axon.port not in callers:
            callers[axon.port] = btauth_peers.Caller(VALIDATOR, MINER.ss58_address, "127.0.0.1", axon.port)
        return await asyncio.to_thread(callers[axon.port].ask, synapse)

    yield asking
    for caller in callers.values():
        caller.close()


async def test_another_validator_asks_the_axon(serve: Serve, call: Any) -> None:
    asked = []

    async def handler(synapse: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
        asked.append((synapse, caller))
        return [
            GeneratedImage("png", 64, 48, synapse.seed_of(number), "m steps:2", b"%d" % number * 70_000)
            for number in range(synapse.num_images)
        ]

    async with serve(handler) as axon:
        for _ in range(2):  # the second on the same connection
            reply = await call(axon, SYNAPSE)
            assert (reply.status, reply.signed) == (200, True)
            assert [data for _, data in reply.images] == [b"0" * 70_000, b"1" * 70_000]
            assert [entry["seed"] for entry, _ in reply.images] == [2**32 - 1, 0]
            assert {entry["model"] for entry, _ in reply.images} == {"m steps:2"}
    assert asked == [(TextToImageSynapse(**SYNAPSE), VALIDATOR.ss58_address)] * 2


async def test_another_validator_understands_refusals(serve: Serve, call: Any, keys: Keys) -> None:
    async def busy(synapse: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
        raise Busy(6.5)

    async with serve(busy) as axon:
        reply = await call(axon, SYNAPSE)
        assert (reply.status, reply.signed, reply.headers["retry-after"]) == (503, True, "7")
        assert json.loads(reply.body)["error"] == "busy"
        assert json.loads(reply.body)["retry_after_seconds"] == 7
        reply = await call(axon, SYNAPSE | {"width": 64.0})
        assert (reply.status, reply.signed, json.loads(reply.body)["error"]) == (422, True, "invalid_synapse")
    async with serve(signer=keys.stranger) as axon:  # another miner than the one that is asked
        reply = await call(axon, SYNAPSE)
        assert (reply.status, reply.signed) == (401, False)
        assert json.loads(reply.body)["error"] == "authentication_failed"


async def test_the_dendrite_asks_another_miner(dendrite: Dendrite) -> None:
    asked = []

    def answer(synapse: dict[str, Any]) -> tuple[int, bytes]:
        asked.append(synapse)
        return 200, btauth_peers.frame(synapse, [b"%d" % number * 500 for number in range(synapse["num_images"])])

    synapse = TextToImageSynapse(**SYNAPSE)
    async with btauth_peers.miner(MINER, answer) as port:
        for _ in range(2):
            result = await dendrite.query(Target(MINER.ss58_address, "127.0.0.1", port), synapse)
            assert (result.status, result.detail) == (QueryStatus.ANSWERED, "")
            assert [image.data for image in result.images] == [b"0" * 500, b"1" * 500]
            assert [image.seed for image in result.images] == [2**32 - 1, 0]
            assert {image.model for image in result.images} == {"another language"}
    assert asked == [{"negative_prompt": "", "steps": None, **SYNAPSE}] * 2


async def test_the_dendrite_understands_another_miners_refusals(dendrite: Dendrite, keys: Keys) -> None:
    replies = iter([(503, b'{"error":"busy","message":"Later.","retry_after_seconds":9}'), (500, b'{"error":"so"}')])
    synapse = TextToImageSynapse(**SYNAPSE)
    async with btauth_peers.miner(MINER, lambda asked: next(replies)) as port:
        at = Target(MINER.ss58_address, "127.0.0.1", port)
        result = await dendrite.query(at, synapse)
        assert (result.status, result.detail) == (QueryStatus.BUSY, "busy, ask again in 9 s")
        result = await dendrite.query(at, synapse)
        assert (result.status, result.detail) == (QueryStatus.FAILED, "HTTP 500 unknown error")
        # A request that is for another hotkey does not verify there.
        result = await dendrite.query(Target(keys.stranger.hotkey, "127.0.0.1", port), synapse)
        assert (result.status, result.detail) == (QueryStatus.REFUSED, "HTTP 401 authentication_failed, unsigned")
