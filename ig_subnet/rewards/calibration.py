"""Calibration: from an expert's own scale to [0, 1], through its reference distribution.

Experts speak in different units: ImageReward in standard deviations, CLIP Aesthetic in marks from 1 to 10, PickScore
in cosines around 0.2. Passing each score through the normal CDF of its own reference distribution makes them comparable
and bounded, so that no expert can dominate the mixture by its scale or be exploited by an outlier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from torch import Tensor

CLIP_DEVIATIONS = 4.0
"""Scores further from the mean count as this far, so that a valid image's incentive lies in [3e-5, 1 - 3e-5]."""


@dataclass(frozen=True)
class Calibration:
    """The reference distribution of one expert's scores.

    `mean` and `deviation` are in the expert's own unit; `provenance` says which images they were measured on.
    `measured` is False for the nominal values that stand in until somebody has measured.
    """

    mean: float
    deviation: float
    provenance: str
    measured: bool = True

    def apply(self, scores: Tensor) -> Tensor:
        """Normal CDF of the clipped standard score: float32 of the same shape, strictly inside (0, 1), monotone."""
        import torch

        return torch.special.ndtr(self.standard(scores)).float()

    def standard(self, scores: Tensor) -> Tensor:
        """Deviations above the mean, clipped: float64 of the same shape, in [-4, 4]."""
        return ((scores.double() - self.mean) / self.deviation).clamp(-CLIP_DEVIATIONS, CLIP_DEVIATIONS)

    def times(self, factor: float) -> Self:
        """The distribution of the same scores multiplied by a positive factor."""
        return replace(self, mean=self.mean * factor, deviation=self.deviation * factor)
