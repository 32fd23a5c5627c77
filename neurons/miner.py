"""A miner of the subnet: serves images to its validators.

    python neurons/miner.py --netuid 1 --subtensor.network local --wallet.name W --wallet.hotkey H --miner.model pocket

It checks that its hotkey is registered, loads its model, listens for signed queries, publishes where it listens on the
chain, and re-reads from the chain who may query it. It ends on SIGINT or SIGTERM with status 0; with status 1 and one
line that says why, when it cannot go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from functools import partial
from typing import NoReturn

from loguru import logger

from ig_subnet import __version__
from ig_subnet.chain import (
    AxonEndpoint,
    AxonServed,
    AxonUnchanged,
    Chain,
    ChainError,
    MetagraphSnapshot,
    NeuronSnapshot,
    Presence,
    ServeTooEarly,
    ServeUnreachable,
    wait_for_chain,
)
from ig_subnet.config.settings import MinerSettings, parse_miner_settings
from ig_subnet.mining.admission import Admission
from ig_subnet.mining.errors import MiningError, NotPublished, NotRegistered
from ig_subnet.mining.generators import load_generator
from protocol import DEFAULT_LIMITS, ProtocolError


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is told to stop; returns the exit status."""
    settings = parse_miner_settings(argv)
    logger.remove()
    logger.add(sys.stderr, level=settings.logging.level)
    status = 0
    try:
        asyncio.run(mine(settings))
    except* (MiningError, ChainError, ProtocolError) as errors:
        for error in errors.exceptions:
            logger.error("{}", error)
        status = 1
    return status


async def mine(settings: MinerSettings) -> None:
    """Puts the miner together and runs it until a signal arrives."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)  # a second signal changes nothing
    running, stopping = asyncio.create_task(compose_and_run(settings)), asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stopping.done():
        running.cancel()
    stopping.cancel()
    try:
        await running
    except asyncio.CancelledError:
        logger.info("stopped by a signal")


async def compose_and_run(settings: MinerSettings) -> None:
    """Opens everything the miner works with, cheapest to fail first, and closes all of it whatever happens."""
    # these bring the SDK and a web server, which --help spares
    from ig_subnet.chain import coldkey_warning, load_wallet, open_chain
    from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
    from ig_subnet.chain.nonces import NonceStore
    from ig_subnet.mining.answering import Answerer
    from ig_subnet.mining.worker import DeviceWorker
    from protocol import Axon

    wallet = load_wallet(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
    signer = KeypairSigner(wallet.hotkey)
    if not settings.subtensor.is_local and (warning := coldkey_warning(settings.wallet.name, settings.wallet.path)):
        logger.warning("{}", warning)
    logger.info(
        "miner {} {} on subnet {} of {}", __version__, signer.hotkey, settings.netuid, settings.subtensor.target
    )
    async with AsyncExitStack() as stack:
        nonces = stack.enter_context(closing(NonceStore(settings.axon.nonce_store)))
        chain = await stack.enter_async_context(open_chain(settings.subtensor.target, settings.netuid, wallet))
        metagraph = await wait_for_chain(chain)
        uid = own_neuron(metagraph, signer.hotkey, settings).uid
        admission = Admission(settings.blacklist)
        admission.update(metagraph)
        worker = await stack.enter_async_context(
            DeviceWorker(
                partial(load_generator, settings), steps=settings.miner.steps, queue_size=settings.miner.queue_size
            )
        )
        axon = Axon(
            Answerer(worker, admission.priority),
            signer,
            BtAuthVerifier(wallet.hotkey_address, nonces=nonces),
            host=settings.axon.ip,
            port=settings.axon.port,
            policy=admission.refuse,
            priority=admission.priority,
            # The worker keeps the queue, because it knows what work costs: every request reaches it at once.
            limits=replace(DEFAULT_LIMITS, max_running=settings.miner.queue_size + DEFAULT_LIMITS.max_waiting),
            trusted_proxies=settings.axon.trusted_proxy,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(axon.serve(), name="axon")
            await axon.started.wait()
            endpoint = AxonEndpoint(settings.published_ip, settings.axon.external_port or axon.port)
            logger.info(
                "uid {} makes an image with {} in {:.2f} s, and listens on {} port {}",
                *(uid, worker.generator.name, worker.seconds_per_image, settings.axon.ip, axon.port),
            )
            await follow_chain(chain, admission, Presence(signer.hotkey), endpoint, settings)


def own_neuron(metagraph: MetagraphSnapshot, hotkey: str, settings: MinerSettings) -> NeuronSnapshot:
    """This miner on its subnet. Raises NotRegistered, with the command that mends it."""
    neuron = metagraph.by_hotkey(hotkey)
    if neuron is None:
        wallet, network = settings.wallet, settings.subtensor.target
        remedy = (
            f"btcli subnets register --netuid {metagraph.netuid} --network {network} "
            f"--wallet {wallet.name} --wallet-hotkey {wallet.hotkey} --wallet-path {wallet.path}"
        )
        if settings.subtensor.is_local:  # btcli insists on an encrypted mempool, which a local chain does not have
            remedy = "`ig_subnet.chain.register`, as docs/running.md shows"
        raise NotRegistered(
            f"hotkey {hotkey} is not registered on subnet {metagraph.netuid} of {network}; register it: {remedy}"
        )
    return neuron


async def follow_chain(
    chain: Chain, admission: Admission, presence: Presence, endpoint: AxonEndpoint, settings: MinerSettings
) -> NoReturn:
    """Keeps the chain's idea of this miner, and the miner's idea of its callers, true.

    While the chain is away, or shows a metagraph that cannot be right, the miner goes on with what it knows, which
    `admission` trusts for one tempo. Raises NotRegistered and NotPublished.
    """
    while True:
        try:
            metagraph = await chain.metagraph()
        except ChainError as error:
            logger.warning("going on with the metagraph of before: {}", error)
        else:
            if presence.believes(metagraph):
                admission.update(metagraph)
                if own_neuron(metagraph, presence.hotkey, settings).axon != endpoint:
                    await publish(chain, endpoint)
            else:
                logger.warning(
                    "going on with the metagraph of before: this hotkey is not in that of block {}", metagraph.block
                )
        await asyncio.sleep(settings.neuron.resync_seconds)


async def publish(chain: Chain, endpoint: AxonEndpoint) -> None:
    """Writes on the chain where this miner listens; what time will mend is tried again later. Raises NotPublished."""
    outcome = await chain.serve_axon(endpoint.ip, endpoint.port)
    match outcome:
        case AxonServed() | AxonUnchanged():
            logger.info("{}", outcome)
        case ServeTooEarly() | ServeUnreachable():
            logger.warning("{}", outcome)
        case _:
            raise NotPublished(f"{outcome}; validators cannot find this miner")


if __name__ == "__main__":
    # Not sys.exit: the device's thread may be deep in a model or an import for another 20 s, and has nothing to save.
    os._exit(main())
