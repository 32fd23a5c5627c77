"""Keeps the validator's weights on the chain as fresh as the chain allows, whatever becomes of the chain meanwhile."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from loguru import logger

from ig_subnet.chain.interface import Chain, MetagraphSnapshot
from ig_subnet.chain.outcomes import (
    WeightsCommitted,
    WeightsNotPermitted,
    WeightsOutcome,
    WeightsRejected,
    WeightsSet,
    WeightsTooEarly,
    WeightsUnreachable,
)
from ig_subnet.validating.describe import describe_shares
from ig_subnet.validating.keeping import AWAY_SECONDS, Keeper
from ig_subnet.validating.moving_average import average_of, registrations_of, update
from ig_subnet.validating.records import MinerRow
from ig_subnet.validating.schedule import BlockPace, blocks_until_weights, window
from ig_subnet.validating.weighting import shape_weights

OUTCOME_NAMES: dict[type, str] = {
    WeightsSet: "set",
    WeightsCommitted: "committed",
    WeightsTooEarly: "too_early",
    WeightsNotPermitted: "not_permitted",
    WeightsRejected: "rejected",
    WeightsUnreachable: "unreachable",
}
"""The `outcome` column of the store's weight settings."""


class Record(Protocol):
    """Keeps one attempt: `ScoreStore.record_weight_setting`, on its thread."""

    def __call__(
        self, *, at: float, block: int, outcome: str, detail: str, weights: Mapping[int, float]
    ) -> Awaitable[None]: ...


class WeightSetter(Keeper):
    """Sets weights from the `miners` of the moment, at the pace of `schedule`; every attempt is logged and recorded."""

    what = "weights have"

    def __init__(
        self,
        chain: Chain,
        hotkey: str,
        *,
        miners: Callable[[], Mapping[str, MinerRow]],
        record: Record,
        exponent: float,
        epoch_length: int | None,
        version_key: int,
    ) -> None:
        self._chain = chain
        self._hotkey = hotkey
        self._miners = miners
        self._record = record
        self._exponent = exponent
        self._epoch_length = epoch_length
        self._version_key = version_key
        self._pace = BlockPace()

    async def _step(self) -> float:
        uid = await self._chain.registered_uid(self._hotkey)
        timing = await self._chain.epoch_timing(uid)
        self._pace.observe(time.monotonic(), timing.block)
        if timing.blocks_since_last_update is None:
            logger.warning("no weights can be set: {} is not registered", self._hotkey)
            return self._pace.seconds(timing.tempo)
        if blocks := blocks_until_weights(timing, self._epoch_length):
            return self._pace.seconds(blocks)
        shares = weights_of(self._miners(), await self._chain.metagraph(), self._exponent)
        if not shares:
            logger.debug("no weights to set: no miner has earned anything yet")
            return self._pace.seconds(1)
        outcome = await self._chain.set_weights(shares, self._version_key)
        await self._keep(outcome, timing.block, shares)
        match outcome:
            case WeightsTooEarly(blocks=blocks):
                return self._pace.seconds(blocks)
            case WeightsUnreachable():  # they may have landed: the next look tells
                return AWAY_SECONDS
            case WeightsNotPermitted() | WeightsRejected():  # soon enough to try again before this epoch
                return self._pace.seconds(2 * window(timing.tempo))
        return self._pace.seconds(1)

    async def _keep(self, outcome: WeightsOutcome, block: int, shares: Mapping[int, float]) -> None:
        log = logger.info if isinstance(outcome, WeightsSet | WeightsCommitted) else logger.warning
        log("{}: {}", outcome, describe_shares(shares))
        await self._record(
            at=time.time(),
            block=outcome.block if isinstance(outcome, WeightsSet) else block,
            outcome=OUTCOME_NAMES[type(outcome)],
            detail=str(outcome),
            weights=shares,
        )


def weights_of(miners: Mapping[str, MinerRow], metagraph: MetagraphSnapshot, exponent: float) -> dict[int, float]:
    """uid -> share from the moving averages of those who are still registered as they were; empty for none."""
    still_there = update(miners, registrations_of(metagraph), alpha=1.0)
    return shape_weights({miner.uid: average_of(miner) for miner in still_there.values()}, exponent)
