"""One engine of vector search behind standard input and output (oracle/pipe.py), in a process of its own.

    PYTHONPATH=scripts python -m prompts_benchmark.serve MODULE

MODULE is an `Engine`: `prompts_benchmark.ours`, `.exact` or `.chroma`. This file imports nothing but numpy, which the
environments of all engines have. Vectors and queries are .npy files, [N, D] float16 and [Q, D] float32 of unit length.

    {"op": "build", "vectors": FILE, "examples": FILE, "directory": DIRECTORY, "kind": "auto", "threads": 2}
    -> {"seconds": 3.2, "peak_mib": 410.0, and what the engine says of what it built}
    {"op": "open", "directory": DIRECTORY, "threads": 2, "queries": FILE, "k": 100}
    -> {"seconds": 0.002, "first_ms": 12.0}
    {"op": "find", "queries": FILE, "k": 100, "found": FILE} -> {}; FILE is int64 [Q, k], -1 where there is none
    {"op": "time", "queries": FILE, "k": 100, "together": 32, "seconds": 1.0} -> {"milliseconds": [5.1, ...]}
    {"op": "memory", "directory": DIRECTORY} -> {"rss_mib": 310.0, "mapped_mib": 160.0}
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from oracle.pipe import peak_mib, reset_peak, serve

Search = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
TOGETHER = 32  # queries a call while positions are collected: any engine's memory stays small
FEWEST_CALLS = 5


class Engine(Protocol):
    """A module that builds a searchable directory from vectors, and opens one."""

    def build(self, vectors: Path, examples: Path, directory: Path, kind: str, threads: int) -> dict[str, Any]:
        """Fill the empty directory, on the disk of the vectors. `examples` are queries like those to come.

        Returns kind, version and what else a row shall say.
        """
        ...

    def open_index(self, directory: Path, threads: int) -> Search:
        """What finds positions int64 [Q, k], nearest first, for queries float32 [Q, D]."""
        ...


class Server:
    """Answers requests with one engine."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.search: Search | None = None

    @property
    def engine(self) -> Engine:
        return importlib.import_module(self.module)

    def build(self, vectors: str, examples: str, directory: str, kind: str, threads: int) -> dict[str, Any]:
        engine = self.engine
        reset_peak()
        began = time.perf_counter()
        facts = engine.build(Path(vectors), Path(examples), Path(directory), kind, threads)
        return {"seconds": time.perf_counter() - began, "peak_mib": peak_mib(), **facts}

    def open(self, directory: str, threads: int, queries: str, k: int) -> dict[str, Any]:
        """Importing libraries is not part of it; the first answer, which may still read files, is timed by itself."""
        engine, first = self.engine, np.load(queries)[:1]
        began = time.perf_counter()
        self.search = engine.open_index(Path(directory), threads)
        opened = time.perf_counter()
        self.search(first, k)
        return {"seconds": opened - began, "first_ms": 1000 * (time.perf_counter() - opened)}

    def find(self, queries: str, k: int, found: str) -> dict[str, Any]:
        every = np.load(queries)
        parts = [self._opened(every[start : start + TOGETHER], k) for start in range(0, len(every), TOGETHER)]
        np.save(found, np.concatenate(parts))
        return {}

    def time(self, queries: str, k: int, together: int, seconds: float) -> dict[str, Any]:
        """Calls with different queries, until each has had its turn or the time is up; a few in any case."""
        every = np.load(queries)
        batches = np.split(every, range(together, len(every) - together + 1, together))
        milliseconds: list[float] = []
        deadline = time.perf_counter() + seconds
        for batch in cycle(batches):
            began = time.perf_counter()
            self._opened(batch, k)
            ended = time.perf_counter()
            milliseconds.append(1000 * (ended - began))
            if len(milliseconds) >= FEWEST_CALLS and (ended > deadline or len(milliseconds) >= len(every)):
                break
        return {"milliseconds": milliseconds}

    def memory(self, directory: str) -> dict[str, Any]:
        """Resident memory now, and the part of it that is mapped files of the directory: cache, taken back at need."""
        resident = mapped = 0
        inside = False
        root = str(Path(directory).resolve())
        for line in Path("/proc/self/smaps").read_text().splitlines():
            name, _, value = line.partition(" ")
            if "-" in name:  # an address range, its file at the end
                inside = root in value
            elif name == "Rss:":
                resident += int(value.split()[0])
                mapped += int(value.split()[0]) * inside
        return {"rss_mib": resident / 1024, "mapped_mib": mapped / 1024}

    def _opened(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        if self.search is None:
            raise RuntimeError("nothing is opened yet")
        return self.search(queries, k)


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m prompts_benchmark.serve MODULE", file=sys.stderr)
        return 2
    server = Server(sys.argv[1])
    serve({name: getattr(server, name) for name in ("build", "open", "find", "time", "memory")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
