"""The images of earlier rounds, as far as it takes to know one of them again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from loguru import logger

from ig_subnet.imaging.fingerprints import FINGERPRINT_BYTES
from ig_subnet.validating.gate_settings import DuplicatesGate
from ig_subnet.validating.gates import Examined, ImageKey, Likeness, prints_of
from ig_subnet.validating.likeness import Prints, candidates
from ig_subnet.validating.records import VALID, FingerprintRow, RoundRecord
from ig_subnet.validating.store import ScoreStore


class History:
    """The newest `gate.history` images, at least one; the oldest leave first.

    Filled from the store when a validator starts, and by each round once that is recorded: a void round leaves nothing
    here. An image takes FINGERPRINT_BYTES, 2 bytes for each number of its embedding, and about 250 bytes more.
    """

    def __init__(self, gate: DuplicatesGate) -> None:
        self._gate = gate
        self._places: list[tuple[int, ImageKey, str]] = []
        self._oldest = 0  # once it is full, where the next image goes
        self._prints = Prints.of([], [])

    @classmethod
    def recalled(cls, gate: DuplicatesGate, store: ScoreStore) -> Self:
        """The images that a store has."""
        history = cls(gate)
        history.add(store.fingerprints(gate.history))
        return history

    def __len__(self) -> int:
        return len(self._places)

    @property
    def _dimension(self) -> int:
        """How many numbers each embedding has; 0 before the first."""
        return self._prints.embeddings.shape[1]

    def add(self, rows: Iterable[FingerprintRow]) -> None:
        """Remembers images, oldest first. Embeddings of another length are another expert's: from the first of them on
        all that was remembered before is of no use any more. The log says of how many images nothing can be used."""
        left_out = 0
        for row in rows:
            embedding = np.frombuffer(row.embedding or b"", np.float16)
            if not len(embedding) or len(row.phash) != FINGERPRINT_BYTES:
                left_out += 1
                continue
            if len(embedding) != self._dimension:
                left_out += len(self)
                self._places, self._oldest = [], 0
                self._prints = Prints.empty(self._gate.history, len(embedding))
            place = row.round_id, ImageKey(row.position, sys.intern(row.hotkey), row.number), sys.intern(row.prompt)
            if len(self._places) < self._gate.history:
                index = len(self._places)
                self._places.append(place)
            else:
                index, self._oldest = self._oldest, (self._oldest + 1) % self._gate.history
                self._places[index] = place
            self._prints.put(index, row.phash, embedding)
        if left_out:
            logger.warning("{} images of earlier rounds have no fingerprint that could be compared", left_out)

    def add_round(self, record: RoundRecord) -> None:
        """Remembers the images of a recorded round that no gate has stopped: what was never paid is nobody's original,
        and must not keep anybody from being paid."""
        prompts = {prompt.position: prompt.text for prompt in record.prompts}
        self.add(
            FingerprintRow(
                row.round_id, row.position, row.hotkey, row.number, prompts[row.position], row.phash, row.embedding
            )
            for row in record.images
            if row.verdict == VALID and row.phash is not None and row.embedding is not None
        )

    def seen(self, images: Sequence[Examined]) -> dict[ImageKey, Likeness]:
        """For each of the images that may be like one of these, the one that it is most like; `judge` decides."""
        comparable = [image for image in images if image.is_comparable]
        prints = prints_of(comparable)
        if prints.embeddings.shape[1] != self._dimension:  # another expert's, or there is nothing to compare
            return {}
        alike = {}
        for index, image in enumerate(comparable):
            found = candidates((prints, index), self._prints, slice(len(self)), self._gate)
            if found:
                alike[image.key] = Likeness(*self._places[found[0].index], found[0])
        return alike
