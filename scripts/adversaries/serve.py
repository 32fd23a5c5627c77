"""The axons of all adversaries of a subnet, in one process: started by scripts/attacks.py, with a plan as JSON.

The plan: `endpoint` of the chain, folder of `wallets`, `profile`, `sybils` and `every_ascent` (see `roster.Size`), and
hotkey and port of the `victim`, whom the middleman asks. Serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adversaries.answers import Adversary, Answer
from adversaries.copies import Middleman
from adversaries.in_process import NETUID, load_lab
from adversaries.roster import Size, attackers
from ig_subnet.chain import load_wallet, open_chain
from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from ig_subnet.chain.wallets import Wallet
from protocol import DEFAULT_LIMITS, Axon, Dendrite, GeneratedImage, Target, TextToImageSynapse, Unsupported

HOST = "127.0.0.1"


async def serve(plan: dict[str, Any]) -> None:
    """Listens for every hotkey of the plan, announces all of them on the chain, and goes on until it is cancelled."""
    lab = await asyncio.to_thread(load_lab, plan["profile"])
    contestants = attackers(lab, Size(plan["sybils"], plan["every_ascent"]))
    victim = Target(plan["victim"]["hotkey"], HOST, plan["victim"]["port"])
    try:
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as serving:
            announcing = []
            for contestant in contestants:
                for name in contestant.names:
                    wallet = load_wallet("owner", name, plan["wallets"])
                    adversary = contestant.adversary
                    if isinstance(adversary, Middleman):
                        adversary = await stack.enter_async_context(Forwarding(wallet, victim))
                    axon = axon_of(wallet, adversary)
                    serving.create_task(axon.serve())  # the group ends, and waits for all of these, before the stack
                    await axon.started.wait()
                    announcing.append(announce(plan["endpoint"], wallet, axon.port))
            await asyncio.gather(*announcing)  # a block takes a second, and holds all of them
    finally:
        lab.close()


async def announce(endpoint: str, wallet: Wallet, port: int) -> None:
    """Writes on the chain where a hotkey listens."""
    async with open_chain(endpoint, NETUID, wallet) as chain:
        await chain.serve_axon(HOST, port)


def axon_of(wallet: Wallet, adversary: Adversary) -> Axon:
    """On any free port; lets everyone in, and answers as the adversary does, not before the time that it tells."""

    async def handle(synapse: TextToImageSynapse, caller: str) -> Sequence[GeneratedImage]:
        arrived = asyncio.get_running_loop().time()
        answer = await adversary.answer(synapse)
        if not answer.images:
            raise Unsupported("stays silent")
        await asyncio.sleep(arrived + answer.seconds - asyncio.get_running_loop().time())
        return answer.images

    return Axon(
        handle,
        KeypairSigner(wallet.hotkey),
        BtAuthVerifier(wallet.hotkey_address),
        host=HOST,
        port=0,
        policy=lambda hotkey: None,
        limits=replace(DEFAULT_LIMITS, image_overhead_bytes=1 << 24),  # its own limits would keep bombs from being sent
    )


class Forwarding:
    """A middleman with a dendrite of its own; used with `async with`."""

    def __init__(self, wallet: Wallet, victim: Target) -> None:
        signer, verifier = KeypairSigner(wallet.hotkey), BtAuthVerifier(wallet.hotkey_address)
        self._dendrite = Dendrite(signer, verifier, allow_private=True)
        self._victim = victim

    async def __aenter__(self) -> Forwarding:
        await self._dendrite.__aenter__()
        return self

    async def __aexit__(self, *ended: object) -> None:
        await self._dendrite.__aexit__(*ended)

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        """What the victim answers to this caller: nothing where it turns it away."""
        return Answer((await self._dendrite.query(self._victim, synapse)).images, 0.0)


async def until_terminated(plan: dict[str, Any]) -> None:
    serving = asyncio.ensure_future(serve(plan))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


if __name__ == "__main__":
    asyncio.run(until_terminated(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
