"""The limit by uncertainty: nothing is won by being unknown or by having been worse, and nothing is lost in the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ig_subnet.validating.moving_average import Registration, average_of, update
from ig_subnet.validating.records import MinerRow
from ig_subnet.validating.uncertainty import limited_average_of, uncertainty_of

incentives = st.floats(0, 1)
alphas = st.floats(0.005, 1)


def after(observations: Sequence[float], alpha: float) -> MinerRow:
    miners: dict[str, MinerRow] = {}
    for observation in observations:
        miners = update(miners, {"a": Registration(1, 10)}, {"a": observation}, alpha=alpha)
    return miners["a"]


def with_figures(average: float, variance: float, observations: int, alpha: float) -> MinerRow:
    """A miner with these after so many observations."""
    weight = 1 - (1 - alpha) ** observations
    return MinerRow("a", 1, 10, average * weight, weight, observations, 1, squares=(variance + average**2) * weight)


figures = st.tuples(st.floats(0.001, 1), st.floats(0, 1), alphas)
"""An average, the share of the largest variance that observations of this average can have, and alpha."""


@given(observations=st.lists(incentives, min_size=1, max_size=60), before=alphas, alpha=alphas)
def test_it_only_takes_away_and_not_everything(observations: list[float], before: float, alpha: float) -> None:
    """Also where alpha was another one when the observations were made."""
    miner = after(observations, before)
    limited, average = limited_average_of(miner, alpha), average_of(miner)
    assert 0 <= limited <= average
    assert 0 <= uncertainty_of(miner, alpha) <= 0.5
    assert math.isfinite(limited)
    if average > 1e-100:
        assert limited > 0


@given(
    observations=st.lists(incentives, min_size=1, max_size=60),
    alpha=alphas,
    which=st.integers(0, 59),
    better=incentives,
)
@example([0.0, 0.5, 0.5, 0.5], 0.1, 0, 1.0)
@example([0.5] * 40 + [0.0], 0.005, 40, 1.0)
def test_no_observation_could_have_been_better_and_the_limited_average_lower(
    observations: list[float], alpha: float, which: int, better: float
) -> None:
    which %= len(observations)
    improved = list(observations)
    improved[which] = max(better, observations[which])
    assert limited_average_of(after(improved, alpha), alpha) >= limited_average_of(
        after(observations, alpha), alpha
    ) * (1 - 1e-9)


@given(figures=figures, observations=st.integers(1, 300), more=st.integers(1, 300))
def test_of_two_that_are_alike_the_better_known_never_has_less(
    figures: tuple[float, float, float], observations: int, more: int
) -> None:
    average, spread, alpha = figures
    variance = spread * average * (1 - average)
    young = with_figures(average, variance, observations, alpha)
    old = with_figures(average, variance, observations + more, alpha)
    assert limited_average_of(young, alpha) <= limited_average_of(old, alpha) * (1 + 1e-9)


@given(figures=figures, higher=st.floats(0.001, 1), observations=st.integers(1, 300))
def test_a_higher_average_never_has_less(figures: tuple[float, float, float], higher: float, observations: int) -> None:
    average, spread, alpha = figures
    low, high = sorted((average, higher))
    variance = spread * min(low * (1 - low), high * (1 - high))
    assert limited_average_of(with_figures(low, variance, observations, alpha), alpha) <= limited_average_of(
        with_figures(high, variance, observations, alpha), alpha
    )


@given(figures=figures)
def test_in_the_limit_the_average_is_left_as_it_is(figures: tuple[float, float, float]) -> None:
    average, spread, alpha = figures
    miner = with_figures(average, spread * average * (1 - average), math.ceil(50 / alpha), alpha)
    assert limited_average_of(miner, alpha) == pytest.approx(average, rel=1e-9)


def test_what_docs_weights_md_says_of_steady_miners() -> None:
    """Shares of an average of 0.5 that are left after 1, 2, 5, 10 and 20 equal observations, at alpha 0.1."""
    left = [limited_average_of(after([0.5] * times, 0.1), 0.1) / 0.5 for times in (1, 2, 5, 10, 20)]
    assert left == pytest.approx([0.647, 0.783, 0.916, 0.969, 0.993], abs=0.0006)


@pytest.mark.parametrize("deviation", [0.05, 0.1, 0.2])
def test_newcomers_are_paid_less_on_average_than_those_who_are_known(deviation: float) -> None:
    """Weights of the power 3, of observations around 0.6; docs/weights.md has those for a deviation of 0.1."""
    chance = np.random.default_rng(1)

    def mean_weights(observations: int, miners: int) -> tuple[float, float]:
        drawn = chance.normal(0.6, deviation, (miners, observations)).clip(0, 1)
        found = [after(row.tolist(), 0.1) for row in drawn]
        weights = [(average_of(miner) ** 3, limited_average_of(miner, 0.1) ** 3) for miner in found]
        plain, limited = np.mean(weights, axis=0)
        return float(plain), float(limited)

    known_plain, known_limited = mean_weights(60, 300)
    ratios = []
    for observations in (1, 2, 3, 5):
        plain, limited = mean_weights(observations, 2000)
        assert plain / known_plain > 0.99
        ratios.append(limited / known_limited)
    assert ratios == sorted(ratios) and ratios[-1] < 0.85
    if deviation == 0.1:
        assert ratios == pytest.approx([0.37, 0.57, 0.67, 0.80], abs=0.02)


def test_one_that_varies_is_less_certain_and_one_that_earns_nothing_gets_nothing() -> None:
    assert uncertainty_of(after([1, 0, 1, 0], 0.1), 0.1) > uncertainty_of(after([0.5] * 4, 0.1), 0.1) > 0
    assert limited_average_of(after([0, 0], 0.1), 0.1) == 0.0
    assert limited_average_of(after([1e-300], 0.1), 0.1) >= 0.0
    with pytest.raises(ValueError, match="never observed"):
        uncertainty_of(replace(after([0.5], 0.1), observations=0), 0.1)
