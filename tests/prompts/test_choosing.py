from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig_subnet.prompts.choosing import Candidates, RetrievedPrompt, Uses, by_lot, choose
from ig_subnet.prompts.topics import Topic

TOPIC = Topic(name="a topic", text="its text")


def candidates_of(vectors: np.ndarray, similarities: np.ndarray) -> Candidates:
    prompts = [
        RetrievedPrompt(f"{place:016x}", f"prompt {place}", float(similarity), place, "a test", "MIT")
        for place, similarity in enumerate(similarities)
    ]
    return Candidates(TOPIC, len(prompts), tuple(prompts), vectors)


def clustered(count: int, clusters: int, seed: int) -> Candidates:
    """As from an index: float16 unit vectors, nearest first, about as near to a topic, and alike within clusters."""
    generator = np.random.default_rng(seed)
    topic = np.eye(32)[0]
    centres = generator.standard_normal((clusters, 32)) / np.sqrt(32)
    vectors = centres[generator.integers(clusters, size=count)] + 0.05 * generator.standard_normal((count, 32))
    vectors[:, 0] = generator.normal(0.6, 0.05, size=count)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors[np.argsort(-(vectors @ topic))].astype(np.float16).astype(np.float32)
    return candidates_of(vectors, vectors @ topic.astype(np.float32))


def shuffled(candidates: Candidates, order: list[int]) -> Candidates:
    prompts = tuple(candidates.prompts[place] for place in order)
    return replace(candidates, prompts=prompts, vectors=candidates.vectors[order])


def likeness(candidates: Candidates, chosen: list[RetrievedPrompt]) -> float:
    """Mean cosine of the pairs."""
    vectors = candidates.vectors[[prompt.row for prompt in chosen]]
    return float(np.mean([a @ b for a, b in itertools.combinations(vectors, 2)]))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Candidates, dict[str, Uses]]:
    """Candidates with ties of every kind, some of them used."""
    count = draw(st.integers(1, 30))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    vectors = generator.integers(-1, 2, size=(count, 4)).astype(np.float32) + np.float32(0.5)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    candidates = candidates_of(vectors, np.sort(generator.integers(0, 5, size=count))[::-1] / 5)
    use = st.builds(Uses, st.integers(0, 2), st.integers(0, 2))
    return candidates, draw(st.dictionaries(st.sampled_from(candidates.ids), use))


seeds = st.binary(min_size=32, max_size=32)


@given(situation=situations(), n=st.integers(1, 40), seed=seeds)
def test_no_miner_gets_a_prompt_again_while_others_last_and_the_least_used_come_first(
    situation: tuple[Candidates, dict[str, Uses]], n: int, seed: bytes
) -> None:
    candidates, uses = situation
    chosen = choose(candidates, n, uses=uses, seed=seed)
    assert len({prompt.id for prompt in chosen}) == len(chosen) == min(n, len(candidates))

    def use(prompt: RetrievedPrompt) -> tuple[int, int]:
        return uses.get(prompt.id, Uses()).miners, uses.get(prompt.id, Uses()).times

    assert [use(prompt) for prompt in chosen] == sorted(map(use, candidates.prompts))[:n]
    if any(not uses.get(prompt.id, Uses()).fresh for prompt in chosen):
        assert {prompt for prompt in candidates.prompts if uses.get(prompt.id, Uses()).fresh} <= set(chosen)


@given(situation=situations(), n=st.integers(1, 8), among=st.none() | st.integers(1, 30), seed=seeds, data=st.data())
def test_neither_time_nor_the_order_of_the_candidates_changes_a_choice(
    situation: tuple[Candidates, dict[str, Uses]], n: int, among: int | None, seed: bytes, data: st.DataObject
) -> None:
    candidates, uses = situation
    order = data.draw(st.permutations(range(len(candidates))))
    chosen = choose(candidates, n, uses=uses, seed=seed, among=among)
    assert choose(candidates, n, uses=uses, seed=seed, among=among) == chosen
    assert choose(shuffled(candidates, order), n, uses=uses, seed=seed, among=among) == chosen


@given(seed=seeds)
def test_what_floats_differ_by_between_machines_changes_nothing(seed: bytes) -> None:
    candidates = clustered(60, 6, seed=1)
    noise = np.random.default_rng(list(seed)).uniform(-1e-7, 1e-7, size=len(candidates))
    exact = [replace(prompt, similarity=round(prompt.similarity, 5)) for prompt in candidates.prompts]
    noisy = [replace(prompt, similarity=prompt.similarity + by) for prompt, by in zip(exact, noise, strict=True)]
    before = choose(replace(candidates, prompts=tuple(exact)), 4, uses={}, seed=seed)
    after = choose(replace(candidates, prompts=tuple(noisy)), 4, uses={}, seed=seed)
    assert [prompt.id for prompt in after] == [prompt.id for prompt in before]


def test_every_prompt_is_asked_once_before_any_is_asked_twice() -> None:
    candidates = clustered(50, 5, seed=2)
    asked: Counter[str] = Counter()
    for number in range(25):
        uses = {found: Uses(times, miners=3) for found, times in asked.items()}
        asked.update(prompt.id for prompt in choose(candidates, 4, uses=uses, seed=bytes([number])))
        assert max(asked.values()) - min(asked[found] for found in candidates.ids) <= 1
    assert set(asked.values()) == {2}


def test_what_other_miners_had_is_fresh_but_not_first() -> None:
    candidates = clustered(6, 2, seed=3)
    uses = {found: Uses(times=5, miners=0) for found in candidates.ids[:3]} | {
        candidates.ids[3]: Uses(times=1, miners=1)
    }
    chosen = [prompt.id for prompt in choose(candidates, 6, uses=uses, seed=b"")]
    assert set(chosen[:2]) == set(candidates.ids[4:])
    assert set(chosen[2:5]) == set(candidates.ids[:3])


def test_chosen_prompts_are_less_alike_than_the_nearest_and_than_any_drawn_by_lot() -> None:
    chosen, by_chance, nearest = [], [], []
    for number in range(40):
        candidates = clustered(100, 12, seed=number)
        chosen.append(likeness(candidates, choose(candidates, 4, uses={}, seed=b"s")))
        by_chance.append(likeness(candidates, random.Random(number).sample(candidates.prompts, 4)))
        nearest.append(likeness(candidates, list(candidates.prompts[:4])))
    assert np.mean(chosen) + 0.05 < np.mean(by_chance) < np.mean(nearest) - 0.1


def test_those_beside_whom_others_are_chosen_count_for_diversity() -> None:
    """One fresh prompt, then one of two used ones: not the one that says the same."""
    vectors = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32)
    candidates = candidates_of(vectors, np.array([0.5, 0.5, 0.5]))
    uses = {found: Uses(1, 1) for found in candidates.ids[1:]}
    for seed in range(10):
        assert [prompt.row for prompt in choose(candidates, 2, uses=uses, seed=bytes([seed]))] == [0, 2]


def test_nobody_can_foresee_a_choice() -> None:
    candidates = clustered(100, 12, seed=4)
    draws = [choose(candidates, 4, uses={}, seed=bytes([number])) for number in range(250)]
    assert len({frozenset(prompt.id for prompt in drawn) for drawn in draws}) > 240
    assert len({drawn[0].id for drawn in draws}) > 15  # the first is not always the nearest
    often = Counter(prompt.id for drawn in draws for prompt in drawn)
    assert len(often) > 80 and max(often.values()) < 60


def test_only_so_many_are_considered() -> None:
    candidates = clustered(30, 5, seed=5)
    used = {found: Uses(1, 1) for found in candidates.ids[:10]}
    for number in range(20):
        rows = {prompt.row for prompt in choose(candidates, 3, uses=used, seed=bytes([number]), among=5)}
        assert rows <= {10, 11, 12, 13, 14}
    assert len(choose(candidates, 8, uses={}, seed=b"", among=5)) == 8


def test_candidates_of_which_some_cannot_be_sent() -> None:
    candidates = clustered(10, 2, seed=6)
    kept = candidates.only(lambda text: text[-1] in "357")
    assert [prompt.row for prompt in kept.prompts] == [3, 5, 7] and kept.searched == 10
    assert np.array_equal(kept.vectors, candidates.vectors[[3, 5, 7]])
    assert kept.first(2).prompts == kept.prompts[:2] and len(kept.first(2).vectors) == 2
    assert len(candidates.only(lambda text: False)) == 0
    assert choose(candidates.only(lambda text: False), 3, uses={}, seed=b"") == []


@pytest.mark.parametrize("count", [1, 2, 30])
def test_a_lot_depends_on_the_seed_alone(count: int) -> None:
    ids = [f"{number:04x}" for number in range(count)]
    assert by_lot(ids, b"one") == by_lot(reversed(ids), b"one")
    assert sorted(by_lot(ids, b"one")) == ids
    assert count < 30 or by_lot(ids, b"one") != by_lot(ids, b"two")
