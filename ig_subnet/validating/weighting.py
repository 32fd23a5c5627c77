"""From moving averages to the weights a validator sets; docs/weights.md has the formulas and a worked table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ig_subnet.chain.interface import MetagraphSnapshot
from ig_subnet.validating.moving_average import average_of, registered, registrations_of
from ig_subnet.validating.records import MinerRow
from ig_subnet.validating.sampling import miners_of
from ig_subnet.validating.uncertainty import limited_average_of


@dataclass(frozen=True)
class Shaping:
    """How averages become shares.

    Who does not stand above `floor` gets nothing. The others get shares in proportion to (average - floor) to the power
    of `exponent`, or, for softmax, to exp(average / temperature). The share `burn` of it all goes to the uid of the
    subnet's owner first, where the chain burns it.
    """

    kind: Literal["power", "softmax"] = "power"
    exponent: float = 3.0
    temperature: float = 0.1
    floor: float = 0.0
    burn: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("exponent", self.exponent), ("temperature", self.temperature)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"the {name} is positive, got {value}")
        for name, value in (("floor", self.floor), ("burn share", self.burn)):
            if not 0 <= value < 1:
                raise ValueError(f"the {name} is in [0, 1), got {value}")


def shape_weights(averages: Mapping[int, float], shaping: Shaping, owner_uid: int | None = None) -> dict[int, float]:
    """The share of each uid: positive, summing to 1, in the order of the averages.

    A higher average never gets a smaller share, equal averages get equal shares; the owner gets the burnt share on top
    of what it may have earned. A uid with nothing to be paid for is left out; the result is empty, and nothing is to be
    sent, if that is all of them. Without an `owner_uid` nothing is burnt. Raises ValueError for an average that is
    negative or not finite.
    """
    for uid, average in averages.items():
        if not (math.isfinite(average) and average >= 0):
            raise ValueError(f"a moving average is finite and not negative, got {average} for uid {uid}")
    paid = {uid: average for uid, average in sorted(averages.items()) if average > shaping.floor}
    if not paid:
        return {}
    highest = max(paid.values())
    # Relative to the highest, so that not all of them can vanish, nor any overflow.
    if shaping.kind == "power":
        span = highest - shaping.floor
        parts = {uid: ((average - shaping.floor) / span) ** shaping.exponent for uid, average in paid.items()}
    else:
        parts = {uid: math.exp((average - highest) / shaping.temperature) for uid, average in paid.items()}
    kept = 1.0 if owner_uid is None else 1.0 - shaping.burn
    total = math.fsum(parts.values())
    shares = {uid: kept * part / total for uid, part in parts.items()}
    if owner_uid is not None:
        shares[owner_uid] = shares.get(owner_uid, 0.0) + shaping.burn
    return {uid: share for uid, share in sorted(shares.items()) if share > 0}


@dataclass(frozen=True)
class Standing:
    """What a miner is weighed by: its moving average, what uncertainty leaves of it, and the share it gets for that."""

    hotkey: str
    uid: int
    average: float
    limited: float
    share: float


@dataclass(frozen=True)
class Weighing:
    """The shares to set, by uid, and why they are what they are; where there are none, `silence` says why.

    `owner_uid` is the one to burn at, `warnings` are what an operator should know.
    """

    shares: dict[int, float]
    standings: tuple[Standing, ...]
    alpha: float
    shaping: Shaping
    owner_uid: int | None
    silence: str
    warnings: tuple[str, ...]

    @property
    def basis(self) -> str:
        """All that decided, as JSON: settings, the uid burnt at, and of each `Standing` its fields in order."""
        settings = {"alpha": self.alpha, "shaping": vars(self.shaping), "owner_uid": self.owner_uid}
        return json.dumps({**settings, "miners": [list(vars(standing).values()) for standing in self.standings]})


def weigh(
    miners: Mapping[str, MinerRow], metagraph: MetagraphSnapshot, own_hotkey: str, *, alpha: float, shaping: Shaping
) -> Weighing:
    """The weights that follow from the averages of those who are still registered as they were.

    There is nothing to say before half of those who serve have been observed: the first ones asked would get it all.
    """
    known = registered(miners, registrations_of(metagraph))
    limited = {hotkey: limited_average_of(miner, alpha) for hotkey, miner in known.items()}
    owner = metagraph.by_hotkey(metagraph.owner_hotkey) if shaping.burn and metagraph.owner_hotkey else None
    owner_uid = None if owner is None else owner.uid
    shares = shape_weights({known[hotkey].uid: average for hotkey, average in limited.items()}, shaping, owner_uid)
    silence, warnings = "", []
    serving = len(miners_of(metagraph, own_hotkey, miners))
    if 2 * len(known) < serving:
        shares, silence = {}, f"only {len(known)} of the {serving} miners that serve have been asked yet"
    elif not shares:
        earned = any(limited.values())
        silence = f"no miner stands above {shaping.floor:g}" if earned else "no miner has earned anything yet"
    elif shaping.burn and owner is None:
        warnings.append("nothing is burnt: the subnet's owner has no uid")
    paid = [miner.uid for miner in known.values() if miner.uid in shares]
    if len(paid) == 1 and len(known) > 1:
        warnings.append(f"uid {paid[0]} alone is paid: the other {len(known) - 1} miners have earned nothing")
    standings = tuple(
        Standing(hotkey, miner.uid, average_of(miner), limited[hotkey], shares.get(miner.uid, 0.0))
        for hotkey, miner in sorted(known.items(), key=lambda item: item[1].uid)
    )
    return Weighing(shares, standings, alpha, shaping, owner_uid, silence, tuple(warnings))
