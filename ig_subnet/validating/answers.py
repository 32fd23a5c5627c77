"""What one miner answers to one prompt, decoded; what it did wrong is part of the answer."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from ig_subnet.imaging import DecoderKilled, ImageError, fingerprint
from ig_subnet.validating.records import PromptRow
from ig_subnet.validating.sampling import Miner, miner_seed
from protocol import GeneratedImage, QueryResult, QueryStatus, Target, TextToImageSynapse

EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}

Ask = Callable[[Target, TextToImageSynapse], Awaitable[QueryResult]]
"""`Dendrite.query`: ends within the synapse's deadline and raises for nothing that a miner does."""


class Decode(Protocol):
    """`DecoderPool.decode`."""

    def __call__(
        self, data: bytes, *, expected_format: str, expected_size: tuple[int, int], max_pixels: int
    ) -> Awaitable[NDArray[np.uint8]]: ...


@dataclass(frozen=True)
class RoundSettings:
    """The same for every round: what is asked for each of its prompts (sizes in pixels)."""

    images: int
    width: int
    height: int
    steps: int | None
    timeout_seconds: float
    save_images: Path | None = None


@dataclass(frozen=True, eq=False)
class ReceivedImage:
    """An image that came, of `size` bytes. `model` and `seed` are what the miner declares of it.

    `refused` says why it does not decode; `pixels` (uint8 [height, width, 3]) and `phash` are there where it does.
    """

    sha256: str
    format: str
    width: int
    height: int
    size: int
    model: str
    seed: int
    refused: str | None = None
    pixels: NDArray[np.uint8] | None = None
    phash: bytes | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What one miner sent for one prompt; `seeds` are those that its images were asked to be made from."""

    miner: Miner
    seed: int
    seeds: tuple[int, ...]
    status: QueryStatus
    elapsed_seconds: float
    detail: str
    images: tuple[ReceivedImage, ...] = ()


async def ask_miner(
    miner: Miner, prompt: PromptRow, secret: bytes, settings: RoundSettings, ask: Ask, decode: Decode
) -> Answer:
    """The miner's answer to the prompt, of which it gets its own seed; silence and faults are answers too."""
    seed = miner_seed(secret, miner.hotkey, prompt.position)
    synapse = TextToImageSynapse(
        prompt=prompt.text,
        width=settings.width,
        height=settings.height,
        num_images=settings.images,
        seed=seed,
        steps=settings.steps,
        deadline_seconds=settings.timeout_seconds,
    )
    seeds = tuple(synapse.seed_of(number) for number in range(settings.images))
    if miner.target is None:
        return Answer(miner, seed, seeds, QueryStatus.UNREACHABLE, 0.0, "no axon is announced any more")
    try:
        result = await ask(miner.target, synapse)
    except Exception:  # a fault of ours, but one that a single miner must not be able to stop rounds with
        logger.exception("querying uid {} failed", miner.uid)
        return Answer(miner, seed, seeds, QueryStatus.FAILED, 0.0, "the query failed on this side")
    images = await _receive(result.images[: settings.images], settings, decode)
    return Answer(miner, seed, seeds, result.status, result.elapsed_seconds, result.detail, images)


async def _receive(
    images: Sequence[GeneratedImage], settings: RoundSettings, decode: Decode
) -> tuple[ReceivedImage, ...]:
    """The images of one answer, decoded one after the other. After one that kills a decoder no other gets one: what a
    miner can take of the decoders' time for a prompt is what one image can.
    """
    size = (settings.width, settings.height)
    received = []
    killed: DecoderKilled | None = None
    for image in images:
        sha256 = (await asyncio.to_thread(hashlib.sha256, image.data)).hexdigest()
        told = (sha256, image.format, image.width, image.height, len(image.data), image.model, image.seed)
        try:
            if killed is not None:
                raise killed
            pixels = await decode(
                image.data, expected_format=image.format, expected_size=size, max_pixels=size[0] * size[1]
            )
        except ImageError as error:
            if isinstance(error, DecoderKilled):
                killed = error
            received.append(ReceivedImage(*told, refused=error.reason))
            continue
        if settings.save_images is not None:
            file = settings.save_images / f"{sha256}.{EXTENSIONS[image.format]}"
            await asyncio.to_thread(_save, file, image.data)
        received.append(ReceivedImage(*told, pixels=pixels, phash=await asyncio.to_thread(fingerprint, pixels)))
    return tuple(received)


def _save(file: Path, data: bytes) -> None:
    with suppress(FileNotFoundError):
        os.utime(file)  # what came last is kept longest
        return
    part = file.with_suffix(f".{secrets.token_hex(8)}.part")  # two miners may have sent the same image
    part.write_bytes(data)
    part.replace(file)
