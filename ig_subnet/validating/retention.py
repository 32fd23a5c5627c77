"""What a validator forgets, so that its store and the images it saves stay as small as its operator wants them.

Oldest first: the details of a round (its images with their scores and fingerprints, and what was observed of each
miner) and the images saved in it. A whole round, with who was asked what, goes only where that alone has grown to half
of the limit, and the log says so: its prompts are fresh again. Moving averages and commitments stay for good, all of
the newest round does, and attempts to set weights go with the rounds before them.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from ig_subnet.validating.memory import Memory
from ig_subnet.validating.store import ScoreStore

DAY, MEGABYTE = 86400.0, 10**6
ANSWER_BYTES = 200  # of an answer in the store, with its index
TICK_SECONDS = 1.0  # a file's time may be behind the clock that rounds are timed by
PAUSE_SECONDS = 600.0
IMAGE_NAME = re.compile(r"[0-9a-f]{64}\.(?:png|jpg|webp|[0-9a-f]{16}\.part)")  # as rounds save them, or began to


@dataclass(frozen=True)
class Forgotten:
    """How much was: rounds that lost their details, rounds that are gone altogether, and saved images."""

    details: int = 0
    rounds: int = 0
    images: int = 0


@dataclass(frozen=True)
class SavedImages:
    """The images in a folder at one moment: when they came last, ascending, and the bytes of those from each on."""

    times: NDArray[np.float64]
    bytes_since: NDArray[np.int64]

    @classmethod
    def in_folder(cls, folder: Path | None) -> Self:
        """None where there is no folder."""
        images = _images(folder) if folder is not None else ()
        found = np.fromiter(((at, size) for _, at, size in images), dtype=np.dtype((float, 2)))
        times, sizes = found[np.argsort(found[:, 0])].T
        return cls(times, np.append(np.cumsum(sizes[::-1])[::-1], 0).astype(np.int64))

    def size(self, since: float = -np.inf) -> int:
        """The bytes of those that came then or later."""
        return int(self.bytes_since[np.searchsorted(self.times, since)])


@dataclass(frozen=True)
class Retention:
    """Keeps rounds' details for `days`, and store and saved images together within `megabytes`; None is no limit.

    `images` is the folder that rounds save images in, where they do; files with other names in it are left alone. Of
    the images' fingerprints, which are most of a store, only the newest so many are kept.
    """

    memory: Memory
    days: float | None
    megabytes: float | None
    images: Path | None
    fingerprints: int | None = None
    clock: Callable[[], float] = time.time

    async def run(self) -> None:
        """Forgets what is beyond the limits, again and again until it is cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(PAUSE_SECONDS)

    async def step(self) -> Forgotten:
        """Forgets what is beyond the limits now, one round a transaction. Raises StoreError or OSError."""
        if self.fingerprints is not None:
            await self._forget_while(partial(ScoreStore.thin, keep=self.fingerprints))
        images_from = -np.inf if self.days is None else self.clock() - self.days * DAY  # those that came before go
        aged = await self._forget_while(partial(_forget_oldest, ended_before=images_from))
        squeezed = rounds = 0
        if self.megabytes is not None:
            rounds, squeezed, images_from = await self._squeeze(self.megabytes * MEGABYTE, images_from)
        images = await asyncio.to_thread(_delete_images, self.images, images_from)
        await self._forget_while(ScoreStore.shrink)
        forgotten = Forgotten(aged + squeezed, rounds, images)
        if forgotten != Forgotten():
            logger.info("forgotten: details of {} rounds, {} saved images", forgotten.details, images)
        if rounds:
            logger.warning("forgotten: who was asked what in the {} oldest rounds; it may be asked again", rounds)
        return forgotten

    async def _squeeze(self, limit: float, images_from: float) -> tuple[int, int, float]:
        """Forgets until store and saved images, but for those that came before `images_from`, are within `limit` bytes.

        Returns how many whole rounds, how many rounds' details, and from when on saved images can stay.
        """
        rounds = details = 0
        while await self.memory.with_store(ScoreStore.answer_count) * ANSWER_BYTES > limit / 2:
            if not await self.memory.with_store(partial(_forget_oldest, wholly=True)):
                break
            rounds += 1
        saved = await asyncio.to_thread(SavedImages.in_folder, self.images)
        while await self.memory.with_store(ScoreStore.size) + saved.size(images_from) > limit:
            begun = await self.memory.with_store(_details_begin)
            if images_from < begun:  # images of rounds that are void, or forgotten already
                images_from = begun
            elif await self.memory.with_store(_forget_oldest):
                details += 1
                images_from = await self.memory.with_store(_details_begin)
            else:
                logger.warning("what is never forgotten takes more than --neuron.keep_megabytes {}", self.megabytes)
                break
        return rounds, details, images_from

    async def _forget_while(self, forget: Callable[[ScoreStore], bool]) -> int:
        """How often it did before there was nothing left for it to do; rounds may be recorded in between."""
        times = 0
        while await self.memory.with_store(forget):
            times += 1
        return times


def _forget_oldest(store: ScoreStore, *, wholly: bool = False, ended_before: float = np.inf) -> bool:
    """Forgets the oldest round that has anything left, unless it is the newest or ended later."""
    oldest = store.oldest_round(detailed=not wholly)
    if oldest is None or oldest.round_id == store.next_round_id() - 1 or oldest.finished_at >= ended_before:
        return False
    store.forget(oldest.round_id, wholly=wholly)
    return True


def _details_begin(store: ScoreStore) -> float:
    """From when on saved images belong to rounds that have their details."""
    oldest = store.oldest_round(detailed=True)
    return -np.inf if oldest is None else oldest.started_at - TICK_SECONDS


def _images(folder: Path) -> Iterator[tuple[str, float, int]]:
    """Path, time and bytes of each image that was saved."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if IMAGE_NAME.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # it has its final name by now
                    status = entry.stat()
                    yield entry.path, status.st_mtime, status.st_size


def _delete_images(folder: Path | None, before: float) -> int:
    deleted = 0
    if folder is not None and before > -np.inf:
        for path, at, _ in _images(folder):
            if at < before:
                Path(path).unlink(missing_ok=True)
                deleted += 1
    return deleted
