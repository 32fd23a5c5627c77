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

NEAREST = 16  # by hash, of those that one image is compared with more closely: it takes 25 ms to lay it over as many


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


@dataclass(frozen=True)
class Alike:
    """Which of a pool of images one is like (`index`), and the figures that say so.

    `bits` is the distance of their hashes and `cosine` that of their embeddings; `laid_over` is how like they are once
    laid over each other, None where the hashes are so near that nobody had to look.
    """

    index: int
    bits: int
    cosine: float
    laid_over: float | None = None


def most_alike(
    image: tuple[Prints, int], pool: Prints, among: slice | NDArray[np.intp], gate: DuplicatesGate
) -> Alike | None:
    """The image of a pool that another one is most like, `among` some of them; None where it is like none of these.

    `image` is named by the prints it belongs to and its index in them.

    Laying over is tried only on those that are alike by their embedding, and among the nearest by their hash, so what
    this takes is bounded whatever the size of the pool.
    """
    prints, index = image
    hashes = pool.hashes[among]
    if not len(hashes):
        return None
    found, distances = _nearest(oriented_hashes(prints.fingerprints[index]), hashes)
    nearest = np.arange(len(pool))[among][found]
    cosines = pool.embeddings[nearest].astype(np.float32) @ prints.embeddings[index].astype(np.float32)
    nearest, distances, cosines = (each[cosines >= gate.cosine] for each in (nearest, distances, cosines))
    if not len(nearest):
        return None
    if distances[0] <= gate.hash_distance:
        return Alike(int(nearest[0]), int(distances[0]), float(cosines[0]))
    likeness = laid_over(prints.fingerprints[index], pool.fingerprints[nearest])
    best = int(likeness.argmax())
    if likeness[best] < gate.laid_over:
        return None
    return Alike(int(nearest[best]), int(distances[best]), float(cosines[best]), float(likeness[best]))


def _nearest(orientations: NDArray[np.uint8], hashes: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Indices and distances of the nearest hashes, nearest first: of each the least over the orientations."""
    import faiss  # takes half a second, which --help can do without

    found, indices = faiss.knn_hamming(orientations, hashes, min(NEAREST, len(hashes)))
    order = np.argsort(found, axis=None, kind="stable")
    _, first = np.unique(indices.ravel()[order], return_index=True)
    chosen = order[np.sort(first)][:NEAREST]
    return indices.ravel()[chosen], found.ravel()[chosen]
