"""How often somebody may ask."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["RateLimit"]

_FEW = 64  # keys that are not worth the looking for those that can be forgotten


class RateLimit:
    """At most `at_once` events of one key at once, and one in `seconds` in the long run.

    The generic cell rate algorithm (ITU-T I.371): of a key nothing is kept but the time at which it would have waited
    for everything it took, and that only until then. Not for use by several threads.
    """

    def __init__(self, seconds: float, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._at_once = at_once
        self._clock = clock
        self._free_at: dict[str, float] = {}
        self._forget_at = _FEW

    def __len__(self) -> int:
        """Of how many keys anything is kept."""
        return len(self._free_at)

    def take(self, key: str) -> float:
        """0 if it may go on, and that is counted; else the seconds to wait, and nothing is counted."""
        now = self._clock()
        if len(self._free_at) >= self._forget_at:  # seldom enough that each event pays for a few keys only
            self._free_at = {other: free_at for other, free_at in self._free_at.items() if free_at > now}
            self._forget_at = _FEW + 2 * len(self._free_at)
        free_at = max(now, self._free_at.get(key, now)) + self._seconds
        wait = free_at - now - self._seconds * self._at_once
        if wait > 0:
            return wait
        self._free_at[key] = free_at
        return 0.0
