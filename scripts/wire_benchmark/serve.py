"""One side of one stack behind standard input and output (oracle/pipe.py): all miners, or the validator.

    PYTHONPATH=scripts python -m wire_benchmark.serve MODULE

MODULE is a `Stack`: `wire_benchmark.bare`, `.ours`, `.unsigned`, `.v10` or `.taowire_kit`. This file imports nothing
that the environments of all stacks do not have. The event loop has a thread of its own, since the other reads requests.

    {"op": "serve", "miners": 256} -> {"ports": [40001, ...], "version": "aiohttp 3.14.4"}
    {"op": "connect", "ports": [40001, ...]} -> {}
    {"op": "rounds", "rounds": 5, "image_bytes": 100000, "together": true} -> {"figures": {"wall_seconds": [...],
        "cpu_seconds": [...], "milliseconds": [...]}}; a round asks all miners at once, or is one query of one miner;
        each miner is asked once more than it is measured
    {"op": "begin"} -> {}, {"op": "usage"} -> {"peak_mib": 120.0, "grown_mib": 40.0, "cpu_seconds": 3.1} since then
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol, TypeVar

from oracle.pipe import serve
from wire_benchmark.usage import Usage

HOST = "127.0.0.1"
QUERY_SECONDS = 60.0  # a miner's deadline; nothing here waits longer
OPERATION_SECONDS = 300.0

Ask = Callable[[int, int], Awaitable[bytes]]
"""Asks the miner of a number for an image of so many bytes, and returns it once it is verified. Raises if it is not."""
Result = TypeVar("Result")


class Stack(Protocol):
    """A module that is a way to ask miners for images."""

    def version(self) -> str:
        """Name and version of what is measured."""
        ...

    def serve_miners(self, count: int) -> AbstractAsyncContextManager[list[int]]:
        """As many miners on HOST, each with a key and a port of its own; yields the ports.

        The seed they are asked with is the number of bytes they answer with.
        """
        ...

    def connect(self, ports: Sequence[int]) -> AbstractAsyncContextManager[Ask]:
        """The validator. It may ask before it has opened a connection."""
        ...


@functools.cache
def image_of(size: int) -> bytes:
    """What a miner answers with: as incompressible as an image."""
    return os.urandom(size)


class Server:
    """Answers requests with one stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.resources = AsyncExitStack()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.ask: Ask | None = None
        self.miners = 0

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(OPERATION_SECONDS)

    def serve(self, miners: int) -> dict[str, Any]:
        ports = self.run(self.resources.enter_async_context(self.stack.serve_miners(miners)))
        return {"ports": ports, "version": self.stack.version()}

    def connect(self, ports: list[int]) -> dict[str, Any]:
        self.ask, self.miners = self.run(self.resources.enter_async_context(self.stack.connect(ports))), len(ports)
        return {}

    def rounds(self, rounds: int, image_bytes: int, together: bool) -> dict[str, Any]:
        return self.run(self._rounds(rounds, image_bytes, together))

    def close(self) -> None:
        """Ends what was begun, and the loop."""
        self.run(self.resources.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(OPERATION_SECONDS)
        self.loop.close()

    async def _rounds(self, rounds: int, image_bytes: int, together: bool) -> dict[str, Any]:
        """What comes first opens connections that were closed since the last turn, and is not measured."""
        everybody = list(range(self.miners))
        await self._round(everybody, image_bytes)
        asked = [everybody] * rounds if together else [[miner] for miner in everybody] * rounds
        measured = [await self._round(miners, image_bytes) for miners in asked]
        return {
            "figures": {
                "wall_seconds": [wall for wall, _, _ in measured],
                "cpu_seconds": [cpu for _, cpu, _ in measured],
                "milliseconds": [taken for _, _, milliseconds in measured for taken in milliseconds],
            }
        }

    async def _round(self, miners: Sequence[int], image_bytes: int) -> tuple[float, float, list[float]]:
        """Seconds, seconds of the processor, and milliseconds of each query."""
        wall, cpu = time.perf_counter(), time.process_time()
        answers = await asyncio.gather(*(self._timed(miner, image_bytes) for miner in miners))
        return time.perf_counter() - wall, time.process_time() - cpu, [taken for taken, _ in answers]

    async def _timed(self, miner: int, image_bytes: int) -> tuple[float, bytes]:
        """Milliseconds, and the answer, which a validator keeps until its round is over."""
        if self.ask is None:
            raise RuntimeError("nobody is connected yet")
        began = time.perf_counter()
        image = await self.ask(miner, image_bytes)
        if len(image) != image_bytes:
            raise RuntimeError(f"miner {miner} answered with {len(image)} bytes instead of {image_bytes}")
        return 1000 * (time.perf_counter() - began), image


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m wire_benchmark.serve MODULE", file=sys.stderr)
        return 2
    module = sys.argv.pop()  # some stacks read the command line themselves
    server = Server(importlib.import_module(module))
    usage = Usage()
    operations = {name: getattr(server, name) for name in ("serve", "connect", "rounds")}
    serve(operations | {"begin": usage.begin, "usage": usage.read})
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
