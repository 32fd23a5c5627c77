"""A few decoder processes that can be killed: what a hostile image can take is one deadline of one of them.

The workers are programs of their own (`ig_subnet.imaging.worker`), so nothing of the validator, torch least of all, is
loaded in them, and they are spoken to over pipes on the event loop, without threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

import numpy as np
from numpy.typing import NDArray

from ig_subnet.imaging.errors import DecoderError, DecoderKilled, ImageError
from ig_subnet.imaging.worker import REPLY, REQUEST

DECODE_SECONDS = 30.0  # 1024 x 1024 takes 0.04 s; the rest is for a busy machine: what an image takes of it ends sooner
START_SECONDS = 60.0  # a worker is ready in 0.2 s on an idle machine
REASON_BYTES = 200
NEEDED = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL")  # of the environment, to start a worker


class DecoderPool:
    """Decodes images in `workers` processes, each image within `deadline_seconds`; used with `async with`.

    A worker that runs past its deadline, dies or answers nonsense is killed and replaced when the next image needs it.
    """

    def __init__(self, workers: int, *, deadline_seconds: float = DECODE_SECONDS) -> None:
        if workers < 1 or deadline_seconds <= 0:
            raise ValueError(f"a pool needs workers and time, got {workers} and {deadline_seconds} s")
        self._deadline_seconds = deadline_seconds
        self._workers = workers
        self._idle: asyncio.LifoQueue[Process | None] = asyncio.LifoQueue()  # None: to be started when it is needed
        self._started: list[Process] = []
        self._open = False

    async def __aenter__(self) -> DecoderPool:
        self._open = True
        try:
            first = await self._start()  # the rest start when they are needed; this one proves that they can
        except BaseException:
            await self.close()
            raise
        for worker in [None] * (self._workers - 1) + [first]:
            self._idle.put_nowait(worker)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def decode(
        self, data: bytes, *, expected_format: str, expected_size: tuple[int, int], max_pixels: int
    ) -> NDArray[np.uint8]:
        """As `decode_image`, in a worker: uint8 [height, width, 3], or ImageError with the reason.

        Waits for a free worker; the deadline starts when one has the image. Raises DecoderKilled (an ImageError) for an
        image that the worker did not survive, DecoderError if none can be started.
        """
        if not self._open:
            raise DecoderError("the decoder pool is closed")
        width, height = expected_size
        header = REQUEST.pack(
            expected_format.encode("ascii", "replace")[:8], width, height, max_pixels, len(data), self._deadline_seconds
        )
        worker = await self._idle.get()
        healthy = False
        try:
            if worker is None or worker.returncode is not None:  # one that ended while idle is not this image's fault
                worker = await self._start()
            try:
                async with asyncio.timeout(self._deadline_seconds):
                    decoded, payload = await _exchange(worker, header, data, 3 * width * height)
            except TimeoutError as error:
                raise DecoderKilled(f"not decoded within {self._deadline_seconds:g} s") from error
            except (OSError, EOFError, ValueError) as error:
                raise DecoderKilled("ended the decoder") from error
            healthy = True
        finally:
            if not healthy and worker is not None:
                _kill(worker)
            self._idle.put_nowait(worker if healthy else None)
        if not decoded:
            raise ImageError(payload.decode("utf-8", "replace"))
        return np.frombuffer(payload, dtype=np.uint8).reshape(height, width, 3)

    async def close(self) -> None:
        """Ends every worker; none is left when it returns."""
        self._open = False
        for worker in self._started:
            _kill(worker)
            await worker.wait()

    async def _start(self) -> Process:
        if not self._open:  # it was closed while an image waited for its turn
            raise DecoderError("the decoder pool is closed")
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "ig_subnet.imaging.worker"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C in a terminal is for the validator, which then ends its workers
        )
        self._started = [earlier for earlier in self._started if earlier.returncode is None] + [worker]
        try:
            async with asyncio.timeout(START_SECONDS):
                await _read_reply(worker, 0)
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            _kill(worker)
            raise DecoderError(
                "a decoder process does not start: run `python -m ig_subnet.imaging.worker </dev/null` to see why"
            ) from error
        except BaseException:
            _kill(worker)
            raise
        return worker


def _environment() -> dict[str, str]:
    """What a worker needs to start, and nothing that may be a secret."""
    kept = {name: value for name, value in os.environ.items() if name in NEEDED or name.startswith("PYTHON")}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _kill(worker: Process) -> None:
    if worker.returncode is None:
        # Not worker.kill(): that reaps a process which has just ended, behind the back of asyncio's watcher.
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)


async def _exchange(worker: Process, header: bytes, data: bytes, size: int) -> tuple[bool, bytes]:
    assert worker.stdin is not None
    worker.stdin.write(header + data)
    await worker.stdin.drain()
    return await _read_reply(worker, size)


async def _read_reply(worker: Process, size: int) -> tuple[bool, bytes]:
    """(decoded, payload); raises EOFError if the worker ended, ValueError if its answer has another size."""
    assert worker.stdout is not None
    decoded, length = REPLY.unpack(await worker.stdout.readexactly(REPLY.size))
    if length != size if decoded else length > REASON_BYTES:
        raise ValueError(f"a worker announced {length} bytes")
    return decoded, await worker.stdout.readexactly(length)
