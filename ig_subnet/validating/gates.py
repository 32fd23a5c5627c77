"""Which images of a round are paid, and why the others are not. Pure: all that is looked at is handed in.

An image passes the gates in the order of `records`: it decodes, can be scored, is safe for work, is like no image of
its own answer or of another miner's that came earlier, like none of an earlier round and none made for another prompt,
shows its prompt, and is what its declared model makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ig_subnet.validating.device import Findings
from ig_subnet.validating.gate_settings import GateSettings


class ImageKey(NamedTuple):
    """Which image of a round: the prompt's position, the miner, the number in its answer."""

    position: int
    hotkey: str
    number: int


@dataclass(frozen=True, eq=False)
class Examined:
    """One image of a round as the gates see it.

    `refused` says why it did not decode, and is None where it did. `arrived` is how long after the sending of its query
    the answer was there, in seconds. `findings` is None where there is no finite score.
    """

    key: ImageKey
    prompt: str
    arrived: float
    refused: str | None = None
    phash: bytes | None = None
    findings: Findings | None = None


@dataclass(frozen=True)
class Likeness:
    """An earlier image that one is like: where it stands, and how like it is."""

    round_id: int
    key: ImageKey
    prompt: str
    distance: int
    cosine: float


@dataclass(frozen=True, eq=False)
class Declared:
    """An image and what its miner declares of it: that `model` made it from `seed`, one of those `asked` for.

    `embedding` is as in `Findings`.
    """

    hotkey: str
    number: int
    seed: int
    asked: tuple[int, ...]
    model: str
    embedding: NDArray[np.float32]


@dataclass(frozen=True)
class Check:
    """What came of making an image again: its cosine to the copy, None where the seed was not one asked for."""

    number: int
    model: str
    cosine: float | None
    threshold: float
    matches: bool


@dataclass(frozen=True)
class Verdict:
    """`VALID` or the reason of the first gate that stopped an image (see `records`), with figures that show it."""

    reason: str
    evidence: dict[str, Any] | None = None


def judge(
    images: Sequence[Examined],
    settings: GateSettings,
    *,
    round_id: int = 0,
    seen: Mapping[ImageKey, Likeness] | None = None,
    checks: Mapping[tuple[int, str], Check] | None = None,
) -> dict[ImageKey, Verdict]:
    """The verdict on every image of a round.

    `seen` names the image of an earlier round that one is like, `checks` what came of making images again, by the
    prompt's position and the miner. Of images that are alike, the earliest keeps its pay: prompts are asked one after
    the other, answers to one prompt come in the order of `arrived`, images of an answer in that of their numbers.
    """
    raise NotImplementedError
