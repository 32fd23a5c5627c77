"""Reward experts and their mixture: how well an image shows its prompt, and how much people like it.

mixture = load_mixture(load_profile("pocket")["rewarder"])
mixture.score(images, prompt).incentive        # float32 [N] in (0, 1)

mixture.score_robustly(images, prompt, None, seeds).incentive    # what a validator pays

load_expert("pick_score").score(images, prompt)
load_diversity().score_set(images)
load_safety("opennsfw").unsafe(images)
"""

from __future__ import annotations

from ig_subnet.rewards.alignment import Alignment
from ig_subnet.rewards.calibration import Calibration
from ig_subnet.rewards.diversity import Diversity, load_diversity
from ig_subnet.rewards.errors import (
    ConfigurationError,
    InputError,
    NonFiniteScore,
    OutOfMemory,
    RewardError,
    WeightsMismatch,
    WeightsNotFound,
    WeightsUnreadable,
)
from ig_subnet.rewards.expert import Expert
from ig_subnet.rewards.mixture import Mixture, load_mixture
from ig_subnet.rewards.nsfw import Safety, load_safety
from ig_subnet.rewards.registry import load_expert
from ig_subnet.rewards.results import MixtureScore, RobustScore

__all__ = [
    "Alignment",
    "Calibration",
    "ConfigurationError",
    "Diversity",
    "Expert",
    "InputError",
    "Mixture",
    "MixtureScore",
    "NonFiniteScore",
    "OutOfMemory",
    "RewardError",
    "RobustScore",
    "Safety",
    "WeightsMismatch",
    "WeightsNotFound",
    "WeightsUnreadable",
    "load_diversity",
    "load_expert",
    "load_mixture",
    "load_safety",
]
