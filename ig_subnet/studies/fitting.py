"""Weights of a mixture learnt from preferences, by Bradley and Terry's model on what the mixture averages.

The chance that the first of two images is preferred is taken to be the logistic function of

    sum over experts e of  b[e] * (c[e](first) - c[e](second)),    b[e] >= 0,

c being the calibrated scores in (0, 1). A mixture with the weights b orders images by exactly this sum, whatever b is
divided by, so what is fitted is what a profile with these weights pays by. Penalised are differences of the general
weights from their mean, and of a topic's weights from the general ones: with little to learn from, experts count the
same, and topics are nothing special. How much is penalised is chosen by cross-validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ig_subnet.studies.errors import StudyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PENALTIES = tuple(float(penalty) for penalty in np.logspace(-3, 2, 6))
TOPIC_PENALTIES = (*PENALTIES, 1e4)  # the last is as good as no weights of its own
FOLDS = 5


class FittingError(StudyError):
    """Preferences from which no weights can be learnt."""


@dataclass(frozen=True)
class Examples:
    """P pairs: `leads`, [P, experts], of the first image over the second in calibrated scores; `label`, `prompt` as in
    `Pairs`; `topic`, [P], names the topic of each, "" for none.
    """

    leads: Floats
    label: Floats
    prompt: NDArray[np.int64]
    topic: NDArray[np.str_]

    def where(self, chosen: NDArray[np.bool_]) -> Examples:
        return Examples(self.leads[chosen], self.label[chosen], self.prompt[chosen], self.topic[chosen])

    def by_topic(self) -> dict[str, Examples]:
        """The examples of each topic; those of none are left out."""
        return {str(name): self.where(self.topic == name) for name in np.unique(self.topic) if name}


@dataclass(frozen=True)
class Weights:
    """`general` [experts], and those of each topic; each sums to 1."""

    general: Floats
    topics: dict[str, Floats]

    def leads(self, examples: Examples, by_topic: bool) -> Floats:
        """By how much the first image of each pair is ahead in the mixture of these weights: [P]."""
        chosen = np.stack(
            [self.topics.get(topic, self.general) if by_topic else self.general for topic in examples.topic]
        )
        return (examples.leads * chosen).sum(axis=1)


def fit(examples: Examples, folds: int = FOLDS, seed: int = 0) -> Weights:
    """Weights learnt from all examples, the penalties chosen by cross-validation among them. Raises `FittingError`."""
    parts = [(examples.where(~held_out), examples.where(held_out)) for held_out in split(examples.prompt, folds, seed)]
    penalty = min(
        PENALTIES, key=lambda value: sum(_loss(_solve(learnt, value), held_out) for learnt, held_out in parts)
    )
    generals = [_solve(learnt, penalty) for learnt, _ in parts]

    def topic_loss(value: float) -> float:
        return sum(
            _loss(_solve(of_topic, value, general), held_out.where(held_out.topic == topic))
            for (learnt, held_out), general in zip(parts, generals, strict=True)
            for topic, of_topic in learnt.by_topic().items()
        )

    topic_penalty = min(TOPIC_PENALTIES, key=topic_loss)
    general = _solve(examples, penalty)
    topics = {name: _solve(part, topic_penalty, general) for name, part in examples.by_topic().items()}
    return Weights(_shares(general), {name: _shares(weights) for name, weights in topics.items()})


def cross_validate(examples: Examples, folds: int = FOLDS, seed: int = 0) -> list[tuple[NDArray[np.bool_], Weights]]:
    """For each fold of the prompts, which pairs it holds, bool [P], and the weights learnt without any of them."""
    return [
        (held_out, fit(examples.where(~held_out), folds, seed + 1)) for held_out in split(examples.prompt, folds, seed)
    ]


def split(prompts: NDArray[np.int64], folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """For each fold, which pairs it holds, bool [P]; no prompt is in two. Raises `FittingError` for too few prompts."""
    names = np.unique(prompts)
    if len(names) < folds:
        raise FittingError(f"{len(names)} prompts cannot be divided into {folds} folds: give more preferences")
    return [np.isin(prompts, part) for part in np.array_split(np.random.default_rng(seed).permutation(names), folds)]


def _solve(examples: Examples, penalty: float, prior: Floats | None = None) -> Floats:
    """The b of the model, [experts]; the penalty is on its distance from `prior`, or from its own mean."""
    from scipy.optimize import minimize
    from scipy.special import expit

    leads, label, experts = examples.leads, examples.label, examples.leads.shape[1]

    def objective(b: Floats) -> tuple[float, Floats]:
        margin = leads @ b
        apart = b - (b.mean() if prior is None else prior)
        loss = np.logaddexp(0, margin).sum() - label @ margin + penalty * apart @ apart
        return loss, leads.T @ (expit(margin) - label) + 2 * penalty * apart

    start = np.ones(experts) if prior is None else prior
    found = minimize(objective, start, jac=True, bounds=[(0, None)] * experts, method="L-BFGS-B")
    return found.x


def _loss(b: Floats, examples: Examples) -> float:
    margin = examples.leads @ b
    return float(np.logaddexp(0, margin).sum() - examples.label @ margin)


def _shares(b: Floats) -> Floats:
    if not b.sum() > 0:
        raise FittingError(
            "no expert agrees with these preferences more often than chance, so no weights can be learnt"
        )
    return b / b.sum()
