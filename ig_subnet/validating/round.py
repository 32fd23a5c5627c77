"""One round: the prompts of its plan, every sampled miner asked for each, and what came of it.

What a miner does wrong is an observation of it; what goes wrong here (the device, the decoders) is a RoundError, the
round is void, and nobody is observed. Nothing is written: the caller records the result.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from pydantic import ValidationError

from ig_subnet.imaging import ImageError
from ig_subnet.validating.commitments import Plan
from ig_subnet.validating.device import Device, ImageScore
from ig_subnet.validating.errors import RoundError
from ig_subnet.validating.records import (
    VALID,
    AnswerRow,
    ExpertScoreRow,
    ImageRow,
    PromptRow,
    RewarderRow,
    RoundRow,
)
from ig_subnet.validating.sampling import Miner, miner_seed
from protocol import GeneratedImage, QueryResult, QueryStatus, Target, TextToImageSynapse

SCORING_SECONDS = 600.0  # beside the miners' deadline, what a prompt may take before the device is given up on
SMALLEST_INCENTIVE = 1e-6  # of a valid image, so that any is above none; a normal CDF reaches 0 in float32
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


@dataclass(frozen=True)
class RoundResult:
    """What a round found, as rows; `observations` is the mean incentive over the prompts for every miner asked."""

    round: RoundRow
    prompts: tuple[PromptRow, ...]
    answers: tuple[AnswerRow, ...]
    images: tuple[ImageRow, ...]
    expert_scores: tuple[ExpertScoreRow, ...]
    observations: dict[str, float]
    rewarder: RewarderRow


@dataclass(frozen=True)
class _Image:
    """What is kept of an image that came, with the verdict of the gates; `pixels` only where that is `VALID`."""

    sha256: str
    format: str
    width: int
    height: int
    bytes: int
    verdict: str
    pixels: NDArray[np.uint8] | None


@dataclass(frozen=True)
class _Rows:
    """What one prompt of a round leaves behind."""

    answers: list[AnswerRow]
    images: list[ImageRow]
    expert_scores: list[ExpertScoreRow]


@dataclass(frozen=True)
class _Answer:
    """What one miner sent for one prompt, examined but not scored yet."""

    miner: Miner
    seed: int
    status: QueryStatus
    elapsed_seconds: float
    detail: str
    images: tuple[_Image, ...]


async def run_round(
    plan: Plan,
    block: int,
    miners: Sequence[Miner],
    *,
    secret: bytes,
    settings: RoundSettings,
    device: Device,
    ask: Ask,
    decode: Decode,
) -> RoundResult:
    """Asks every one of `miners` for each prompt of the plan, with seeds from its secret, and scores what they send.

    Prompts go out one after the other, each to all miners at once and with one deadline for each; the images of one
    are scored, in one batch, while the next one is out. Raises RoundError if the validator's own part fails.
    """
    round_id, started_at = plan.round, time.time()
    prompts = plan.rows()
    scored: list[asyncio.Task[_Rows]] = []
    try:
        async with asyncio.timeout(len(prompts) * (settings.timeout_seconds + SCORING_SECONDS)):
            async with asyncio.TaskGroup() as scoring:
                for prompt in prompts:
                    async with asyncio.TaskGroup() as asking:
                        asked = [asking.create_task(_ask(m, prompt, secret, settings, ask, decode)) for m in miners]
                    answers = [task.result() for task in asked]
                    scored.append(scoring.create_task(_score(prompt, answers, settings.images, device)))
    except TimeoutError as error:
        raise RoundError(f"round {round_id} is void: scoring did not come to an end") from error
    except Exception as error:
        cause = _first_cause(error)
        raise RoundError(f"round {round_id} is void: {type(cause).__name__}: {cause}") from cause

    rows = [task.result() for task in scored]
    answer_rows = tuple(answer for of_prompt in rows for answer in of_prompt.answers)
    return RoundResult(
        RoundRow(
            round_id,
            started_at=started_at,
            finished_at=time.time(),
            block=block,
            queried=len(answer_rows),
            answered=sum(answer.status == QueryStatus.ANSWERED for answer in answer_rows),
            rewarder=device.rewarder.fingerprint,
        ),
        prompts,
        answer_rows,
        tuple(image for of_prompt in rows for image in of_prompt.images),
        tuple(score for of_prompt in rows for score in of_prompt.expert_scores),
        _observations(answer_rows),
        device.rewarder,
    )


def _observations(answers: Iterable[AnswerRow]) -> dict[str, float]:
    """Each miner's mean incentive over the prompts it was asked."""
    incentives: dict[str, list[float]] = {}
    for answer in answers:
        incentives.setdefault(answer.hotkey, []).append(answer.incentive)
    return {hotkey: math.fsum(earned) / len(earned) for hotkey, earned in incentives.items()}


def is_askable(text: str) -> bool:
    """Whether the wire carries a prompt: 1 to 1024 characters, none of them a control character."""
    try:
        TextToImageSynapse(prompt=text, width=16, height=16, seed=0, deadline_seconds=1)
    except ValidationError:
        return False
    return True


async def _ask(
    miner: Miner, prompt: PromptRow, secret: bytes, settings: RoundSettings, ask: Ask, decode: Decode
) -> _Answer:
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
    if miner.target is None:
        return _Answer(miner, seed, QueryStatus.UNREACHABLE, 0.0, "no axon is announced any more", ())
    try:
        result = await ask(miner.target, synapse)
    except Exception:  # a fault of ours, but one that a single miner must not be able to stop rounds with
        logger.exception("querying uid {} failed", miner.uid)
        return _Answer(miner, seed, QueryStatus.FAILED, 0.0, "the query failed on this side", ())
    examined = [await _examine(image, settings, decode) for image in result.images[: settings.images]]
    return _Answer(miner, seed, result.status, result.elapsed_seconds, result.detail, tuple(examined))


async def _examine(image: GeneratedImage, settings: RoundSettings, decode: Decode) -> _Image:
    size = (settings.width, settings.height)
    sha256 = (await asyncio.to_thread(hashlib.sha256, image.data)).hexdigest()
    pixels = None
    try:
        pixels = await decode(
            image.data, expected_format=image.format, expected_size=size, max_pixels=size[0] * size[1]
        )
        verdict = VALID
    except ImageError as error:
        verdict = error.reason
    if pixels is not None and settings.save_images is not None:
        file = settings.save_images / f"{sha256}.{EXTENSIONS[image.format]}"
        await asyncio.to_thread(_save, file, image.data)
    return _Image(sha256, image.format, image.width, image.height, len(image.data), verdict, pixels)


async def _score(prompt: PromptRow, answers: Sequence[_Answer], images_asked: int, device: Device) -> _Rows:
    """Scores every valid image of every answer to one prompt in one batch."""
    pixels = [found.pixels for answer in answers for found in answer.images if found.pixels is not None]
    scores = await device.score(pixels, prompt.text, prompt.topic)
    return await asyncio.to_thread(_rows, prompt, answers, scores, images_asked)  # 40 ms for 192 miners with 4 images


def _rows(
    prompt: PromptRow, answers: Sequence[_Answer], scores: Sequence[ImageScore | None], images_asked: int
) -> _Rows:
    """The rows of one prompt; `scores` are of the images with pixels, in their order, and all others are at 0."""
    remaining = iter(scores)
    rows = _Rows([], [], [])
    for answer in answers:
        earned = 0.0
        for number, found in enumerate(answer.images):
            key = (prompt.round_id, prompt.position, answer.miner.hotkey, number)
            verdict, total, incentive, disagreement = found.verdict, None, 0.0, None
            if found.pixels is not None:
                score = next(remaining)
                if score is None:
                    verdict = "no finite score"
                else:
                    total, incentive = score.total, min(1.0, max(SMALLEST_INCENTIVE, score.incentive))
                    disagreement = score.disagreement
                    rows.expert_scores.extend(
                        ExpertScoreRow(*key, name, expert.score, int(expert.truncated))
                        for name, expert in score.experts.items()
                    )
            earned += incentive
            rows.images.append(
                ImageRow(
                    *key,
                    sha256=found.sha256,
                    format=found.format,
                    width=found.width,
                    height=found.height,
                    bytes=found.bytes,
                    verdict=verdict,
                    total=total,
                    incentive=incentive,
                    disagreement=disagreement,
                )
            )
        rows.answers.append(
            AnswerRow(
                prompt.round_id,
                prompt.position,
                answer.miner.hotkey,
                answer.miner.uid,
                status=answer.status.value,
                elapsed_seconds=answer.elapsed_seconds,
                seed=answer.seed,
                incentive=min(1.0, earned / images_asked),
                detail=answer.detail,
            )
        )
    return rows


def _save(file: Path, data: bytes) -> None:
    if not file.exists():
        part = file.with_suffix(f".{secrets.token_hex(8)}.part")  # two miners may have sent the same image
        part.write_bytes(data)
        part.replace(file)


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
