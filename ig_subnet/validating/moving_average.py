"""Each miner's moving average of its incentives: exponential, bias-corrected, moved only by what it was asked.

    accumulator        <- (1 - alpha) * accumulator        + alpha * observation
    accumulated_weight <- (1 - alpha) * accumulated_weight + alpha
    average             = accumulator / accumulated_weight

The division removes the pull of the zero it starts from (Kingma and Ba, "Adam", 2015, section 3): the first average is
the first observation, and of two equal miners the one asked more often does not stand higher. The influence of an
observation halves after log(1/2) / log(1 - alpha) later ones: 6.6 of them at alpha 0.1 (docs/weights.md has hours).
The squares of the observations are accumulated likewise, for what they say of the average's uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from ig_subnet.chain.interface import MetagraphSnapshot
from ig_subnet.validating.records import MinerRow


class Registration(NamedTuple):
    """What identifies one registration of a hotkey: another uid or another block is another one."""

    uid: int
    registered_at: int


def registrations_of(metagraph: MetagraphSnapshot) -> dict[str, Registration]:
    """Who is registered, keyed by hotkey."""
    return {neuron.hotkey: Registration(neuron.uid, neuron.registered_at) for neuron in metagraph.neurons}


def average_of(miner: MinerRow) -> float:
    """The bias-corrected average in [0, 1]; ValueError for a miner that was never observed."""
    if miner.observations < 1:
        raise ValueError(f"{miner.hotkey} was never observed")
    return miner.accumulator / miner.accumulated_weight


def update(
    miners: Mapping[str, MinerRow],
    registrations: Mapping[str, Registration],
    observations: Mapping[str, float] | None = None,
    *,
    alpha: float,
    round_id: int = 0,
    now: float = 0.0,
    absence_seconds: float = 0.0,
) -> dict[str, MinerRow]:
    """The miners after a round that ended `now`, keyed by hotkey; nothing that was passed in is changed.

    `observations` holds, for every miner that was asked, its mean incentive in [0, 1], 0 if it stayed silent. A miner
    that was not asked keeps its average untouched. One that is not registered keeps it for `absence_seconds`, since a
    node may forget a block or lag behind, and is dropped then; one that has registered again, whatever its uid, starts
    anew. Raises ValueError for an observation outside [0, 1], of a hotkey that is not registered, or an alpha outside
    (0, 1].
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha is in (0, 1], got {alpha}")
    observations = observations or {}
    if strangers := observations.keys() - registrations.keys():
        raise ValueError(f"observed but not registered: {', '.join(sorted(strangers))}")
    updated = registered(miners, registrations)
    for hotkey, miner in updated.items():
        if miner.absent_since is not None:
            updated[hotkey] = replace(miner, absent_since=None)
    for hotkey in miners.keys() - registrations.keys():
        absent_since = miners[hotkey].absent_since
        since = now if absent_since is None else absent_since
        if now - since < absence_seconds:
            updated[hotkey] = replace(miners[hotkey], absent_since=since)
    for hotkey, observation in observations.items():
        miner = updated.get(hotkey) or MinerRow(hotkey, *registrations[hotkey], 0.0, 0.0, 0, 0)
        updated[hotkey] = _observed(miner, observation, alpha, round_id, now)
    return updated


def registered(miners: Mapping[str, MinerRow], registrations: Mapping[str, Registration]) -> dict[str, MinerRow]:
    """Those of the miners that are registered, and still as they were when they were observed."""
    return {
        hotkey: miner
        for hotkey, miner in miners.items()
        if registrations.get(hotkey) == (miner.uid, miner.registered_at)
    }


def _observed(miner: MinerRow, observation: float, alpha: float, round_id: int, now: float) -> MinerRow:
    if not (math.isfinite(observation) and 0 <= observation <= 1):
        raise ValueError(f"an observation is in [0, 1], got {observation} for {miner.hotkey}")
    weight = (1 - alpha) * miner.accumulated_weight + alpha
    return replace(
        miner,
        # Rounding may not lift an average above 1, where every observation of the miner's life was 1.
        accumulator=min((1 - alpha) * miner.accumulator + alpha * observation, weight),
        accumulated_weight=weight,
        squares=min((1 - alpha) * miner.squares + alpha * observation**2, weight),
        observations=miner.observations + 1,
        last_round=round_id,
        observed_at=now,
    )
