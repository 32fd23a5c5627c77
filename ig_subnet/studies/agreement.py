"""How often scores agree with preferences: pairwise accuracy as each data set's authors count it, with intervals.

The images of one prompt are no independent witnesses, so what is drawn anew for an interval are prompts, with all their
pairs; and where two scorers are compared, the same prompts for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ig_subnet.studies.errors import StudyError
from ig_subnet.studies.preferences import Counting, Pairs, Preferences
from ig_subnet.studies.results import experts_of
from ig_subnet.studies.scoring import Progress, score_items

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from ig_subnet.rewards import Mixture

    Floats = NDArray[np.float64]

RESAMPLES = 2000
BY_TOPIC = "incentive_by_topic"
MIXTURES = ("total", "incentive", BY_TOPIC)
THRESHOLD_QUANTILES = np.linspace(0, 1, 11)  # as many as Pick-a-Pic's authors try


@dataclass(frozen=True)
class Scored:
    """Preferences, and the scores of their images: `table` as `ig_subnet.studies.results` describes it, a row an item.

    `pairs` are those whose images both have scores. `missing` tells by name of each image why it has none.
    """

    preferences: Preferences
    table: pa.Table
    pairs: Pairs
    missing: dict[str, str]

    @property
    def experts(self) -> tuple[str, ...]:
        return tuple(experts_of(self.table))

    @property
    def scorers(self) -> tuple[str, ...]:
        """Columns of scores: each expert's, then the mixture's."""
        return (*self.experts, *(name for name in MIXTURES if name in self.table.column_names))

    def leads(self, column: str) -> Floats:
        """By how much the first image of each pair is ahead of the second in a column of the table: float64 [P]."""
        scores = self.table[column].to_numpy().astype(np.float64)
        return scores[self.pairs.first] - scores[self.pairs.second]

    def prompts(self) -> list[str]:
        """The text of each pair's prompt."""
        texts = self.table["prompt"].to_pylist()
        return [texts[place] for place in self.pairs.first]

    def by_topic(self, mixture: Mixture, topics: Mapping[str, str]) -> Scored:
        """With a column BY_TOPIC more: the incentive by the weights of each prompt's topic, given by its text."""
        import pyarrow as pa

        calibrated = np.stack([self.table[f"{name}_calibrated"].to_numpy() for name in self.experts], axis=1)
        weights = [mixture.weights_for(topics[prompt]) for prompt in self.table["prompt"].to_pylist()]
        shares = np.array([[of_topic[name] for name in self.experts] for of_topic in weights], np.float64)
        incentive = (calibrated * shares).sum(axis=1) / shares.sum(axis=1)
        return replace(self, table=self.table.append_column(BY_TOPIC, pa.array(incentive)))


@dataclass(frozen=True)
class Estimate:
    """A mean over pairs; 95% of resamples of the prompts give one from `low` to `high`."""

    value: float
    low: float
    high: float


def score_preferences(
    preferences: Preferences,
    mixture: Mixture,
    folder: Path,
    *,
    fresh: bool = False,
    batch_size: int,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Scored:
    """Scores each image once; a run that was cut goes on from what lies in `folder`. Raises as `score_items`.

    Also raises `StudyError` where not a single pair has scores for both images.
    """
    outcome = score_items(
        preferences.items, mixture, folder=folder, fresh=fresh, batch_size=batch_size, progress=progress
    )
    errors = outcome.table["error"].to_pylist()
    there = np.array([error is None for error in errors], bool)
    pairs = preferences.pairs
    kept = pairs.where(there[pairs.first] & there[pairs.second])
    names = outcome.table["image"].to_pylist()
    missing = {name: error for name, error in zip(names, errors, strict=True) if error is not None}
    if not len(kept):
        example = next((f"; {name}: {error}" for name, error in missing.items()), "")
        raise StudyError(f"{preferences.source}: no pair has scores for both images{example}")
    return Scored(preferences, outcome.table, kept, missing)


def credits(leads: Floats, labels: Floats, counting: Counting, threshold: float = 0.0) -> Floats:
    """What each pair counts as, [P] in [0, 1], by the first image's lead in score and the people's label.

    strict         ImageReward (THUDM/ImageReward, test.py): 1 for the people's order; equal scores are an error. Images
                   that people ranked as equals make no pair.
    rankings       HPSv2 (tgxs002/HPSv2, inversion_score): 1 unless the order is inverted, so also where people rank
                   two as equals. Equal scores, which its authors order as they happen to come, count half.
    tie threshold  Pick-a-Pic (yuvalkirstain/PickScore, eval_preference_predictor.py): up to the threshold a lead is a
                   tie; a tie that should be none, and the reverse, counts half.
    """
    said = np.sign(labels - 0.5)
    if counting == "tie threshold":
        leads = np.where(np.abs(leads) <= threshold, 0.0, leads)
    found = np.sign(leads)
    if counting == "strict":
        return (found == said).astype(np.float64)
    if counting == "rankings":
        return np.where(said == 0, 1.0, 0.5 + found * said / 2)
    return 1 - np.abs(found - said) / 2


def tie_threshold(leads: Floats, labels: Floats) -> float:
    """The threshold with the best accuracy on these pairs, which should be others than those it is used for.

    Pick-a-Pic's authors try eleven differences of probability. Only PickScore has probabilities, so here it is eleven
    quantiles of the leads' sizes, the smallest of equally good ones.
    """
    candidates = np.quantile(np.abs(leads), THRESHOLD_QUANTILES)
    reached = [credits(leads, labels, "tie threshold", candidate).mean() for candidate in candidates]
    return float(candidates[int(np.argmax(reached))])


def weights_of(pairs: Pairs, counting: Counting) -> Floats:
    """How much each pair counts, [P]: the same, or, as HPSv2's authors average over prompts, each prompt the same."""
    if counting != "rankings":
        return np.ones(len(pairs))
    _, prompt, count = np.unique(pairs.prompt, return_inverse=True, return_counts=True)
    return 1 / count[prompt]


def estimate(values: Floats, pairs: Pairs, weights: Floats, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The weighted mean of the pairs' values, and its interval by drawing prompts anew (percentiles).

    The same prompts are drawn for the same pairs and seed: the estimate of a difference of credits is a paired one.
    """
    _, prompt = np.unique(pairs.prompt, return_inverse=True)
    sums, sizes = np.bincount(prompt, weights * values), np.bincount(prompt, weights)
    drawn = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(sums.sum() / sizes.sum()), float(low), float(high))
