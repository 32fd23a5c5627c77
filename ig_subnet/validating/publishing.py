"""Puts the newest head of the commitments on the chain, where nobody can take it back, at most once an epoch."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from loguru import logger

from ig_subnet.chain.interface import Chain
from ig_subnet.chain.outcomes import (
    CommitmentPublished,
    CommitmentTooEarly,
    CommitmentUnchanged,
    CommitmentUnreachable,
)
from ig_subnet.validating.keeping import AWAY_SECONDS, Keeper
from ig_subnet.validating.schedule import BlockPace


class HeadPublisher(Keeper):
    """Publishes what `newest_head` (number and head of the newest commitment) gives, as 32 bytes under `hotkey`.

    What the chain says is logged and waited for; when a head was last published is read from the chain itself.
    """

    what = "the commitment has"

    def __init__(self, chain: Chain, hotkey: str, newest_head: Callable[[], Awaitable[tuple[int, str]]]) -> None:
        self._chain = chain
        self._hotkey = hotkey
        self._newest_head = newest_head
        self._pace = BlockPace()

    async def _step(self) -> float:
        timing = await self._chain.epoch_timing(None)
        self._pace.observe(time.monotonic(), timing.block)
        number, head = await self._newest_head()
        if not number:
            return self._pace.seconds(1)
        until_next_epoch = self._pace.seconds(timing.blocks_until_next_epoch)
        published = await self._chain.commitment_of(self._hotkey)
        if published is not None and published.block > timing.last_epoch_block:
            return until_next_epoch
        outcome = await self._chain.publish_commitment(bytes.fromhex(head))
        log = logger.info if isinstance(outcome, CommitmentPublished | CommitmentUnchanged) else logger.warning
        log("head of commitment {}: {}", number, outcome)
        match outcome:
            case CommitmentTooEarly(blocks=blocks):
                return self._pace.seconds(blocks)
            case CommitmentUnreachable():  # it may have landed: the next look tells
                return AWAY_SECONDS
        return until_next_epoch
