"""Which of the prompts nearest to a topic are asked: fresh ones first, the least used first, and no two alike.

Everything here is a pure function of its arguments. The same seed gives the same prompts on any machine and in whatever
order the candidates come: chance is a hash of the seed and a prompt's id, and cosines are compared in steps of 0.00001,
a hundred times what float32 arithmetic differs by from one machine to the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ig_subnet.prompts.topics import Topic

# Figures are in docs/prompts.md. With 8 by lot, four prompts are a little nearer and less alike, but one draw in thirty
# is another's; with no weight on relevance they are further from the topic than a plain sample.
SHORTLIST = 4  # prompts drawn by lot for each one chosen among them
RELEVANCE = 0.5  # of the score by which one is chosen; the rest is how unlike it is to those chosen before
DECIMALS = 5


@dataclass(frozen=True)
class RetrievedPrompt:
    """A prompt of the database, with where it came from. `similarity` is the cosine to the topic, in [-1, 1]."""

    id: str
    text: str
    similarity: float
    row: int
    source: str
    licence: str


@dataclass(frozen=True)
class Uses:
    """How often a prompt was asked at all, and how many of the miners who would be asked it now have had it."""

    times: int = 0
    miners: int = 0

    @property
    def fresh(self) -> bool:
        """Whether none of these miners has had it."""
        return self.miners == 0


UNUSED = Uses()


@dataclass(frozen=True)
class Candidates:
    """The prompts nearest to a topic, nearest first, and their unit embeddings, float32 [len(prompts), D].

    `searched` is how many were asked for; fewer came only where the topic has no more.
    """

    topic: Topic
    searched: int
    prompts: tuple[RetrievedPrompt, ...]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def ids(self) -> tuple[str, ...]:
        """Their ids, in their order."""
        return tuple(prompt.id for prompt in self.prompts)

    def first(self, count: int) -> Candidates:
        """The nearest ones, `count` at most."""
        return replace(self, prompts=self.prompts[:count], vectors=self.vectors[:count])

    def only(self, wanted: Callable[[str], bool]) -> Candidates:
        """Those whose text is wanted."""
        kept = [place for place, prompt in enumerate(self.prompts) if wanted(prompt.text)]
        return replace(self, prompts=tuple(self.prompts[place] for place in kept), vectors=self.vectors[kept])


def choose(
    candidates: Candidates, n: int, *, uses: Mapping[str, Uses], seed: bytes, among: int | None = None
) -> list[RetrievedPrompt]:
    """`n` different prompts of the candidates, or all of them where there are no more.

    None that one of the miners has had while there are others; then the ones that the fewest have had, and of those
    the ones asked least; among equals, as `diverse` does. `uses` is by id; what is not in it was never asked. With
    `among`, only so many are considered: the first in this order, the nearest among equals.
    """

    def use(place: int) -> tuple[int, int]:
        of_prompt = uses.get(candidates.prompts[place].id, UNUSED)
        return of_prompt.miners, of_prompt.times

    nearness = _rounded([prompt.similarity for prompt in candidates.prompts])
    order = sorted(
        range(len(candidates)), key=lambda place: (use(place), -nearness[place], candidates.prompts[place].id)
    )
    if among is not None:
        order = order[: max(n, among)]
    chosen: list[int] = []
    for _, equals in groupby(order, key=use):
        if len(chosen) < n:
            chosen += diverse(candidates, list(equals), n - len(chosen), beside=chosen, seed=seed)
    return [candidates.prompts[place] for place in chosen]


def diverse(candidates: Candidates, places: Sequence[int], n: int, *, beside: Sequence[int], seed: bytes) -> list[int]:
    """`n` of the places by maximal marginal relevance, or all of them where there are no more.

    Some are drawn by lot first, `SHORTLIST` for each one wanted. Of these, one after the other is taken for being near
    to the topic and unlike those taken before and those `beside` them (Carbonell and Goldstein 1998,
    https://doi.org/10.1145/290941.291025). The lot is what nobody can foresee; the rest follows from it.
    """
    by_id = {candidates.prompts[place].id: place for place in places}
    remaining = [by_id[found] for found in by_lot(by_id, seed)[: n * SHORTLIST]]
    relevance = _rounded([candidates.prompts[place].similarity for place in remaining])
    vectors = candidates.vectors[remaining].astype(np.float64)
    redundancy = np.zeros(len(remaining))
    if beside:
        redundancy = _rounded(vectors @ candidates.vectors[list(beside)].astype(np.float64).T).max(axis=1)
    taken: list[int] = []
    while len(taken) < min(n, len(remaining)):
        score = _rounded(RELEVANCE * relevance - (1 - RELEVANCE) * redundancy)
        score[taken] = -np.inf
        best = int(np.argmax(score))  # the first of equals, which the lot has put in order
        likeness = _rounded(vectors @ vectors[best])
        redundancy = np.maximum(redundancy, likeness) if taken or beside else likeness
        taken.append(best)
    return [remaining[best] for best in taken]


def by_lot(ids: Iterable[str], seed: bytes) -> list[str]:
    """The ids in an order that the seed decides and their own order does not."""
    return sorted(ids, key=lambda found: (hashlib.sha256(seed + b"\0" + found.encode()).digest(), found))


def _rounded(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).round(DECIMALS)
