"""Which earlier image one is like: near by perceptual hash, alike by embedding, and then laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ig_subnet.imaging.fingerprints import (
    FINGERPRINT_BYTES,
    HASH_BITS,
    laid_over,
    oriented_hashes,
    plain_hashes,
)
from ig_subnet.validating.gate_settings import DuplicatesGate

SEARCHED = 64  # nearest by hash, of which some may be unlike by their embedding
NEAREST = 16  # by hash, of those that one image is compared with more closely: it takes 25 ms to lay it over as many
FEWEST_RIVALS = 6  # from which one can tell how like each other images of a prompt are
LEAST_LIKENESS = 0.9  # of an image that is like another one at all
# What rivals that are less like than this count as: one in two honest images of a prompt has an earlier one that is as
# like, so that none so like says little; taken as they are, a far copy would have to be 5 times nearer still.
RIVAL_LIKENESS = 0.95
GRAIN = 1e-3  # of 1, below which differences of likeness mean nothing


@dataclass(frozen=True, eq=False)
class Prints:
    """What N images are compared by: `fingerprints` (uint8 [N, FINGERPRINT_BYTES]), their `hashes` (uint8 [N, 32]), and
    `embeddings` (float16 [N, D], of unit length)."""

    fingerprints: NDArray[np.uint8]
    hashes: NDArray[np.uint8]
    embeddings: NDArray[np.float16]

    @classmethod
    def of(cls, fingerprints: Sequence[bytes], embeddings: Sequence[NDArray[np.floating[Any]]]) -> Self:
        """The prints of as many images; of none, if there are none."""
        if not fingerprints:
            empty = np.empty((0, 0), np.uint8)
            return cls(empty, empty, empty.astype(np.float16))
        images = np.frombuffer(b"".join(fingerprints), np.uint8).reshape(-1, FINGERPRINT_BYTES)
        return cls(images, plain_hashes(images), np.stack(embeddings).astype(np.float16))

    @classmethod
    def empty(cls, number: int, dimension: int) -> Self:
        """Room for the prints of as many images, with embeddings of `dimension` numbers; `put` fills it."""
        return cls(
            np.zeros((number, FINGERPRINT_BYTES), np.uint8),
            np.zeros((number, HASH_BITS // 8), np.uint8),
            np.zeros((number, dimension), np.float16),
        )

    def put(self, index: int, fingerprint: bytes, embedding: NDArray[np.float16]) -> None:
        """Replaces the prints of one image."""
        self.fingerprints[index] = np.frombuffer(fingerprint, np.uint8)
        self.hashes[index] = plain_hashes(self.fingerprints[index : index + 1])[0]
        self.embeddings[index] = embedding

    def __len__(self) -> int:
        return len(self.hashes)


Compared = dict[tuple[int, int], float]
"""How like images of the same prints are once laid over each other, by their indices, as far as that is known."""


@dataclass(frozen=True)
class Alike:
    """An image of a pool that one may be like (`index`), and the figures that say how like.

    `bits` is the distance of their hashes and `cosine` that of their embeddings; `laid_over` is how like they are once
    laid over each other, None where the hashes are so near that nobody had to look.
    """

    index: int
    bits: int
    cosine: float
    laid_over: float | None = None


def candidates(
    image: tuple[Prints, int],
    pool: Prints,
    among: slice | NDArray[np.intp],
    gate: DuplicatesGate,
    compared: Compared | None = None,
) -> list[Alike]:
    """The images of a pool, `among` some of them, that another one may be like, the most alike first.

    `image` is named by the prints it belongs to and its index in them. Looked at are those alike by their embedding,
    among the nearest by their hash, so what this takes is bounded whatever the size of the pool. Where hashes are
    within the gate's distance, the nearest of these is the only one. What was laid over each other for the same image
    and pool before may be told by `compared`, to which the rest is added.
    """
    prints, index = image
    hashes = pool.hashes[among]
    if not len(hashes):
        return []
    found, distances = _nearest(oriented_hashes(prints.fingerprints[index]), hashes)
    nearest = np.arange(len(pool))[among][found]
    cosines = pool.embeddings[nearest].astype(np.float32) @ prints.embeddings[index].astype(np.float32)
    alike = np.flatnonzero(cosines >= gate.cosine)[:NEAREST]
    nearest, distances, cosines = nearest[alike], distances[alike], cosines[alike]
    if not len(nearest):
        return []
    figures = zip(nearest.tolist(), distances.tolist(), cosines.tolist(), strict=True)
    if distances[0] <= gate.hash_distance:
        return [Alike(*next(figures))]
    compared = {} if compared is None else compared
    new = [other for other in nearest.tolist() if (index, other) not in compared]
    if new:
        found = laid_over(prints.fingerprints[index], pool.fingerprints[new]).tolist()
        compared.update(((index, other), like) for other, like in zip(new, found, strict=True))
    likeness = [compared[index, other] for other in nearest.tolist()]
    all_figures = [Alike(*told, laid_over=like) for told, like in zip(figures, likeness, strict=True)]
    return [all_figures[number] for number in np.argsort([-like for like in likeness], kind="stable")]


def levels_apart(fingerprint: bytes, other: bytes) -> float:
    """By how many levels of brightness, of 255, the pixels of two images' thumbnails differ on average."""
    one, two = (np.frombuffer(each, np.uint8).astype(np.int16) for each in (fingerprint, other))
    return float(np.abs(one - two).mean())


def is_alike(found: Alike, rivals: Sequence[Alike], gate: DuplicatesGate) -> bool:
    """Whether an image is a near-duplicate of the one found.

    It is if their hashes are near, if they are much alike once laid over each other, or if it is several times nearer
    to that one than to any of the `rivals`: images by others, made for the same prompt, of which there have to be some.
    """
    if found.laid_over is None:
        return found.bits <= gate.hash_distance
    return found.laid_over >= gate.laid_over or times_nearer(found, rivals) >= gate.times_nearer


def times_nearer(found: Alike, rivals: Sequence[Alike]) -> float:
    """How many times nearer the one found is than the nearest of the rivals; 0 where that says nothing."""
    if found.laid_over is None or found.laid_over < LEAST_LIKENESS or len(rivals) < FEWEST_RIVALS:
        return 0.0
    nearest = max(RIVAL_LIKENESS, *(1.0 if rival.laid_over is None else rival.laid_over for rival in rivals))
    return (1 - nearest + GRAIN) / (1 - found.laid_over + GRAIN)


def _nearest(orientations: NDArray[np.uint8], hashes: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Indices and distances of the nearest hashes, nearest first: of each the least over the orientations."""
    import faiss  # takes half a second, which --help can do without

    found, indices = faiss.knn_hamming(orientations, hashes, min(SEARCHED, len(hashes)))
    order = np.argsort(found, axis=None, kind="stable")
    _, first = np.unique(indices.ravel()[order], return_index=True)
    chosen = order[np.sort(first)][:SEARCHED]
    return indices.ravel()[chosen], found.ravel()[chosen]
