"""One round: the prompts of its plan, every sampled miner asked for each, and what came of it.

What a miner does wrong is an observation of it; what goes wrong here (the device, the decoders) is a RoundError, the
round is void, and nobody is observed. Nothing is written or remembered: the caller records the result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from ig_subnet.validating.answers import Answer, Ask, Decode, RoundSettings, ask_miner
from ig_subnet.validating.commitments import Plan
from ig_subnet.validating.device import Device
from ig_subnet.validating.errors import RoundError
from ig_subnet.validating.gates import Check, Declared, Examined, ImageKey, Verdict, judge
from ig_subnet.validating.history import History
from ig_subnet.validating.records import AnswerRow, ExpertScoreRow, ImageRow, PromptRow, RewarderRow, RoundRow
from ig_subnet.validating.regeneration import Verify
from ig_subnet.validating.rows import ExaminedPrompt, observations_of, rows_of
from ig_subnet.validating.sampling import Miner, derived_seed
from protocol import QueryStatus, TextToImageSynapse

SCORING_SECONDS = 600.0  # beside the miners' deadline, what a prompt may take before the device is given up on


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
    history: History | None = None,
    verify: Verify | None = None,
    clock: Callable[[], float] = time.time,
) -> RoundResult:
    """Asks every one of `miners` for each prompt of the plan, with seeds from its secret, and judges what they send.

    Prompts go out one after the other, each to all miners at once and with one deadline for each; the images of one
    are examined, in one batch, while the next one is out. The gates look at the whole round in the end, and at
    `history`, the images of earlier ones. Raises RoundError if the validator's own part fails.
    """
    round_id, started_at = plan.round, clock()
    prompts = plan.rows()
    examining: list[asyncio.Task[ExaminedPrompt]] = []
    try:
        async with asyncio.timeout(len(prompts) * (settings.timeout_seconds + SCORING_SECONDS)):
            async with asyncio.TaskGroup() as tasks:
                for prompt in prompts:
                    if len(examining) > 1:  # or the pixels of all prompts would pile up before a slow device
                        await examining[-2]
                    async with asyncio.TaskGroup() as asking:
                        asked = [
                            asking.create_task(ask_miner(miner, prompt, secret, settings, ask, decode))
                            for miner in miners
                        ]
                    answers = [task.result() for task in asked]
                    examining.append(tasks.create_task(_examine(prompt, answers, secret, device, verify)))
            examined = [task.result() for task in examining]
            verdicts = await asyncio.to_thread(_judge, round_id, examined, device, history)
            rows = await asyncio.to_thread(rows_of, examined, verdicts, settings.images)
    except TimeoutError as error:
        raise RoundError(f"round {round_id} is void: scoring did not come to an end") from error
    except Exception as error:
        cause = _first_cause(error)
        raise RoundError(f"round {round_id} is void: {type(cause).__name__}: {cause}") from cause

    return RoundResult(
        RoundRow(
            round_id,
            started_at=started_at,
            finished_at=clock(),
            block=block,
            queried=len(rows.answers),
            answered=sum(answer.status == QueryStatus.ANSWERED for answer in rows.answers),
            rewarder=device.rewarder.fingerprint,
        ),
        prompts,
        tuple(rows.answers),
        tuple(rows.images),
        tuple(rows.expert_scores),
        observations_of(rows.answers),
        device.rewarder,
    )


def is_askable(text: str) -> bool:
    """Whether the wire carries a prompt: 1 to 1024 characters, none of them a control character."""
    try:
        TextToImageSynapse(prompt=text, width=16, height=16, seed=0, deadline_seconds=1)
    except ValidationError:
        return False
    return True


async def _examine(
    prompt: PromptRow, answers: Sequence[Answer], secret: bytes, device: Device, verify: Verify | None
) -> ExaminedPrompt:
    """What the device says of every image of every answer to one prompt, in one batch; their pixels are let go."""
    pixels = {
        ImageKey(prompt.position, answer.miner.hotkey, number): image.pixels
        for answer in answers
        for number, image in enumerate(answer.images)
        if image.pixels is not None
    }
    seed = derived_seed(secret, f"examination {prompt.position}")
    found = await device.examine(list(pixels.values()), prompt.text, prompt.topic, seed)
    findings = dict(zip(pixels, found, strict=True))
    checks: Mapping[str, Check] = {}
    if verify is not None:
        declared = [
            Declared(answer.miner.hotkey, number, image.seed, answer.seeds, image.model, finding.embedding)
            for answer in answers
            for number, image in enumerate(answer.images)
            if (finding := findings.get(ImageKey(prompt.position, answer.miner.hotkey, number))) is not None
            and finding.embedding is not None
        ]
        checks = await verify(prompt, declared, secret)
    without_pixels = [
        replace(answer, images=tuple(replace(image, pixels=None) for image in answer.images)) for answer in answers
    ]
    return ExaminedPrompt(prompt, without_pixels, findings, checks)


def _judge(
    round_id: int, prompts: Sequence[ExaminedPrompt], device: Device, history: History | None
) -> dict[ImageKey, Verdict]:
    images = [
        Examined(
            key := ImageKey(prompt.row.position, answer.miner.hotkey, number),
            prompt.row.text,
            answer.elapsed_seconds,
            image.refused,
            image.phash,
            prompt.findings.get(key),
        )
        for prompt in prompts
        for answer in prompt.answers
        for number, image in enumerate(answer.images)
    ]
    return judge(
        images,
        device.gates,
        round_id=round_id,
        seen=history.seen(images) if history is not None else {},
        checks={(prompt.row.position, hotkey): check for prompt in prompts for hotkey, check in prompt.checks.items()},
    )


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
