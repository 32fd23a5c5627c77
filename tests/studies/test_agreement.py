"""What a pair counts as, by hand and by the definitions of each data set's authors; means and their intervals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_experts import brightness_mixture

from ig_subnet.studies.agreement import BY_TOPIC, Scored, credits, estimate, tie_threshold, weights_of
from ig_subnet.studies.preferences import Pairs, Preferences
from ig_subnet.studies.sources import Items

LEADS = np.array([2.0, -2.0, 0.0, 0.5])


@pytest.mark.parametrize(
    ("counting", "label", "expected"),
    [
        ("strict", 1.0, [1, 0, 0, 1]),
        ("strict", 0.0, [0, 1, 0, 0]),
        ("rankings", 1.0, [1, 0, 0.5, 1]),
        ("rankings", 0.5, [1, 1, 1, 1]),
        ("tie threshold", 1.0, [1, 0, 0.5, 0.5]),
        ("tie threshold", 0.0, [0, 1, 0.5, 0.5]),
        ("tie threshold", 0.5, [0.5, 0.5, 1, 1]),
    ],
)
def test_credits(counting: str, label: float, expected: list[float]) -> None:
    assert credits(LEADS, np.full(4, label), counting, 0.5).tolist() == expected


scores = st.lists(st.integers(0, 5), min_size=2, max_size=7, unique=True)


@settings(deadline=None)
@given(scores=scores, data=st.data())
def test_rankings_count_as_one_less_the_share_of_inversions(scores: list[int], data: st.DataObject) -> None:
    ranks = data.draw(st.lists(st.integers(1, 4), min_size=len(scores), max_size=len(scores)))
    pairs = list(combinations(range(len(scores)), 2))
    leads = np.array([scores[one] - scores[other] for one, other in pairs], float)
    labels = np.array([(np.sign(ranks[other] - ranks[one]) + 1) / 2 for one, other in pairs], float)
    inverted = sum((scores[a] - scores[b]) * (ranks[a] - ranks[b]) > 0 for a, b in pairs)
    assert credits(leads, labels, "rankings").mean() == pytest.approx(1 - inverted / len(pairs))


def test_the_threshold_is_the_best_of_eleven_quantiles() -> None:
    leads = np.concatenate([np.linspace(-0.1, 0.1, 10), np.linspace(1, 2, 11)])
    labels = np.concatenate([np.full(10, 0.5), np.ones(11)])
    threshold = tie_threshold(leads, labels)
    assert 0.1 <= threshold < 1.1
    best = credits(leads, labels, "tie threshold", threshold).mean()
    assert best >= max(credits(leads, labels, "tie threshold", other).mean() for other in (0.0, 0.05, 1.5, 2.0))
    assert tie_threshold(np.array([1.0, -2.0]), np.array([1.0, 0.0])) < 2  # no ties, no threshold that costs


def pairs_of(prompts: list[int]) -> Pairs:
    return Pairs.of([(0, 1, 1.0, prompt, "") for prompt in prompts])


def test_a_ranking_counts_each_prompt_the_same() -> None:
    pairs = pairs_of([0, 0, 0, 4])
    assert weights_of(pairs, "rankings").tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    values = np.array([1.0, 1.0, 1.0, 0.0])
    assert estimate(values, pairs, weights_of(pairs, "rankings")).value == pytest.approx(0.5)
    assert estimate(values, pairs, weights_of(pairs, "strict")).value == pytest.approx(0.75)


def test_pairs_of_one_prompt_are_one_witness() -> None:
    """Copies of every pair change nothing, while ten times as many prompts make the interval a third as wide."""
    rng = np.random.default_rng(0)
    values = (rng.random(60) < 0.7).astype(float)
    prompts = np.arange(60)

    def width(prompts: np.ndarray, values: np.ndarray) -> float:
        found = estimate(values, pairs_of(prompts.tolist()), np.ones(len(values)))
        assert found.low <= found.value <= found.high
        return found.high - found.low

    alone = width(prompts, values)
    assert width(np.repeat(prompts, 10), np.repeat(values, 10)) == pytest.approx(alone)
    assert width(np.arange(600), np.tile(values, 10)) == pytest.approx(alone / np.sqrt(10), rel=0.1)
    assert alone == pytest.approx(2 * 1.96 * values.std() / np.sqrt(60), rel=0.1)


def test_differences_are_paired() -> None:
    """Two scorers that err together are told apart by the few pairs where one alone does."""
    errors = np.arange(400) % 2 == 0
    first, second = 1.0 - errors, 1.0 - errors
    second[1::40] = 0
    pairs, weights = pairs_of(list(range(400))), np.ones(400)
    gain = estimate(first - second, pairs, weights)
    one, other = (estimate(values, pairs, weights) for values in (first, second))
    assert gain.value == pytest.approx(10 / 400) and gain.low > 0
    assert one.low < other.high  # their own intervals overlap


def test_incentive_by_topic() -> None:
    mixture = brightness_mixture()
    table = pa.table(
        {"prompt": ["a", "b"], "brightness": [5.0, 7.0], "brightness_calibrated": [0.5, 0.8], "incentive": [0.5, 0.8]}
    )
    items = Items("made up", 2, lambda: iter(()))
    pairs = Pairs.of([(0, 1, 0.0, 0, "")])
    scored = Scored(Preferences("x", "test", "made up", items, pairs, "strict"), table, pairs, {})
    assert scored.scorers == ("brightness", "incentive")
    by_topic = scored.by_topic(mixture, {"a": "dim", "b": "elsewhere"})
    assert by_topic.scorers == ("brightness", "incentive", BY_TOPIC)
    assert by_topic.leads(BY_TOPIC) == pytest.approx([-0.3]) and by_topic.prompts() == ["a"]
