"""The images of earlier rounds, as far as it takes to know one of them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ig_subnet.validating.gate_settings import DuplicatesGate
from ig_subnet.validating.gates import Examined, ImageKey, Likeness
from ig_subnet.validating.records import FingerprintRow


class History:
    """The newest `settings.history` images; the oldest leave first. Filled from the store, then by recorded rounds."""

    def __init__(self, settings: DuplicatesGate) -> None:
        self.settings = settings

    def add(self, rows: Iterable[FingerprintRow]) -> None:
        """Remembers images, oldest first."""
        raise NotImplementedError

    def seen(self, images: Sequence[Examined]) -> dict[ImageKey, Likeness]:
        """For each of the images that is like an earlier one, the one that it is most like."""
        raise NotImplementedError
