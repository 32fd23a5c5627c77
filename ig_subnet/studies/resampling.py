"""Prompts drawn anew: the resamples that rankings and their intervals rest on (see `ig_subnet.studies.ranking`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from ig_subnet.studies.errors import StudyError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ALL_TOPICS = "all topics"


@dataclass(frozen=True)
class Cells:
    """The mean score of each model for each prompt of a topic, [models, prompts], NaN where there is none, and the
    number of images behind it.
    """

    topic: str
    models: tuple[str, ...]
    means: Floats
    images: NDArray[np.int64]


def cells_of(scores: pa.Table, value: str) -> list[Cells]:
    """One for each topic, topics and models in the order of the table. Raises as `rank`."""
    scored = _scored(scores, value)
    grouped = scored.group_by(["topic", "model", "number"], use_threads=False).aggregate(
        [(value, "mean"), (value, "count")]
    )
    names = {name: grouped[name].to_pylist() for name in ("topic", "model", "number")}
    means, counts = grouped[f"{value}_mean"].to_numpy(), grouped[f"{value}_count"].to_numpy()
    every_model = list(dict.fromkeys(scores["model"].to_pylist()))
    cells = []
    for topic in dict.fromkeys(scores["topic"].to_pylist()):
        rows = [row for row, name in enumerate(names["topic"]) if name == topic]
        there = {names["model"][row] for row in rows}
        models = tuple(model for model in every_model if model in there)
        model_at = {model: place for place, model in enumerate(models)}
        prompt_at = {number: place for place, number in enumerate(sorted({names["number"][row] for row in rows}))}
        table = np.full((len(models), len(prompt_at)), np.nan)
        images = np.zeros(len(models), np.int64)
        for row in rows:
            model = model_at[names["model"][row]]
            table[model, prompt_at[names["number"][row]]] = means[row]
            images[model] += counts[row]
        if rows:
            cells.append(Cells(topic, models, table, images))
    return cells


@dataclass(frozen=True)
class Resampled:
    """Estimates of C means with their standard errors and degrees of freedom, [C]; and by how many standard errors the
    mean of each resample is off, [resamples, C].

    An error is infinite where there are fewer than two prompts.
    """

    estimate: Floats
    error: Floats
    degrees: Floats
    miss: Floats

    @staticmethod
    def of(values: Floats, weights: Floats) -> Resampled:
        """Of `values`, [C, prompts] with NaN where one is missing, by how often each resample has each prompt."""
        there = np.isfinite(values)
        count = there.sum(axis=1)
        estimate = np.where(there, values, 0).sum(axis=1) / np.maximum(count, 1)
        centred = np.where(there, values - estimate[:, None], 0)
        degrees = np.maximum(count - 1, 0).astype(np.float64)
        spread = np.sqrt((centred**2).sum(axis=1) / np.maximum(degrees * count, 1))
        off = weights @ centred.T / np.maximum(weights @ there.T.astype(np.float64), 1)
        # The means of resamples scatter by the deviation of the sample, which is that of the prompts less a little.
        off *= np.sqrt(count / np.maximum(degrees, 1))
        return Resampled(estimate, np.where(count > 1, spread, np.inf), degrees, _in_errors(off, spread))

    @staticmethod
    def mean(parts: Sequence[Resampled]) -> Resampled:
        """Of independent samples with the same columns, each counting the same."""
        errors = np.array([part.error for part in parts])
        off = np.sum([part.off for part in parts], axis=0)
        total = np.sqrt((errors**2).sum(axis=0))
        return Resampled(
            np.mean([part.estimate for part in parts], axis=0),
            total / len(parts),
            np.sum([part.degrees for part in parts], axis=0),
            _in_errors(off, total),
        )

    @property
    def off(self) -> Floats:
        """By how much the mean of each resample is off, [resamples, C]; 0 where the error is unknown."""
        return self.miss * np.where(np.isinf(self.error), 0, self.error)

    def take(self, columns: Sequence[int]) -> Resampled:
        return Resampled(self.estimate[columns], self.error[columns], self.degrees[columns], self.miss[:, columns])

    def half_widths(self, quantile: Floats | float) -> Floats:
        """Of intervals of so many standard errors, if these were known exactly; wider as they are estimated.

        A quantile of the normal distribution becomes that of Student's t.
        """
        from scipy.stats import norm, t

        with np.errstate(invalid="ignore"):
            critical = t.isf(norm.sf(quantile), np.maximum(self.degrees, 1))
            return np.where(np.isinf(self.error), np.inf, critical * self.error)


def _in_errors(off: Floats, error: Floats) -> Floats:
    """Differences in standard errors; 0 where there is no error that they could be told in."""
    known = np.isfinite(error) & (error > 0)
    return np.where(known, off / np.where(known, error, 1), 0)


@dataclass(frozen=True)
class Topic:
    """The models of a topic and the differences of all pairs, resampled; `prompts` and `images` are by model."""

    name: str
    models: tuple[str, ...]
    of_models: Resampled
    of_pairs: Resampled
    prompts: NDArray[np.int64]
    images: NDArray[np.int64]
    pair_prompts: NDArray[np.int64]

    @staticmethod
    def sample(cells: Cells, resamples: int, seed: int) -> Topic:
        prompts = cells.means.shape[1]
        rng = np.random.default_rng([seed, crc32(cells.topic.encode())])  # the same for every column of scores
        weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples).astype(np.float64)
        first, second = pair_places(len(cells.models))
        differences = cells.means[first] - cells.means[second]
        return Topic(
            cells.topic,
            cells.models,
            Resampled.of(cells.means, weights),
            Resampled.of(differences, weights),
            np.isfinite(cells.means).sum(axis=1),
            cells.images,
            np.isfinite(differences).sum(axis=1),
        )

    @staticmethod
    def over(topics: Sequence[Topic]) -> Topic:
        """The models that are in all topics, each topic counting the same."""
        models = tuple(model for model in topics[0].models if all(model in topic.models for topic in topics))
        places = [[topic.models.index(model) for model in models] for topic in topics]
        columns = [topic._columns(models) for topic in topics]
        parts = list(zip(topics, places, columns, strict=True))
        return Topic(
            ALL_TOPICS,
            models,
            Resampled.mean([topic.of_models.take(place) for topic, place, _ in parts]),
            Resampled.mean([topic.of_pairs.take(column) for topic, _, column in parts]),
            np.sum([topic.prompts[place] for topic, place, _ in parts], axis=0),
            np.sum([topic.images[place] for topic, place, _ in parts], axis=0),
            np.sum([topic.pair_prompts[column] for topic, _, column in parts], axis=0),
        )

    def _columns(self, models: tuple[str, ...]) -> list[int]:
        """Where the pairs of these models, in their order, which is that of the topic, stand among its pairs."""
        at = {pair: column for column, pair in enumerate(combinations(self.models, 2))}
        return [at[pair] for pair in combinations(models, 2)]


def pair_places(models: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and second of each pair, in the order of `itertools.combinations`."""
    return np.triu_indices(models, 1)


def _scored(scores: pa.Table, value: str) -> pa.Table:
    """The rows that have a finite score. Raises `StudyError`."""
    import pyarrow.compute

    if missing := [name for name in ("model", "topic", "number", value) if name not in scores.column_names]:
        raise StudyError(f"this table of scores cannot be ranked: it has no column {', '.join(missing)}")
    scored = scores.filter(pyarrow.compute.is_finite(scores[value]))
    if not scored.num_rows:
        raise StudyError(f"this table of scores cannot be ranked: no image has a score of {value}")
    return scored
