"""What decides whether a hotkey may set weights now, read anew before each attempt, and what would be refused."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

import bittensor as bt

from ig_subnet.chain.errors import InvalidWeights
from ig_subnet.chain.outcomes import (
    WeightsNotPermitted,
    WeightsOutcome,
    WeightsOutdated,
    WeightsSealed,
    WeightsTooEarly,
)
from ig_subnet.chain.readings import U16_MAX, SubtensorModule, read_sealed_weights


@dataclass(frozen=True)
class WeightsRules:
    """The rules for one hotkey at one block; `sealed` is set while weights that it committed are not opened yet."""

    uid: int | None
    permitted: bool
    blocks_to_wait: int
    version_key: int
    tempo: int
    next_epoch: int
    reveal_epochs: int
    sealed: WeightsSealed | None

    def reveal_block(self, committed: int) -> int:
        """Where weights are opened that were committed in this block, of this epoch or of the next."""
        return self.next_epoch + (self.reveal_epochs - 1 + (committed >= self.next_epoch)) * self.tempo


async def read_weights_rules(client: bt.Client, netuid: int, hotkey: str) -> WeightsRules:
    """The rules at the newest block."""
    view = await client.at()
    (
        uid,
        permits,
        owner,
        last_update,
        rate_limit,
        version_key,
        tempo,
        commits,
        period,
        next_epoch,
        epoch,
    ) = await asyncio.gather(
        view.query(SubtensorModule.Uids, [netuid, hotkey]),
        view.query(SubtensorModule.ValidatorPermit, [netuid]),
        view.query(SubtensorModule.SubnetOwnerHotkey, [netuid]),
        view.query(SubtensorModule.LastUpdate, [netuid]),
        view.query(SubtensorModule.WeightsSetRateLimit, [netuid]),
        view.query(SubtensorModule.WeightsVersionKey, [netuid]),
        view.query(SubtensorModule.Tempo, [netuid]),
        view.query(SubtensorModule.CommitRevealWeightsEnabled, [netuid]),
        view.query(SubtensorModule.RevealPeriodEpochs, [netuid]),
        view.read("next_epoch_start_block", netuid=netuid),
        view.query(SubtensorModule.SubnetEpochIndex, [netuid]),
    )
    last = int(last_update[uid]) if uid is not None and uid < len(last_update or []) else 0
    rules = WeightsRules(
        uid=uid,
        permitted=uid is not None and (owner == hotkey or bool(permits and uid < len(permits) and permits[uid])),
        blocks_to_wait=max(0, last + int(rate_limit or 0) - view.block) if last else 0,
        version_key=int(version_key or 0),
        tempo=int(tempo or 0),
        next_epoch=int(next_epoch or view.block),
        reveal_epochs=int(period or 1),
        sealed=None,
    )
    sealed = await read_sealed_weights(view, netuid, hotkey) if commits else {}
    if not sealed:
        return rules
    newest = max(sealed)
    opened = rules.reveal_block(view.block) - (int(epoch or 0) - newest) * rules.tempo
    return replace(rules, sealed=WeightsSealed(sealed[newest], opened))


def checked_weights(weights: Mapping[int, float]) -> dict[int, float]:
    """The weights above zero. Raises InvalidWeights for what is no weight, no uid, or nothing at all."""
    for uid, weight in weights.items():
        if not 0 <= uid <= U16_MAX:
            raise InvalidWeights(f"uid {uid} is not a uid: pass 0 to {U16_MAX}")
        if not math.isfinite(weight) or weight < 0:
            raise InvalidWeights(f"the weight of uid {uid} is {weight}: pass finite numbers that are not negative")
    checked = {int(uid): float(weight) for uid, weight in weights.items() if weight > 0}
    if not checked:
        raise InvalidWeights("no weight is above zero: there is nothing to set")
    return checked


def foreseen_refusal(rules: WeightsRules, weighted: Set[int], version_key: int, netuid: int) -> WeightsOutcome | None:
    """The refusals that the SDK does not foresee, or not with a number.

    A commit with a stale version or without a permit would be accepted, and dropped in silence when it is opened.
    """
    if rules.uid is None:
        return WeightsNotPermitted(
            f"this hotkey is not registered on subnet {netuid}; register it with `btcli subnets register`"
        )
    if version_key < rules.version_key:
        return WeightsOutdated(rules.version_key, version_key)
    if rules.sealed is not None:
        return rules.sealed
    if rules.blocks_to_wait:
        return WeightsTooEarly(rules.blocks_to_wait)
    if not rules.permitted and weighted != {rules.uid}:
        return WeightsNotPermitted(
            f"uid {rules.uid} holds no validator permit on subnet {netuid}; stake more, permits are given at each epoch"
        )
    return None
