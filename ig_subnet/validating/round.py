"""One round: the prompts of its plan, every sampled miner asked for each, and what came of it.

What a miner does wrong is an observation of it; what goes wrong here (the device, the decoders) is a RoundError, the
round is void, and nobody is observed. Nothing is written or remembered: the caller records the result.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from pydantic import ValidationError

from ig_subnet.validating.answers import Answer, Ask, Decode, RoundSettings, ask_miner
from ig_subnet.validating.commitments import Plan
from ig_subnet.validating.device import Device
from ig_subnet.validating.errors import NobodyAnswered, RoundError
from ig_subnet.validating.gate_settings import GateSettings
from ig_subnet.validating.gates import Declared, Examined, ImageKey, Proofs, Verdict, judge
from ig_subnet.validating.history import History
from ig_subnet.validating.likeness import Compared
from ig_subnet.validating.records import AnswerRow, ExpertScoreRow, ImageRow, PromptRow, RewarderRow, RoundRow
from ig_subnet.validating.regeneration import Verify
from ig_subnet.validating.rows import ExaminedPrompt, observations_of, rows_of
from ig_subnet.validating.sampling import Miner, derived_seed
from protocol import QueryStatus, TextToImageSynapse

SCORING_SECONDS = 600.0  # of a prompt, before the device is given up on; asking and decoding have their own


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
    known: Container[str] = (),
    clock: Callable[[], float] = time.time,
) -> RoundResult:
    """Asks every one of `miners` for each prompt of the plan, with seeds from its secret, and judges what they send.

    Prompts go out one after the other, each to all miners at once and with one deadline for each; the images of one
    are examined, in one batch, while the next one is out. The gates look at the whole round in the end, at `history`,
    the images of earlier ones, and at what `verify` can prove. Raises RoundError if the validator's own part fails, and
    NobodyAnswered where that is so although some of those asked are `known` to have been paid before.
    """
    round_id, started_at = plan.round, clock()
    prompts = plan.rows()
    examining: list[asyncio.Task[ExaminedPrompt]] = []
    try:
        async with asyncio.timeout(len(prompts) * SCORING_SECONDS) as budget:
            async with asyncio.TaskGroup() as tasks:
                for prompt in prompts:
                    if len(examining) > 1:  # or the pixels of all prompts would pile up before a slow device
                        await examining[-2]
                    async with _stopped(budget), asyncio.TaskGroup() as asking:
                        asked = [
                            asking.create_task(ask_miner(miner, prompt, secret, settings, ask, decode))
                            for miner in miners
                        ]
                    answers = [task.result() for task in asked]
                    examining.append(tasks.create_task(_examine(prompt, answers, secret, device)))
            examined = [task.result() for task in examining]
            _check_for_outage(examined, known)
            verdicts = await _judge(round_id, examined, secret, device.gates, history, verify)
            rows = await asyncio.to_thread(rows_of, examined, verdicts, settings.images)
    except NobodyAnswered:
        raise
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


@asynccontextmanager
async def _stopped(budget: asyncio.Timeout) -> AsyncIterator[None]:
    """Takes what is done inside off the clock: no miner's slowness can void a round."""
    loop = asyncio.get_running_loop()
    left = (budget.when() or 0.0) - loop.time()
    budget.reschedule(None)
    try:
        yield
    finally:
        budget.reschedule(loop.time() + left)


async def _examine(prompt: PromptRow, answers: Sequence[Answer], secret: bytes, device: Device) -> ExaminedPrompt:
    """What the device says of every image of every answer to one prompt, in one batch; their pixels are let go."""
    pixels = {
        ImageKey(prompt.position, answer.miner.hotkey, number): image.pixels
        for answer in answers
        for number, image in enumerate(answer.images)
        if image.pixels is not None
    }
    seed = derived_seed(secret, f"examination {prompt.position}")
    found = await device.examine(list(pixels.values()), prompt.text, prompt.topic, seed)
    without_pixels = [
        replace(answer, images=tuple(replace(image, pixels=None) for image in answer.images)) for answer in answers
    ]
    return ExaminedPrompt(prompt, without_pixels, dict(zip(pixels, found, strict=True)))


def _check_for_outage(prompts: Sequence[ExaminedPrompt], known: Container[str]) -> None:
    """Raises NobodyAnswered where no miner has: what all of them have in common is this side of the line.

    But hotkeys that were never paid may well be dead, and must not be able to void every round that they are drawn for.
    """
    answers = [answer for prompt in prompts for answer in prompt.answers]
    statuses = Counter(answer.status for answer in answers)
    if not statuses[QueryStatus.ANSWERED] and any(answer.miner.hotkey in known for answer in answers):
        told = ", ".join(f"{status.value} ({count})" for status, count in statuses.most_common())
        raise NobodyAnswered(
            f"round {prompts[0].row.round_id} is void: none of {len(answers)} queries was answered: {told}; "
            "if miners are up, look at this validator's own network, clock and permit"
        )


async def _judge(
    round_id: int,
    prompts: Sequence[ExaminedPrompt],
    secret: bytes,
    gates: GateSettings,
    history: History | None,
    verify: Verify | None,
) -> Mapping[ImageKey, Verdict]:
    """The verdicts on a round, whose suspects are made again before where there is somebody who does."""
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
    seen = await asyncio.to_thread(history.seen, images) if history is not None else {}
    compared: Compared = {}

    async def judged(proofs: Proofs, suspected: Container[ImageKey]) -> dict[ImageKey, Verdict]:
        return await asyncio.to_thread(
            judge,
            images,
            gates,
            round_id=round_id,
            seen=seen,
            proofs=proofs,
            suspected=suspected,
            compared=compared,
        )

    proofs = Proofs() if verify is None else await verify(round_id, _declared(prompts), secret, judged)
    return await judged(proofs, ())


def _declared(prompts: Sequence[ExaminedPrompt]) -> list[Declared]:
    """What is declared of every image that could be compared with another one. No two of an answer have one seed.

    Nothing is, of what may have lost something on its way: it would be no lie that it does not match.
    """
    declared = []
    for prompt in prompts:
        for answer in prompt.answers:
            asked = set(answer.seeds)
            for number, image in enumerate(answer.images):
                key = ImageKey(prompt.row.position, answer.miner.hotkey, number)
                found = prompt.findings.get(key)
                if found is not None and found.embedding is not None and image.phash is not None:
                    model = image.model if image.format == "png" else ""
                    told = key, prompt.row.text, image.seed, frozenset(asked), model
                    declared.append(Declared(*told, image.phash, found.embedding))
                asked.discard(image.seed)
    return declared


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
