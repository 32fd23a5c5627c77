"""What a process used of the machine in a stretch of time."""

from __future__ import annotations

import time

from oracle.pipe import peak_mib, reset_peak


class Usage:
    """Processor time and resident memory of this process, from its creation or `begin` on."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> dict[str, float]:
        reset_peak()
        self._resident_mib, self._cpu_seconds = peak_mib(), time.process_time()
        return {}

    def read(self) -> dict[str, float]:
        """`peak_mib` of resident memory, `grown_mib` by which it exceeds that of the beginning, and `cpu_seconds`."""
        peak = peak_mib()
        cpu = time.process_time() - self._cpu_seconds
        return {"peak_mib": peak, "grown_mib": peak - self._resident_mib, "cpu_seconds": cpu}
