"""Kendall's tau between a ranking of models by scores and the ranking by the exact checker, over many small studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ig_subnet.studies.ranking import kendall_tau

if TYPE_CHECKING:
    from ig_subnet.studies.resampling import Floats

STUDIES = 2_000
GOAL = 0.9
BAND = (2.5, 97.5)  # percent of the studies

Row = dict[str, Any]


def tau_row(
    values: Floats, truth: Floats, prompts: int, seed: int, disturbance: float = 0.0, apart: Sequence[int] | None = None
) -> Row:
    """How well rankings from so many prompts agree with the truth: mean tau-b, the band of 95% of the studies, and the
    share of them that reach GOAL.

    `values` and `truth` hold the mean of each model for each prompt, [models, prompts]. Each study draws its prompts
    from all there are, and the truth is taken from those that are left: the two share no image. Each mean of a prompt
    is disturbed by Gaussian noise of deviation `disturbance`. With `apart`, places among all pairs of models, only
    these pairs count.
    """
    rng = np.random.default_rng([seed, prompts])
    total = values.shape[1]
    drawn = np.zeros((STUDIES, total))
    chosen = rng.permuted(np.tile(np.arange(total), (STUDIES, 1)), axis=1)[:, :prompts]
    np.put_along_axis(drawn, chosen, 1.0, axis=1)
    means = drawn @ values.T / prompts
    means += rng.normal(0, 1, means.shape) * disturbance / np.sqrt(prompts)
    taus = kendall_tau(means, (1 - drawn) @ truth.T / (total - prompts), apart)
    low, high = np.percentile(taus, BAND)
    return {
        "tau": round(float(taus.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "share_of_studies_at_goal": round(float((taus >= GOAL).mean()), 4),
    }
