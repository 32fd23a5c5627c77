"""What is searched: embeddings of made-up prompts, and synthetic vectors that are as hard to search, at any size.

A synthetic prompt is a point of a cluster, and clusters are points of a cloud, in RANK of the dimensions' directions:
    prompt = unit(MEAN + BETWEEN * centre + from CALMEST to 1 * WITHIN * own part)
centre and own part are normal, with deviations that fall as a power of the direction's number. Clusters are as unequal
as words are (Zipf): 950 up to 100 thousand prompts, and beyond as many more as words would be (Heaps), with the square
root of their number.
A synthetic topic is such a point with TOPIC_NOISE in place of WITHIN, held out.

The constants were searched for until what `describe` measures, which decides how hard vectors are to search, was near
to what it measures of made-up prompts embedded with MiniLM, at 8 and at 100 thousand; docs/prompts.md has both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from made_up_prompts import made_up_prompts, made_up_topics
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ig_subnet.prompts.index import search_exactly

BLOCK = 65_536  # rows made or compared at once: 200 MB of float32 at 768 dimensions
RANK = 256
MEAN = 0.49
BETWEEN = 0.49
WITHIN = 0.62
TOPIC_NOISE = 0.59
BETWEEN_DECAY = 0.29
WITHIN_DECAY = 0.48
FEWEST_CLUSTERS = 950
CLUSTERS = 3.0  # times the square root of the number of prompts
CALMEST = 0.69
SAMPLE = 8192  # vectors whose spectrum and cosines are described
EMBEDDING_DTYPE: Final = "bfloat16"  # nearly three times as fast as float32, and as hard to search


@dataclass(frozen=True)
class Cloud:
    """The distribution of synthetic vectors of one size and dimension."""

    axes: NDArray[np.float32]  # [RANK, D], rows orthonormal
    mean: NDArray[np.float32]  # [RANK]
    centres: NDArray[np.float32]  # [C, RANK]
    popularity: NDArray[np.float64]  # [C], sums to 1

    @classmethod
    def of(cls, count: int, dimension: int, rng: np.random.Generator) -> Cloud:
        rank = min(RANK, dimension)
        axes = np.linalg.qr(rng.standard_normal((dimension, rank)))[0].T
        mean = rng.standard_normal(rank) * _deviations(rank, BETWEEN_DECAY)
        clusters = max(FEWEST_CLUSTERS, round(CLUSTERS * count**0.5))
        popularity = 1 / (np.arange(clusters) + 10.0)
        return cls(
            axes.astype(np.float32),
            (MEAN * mean / np.linalg.norm(mean)).astype(np.float32),
            BETWEEN * rng.standard_normal((clusters, rank), np.float32) * _deviations(rank, BETWEEN_DECAY),
            popularity / popularity.sum(),
        )

    def draw(self, count: int, spread: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """Unit vectors float32 [count, D], each `spread` around the centre of a cluster."""
        rank = len(self.mean)
        points = rng.standard_normal((count, rank), np.float32)
        points *= rng.uniform(CALMEST * spread, spread, (count, 1)).astype(np.float32)
        points *= _deviations(rank, WITHIN_DECAY)
        points += self.centres[rng.choice(len(self.centres), count, p=self.popularity)]
        points += self.mean
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        return points @ self.axes


def _deviations(rank: int, decay: float) -> NDArray[np.float32]:
    """Of the directions, falling; their squares sum to 1."""
    falling = np.arange(1, rank + 1) ** -decay
    return (falling / np.linalg.norm(falling)).astype(np.float32)


def write_synthetic(path: Path, count: int, dimension: int, topics: int) -> NDArray[np.float32]:
    """Writes float16 [count, dimension], block by block, and returns as many topics float32. The same every time."""
    rng = np.random.default_rng((count, dimension))
    cloud = Cloud.of(count, dimension, rng)
    vectors = open_memmap(path, "w+", np.float16, (count, dimension))
    for start in range(0, count, BLOCK):
        vectors[start : start + BLOCK] = cloud.draw(min(BLOCK, count - start), WITHIN, rng)
    vectors.flush()
    return cloud.draw(topics, TOPIC_NOISE, rng)


def embed(texts: Sequence[str], model: str) -> NDArray[np.float32]:
    from ig_subnet.prompts.embedding import SentenceEmbedder

    return SentenceEmbedder(model, device="cpu", dtype=EMBEDDING_DTYPE).embed(texts, progress=True)


def write_embedded(
    path: Path,
    count: int,
    topics: int,
    model: str,
    cache: Path,
    embed: Callable[[Sequence[str], str], NDArray[np.float32]] = embed,
) -> NDArray[np.float32]:
    """Writes the embeddings of `count` made-up prompts, float16 [count, D], and returns those of as many topics.

    They are kept in `cache` under a name that their texts and the model decide.
    """
    texts, topic_texts = list(made_up_prompts(count)), list(made_up_topics(topics))
    key = hashlib.sha256("\n".join([model, EMBEDDING_DTYPE, *texts, *topic_texts]).encode()).hexdigest()[:16]
    kept = cache / f"made-up-{count}-{key}.npy"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".part.npy")
        np.save(partial, embed([*texts, *topic_texts], model).astype(np.float16))
        partial.replace(kept)
    embedded = np.load(kept)
    np.save(path, embedded[:count])
    return embedded[count:].astype(np.float32)


def describe(vectors: NDArray[np.float16], asked: NDArray[np.float32]) -> dict[str, Any]:
    """How vectors lie, and topics among them, whose cosines to their nearest are `asked` [Q, k], nearest first."""
    rng = np.random.default_rng(0)
    sample = vectors[np.sort(rng.choice(len(vectors), min(SAMPLE, len(vectors)), replace=False))].astype(np.float32)
    variances = np.linalg.eigvalsh(np.cov(sample.T))[::-1]
    others = search_exactly(vectors, sample[: len(asked)], asked.shape[1] + 1)[0][:, 1:]  # the first is itself
    tenth, middle, ninetieth = np.quantile(others[:, 0], (0.1, 0.5, 0.9))
    return {
        "mean_cosine": float(np.mean(sample[::2] @ sample[1::2].T)),
        "components_90": int(np.searchsorted(np.cumsum(variances), 0.9 * variances.sum())) + 1,
        "participation_ratio": float(variances.sum() ** 2 / np.square(variances).sum()),
        "nearest_cosine_10": float(tenth),
        "nearest_cosine": float(middle),
        "nearest_cosine_90": float(ninetieth),
        "kth_cosine": float(np.median(others[:, -1])),
        "local_dimension": local_dimension(others),
        "topic_nearest_cosine": float(np.median(asked[:, 0])),
        "topic_kth_cosine": float(np.median(asked[:, -1])),
        "topic_local_dimension": local_dimension(asked),
    }


def local_dimension(similarities: NDArray) -> float:
    """Intrinsic dimension around points, from cosines [Q, k] to their nearest, nearest first; the median of Q.

    The maximum-likelihood estimate of Levina and Bickel (Maximum Likelihood Estimation of Intrinsic Dimension, 2004).
    """
    distances = np.sqrt(np.maximum(2 - 2 * similarities, 1e-6))
    return float(np.median(1 / np.mean(np.log(distances[:, -1:] / distances[:, :-1]), axis=1)))
