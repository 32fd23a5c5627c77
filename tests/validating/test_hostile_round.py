"""A round among hostile miners of every kind: it ends, and every honest miner gets what its answer is worth."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from bittensor.keyfiles import Keypair
from made_up_models import SIZE, BrightnessMixture, MadeUpPrompter, grey
from made_up_rounds import make_plan
from wire_peers import running

from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from ig_subnet.imaging import DecoderKilled, DecoderPool
from ig_subnet.validating.answers import RoundSettings, ask_miner
from ig_subnet.validating.device import Device, Models
from ig_subnet.validating.round import _stopped, run_round
from ig_subnet.validating.sampling import Miner
from protocol import Axon, Dendrite, GeneratedImage, QueryResult, QueryStatus, Target, TextToImageSynapse

HONEST = 4
SETTINGS = RoundSettings(images=2, width=SIZE, height=SIZE, steps=None, timeout_seconds=60)


async def bright(synapse: TextToImageSynapse, caller: str) -> Sequence[GeneratedImage]:
    return [
        GeneratedImage("png", synapse.width, synapse.height, synapse.seed_of(number), "made up", grey(204))
        for number in range(synapse.num_images)
    ]


def signer_of(name: str) -> KeypairSigner:
    return KeypairSigner(Keypair.create_from_uri(f"//{name}"))


@pytest.fixture
def hostile(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hostile miners of scripts/abuse_wire.py."""
    monkeypatch.syspath_prepend(str(project_root / "scripts"))
    return importlib.import_module("wire_abuse.miners")


async def test_an_answer_gets_no_second_decoder_to_kill() -> None:
    """Nor does that one image cost the other miners anything."""
    given = []

    async def decode(data: bytes, **expected: Any) -> np.ndarray:
        given.append(data)
        if data == b"killer":
            raise DecoderKilled("ended the decoder")
        return np.zeros((SIZE, SIZE, 3), dtype=np.uint8)

    async def ask(target: Target, synapse: TextToImageSynapse) -> QueryResult:
        images = [
            GeneratedImage("png", SIZE, SIZE, 7, "m", data) for data in (b"fine", b"killer", b"unseen", b"unseen")
        ]
        return QueryResult(target, QueryStatus.ANSWERED, tuple(images), 0.1)

    miner = Miner("hotkey", 1, Target("hotkey", "127.0.0.1", 1))
    prompt = make_plan(7).rows()[0]
    answer = await ask_miner(miner, prompt, b"s" * 32, replace(SETTINGS, images=4), ask, decode)
    assert given == [b"fine", b"killer"]
    assert [image.refused for image in answer.images] == [None, *["ended the decoder"] * 3]


async def test_slow_decoding_is_not_the_devices_fault() -> None:
    """What answers take to decode is off the clock that would void the round."""
    async with asyncio.timeout(0.05) as budget:
        async with _stopped(budget):
            await asyncio.sleep(0.1)
    assert not budget.expired()


async def test_hostile_miners_take_nothing_from_honest_ones(hostile: Any) -> None:
    me = signer_of("Validator")
    patience = {}  # seconds; of those that never end, a test waits for as little as it can
    expected = {}
    miners = []
    async with AsyncExitStack() as stack:
        for name, kind in hostile.HOSTILE.items():
            signer = signer_of(name)
            port = await stack.enter_async_context(hostile.serving(kind, signer))
            patience[signer.hotkey] = 1.0 if kind.expected is QueryStatus.TIMEOUT else SETTINGS.timeout_seconds
            expected[signer.hotkey] = kind.expected
            miners.append(Miner(signer.hotkey, len(miners), Target(signer.hotkey, "127.0.0.1", port)))
        for number in range(HONEST):
            signer = signer_of(f"Honest{number}")
            verifier = BtAuthVerifier(signer.hotkey)
            axon = Axon(bright, signer, verifier, host="127.0.0.1", port=0, policy=lambda _: None)
            await stack.enter_async_context(running(axon))
            expected[signer.hotkey] = QueryStatus.ANSWERED
            miners.append(Miner(signer.hotkey, len(miners), Target(signer.hotkey, "127.0.0.1", axon.port)))
        device = await stack.enter_async_context(Device(lambda: Models(MadeUpPrompter(), BrightnessMixture())))
        decoders = await stack.enter_async_context(DecoderPool(1))
        dendrite = await stack.enter_async_context(Dendrite(me, BtAuthVerifier(me.hotkey), allow_private=True))

        async def ask(target: Target, synapse: TextToImageSynapse) -> QueryResult:
            deadline = patience.get(target.hotkey, synapse.deadline_seconds)
            return await dendrite.query(target, synapse.model_copy(update={"deadline_seconds": deadline}))

        plan = make_plan(7, me.hotkey)
        result = await run_round(
            plan, 100, miners, secret=b"s" * 32, settings=SETTINGS, device=device, ask=ask, decode=decoders.decode
        )
    ports = {miner.target.port for miner in miners if miner.target}
    assert not [used for used in psutil.Process().net_connections("tcp") if used.raddr and used.raddr.port in ports]
    assert {answer.hotkey: answer.status for answer in result.answers} == expected
    assert result.observations == pytest.approx(
        {miner.hotkey: 0.8 if miner.uid >= len(hostile.HOSTILE) else 0 for miner in miners}
    )
    # Of what the hostile ones sent nothing was kept but how each image was refused.
    refused = {row.verdict for row in result.images if row.incentive == 0}
    assert refused == {"more than 1024 pixels", "too many pieces"}
