"""Where thresholds are drawn: so that no more than a share of honest images lies beyond."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ig_subnet.imaging.fingerprints import HASH_BITS


def widest_distance(bits: NDArray[np.float64], false_alarms: float) -> int:
    """The widest distance in bits that no more than this share of images are within; 0 where even that is too wide."""
    return max((d for d in range(HASH_BITS // 2) if (bits <= d).mean() <= false_alarms), default=0)


def lowest_likeness(likeness: NDArray[np.float64], false_alarms: float) -> float:
    """The lowest one that no more than about this share of images reach, rounded up."""
    return round_up(float(np.quantile(likeness, 1 - false_alarms)))


def round_up(value: float) -> float:
    """To four decimals, as `round_down`."""
    return math.ceil(value * 10_000) / 10_000


def round_down(value: float) -> float:
    """To four decimals, for a file that people read."""
    return math.floor(value * 10_000) / 10_000
