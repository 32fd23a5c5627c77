"""Ranks, ties, intervals and what they promise, on scores whose truth is known."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_study import made_up_scores
from scipy.stats import kendalltau, t

from ig_subnet.studies.errors import StudyError
from ig_subnet.studies.ranking import POWER, Ranking, agreement, kendall_tau, rank
from ig_subnet.studies.resampling import ALL_TOPICS

LADDER = {"good": 1.0, "fair": 0.0, "poor": -1.0}


def table(scores: dict[str, list[list[float]]]) -> pa.Table:
    """One topic; of each model a list of images for each prompt."""
    rows = [
        {"model": model, "topic": "cats", "number": number, "incentive": value}
        for model, prompts in scores.items()
        for number, images in enumerate(prompts)
        for value in images
    ]
    return pa.Table.from_pylist(rows)


def only(scores: pa.Table, **options: int) -> Ranking:
    (ranking,) = rank(scores, value="incentive", **options)
    return ranking


def test_models_of_different_quality_stand_in_order_on_every_topic_and_over_all() -> None:
    rankings = rank(made_up_scores(LADDER, prompts=40), value="incentive")
    assert [ranking.topic for ranking in rankings] == ["cats", "dogs", ALL_TOPICS]
    for ranking in rankings:
        assert [(one.model, one.rank, one.worst_rank, one.letters) for one in ranking.models] == [
            ("good", 1, 1, "a"),
            ("fair", 2, 2, "b"),
            ("poor", 3, 3, "c"),
        ]
    assert [one.prompts for one in rankings[-1].models] == [80] * 3
    over = {one.model: one.mean for one in rankings[-1].models}
    by_topic = [{one.model: one.mean for one in ranking.models} for ranking in rankings[:2]]
    assert over == pytest.approx({name: (by_topic[0][name] + by_topic[1][name]) / 2 for name in over})


def test_what_is_hard_for_all_models_cancels_in_their_difference() -> None:
    hardness = np.linspace(0, 1, 20)
    ranking = only(table({"a": [[x] for x in hardness + 0.02], "b": [[x] for x in hardness]}))
    (pair,) = ranking.pairs
    assert pair.told_apart and (pair.better, pair.worse) == ("a", "b")
    assert ranking.models[0].low < ranking.models[1].high  # though their own intervals overlap widely


def test_a_model_is_tied_with_its_copy() -> None:
    values = [[x] for x in np.random.default_rng(0).random(10)]
    ranking = only(table({"a": values, "copy": values, "worse": [[x[0] - 0.5] for x in values]}))
    assert [(one.rank, one.worst_rank, one.letters) for one in ranking.models] == [
        (1, 2, "a"),
        (1, 2, "a"),
        (3, 3, "b"),
    ]
    assert next(pair.prompts_needed for pair in ranking.pairs if pair.difference == 0) == math.inf


def test_ties_are_not_followed_along_a_chain() -> None:
    """The middle one is tied with both ends, which are not tied with each other."""
    prompts = range(20)
    models = {
        "a": [0.46 + (-1) ** n for n in prompts],
        "b": [0.0] * 20,
        "c": [-0.46 + (-1) ** (n // 2) for n in prompts],
    }
    ranking = only(table({model: [[value] for value in values] for model, values in models.items()}))
    assert [(one.model, one.letters) for one in ranking.models] == [("a", "a"), ("b", "ab"), ("c", "b")]
    assert [(one.rank, one.worst_rank) for one in ranking.models] == [(1, 2), (1, 3), (2, 3)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=7), st.integers(1, 12), st.integers(0, 99))
def test_letters_and_ranks_say_what_the_pairs_say(quality: list[float], prompts: int, seed: int) -> None:
    models = {f"model {number}": value for number, value in enumerate(quality)}
    scores = made_up_scores(models, topics=["cats"], prompts=prompts, seed=seed)
    ranking = only(scores, resamples=200)
    apart = {frozenset((pair.better, pair.worse)) for pair in ranking.pairs if pair.told_apart}
    for one, other in combinations(ranking.models, 2):
        assert bool(set(one.letters) & set(other.letters)) == (frozenset((one.model, other.model)) not in apart)
    for one in ranking.models:
        assert one.rank == 1 + sum(pair.told_apart for pair in ranking.pairs if pair.worse == one.model)
        assert len(models) - one.worst_rank == sum(p.told_apart for p in ranking.pairs if p.better == one.model)
    shuffled = only(scores.take(np.random.default_rng(seed).permutation(scores.num_rows)), resamples=200)
    assert {one.model: one.rank for one in shuffled.models} == {one.model: one.rank for one in ranking.models}


def test_an_interval_is_that_of_students_t_where_scores_are_normal() -> None:
    values = np.random.default_rng(1).normal(0, 1, 12)
    (one,) = only(table({"a": [[x] for x in values]}), resamples=20_000).models
    expected = t.ppf(0.975, 11) * values.std(ddof=1) / math.sqrt(12)
    assert one.high - one.mean == pytest.approx(expected, rel=0.06)
    assert one.mean - one.low == pytest.approx(one.high - one.mean)


def test_images_of_a_prompt_count_as_one_observation() -> None:
    values = np.random.default_rng(1).normal(0, 1, 12)
    once = only(table({"a": [[x] for x in values]})).models[0]
    four = only(table({"a": [[x] * 4 for x in values]})).models[0]
    assert (four.low, four.high) == pytest.approx((once.low, once.high))
    assert (once.images, four.images) == (12, 48)


def test_equal_models_are_seldom_told_apart_however_many_there_are() -> None:
    studies = [made_up_scores(dict.fromkeys("abcdefgh", 0.0), topics=["t"], seed=seed) for seed in range(60)]
    wrong = sum(any(pair.told_apart for pair in only(scores, resamples=300).pairs) for scores in studies)
    assert wrong <= 8  # 3 are expected, and more than 8 once in 300 times


def test_as_many_prompts_as_needed_tell_two_models_apart_about_as_often_as_promised() -> None:
    models = {"a": 0.15, "b": 0.0}
    (pair,) = only(made_up_scores(models, topics=["t"], prompts=400)).pairs
    studies = [made_up_scores(models, topics=["t"], prompts=int(pair.prompts_needed), seed=s) for s in range(1, 61)]
    share = np.mean([only(scores, resamples=300).pairs[0].told_apart for scores in studies])
    assert abs(share - POWER) < 0.2
    assert 2 <= pair.prompts_needed_least < pair.prompts_needed < 400


def test_what_has_no_score_is_left_out() -> None:
    scores = made_up_scores(LADDER, prompts=6)
    rows = scores.to_pylist()
    for row in rows:
        if row["model"] == "fair" and row["number"] == 2:
            row["incentive"] = None
        if row["model"] == "poor" and row["number"] == 3:
            row["incentive"] = math.nan
    without = pa.Table.from_pylist([row for row in rows if (row["model"], row["topic"]) != ("good", "dogs")])
    cats, dogs, every = rank(without, value="incentive")
    assert {one.model: one.prompts for one in cats.models} == {"good": 6, "fair": 5, "poor": 5}
    assert {pair.prompts for pair in cats.pairs if {pair.better, pair.worse} == {"fair", "poor"}} == {4}
    assert {one.model for one in dogs.models} == {one.model for one in every.models} == {"fair", "poor"}


def test_one_prompt_tells_nothing_apart() -> None:
    ranking = only(table({"a": [[0.9, 0.8]], "b": [[0.1, 0.2]]}))
    assert [(one.rank, one.worst_rank, one.low, one.high) for one in ranking.models] == [
        (1, 2, -math.inf, math.inf)
    ] * 2
    assert [(pair.told_apart, pair.prompts_needed) for pair in ranking.pairs] == [(False, math.inf)]


def test_agreement_over_one_prompt_is_told_as_it_is() -> None:
    scores = made_up_scores({"a": 1.0, "b": 0.0}, topics=["t", "u"], prompts=1)
    (one,) = agreement(scores, values=("pick_score", "hps_v2"))
    assert abs(one.kendall) == 1 and one.low == one.high == one.kendall


def test_without_a_model_in_all_topics_there_is_no_ranking_over_all() -> None:
    rows = made_up_scores({"a": 1.0, "b": 0.0}, prompts=3).to_pylist()
    apart = [row for row in rows if (row["model"], row["topic"]) in (("a", "cats"), ("b", "dogs"))]
    assert [ranking.topic for ranking in rank(pa.Table.from_pylist(apart), value="incentive")] == ["cats", "dogs"]


def test_scores_of_few_values_do_not_hide_other_differences() -> None:
    """Two models that nearly always get the same are still told from a third that never does."""
    rare = [[0.0]] * 19 + [[1.0]]
    ranking = only(table({"a": rare, "b": rare[::-1], "c": [[-1.0]] * 20}))
    assert [(one.rank, one.letters) for one in ranking.models] == [(1, "a"), (1, "a"), (3, "b")]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (pa.table({"model": ["a"], "incentive": [1.0]}), "no column topic, number"),
        (table({"a": [[math.nan]]}), "no image has a score of incentive"),
    ],
)
def test_a_table_that_cannot_be_ranked_says_why(scores: pa.Table, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        rank(scores, value="incentive")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=9))
def test_kendalls_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, np.float64).T
    found = float(kendall_tau(first[None], second[None])[0])
    assert found == pytest.approx(float(kendalltau(first, second).statistic), nan_ok=True)


def test_kendalls_tau_of_some_pairs() -> None:
    orders = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]])
    assert kendall_tau(*orders)[0] == pytest.approx(1 / 3)
    assert kendall_tau(*orders, pairs=[0, 1])[0] == 1


def test_experts_that_say_the_same_agree_and_those_that_say_the_opposite_do_not() -> None:
    scores = made_up_scores(LADDER)
    scores = scores.append_column("opposite", pyarrow.compute.negate(scores["pick_score"]))
    same, against, _ = agreement(scores, values=("pick_score", "pick_score", "opposite"))
    assert (same.kendall, same.low, same.spearman, same.spearman_within) == pytest.approx((1, 1, 1, 1))
    assert (against.kendall, against.high, against.spearman, against.spearman_within) == pytest.approx((-1,) * 4)


def test_agreeing_on_hard_prompts_is_not_agreeing_on_images() -> None:
    """Noise about the hardness of prompts: orders of all images agree, orders of a prompt's images do not."""
    rng = np.random.default_rng(0)
    hardness = np.repeat(np.arange(50.0), 4)
    columns = {"topic": ["t"] * 200, "model": ["m"] * 200, "number": hardness.astype(int)}
    (one,) = agreement(
        pa.table(columns | {"x": hardness + rng.normal(size=200), "y": hardness + rng.normal(size=200)}),
        values=("x", "y"),
    )
    assert one.spearman > 0.95 and abs(one.spearman_within) < 0.25
    assert math.isnan(one.kendall)  # of one model
