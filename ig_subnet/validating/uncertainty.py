"""How little a young moving average says, and what is left of it for that: see docs/weights.md for why it is this.

The standard error of an average of observations that vary by the deviation s, which count by weights, is s times the
square root of the sum of their squared shares. At a moving average it falls from s (one observation) to
s * sqrt(alpha / (2 - alpha)), and stays there however long a miner is known. What counts here is how much more it is
than what stays: it is 0 in the limit, and the limited average then is the average.
"""

from __future__ import annotations

import math

from ig_subnet.validating.moving_average import average_of
from ig_subnet.validating.records import MinerRow

LARGEST_VARIANCE = 0.25  # of observations in [0, 1]: half of them 0, half of them 1
PRIOR_OBSERVATIONS = 1.0  # that the largest variance counts for: two observations that agree are no proof of steadiness


def uncertainty_of(miner: MinerRow, alpha: float) -> float:
    """How much larger the standard error of its average is than after many observations, in [0, 0.5].

    Raises ValueError for a miner that was never observed.
    """
    average, weight = average_of(miner), min(1.0, miner.accumulated_weight)
    variance = max(0.0, miner.squares / miner.accumulated_weight - average**2)
    at_last = alpha / (2 - alpha)  # the sum of the squared shares of infinitely many observations ...
    squared_shares = min(1.0, at_last * (2 - weight) / weight)  # ... and of those that add up to `weight`
    known = 1 / squared_shares
    expected = (PRIOR_OBSERVATIONS * LARGEST_VARIANCE + known * variance) / (PRIOR_OBSERVATIONS + known)
    return math.sqrt(expected) * max(0.0, math.sqrt(squared_shares) - math.sqrt(at_last))


def limited_average_of(miner: MinerRow, alpha: float) -> float:
    """The average by which it is paid, in [0, average]: divided by 1 + uncertainty / average.

    No observation of a miner could have been better and this lower; of two miners with the same average and variance
    the one observed more often does not have less.
    """
    average = average_of(miner)
    return average * (average / (average + uncertainty_of(miner, alpha))) if average else 0.0
