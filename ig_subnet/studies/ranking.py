"""Which model is better, and how sure that is: statistics over a table of scores, nothing else.

A table has one row an image with the columns `model`, `topic`, `number` (of the prompt within its topic: the same
number is the same prompt for all models), and one column for each score that models can be ranked by. Rows without a
score are left out.

**Intervals.** The sample is the prompts: another study would draw others. So each resample draws as many prompts of a
topic as there are, with all of their images, and the same prompts for all models. Drawing images within prompts as well
would count their chance twice, for the mean of a prompt already has it (Davison and Hinkley, Bootstrap Methods and
their Application, 1997, section 3.8). Intervals are symmetric: a mean plus or minus as many of its standard errors as
95% of the resamples' means are off at most, and that quantile is widened as Student's t is wider than the normal, for
the standard errors are estimates too.

**Told apart.** What is easy or hard about a prompt cancels in the difference of two models over the same prompts. All
pairs of a topic's models are looked at together: the critical value is the 95% quantile, over resamples, of how many
standard errors the pair that is farthest off is off (single-step max-T; Westfall and Young, Resampling-Based Multiple
Testing, 1993). With 95% confidence no pair at all of a topic is told apart wrongly, however many models there are.
Each topic and each expert is a question of its own; there is no correction for asking several. With nine equal models,
at least one pair was told apart in 5 of 100 made-up studies of 30 or 100 prompts, 6 of 10 prompts, and 14 of 5.

**Ranks with ties.** Not being told apart is not transitive: A may be tied with B, and B with C, where A is surely
better than C. So no chain of ties is followed:
- A model's `rank` is one more than the number of models that are surely better than it; its `worst_rank` is the number
  of models less those that are surely worse. With 95% confidence the true ranks of all models of a topic lie between
  the two at once (Mogstad, Romano, Shaikh and Wilhelm, Review of Economic Studies, 2024).
- Models are tied exactly if they share one of their `letters` (a compact letter display; Piepho, Journal of
  Computational and Graphical Statistics, 2004): a letter stands for a largest set of models none of which can be told
  from another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np

from ig_subnet.studies.resampling import Topic, cells_of, pair_places

if TYPE_CHECKING:
    import pyarrow as pa

    from ig_subnet.studies.resampling import Floats

CONFIDENCE = 0.95
POWER = 0.8  # the chance to tell two models apart that `prompts_needed` is for
RESAMPLES = 5_000
FEWEST = 10  # prompts: of less, pairs are told apart wrongly more often than it is said


@dataclass(frozen=True)
class Ranked:
    """A model's place among the models of a topic. Over all topics each topic counts the same.

    `low` and `high` hold the mean alone, not differences; infinite where there are fewer than two prompts.
    """

    model: str
    mean: float
    low: float
    high: float
    rank: int
    worst_rank: int
    letters: str
    prompts: int
    images: int


@dataclass(frozen=True)
class Pair:
    """`better` less `worse` over the prompts that both have: never negative.

    `low` and `high` hold for all pairs of the topic at once; the two are `told_apart` if `low` is above 0. As many
    prompts as `prompts_needed`, of all topics together, would tell them apart with a probability of POWER if the
    difference is what it seems; should it be as large as `high`, `prompts_needed_least` would. Infinite where it seems
    to be 0.
    """

    better: str
    worse: str
    difference: float
    low: float
    high: float
    told_apart: bool
    prompts: int
    prompts_needed: float
    prompts_needed_least: float


@dataclass(frozen=True)
class Ranking:
    """The models of a topic, best mean first, by one column of scores; `pairs` has each two of them once."""

    topic: str
    expert: str
    models: tuple[Ranked, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Agreement:
    """How alike two columns of scores order things, from -1 (the other way round) over 0 (unrelated) to 1.

    `kendall` (tau-b) is over models, by their means over all topics; 95% of resamples of the prompts give a value from
    `low` to `high`. `spearman` is over all images, and `spearman_within` over all images after each prompt's mean has
    been taken off: whether the two prefer the same images of a prompt. NaN where an order does not exist.
    """

    first: str
    second: str
    kendall: float
    low: float
    high: float
    spearman: float
    spearman_within: float


def rank(
    scores: pa.Table, *, value: str, resamples: int = RESAMPLES, seed: int = 0, confidence: float = CONFIDENCE
) -> list[Ranking]:
    """A ranking for each topic in the order of the table, and one over ALL_TOPICS where there are several.

    A model without any score in a topic is not in the topic's ranking, nor in the one over all; without a model that
    is in all topics there is none. Raises `StudyError`
    for a table without these columns or scores.
    """
    topics = [Topic.sample(cells, resamples, seed) for cells in cells_of(scores, value)]
    rankings = [_ranking(topic, value, confidence) for topic in topics]
    if len(topics) > 1 and (whole := Topic.over(topics)).models:
        rankings.append(_ranking(whole, value, confidence))
    return rankings


def agreement(
    scores: pa.Table,
    *,
    values: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[Agreement]:
    """How alike each two of the columns in `values` order models and images. Raises as `rank`."""
    means, resampled, orders, orders_within = {}, {}, {}, {}
    for value in values:
        whole = Topic.over([Topic.sample(cells, resamples, seed) for cells in cells_of(scores, value)])
        means[value] = whole.of_models.estimate[None]
        resampled[value] = whole.of_models.estimate + whole.of_models.off
        orders[value], orders_within[value] = _image_orders(scores, value)
    tail = 100 * (1 - confidence) / 2
    found = []
    for first_value, second_value in combinations(values, 2):
        taus = kendall_tau(resampled[first_value], resampled[second_value])
        low, high = np.percentile(taus, [tail, 100 - tail])
        found.append(
            Agreement(
                first_value,
                second_value,
                float(kendall_tau(means[first_value], means[second_value])[0]),
                float(low),
                float(high),
                _correlation(orders[first_value], orders[second_value]),
                _correlation(orders_within[first_value], orders_within[second_value]),
            )
        )
    return found


def kendall_tau(first: Floats, second: Floats, pairs: Sequence[int] | None = None) -> Floats:
    """Kendall's tau-b of each row of two matrices, [rows, items] -> [rows]; NaN where a row has nothing but ties.

    With `pairs`, places among all pairs of items in the order of `itertools.combinations`, only those count.
    """
    one, other = pair_places(first.shape[1])
    if pairs is not None:
        one, other = one[list(pairs)], other[list(pairs)]
    signs = [np.sign(values[:, one] - values[:, other]) for values in (first, second)]
    untied = np.prod([(sign**2).sum(axis=1) for sign in signs], axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray((signs[0] * signs[1]).sum(axis=1) / np.sqrt(untied))


def _ranking(topic: Topic, value: str, confidence: float) -> Ranking:
    models, pairs = topic.of_models, topic.of_pairs
    half = models.half_widths(np.quantile(np.abs(models.miss), confidence, axis=0))
    largest = np.abs(pairs.miss).max(axis=1, initial=0)
    pair_half = pairs.half_widths(float(np.quantile(largest, confidence)))
    first, second = pair_places(len(topic.models))
    apart = np.abs(pairs.estimate) > pair_half
    first_wins = pairs.estimate > 0
    winners, losers = np.where(first_wins, first, second), np.where(first_wins, second, first)
    beaten_by = np.bincount(losers[apart], minlength=len(topic.models))
    beats = np.bincount(winners[apart], minlength=len(topic.models))
    order = sorted(range(len(topic.models)), key=lambda place: -models.estimate[place])
    letters = _letters(order, {frozenset(pair) for pair in zip(winners[apart], losers[apart], strict=True)})
    return Ranking(
        topic.name,
        value,
        tuple(
            Ranked(
                topic.models[place],
                float(models.estimate[place]),
                float(models.estimate[place] - half[place]),
                float(models.estimate[place] + half[place]),
                1 + int(beaten_by[place]),
                len(order) - int(beats[place]),
                letters[place],
                int(topic.prompts[place]),
                int(topic.images[place]),
            )
            for place in order
        ),
        tuple(
            Pair(
                topic.models[winner],
                topic.models[loser],
                difference,
                difference - width,
                difference + width,
                told,
                prompts,
                _prompts_needed(difference, error, prompts, width),
                _prompts_needed(difference + width, error, prompts, width),
            )
            for winner, loser, difference, width, told, prompts, error in zip(
                winners.tolist(),
                losers.tolist(),
                np.abs(pairs.estimate).tolist(),
                pair_half.tolist(),
                apart.tolist(),
                topic.pair_prompts.tolist(),
                pairs.error.tolist(),
                strict=True,
            )
        ),
    )


def _prompts_needed(difference: float, error: float, prompts: int, width: float) -> float:
    """For a power of POWER: `width`, that of the difference's interval, and its error shrink as the root of prompts
    grows. At least FEWEST.
    """
    from scipy.stats import norm

    if not math.isfinite(difference + width) or difference == 0:
        return math.inf
    return max(FEWEST, math.ceil(prompts * ((width + norm.ppf(POWER) * error) / difference) ** 2))


def _letters(order: Sequence[int], apart: set[frozenset[int]]) -> dict[int, str]:
    """The letters of each place: two share one exactly if they are not in `apart`; `a` is the first's of the order."""
    groups = [frozenset(order)]
    for pair in apart:  # each group that holds both gives way to two that lack one of them
        split = {group - {place} if pair <= group else group for group in groups for place in pair}
        groups = [group for group in split if not any(group < other for other in split)]
    position = {place: number for number, place in enumerate(order)}
    groups.sort(key=lambda group: sorted(position[place] for place in group))
    names = [
        ascii_lowercase[number % 26] + (str(number // 26) if number >= 26 else "") for number in range(len(groups))
    ]
    return {
        place: "".join(name for name, group in zip(names, groups, strict=True) if place in group) for place in order
    }


def _image_orders(scores: pa.Table, value: str) -> tuple[Floats, Floats]:
    """The score of each image, and that less the mean of its prompt; NaN where there is none."""
    values = scores[value].to_numpy().astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    keys = zip(scores["topic"].to_pylist(), scores["number"].to_pylist(), strict=True)
    place: dict[tuple[str, int | str], int] = {}
    prompts = np.array([place.setdefault(key, len(place)) for key in keys])
    there = np.isfinite(values)
    sums = np.bincount(prompts, np.where(there, values, 0), minlength=len(place))
    counts = np.bincount(prompts, there, minlength=len(place))
    return values, values - (sums / np.maximum(counts, 1))[prompts]


def _correlation(first: Floats, second: Floats) -> float:
    """Spearman's, over the images that have both; NaN where there is no order."""
    from scipy.stats import spearmanr

    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 2 or np.ptp(first[both]) == 0 or np.ptp(second[both]) == 0:
        return math.nan
    return float(spearmanr(first[both], second[both]).statistic)
