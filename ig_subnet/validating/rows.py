"""What a round leaves behind, from what was found out about its answers: rows of the score store."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ig_subnet.validating.answers import Answer, ReceivedImage
from ig_subnet.validating.device import Findings
from ig_subnet.validating.gates import ImageKey, Verdict
from ig_subnet.validating.records import VALID, AnswerRow, ExpertScoreRow, ImageRow, PromptRow

SMALLEST_INCENTIVE = 1e-6  # of a valid image, so that any is above none; a normal CDF reaches 0 in float32


@dataclass(frozen=True, eq=False)
class ExaminedPrompt:
    """A prompt with its answers, and what the device says of those of their images that decode."""

    row: PromptRow
    answers: Sequence[Answer]
    findings: Mapping[ImageKey, Findings | None]


@dataclass(frozen=True)
class Rows:
    """The rows of a round's answers, in the order of their keys but for the miners', which is that of the asking."""

    answers: list[AnswerRow] = field(default_factory=list)
    images: list[ImageRow] = field(default_factory=list)
    expert_scores: list[ExpertScoreRow] = field(default_factory=list)


def rows_of(prompts: Iterable[ExaminedPrompt], verdicts: Mapping[ImageKey, Verdict], images_asked: int) -> Rows:
    """All rows; an image whose verdict is `VALID` earns the share of its incentive that it is paid, any other one 0,
    whatever its score, and so does one that is missing."""
    rows = Rows()
    for prompt in prompts:
        for answer in prompt.answers:
            earned = 0.0
            for number, image in enumerate(answer.images):
                key = ImageKey(prompt.row.position, answer.miner.hotkey, number)
                found, verdict = prompt.findings.get(key), verdicts[key]
                incentive = 0.0
                if verdict.reason == VALID and found is not None:
                    incentive = min(1.0, max(SMALLEST_INCENTIVE, verdict.paid * found.incentive))
                earned += incentive
                rows.images.append(_image_row(prompt.row.round_id, key, image, found, verdict, incentive))
                rows.expert_scores.extend(
                    ExpertScoreRow(prompt.row.round_id, *key, name, told.score, int(told.truncated), told.worst)
                    for name, told in (found.experts if found is not None else {}).items()
                )
            rows.answers.append(
                AnswerRow(
                    prompt.row.round_id,
                    prompt.row.position,
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


def observations_of(answers: Iterable[AnswerRow]) -> dict[str, float]:
    """Each miner's mean incentive over the prompts it was asked."""
    incentives: dict[str, list[float]] = {}
    for answer in answers:
        incentives.setdefault(answer.hotkey, []).append(answer.incentive)
    return {hotkey: math.fsum(earned) / len(earned) for hotkey, earned in incentives.items()}


def _image_row(
    round_id: int, key: ImageKey, image: ReceivedImage, found: Findings | None, verdict: Verdict, incentive: float
) -> ImageRow:
    row = ImageRow(
        round_id,
        *key,
        sha256=image.sha256,
        format=image.format,
        width=image.width,
        height=image.height,
        bytes=image.size,
        verdict=verdict.reason,
        total=None,
        incentive=incentive,
        phash=image.phash,
        evidence=None if verdict.evidence is None else json.dumps(verdict.evidence),
        model=image.model,
    )
    if found is None:
        return row
    return replace(
        row,
        total=found.total,
        disagreement=found.disagreement,
        trust=found.trust,
        alignment=found.alignment,
        unsafe=found.unsafe,
        embedding=None if found.embedding is None else found.embedding.astype(np.float16).tobytes(),
    )
