"""Keeps the validator's weights on the chain as fresh as the chain allows, whatever becomes of the chain meanwhile.

What the chain says to every attempt is logged and recorded; an alarm is also told to whoever listens. There is one when
no weights were set for three tempos, when the subnet asks for newer software, and when weights that were committed have
no effect after the beginning of the epoch that should have opened them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from loguru import logger

from ig_subnet.chain.interface import Chain, EpochTiming, MetagraphSnapshot
from ig_subnet.chain.outcomes import (
    WeightsCommitted,
    WeightsNotPermitted,
    WeightsOutcome,
    WeightsOutdated,
    WeightsRejected,
    WeightsSealed,
    WeightsSet,
    WeightsTooEarly,
    WeightsUnreachable,
)
from ig_subnet.validating.describe import describe_shares
from ig_subnet.validating.keeping import AWAY_SECONDS, Keeper
from ig_subnet.validating.schedule import BlockPace, Lateness, blocks_until_weights, window
from ig_subnet.validating.weighting import Weighing

OUTCOME_NAMES: dict[type, str] = {
    WeightsSet: "set",
    WeightsCommitted: "committed",
    WeightsTooEarly: "too_early",
    WeightsSealed: "sealed",
    WeightsOutdated: "outdated",
    WeightsNotPermitted: "not_permitted",
    WeightsRejected: "rejected",
    WeightsUnreachable: "unreachable",
}
"""The `outcome` column of the store's weight settings; beside them stands `ALARM`."""

ALARM = "alarm"

LASTING = (WeightsSealed, WeightsOutdated, WeightsUnreachable)
"""What may be met at every look, every few seconds for days; a row of weight settings is tens of kilobytes."""

ROUNDING = 1e-4  # between a share and what the chain makes of it: 16 bits of the largest one


class Record(Protocol):
    """Keeps one attempt: `ScoreStore.record_weight_setting`, on its thread."""

    def __call__(
        self,
        *,
        at: float,
        block: int,
        outcome: str,
        detail: str,
        weights: Mapping[int, float],
        basis: str | None = None,
    ) -> Awaitable[None]: ...


@dataclass(frozen=True)
class _Commit:
    """Weights that are to be opened from `reveal_block` on; `before` is what was set when they were committed."""

    reveal_block: int
    shares: Mapping[int, float]
    before: Mapping[int, float]


class WeightSetter(Keeper):
    """Sets what `weigh` makes of the metagraph of the moment, at the pace of `schedule`.

    `clock` is in seconds and only goes forward.
    """

    what = "weights have"

    def __init__(
        self,
        chain: Chain,
        hotkey: str,
        *,
        weigh: Callable[[MetagraphSnapshot], Weighing],
        record: Record,
        alarm: Callable[[str], Awaitable[None]],
        epoch_length: int | None,
        version_key: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain = chain
        self._hotkey = hotkey
        self._weigh = weigh
        self._record = record
        self._alarm = alarm
        self._epoch_length = epoch_length
        self._version_key = version_key
        self._clock = clock
        self._pace = BlockPace()
        self._lateness = Lateness(clock(), epoch_length)
        self._block = 0  # the newest that was seen
        self._retry_at = 0  # the block of the next attempt after one that was refused
        self._lasting: WeightsOutcome | None = None  # the last outcome, if it was one of `LASTING`
        self._commit: _Commit | None = None

    async def step(self) -> float:
        """Does what is due, and raises the alarm where nothing has come of it for too long."""
        pause = await super().step()
        if self._lateness.alarm_is_due(self._clock()):
            tempos = self._lateness.tempos(self._clock())
            await self._raise_alarm(f"no weights were set for {tempos:.1f} tempos: {self.held_up_by}")
        return pause

    async def _step(self) -> float:
        uid = await self._chain.registered_uid(self._hotkey)
        timing = await self._chain.epoch_timing(uid)
        if timing.block < self._block:  # a chain that began anew, or a node that lags behind
            self._retry_at = 0
        self._block = timing.block
        self._pace.observe(self._clock(), timing.block)
        self._lateness.observe(self._clock(), timing, self._pace.seconds_per_block)
        if uid is None or timing.blocks_since_last_update is None:
            self.held_up_by = f"{self._hotkey} is not registered"
            logger.warning("no weights can be set: {}", self.held_up_by)
            return self._pace.seconds(timing.tempo)
        await self._look_at_commit(uid, timing)
        if blocks := max(blocks_until_weights(timing, self._epoch_length), self._retry_at - timing.block):
            return self._pace.seconds(blocks)
        weighing = self._weigh(await self._chain.metagraph())
        if not weighing.shares:
            self.held_up_by = weighing.silence
            logger.debug("no weights to set: {}", weighing.silence)
            return self._pace.seconds(1)
        for warning in weighing.warnings:
            logger.warning("{}", warning)
        before = await self._row(uid) if timing.reveal_epochs else {}
        outcome = await self._chain.set_weights(weighing.shares, self._version_key)
        if isinstance(outcome, WeightsCommitted):
            self._commit = _Commit(outcome.reveal_block, weighing.shares, before)
        await self._keep(outcome, timing.block, weighing)
        return self._pause_after(outcome, timing)

    def _pause_after(self, outcome: WeightsOutcome, timing: EpochTiming) -> float:
        match outcome:
            case WeightsSet() | WeightsCommitted():
                self._lateness.succeeded(self._clock())
                return self._pace.seconds(1)
            case WeightsTooEarly(blocks=blocks):
                return self._pace.seconds(blocks)
            case WeightsSealed(reveal_block=reveal_block):
                self._retry_at = max(timing.block + 1, reveal_block)
            case WeightsUnreachable():  # they may have landed: the next look tells
                return AWAY_SECONDS
            case _:
                self._retry_at = timing.block + 2 * window(timing.tempo)  # five times a tempo
        return self._pace.seconds(self._retry_at - timing.block)

    async def _keep(self, outcome: WeightsOutcome, block: int, weighing: Weighing) -> None:
        """Logs and records the attempt; one of `LASTING` that is the same as the time before only once."""
        succeeded = isinstance(outcome, WeightsSet | WeightsCommitted)
        self.held_up_by = "" if succeeded else str(outcome)
        known, self._lasting = self._lasting, outcome if isinstance(outcome, LASTING) else None
        if self._lasting is not None and known == self._lasting:
            logger.debug("{}", outcome)
            return
        log = logger.info if succeeded else logger.warning
        log("{}: {}", outcome, describe_shares(weighing.shares))
        await self._record(
            at=time.time(),
            block=outcome.block if isinstance(outcome, WeightsSet) else block,
            outcome=OUTCOME_NAMES[type(outcome)],
            detail=str(outcome),
            weights=weighing.shares,
            basis=weighing.basis,
        )
        if isinstance(outcome, WeightsOutdated):
            await self._raise_alarm(f"no weights are set any more: {outcome}")

    async def _look_at_commit(self, uid: int, timing: EpochTiming) -> None:
        """Raises the alarm where the epoch of a reveal has begun, and the weights are still what they were before."""
        commit = self._commit
        if commit is None or timing.block < commit.reveal_block:
            return
        if await self._chain.sealed_weights(self._hotkey) is not None:
            if timing.block < commit.reveal_block + timing.tempo:  # the beacon that opens them may come late
                return
            found = "they are still sealed a tempo later"
        else:
            row = await self._row(uid)
            if row != commit.before or _are_alike(row, commit.shares):
                logger.info("the weights committed before block {} are in effect", commit.reveal_block)
                self._commit = None
                return
            found = "the chain has dropped them"
        self._commit = None
        await self._raise_alarm(
            f"the weights to be opened from block {commit.reveal_block} on have no effect: {found}; "
            "the subnet may want another version since, or the permit is lost"
        )

    async def _row(self, uid: int) -> Mapping[int, float]:
        return (await self._chain.weights_on_chain()).get(uid, {})

    async def _raise_alarm(self, message: str) -> None:
        logger.error("{}", message)
        await self._record(at=time.time(), block=self._block, outcome=ALARM, detail=message, weights={})
        await self._alarm(message)


def _are_alike(row: Mapping[int, float], shares: Mapping[int, float]) -> bool:
    return all(abs(row.get(uid, 0.0) - shares.get(uid, 0.0)) <= ROUNDING for uid in row.keys() | shares.keys())
