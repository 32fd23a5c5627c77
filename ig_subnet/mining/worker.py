"""The worker that owns the device: one generation at a time, the highest priority first, and an honest "busy"."""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ig_subnet.mining.generators import Generator
from protocol import Busy, TextToImageSynapse

if TYPE_CHECKING:
    from PIL.Image import Image

# Of the caller's deadline, what is kept for encoding, signing and sending the answer.
ANSWER_SHARE = 0.1
MAX_ANSWER_SECONDS = 2.0
SMOOTHING = 0.3  # share of the newest measurement in the pace: an estimate follows a change within a few generations
MIN_SECONDS = 1e-6  # a clock too coarse to see a generation must not make the pace 0
WARM_UP_PROMPT = "a red circle"


@dataclass(order=True)
class _Job:
    """A request that waits; sorts by priority, equals by arrival."""

    negative_priority: float
    arrival: int
    synapse: TextToImageSynapse = field(compare=False)
    deadline: float = field(compare=False)  # by the worker's clock
    answer: asyncio.Future[list[tuple[int, Image]]] = field(compare=False)

    @property
    def pixels(self) -> int:
        return self.synapse.num_images * self.synapse.width * self.synapse.height


class DeviceWorker:
    """One thread that loads a generator and runs it, behind a bounded queue.

    `async with` loads the model and makes one image with it: this proves that it works and measures its pace before
    anyone is told. Leaving it does not wait for a running generation, whose caller is cancelled. All state belongs to
    the event loop; the thread only ever runs one call of the generator.
    """

    def __init__(
        self,
        load: Callable[[], Generator],
        *,
        steps: int,
        queue_size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._steps = steps
        self._queue_size = queue_size
        self._clock = clock
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._waiting: list[_Job] = []  # sorted, the next to run first
        self._arrivals = count()
        self._arrived = asyncio.Event()
        self._running_pixels = 0
        self._running_since = 0.0
        self._seconds_per_pixel = 0.0

    async def __aenter__(self) -> Self:
        try:
            self.generator = await asyncio.get_running_loop().run_in_executor(self._device, self._load)
            width, height = self.generator.native_size
            await self._generate(WARM_UP_PROMPT, "", width, height, [0])
        except BaseException:
            self._device.shutdown(wait=False, cancel_futures=True)
            raise
        self._worker = asyncio.create_task(self._work(), name="device worker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.cancel()
        self._device.shutdown(wait=False, cancel_futures=True)
        for job in self._waiting:
            job.answer.cancel()

    @property
    def declaration(self) -> str:
        """What the worker's images are to declare as their model (see `protocol.declaration`)."""
        return str(self.generator.declaration(self._steps))

    @property
    def seconds_per_image(self) -> float:
        """The measured time for one image of the generator's native size."""
        width, height = self.generator.native_size
        return self._seconds_per_pixel * width * height

    async def generate(self, synapse: TextToImageSynapse, priority: float) -> list[tuple[int, Image]]:
        """Seed and RGB image of all that are made before the caller's deadline, less what the model's checker removes.

        Raises Busy, with the estimated time until the queue is empty: when the queue is full of requests of at least
        this priority, when a newcomer of higher priority takes the place, or when the work ahead would make the first
        image late. Raises UnsupportedSize. Passes on what the generator raises. A caller that is cancelled leaves the
        queue.
        """
        self.generator.check_size(synapse.width, synapse.height)
        now = self._clock()
        reserve = min(ANSWER_SHARE * synapse.deadline_seconds, MAX_ANSWER_SECONDS)
        job = _Job(
            negative_priority=-priority,
            arrival=next(self._arrivals),
            synapse=synapse,
            deadline=now + synapse.deadline_seconds - reserve,
            answer=asyncio.get_running_loop().create_future(),
        )
        ahead = self._seconds_of([waiting for waiting in self._waiting if waiting < job])
        first = self._seconds_per_pixel * synapse.width * synapse.height
        # An idle device always tries: only work corrects an estimate that is too high.
        if ahead and now + ahead + first > job.deadline:
            raise Busy(self._seconds_of(self._waiting))
        if len(self._waiting) >= self._queue_size:
            if self._waiting[-1] < job:
                raise Busy(self._seconds_of(self._waiting))
            outranked = self._waiting.pop().answer
            if not outranked.done():
                outranked.set_exception(Busy(self._seconds_of([*self._waiting, job])))
        bisect.insort(self._waiting, job)
        self._arrived.set()
        try:
            return await job.answer
        finally:
            if job in self._waiting:
                self._waiting.remove(job)

    def _seconds_of(self, jobs: list[_Job]) -> float:
        """Estimated time until the running job and then `jobs` are done."""
        running = self._running_pixels * self._seconds_per_pixel - (self._clock() - self._running_since)
        return max(0.0, running) + sum(job.pixels for job in jobs) * self._seconds_per_pixel

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            job = self._waiting.pop(0)
            self._running_pixels, self._running_since = job.pixels, self._clock()
            try:
                images = await self._answer(job)
            except Exception as error:
                if not job.answer.done():
                    job.answer.set_exception(error)
            else:
                if not job.answer.done():
                    job.answer.set_result(images)
            finally:
                self._running_pixels = 0
                job.answer.cancel()  # without effect unless the worker ends before the job does

    async def _answer(self, job: _Job) -> list[tuple[int, Image]]:
        """As many of the job's images as its deadline allows, in batches that fit the device."""
        synapse = job.synapse
        seeds = [synapse.seed_of(number) for number in range(synapse.num_images)]
        pixels = synapse.width * synapse.height
        made: list[tuple[int, Image]] = []
        while seeds and not job.answer.done() and (left := job.deadline - self._clock()) > 0:
            in_time = int(left / (self._seconds_per_pixel * pixels))
            if not in_time and len(seeds) < synapse.num_images:
                break
            batch = seeds[: max(1, min(in_time, self.generator.batch_size(synapse.width, synapse.height)))]
            del seeds[: len(batch)]
            images = await self._generate(synapse.prompt, synapse.negative_prompt, synapse.width, synapse.height, batch)
            made += [(seed, image) for seed, image in zip(batch, images, strict=True) if image is not None]
        if len(seeds) == synapse.num_images:
            raise Busy(self._seconds_of(self._waiting))
        return made

    async def _generate(
        self, prompt: str, negative_prompt: str, width: int, height: int, seeds: list[int]
    ) -> list[Image | None]:
        """One call of the generator in its thread, which also measures the pace."""
        loop = asyncio.get_running_loop()
        started = self._clock()
        images = await loop.run_in_executor(
            self._device, self.generator.generate, prompt, negative_prompt, width, height, seeds, self._steps
        )
        pace = max(self._clock() - started, MIN_SECONDS) / (len(seeds) * width * height)
        known = self._seconds_per_pixel or pace
        self._seconds_per_pixel = known + SMOOTHING * (pace - known)
        return images
