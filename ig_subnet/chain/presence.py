"""Waiting for a node, and when to believe one that does not show one's own hotkey any more. Imports no SDK."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from loguru import logger

from ig_subnet.chain.errors import ChainUnavailable
from ig_subnet.chain.interface import Chain, MetagraphSnapshot

AWAY_SECONDS = 5.0  # between two attempts to reach a node at the start

MISSING_SECONDS = 600.0  # a node that restarts, lags behind or follows a fork is back sooner


class Presence:
    """Judges snapshots by whether a hotkey that was registered is in them.

    One without it is the node's mistake until no other was shown for `MISSING_SECONDS`; `clock` is in seconds and only
    goes forward.
    """

    def __init__(self, hotkey: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.hotkey = hotkey
        self._clock = clock
        self._missing_since: float | None = None

    def believes(self, snapshot: MetagraphSnapshot) -> bool:
        """Whether to go on with this snapshot rather than with the one before."""
        if snapshot.by_hotkey(self.hotkey) is not None:
            self._missing_since = None
            return True
        if self._missing_since is None:
            self._missing_since = self._clock()
        return self._clock() - self._missing_since >= MISSING_SECONDS


async def wait_for_chain(chain: Chain, pause_seconds: float = AWAY_SECONDS) -> MetagraphSnapshot:
    """The metagraph, as soon as the chain can be reached: a machine that starts up may start its neuron first."""
    while True:
        try:
            return await chain.metagraph()
        except ChainUnavailable as error:
            logger.warning("waiting for the chain: {}; trying again in {:g} s", error, pause_seconds)
            await asyncio.sleep(pause_seconds)
