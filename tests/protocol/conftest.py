"""Real keys, and real axons and dendrites on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bittensor.keyfiles import Keypair
from wire_peers import Keys, Serve, paint, running

from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from protocol import Axon, Dendrite, Target, TextToImageSynapse


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys(*(KeypairSigner(Keypair.create_from_uri(f"//{name}")) for name in ("Validator", "Miner", "Stranger")))


@pytest.fixture
def synapse() -> TextToImageSynapse:
    return TextToImageSynapse(
        prompt="a red circle left of a blue square", width=64, height=64, num_images=2, seed=7, deadline_seconds=15
    )


@pytest.fixture
def serve(keys: Keys) -> Serve:
    """`async with serve(handler, **options) as axon`: a running axon of the miner (or of `signer`), stopped at the
    end."""

    @asynccontextmanager
    async def serving(handler: Any = paint, signer: KeypairSigner = keys.miner, **options: Any) -> AsyncIterator[Axon]:
        options = {"host": "127.0.0.1", "port": 0, "policy": lambda hotkey: None, **options}
        axon = Axon(handler, signer, BtAuthVerifier(signer.hotkey), **options)
        async with running(axon):
            yield axon

    return serving


@pytest.fixture
async def dendrite(keys: Keys) -> AsyncIterator[Dendrite]:
    async with Dendrite(keys.validator, BtAuthVerifier(keys.validator.hotkey), allow_private=True) as dendrite:
        yield dendrite


@pytest.fixture
def target(keys: Keys) -> Callable[[int], Target]:
    """The miner at a loopback port."""
    return lambda port: Target(keys.miner.hotkey, "127.0.0.1", port)
