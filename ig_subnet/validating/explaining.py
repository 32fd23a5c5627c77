"""Why a miner has its weight, step by step, from its record alone: for the operator who reads a store and for the miner
that was told its record by a validator. What can be computed again is, and every step says whether that agrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ig_subnet.validating.records import MinerRow
from ig_subnet.validating.uncertainty import limited_average_of
from ig_subnet.validating.weighting import Shaping
from protocol.record import MinerRecord, MinerRoundRecord, StandingRecord, WeightRecord

SHOWN_OBSERVATIONS = 8
ON_THE_CHAIN = ("set", "committed")


@dataclass(frozen=True)
class Step:
    """One step from observations to weight. `agrees` says whether computing it again led to the same; None where the
    record does not hold what that takes."""

    name: str
    text: str
    agrees: bool | None = None


def explain(record: MinerRecord) -> tuple[Step, ...]:
    """The steps, in the order in which one follows from another."""
    if record.standing is None:
        return (Step("observations", "never observed, or dropped after it was out of the metagraph for too long"),)
    weight = next((each for each in record.weights if each.outcome in ON_THE_CHAIN), None)
    alpha = weight.alpha if weight is not None and weight.alpha is not None else alpha_of(record.standing)
    steps = [_observations(record, record.standing), _average(record, record.standing, alpha)]
    if weight is None:
        steps.append(Step("share", "none: of the newest attempts to set weights the chain has taken none"))
    elif weight.average is None or weight.limited is None:
        steps.append(_unexplained(weight))
    else:
        steps += [_limited(record.standing, weight, weight.average, weight.limited), _share(weight, weight.limited)]
    steps += [_chain(each) for each in record.weights[:1] if each is not weight]
    if weight is not None:
        steps.append(_chain(weight))
    return tuple(steps)


def alpha_of(standing: StandingRecord) -> float | None:
    """The alpha that leads to this accumulated weight in this many observations; None where too many have passed."""
    missing = 1 - standing.accumulated_weight
    return 1 - missing ** (1 / standing.observations) if 1e-6 < missing < 1 - 1e-6 else None


def replayed(rounds: Sequence[MinerRoundRecord], standing: StandingRecord, alpha: float) -> float | None:
    """The moving average computed again: from nothing where all observations are there, else from the average after
    the oldest of these rounds (newest first); None where they do not lead up to `standing`."""
    known = list(reversed(rounds[: standing.observations]))
    if not known or known[-1].round_id != standing.last_round:
        return None
    before = standing.observations - len(known)  # observations of this registration that are not among them
    average, weight = 0.0, 0.0
    for number, each in enumerate(known, before + 1):
        weight = 1 - (1 - alpha) ** number
        if number == before + 1 and before:
            average = each.average
        else:
            average += alpha / weight * (each.observation - average)
    return average


def is_same(one: float, other: float) -> bool:
    """Whether two ways to compute an average or a share have led to the same."""
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


def _observations(record: MinerRecord, standing: StandingRecord) -> Step:
    newest = ", ".join(f"{each.observation:.4f}" for each in record.rounds[:SHOWN_OBSERVATIONS])
    text = f"{standing.observations} since block {standing.registered_at}, the last in round {standing.last_round}"
    if standing.observed_at:
        text += f", {(record.at - standing.observed_at) / 3600:.1f} h ago"
    if standing.absent_since is not None:
        text += f"; not registered for {(record.at - standing.absent_since) / 3600:.1f} h"
    return Step("observations", f"{text}; newest first: {newest}" if newest else text)


def _average(record: MinerRecord, standing: StandingRecord, alpha: float | None) -> Step:
    text = f"{standing.accumulator:.6g} / {standing.accumulated_weight:.6g} = {standing.average:.6g}"
    if not is_same(standing.accumulator / standing.accumulated_weight, standing.average):
        return Step("moving average", text, False)
    if alpha is None:
        return Step("moving average", text)
    half = math.log(0.5) / math.log(1 - alpha) if alpha < 1 else 0.0
    text += f"; alpha {alpha:.4g}: an observation's influence halves in {half:.1f} later ones"
    if not math.isclose(1 - (1 - alpha) ** standing.observations, standing.accumulated_weight, rel_tol=1e-6):
        return Step("moving average", f"{text}; alpha was another before")
    again = replayed(record.rounds, standing, alpha)
    return Step("moving average", text, None if again is None else is_same(again, standing.average))


def _limited(now: StandingRecord, weight: WeightRecord, average: float, limited: float) -> Step:
    text = f"{average:.6g} counts as {limited:.6g}" + ("" if limited == average else " until more has confirmed it")
    if weight.alpha is None or not 0 < now.observed_at <= weight.at:  # it has been observed since
        return Step("limit by uncertainty", text)
    miner = MinerRow(
        *("", now.uid, now.registered_at, now.accumulator, now.accumulated_weight),
        *(now.observations, now.last_round, now.squares),
    )
    agrees = is_same(now.average, average) and is_same(limited_average_of(miner, weight.alpha), limited)
    return Step("limit by uncertainty", text, agrees)


def _share(weight: WeightRecord, limited: float) -> Step:
    among = f"of {weight.weighed} miners weighed, {weight.paid} uids paid"
    highest, highest_share = weight.highest or 0.0, weight.highest_share or 0.0
    try:
        shaping = Shaping(**weight.shaping)  # type: ignore[arg-type]  # it may be another version's
    except (TypeError, ValueError):
        shaping = None
    if shaping is None or shaping.kind not in ("power", "softmax"):
        return Step("share", f"{weight.share:.6g}, shaped by {weight.shaping}, which this version does not know")
    unsure = None if shaping.burn else False  # the owner's own share has the burnt one on top
    if limited <= shaping.floor:
        text = f"0: {limited:.6g} is not above the floor of {shaping.floor:g}; {among}"
        return Step("share", text, not weight.share or unsure)
    if limited > highest:
        return Step("share", f"{weight.share:.6g}; the best other has {highest_share:.6g}; {among}", unsure)
    if shaping.kind == "power":
        part = ((limited - shaping.floor) / (highest - shaping.floor)) ** shaping.exponent
        one, best = (
            f"({each:.6g} - {shaping.floor:g})" if shaping.floor else f"{each:.6g}" for each in (limited, highest)
        )
        how = f"({one} / {best}) ^ {shaping.exponent:g}"
    else:
        part = math.exp((limited - highest) / shaping.temperature)
        how = f"exp(({limited:.6g} - {highest:.6g}) / {shaping.temperature:g})"
    burnt = f" (after {shaping.burn:.1%} to the subnet's owner)" if shaping.burn else ""
    text = f"{how} = {part:.6g} of the best one's {highest_share:.6g}{burnt} = {weight.share:.6g}; {among}"
    return Step("share", text, is_same(part * highest_share, weight.share) or unsure)


def _unexplained(weight: WeightRecord) -> Step:
    if weight.uid is None:
        return Step("share", "0: it was not among the miners weighed")
    return Step("share", f"{weight.share:.6g} for uid {weight.uid}; what it followed from was not kept then")


def _chain(weight: WeightRecord) -> Step:
    return Step("chain", f"block {weight.block}: {weight.outcome}: {weight.detail}")
