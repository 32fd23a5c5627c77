"""Weights learnt from preferences: what made-up people weigh is found, on prompts that nothing was learnt from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_subnet.studies.fitting import Examples, FittingError, Weights, cross_validate, fit, split


def made_up(seed: int, weigh: dict[str, list[float]], prompts: int = 120, pairs: int = 6) -> Examples:
    """Pairs of which people prefer one with the chance that these weights, by topic, say."""
    rng = np.random.default_rng(seed)
    leads = rng.normal(0, 0.4, (prompts * pairs, 3))
    prompt = np.repeat(np.arange(prompts), pairs)
    topic = np.array(list(weigh), np.str_)[prompt % len(weigh)]
    margin = np.array([lead @ weigh[str(name)] for lead, name in zip(leads, topic, strict=True)])
    label = (rng.random(len(leads)) < 1 / (1 + np.exp(-margin))).astype(float)
    return Examples(leads, label, prompt, topic)


def test_what_people_weigh_is_found() -> None:
    weights = fit(made_up(0, {"": [12.0, 6.0, 0.0]}))
    assert weights.general == pytest.approx([2 / 3, 1 / 3, 0], abs=0.08) and weights.topics == {}


def test_what_says_the_opposite_counts_nothing() -> None:
    weights = fit(made_up(1, {"": [10.0, 0.0, -10.0]}))
    assert weights.general[2] == 0 and weights.general[0] > 0.8


def test_with_little_to_learn_from_experts_count_about_the_same() -> None:
    """And with much, what was true: the penalty that is chosen follows from the pairs."""
    few = [fit(made_up(seed, {"": [1.0, 0.5, 0.5]}, prompts=10, pairs=1)).general for seed in range(8)]
    assert np.mean(few, axis=0) == pytest.approx([1 / 3] * 3, abs=0.15)


def test_topics_are_told_apart_where_they_differ_and_alike_where_they_do_not() -> None:
    differ = fit(made_up(2, {"red": [10.0, 0.0, 5.0], "blue": [0.0, 10.0, 5.0]}))
    assert differ.topics["red"] == pytest.approx([2 / 3, 0, 1 / 3], abs=0.12)
    assert differ.topics["blue"] == pytest.approx([0, 2 / 3, 1 / 3], abs=0.12)
    alike = fit(made_up(3, {"red": [8.0, 4.0, 4.0], "blue": [8.0, 4.0, 4.0]}))
    for weights in alike.topics.values():
        assert weights == pytest.approx(alike.general, abs=0.1)


def test_held_out_pairs_are_predicted_better_by_the_mixture_than_by_any_expert() -> None:
    examples = made_up(4, {"": [6.0, 6.0, 1.0]})
    leads = np.empty(len(examples.label))
    for held_out, weights in cross_validate(examples):
        assert not set(examples.prompt[held_out]) & set(examples.prompt[~held_out])
        leads[held_out] = weights.leads(examples.where(held_out), by_topic=True)
    right = [((column > 0) == (examples.label > 0.5)).mean() for column in (leads, *examples.leads.T)]
    assert right[0] > max(right[1:]) + 0.05


def test_leads_are_those_of_a_mixture_with_these_weights() -> None:
    weights = Weights(np.array([0.5, 0.5]), {"red": np.array([1.0, 0.0])})
    examples = Examples(np.array([[0.2, 0.4], [0.2, 0.4]]), np.ones(2), np.arange(2), np.array(["red", ""]))
    assert weights.leads(examples, by_topic=True) == pytest.approx([0.2, 0.3])
    assert weights.leads(examples, by_topic=False) == pytest.approx([0.3, 0.3])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_turning_pairs_round_changes_nothing(seed: int) -> None:
    examples = made_up(seed, {"": [4.0, 2.0, 0.0]}, prompts=15, pairs=2)
    turned = np.random.default_rng(seed).random(len(examples.label)) < 0.5
    leads = np.where(turned[:, None], -examples.leads, examples.leads)
    label = np.where(turned, 1 - examples.label, examples.label)
    other = Examples(leads, label, examples.prompt, examples.topic)
    assert fit(other).general == pytest.approx(fit(examples).general, abs=1e-3)


def test_nothing_to_learn_from() -> None:
    with pytest.raises(FittingError, match="3 prompts cannot be divided into 5 folds"):
        split(np.array([0, 1, 2]), 5, 0)
    wrong = made_up(5, {"": [-30.0, -30.0, -30.0]})
    with pytest.raises(FittingError, match="no expert agrees with these preferences"):
        fit(wrong)
