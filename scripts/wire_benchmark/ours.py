"""This project's axons and dendrite, for wire_benchmark.serve: as neurons put them together, with every limit on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bittensor.keyfiles import Keypair
from wire_benchmark.serve import HOST, QUERY_SECONDS, Ask, image_of

from ig_subnet import __version__
from ig_subnet.chain import MetagraphSnapshot, NeuronSnapshot
from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from ig_subnet.config.settings import BlacklistSettings
from ig_subnet.mining.admission import Admission
from protocol import Axon, Dendrite, GeneratedImage, QueryStatus, Signer, Target, TextToImageSynapse, Verifier

VALIDATOR, OTHER_VALIDATOR = "//Validator", "//Other"
SIDE = 512  # pixels: 1.1 MB at most


def version() -> str:
    return f"ig_subnet {__version__}"


def signer_of(uri: str) -> KeypairSigner:
    return KeypairSigner(Keypair.create_from_uri(uri))


@asynccontextmanager
async def serve_miners(count: int) -> AsyncIterator[list[int]]:
    signers = [signer_of(f"//Miner{number}") for number in range(count)]
    async with serving([(signer, BtAuthVerifier(signer.hotkey)) for signer in signers]) as ports:
        yield ports


@asynccontextmanager
async def connect(ports: Sequence[int]) -> AsyncIterator[Ask]:
    signer = signer_of(VALIDATOR)
    targets = [Target(signer_of(f"//Miner{number}").hotkey, HOST, port) for number, port in enumerate(ports)]
    async with asking(signer, BtAuthVerifier(signer.hotkey), targets) as ask:
        yield ask


@asynccontextmanager
async def serving(keys: Sequence[tuple[Signer, Verifier]]) -> AsyncIterator[list[int]]:
    """An axon for each key, which lets the validators in as a miner does."""
    admission = admission_of([signer_of(VALIDATOR).hotkey, signer_of(OTHER_VALIDATOR).hotkey])
    axons = [
        Axon(make, signer, verifier, host=HOST, port=0, policy=admission.refuse, priority=admission.priority)
        for signer, verifier in keys
    ]
    async with asyncio.TaskGroup() as tasks:
        for axon in axons:
            tasks.create_task(axon.serve())
            await axon.started.wait()
        try:
            yield [axon.port for axon in axons]
        finally:
            await asyncio.gather(*(axon.stop() for axon in axons))


@asynccontextmanager
async def asking(signer: Signer, verifier: Verifier, targets: Sequence[Target]) -> AsyncIterator[Ask]:
    async with Dendrite(signer, verifier, allow_private=True) as dendrite:

        async def ask(miner: int, image_bytes: int) -> bytes:
            synapse = TextToImageSynapse(
                prompt="a lighthouse on a cliff at dusk, oil on canvas",
                width=SIDE,
                height=SIDE,
                seed=image_bytes,
                deadline_seconds=QUERY_SECONDS,
            )
            result = await dendrite.query(targets[miner], synapse)
            if result.status is not QueryStatus.ANSWERED:
                raise RuntimeError(f"miner {miner}: {result.status}, {result.detail}")
            return result.images[0].data

        yield ask


async def make(synapse: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
    """A handler that costs nothing."""
    return [GeneratedImage("jpeg", SIDE, SIDE, synapse.seed, "benchmark", image_of(synapse.seed))]


def admission_of(validators: Sequence[str]) -> Admission:
    """A miner's caller policy, by a metagraph with these hotkeys, all permitted and with the same stake."""
    admission = Admission(BlacklistSettings())
    neurons = tuple(
        NeuronSnapshot(uid, hotkey, "cold", 1000.0, True, True, 1, 1, None, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        for uid, hotkey in enumerate(validators)
    )
    admission.update(MetagraphSnapshot(netuid=1, block=1, neurons=neurons))
    return admission
