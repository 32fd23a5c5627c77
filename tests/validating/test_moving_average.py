"""The moving average's properties: who it moves for, and where it can go."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig_subnet.validating.moving_average import Registration, average_of, registered, update
from ig_subnet.validating.records import MinerRow

incentives = st.floats(0, 1)
alphas = st.floats(0.001, 1)
REGISTERED = {"a": Registration(1, 10), "b": Registration(2, 20)}


def after(observations: list[float], alpha: float, miners: dict[str, MinerRow] | None = None) -> MinerRow:
    """Miner a, observed so, one round after the other."""
    miners = miners or {}
    for round_id, observation in enumerate(observations, start=1):
        miners = update(miners, REGISTERED, {"a": observation}, alpha=alpha, round_id=round_id)
    return miners["a"]


@given(observation=incentives, alpha=alphas)
def test_the_first_average_is_the_first_observation(observation: float, alpha: float) -> None:
    assert math.isclose(average_of(after([observation], alpha)), observation, rel_tol=1e-12, abs_tol=1e-300)


@given(observation=incentives, times=st.integers(1, 200), alpha=alphas)
def test_equal_miners_are_equal_however_often_they_were_asked(observation: float, times: int, alpha: float) -> None:
    assert average_of(after([observation] * times, alpha)) == pytest.approx(observation, rel=1e-9, abs=1e-12)


@given(observations=st.lists(incentives, min_size=1, max_size=50), alpha=alphas)
def test_the_average_stays_among_the_observations(observations: list[float], alpha: float) -> None:
    miner = after(observations, alpha)
    assert min(observations) - 1e-12 <= average_of(miner) <= max(observations) + 1e-12
    assert 0 <= average_of(miner) <= 1
    assert miner.observations == len(observations)
    assert miner.last_round == len(observations)


@given(observations=st.lists(incentives, min_size=1, max_size=20), alpha=alphas)
def test_it_is_the_weighted_mean_with_weights_that_fade(observations: list[float], alpha: float) -> None:
    weights = [(1 - alpha) ** age for age in reversed(range(len(observations)))]
    mean = sum(w * x for w, x in zip(weights, observations, strict=True)) / sum(weights)
    assert average_of(after(observations, alpha)) == pytest.approx(mean, rel=1e-9, abs=1e-12)


@given(observations=st.lists(incentives, min_size=1, max_size=20), alpha=alphas, rounds=st.integers(1, 20))
def test_a_miner_that_is_not_asked_keeps_its_average_to_the_bit(
    observations: list[float], alpha: float, rounds: int
) -> None:
    miner = after(observations, alpha)
    miners = {"a": miner}
    for _ in range(rounds):
        miners = update(miners, REGISTERED, {"b": 0.5}, alpha=alpha, round_id=99)
    assert miners["a"] is miner


def test_asked_and_silent_is_an_observation_of_zero() -> None:
    silent = after([0.8, 0.0], 0.1)
    assert average_of(silent) == pytest.approx(0.9 * 0.8 / 1.9)
    assert average_of(after([0.0], 0.1)) == 0.0


@pytest.mark.parametrize("registration", [Registration(1, 11), Registration(3, 10), Registration(3, 30)])
def test_who_registers_again_starts_anew(registration: Registration) -> None:
    old = after([0.9] * 30, 0.1)
    assert update({"a": old}, {"a": registration}, alpha=0.1) == {}
    anew = update({"a": old}, {"a": registration}, {"a": 0.2}, alpha=0.1, round_id=31)["a"]
    assert (average_of(anew), anew.observations, anew.uid) == (pytest.approx(0.2), 1, registration.uid)


def test_who_takes_over_a_uid_inherits_nothing_and_who_is_gone_is_dropped() -> None:
    old = after([0.9] * 30, 0.1)
    newcomer = {"c": Registration(1, 500)}
    miners = update({"a": old}, newcomer, {"c": 0.1}, alpha=0.1, round_id=31)
    assert miners.keys() == {"c"}
    assert average_of(miners["c"]) == pytest.approx(0.1)


def test_who_is_absent_is_kept_for_a_while_and_comes_back_as_it_was() -> None:
    here = update({}, REGISTERED, {"a": 0.9, "b": 0.5}, alpha=0.1, round_id=1, now=100.0)
    only_b = {"b": REGISTERED["b"]}
    gone = update(here, only_b, {"b": 0.4}, alpha=0.1, round_id=2, now=200.0, absence_seconds=60.0)
    assert gone["a"] == replace(here["a"], absent_since=200.0)
    still_gone = update(gone, only_b, {"b": 0.4}, alpha=0.1, round_id=3, now=259.0, absence_seconds=60.0)
    assert still_gone["a"] == gone["a"], "absence counts from its beginning"
    assert registered(still_gone, only_b).keys() == {"b"}, "and earns nothing"
    back = update(still_gone, REGISTERED, {"b": 0.4}, alpha=0.1, round_id=4, now=1000.0, absence_seconds=60.0)
    assert back["a"] == here["a"]
    dropped = update(still_gone, only_b, {"b": 0.4}, alpha=0.1, round_id=4, now=260.0, absence_seconds=60.0)
    assert dropped.keys() == {"b"}
    anew = {**REGISTERED, "a": Registration(1, 300)}
    assert update(still_gone, anew, alpha=0.1, now=259.0, absence_seconds=60.0).keys() == {"b"}


def test_the_age_of_an_average_is_known() -> None:
    miners = update({}, REGISTERED, {"a": 0.9, "b": 0.5}, alpha=0.1, round_id=1, now=100.0)
    miners = update(miners, REGISTERED, {"b": 0.5}, alpha=0.1, round_id=2, now=160.0)
    assert {hotkey: miner.observed_at for hotkey, miner in miners.items()} == {"a": 100.0, "b": 160.0}


@given(observations=st.lists(incentives, min_size=1, max_size=50), alpha=alphas)
def test_the_squares_are_averaged_as_the_observations_are(observations: list[float], alpha: float) -> None:
    miner = after(observations, alpha)
    of_squares = after([observation**2 for observation in observations], alpha)
    assert miner.squares == pytest.approx(of_squares.accumulator, rel=1e-9, abs=1e-12)


def test_the_averages_that_were_passed_in_are_not_changed() -> None:
    before = {"a": after([0.5], 0.1)}
    kept = dict(before)
    update(before, REGISTERED, {"a": 1.0, "b": 1.0}, alpha=0.1, round_id=2)
    assert before == kept


@pytest.mark.parametrize(
    ("observations", "alpha", "message"),
    [
        ({"a": float("nan")}, 0.1, r"in \[0, 1\], got nan"),
        ({"a": 1.1}, 0.1, r"in \[0, 1\], got 1.1"),
        ({"a": -0.1}, 0.1, r"in \[0, 1\], got -0.1"),
        ({"z": 0.1}, 0.1, "observed but not registered: z"),
        ({"a": 0.1}, 0.0, "alpha is in"),
        ({"a": 0.1}, float("nan"), "alpha is in"),
    ],
)
def test_nonsense_is_refused(observations: dict[str, float], alpha: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        update({}, REGISTERED, observations, alpha=alpha)


def test_an_average_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="never observed"):
        average_of(MinerRow("a", 1, 10, 0.0, 0.0, 0, 0))
