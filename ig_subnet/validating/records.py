"""The rows of the score store, one frozen dataclass a table, its fields the table's columns in order.

Times are seconds since the epoch, incentives and averages are in [0, 1], and a miner is always named by its hotkey;
the uid beside it is the one it had then. A field that defaults to None came with schema 2, 3 or 4: rows of rounds that
an earlier version recorded may not have it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

Blob = bytes  # a column of this type; ImageRow has one that is called bytes

VALID = "valid"
"""The verdict of an image that passed every gate; any other verdict is the reason of the gate that stopped it.

The gates of decoding give reasons of their own (`ig_subnet.imaging`); the others, in their order:
"""
NO_SCORE = "no finite score"
NOT_SAFE = "not safe for work"
GRAINY = "grain all over"
IGNORES_PROMPT = "ignores the prompt"
NOT_REGENERATED = "not what the declared model makes"
DUPLICATE = "duplicate within the answer"
COPY = "copy of another miner's image"
SEEN_BEFORE = "seen before"
OTHER_PROMPT = "same image for another prompt"
DISPROVABLE = frozenset({GRAINY, DUPLICATE, COPY, SEEN_BEFORE, OTHER_PROMPT})
"""Those that are disproved by making the image again from its own seed: what matches was not taken from anywhere."""


@dataclass(frozen=True)
class RewarderRow:
    """What scores are made with: number format, way of resizing, and the weights of each expert by its name.

    Two rewarders that differ in any of it have another `fingerprint`, 16 hexadecimal digits.
    """

    fingerprint: str
    dtype: str
    resize: str
    identities: dict[str, str]

    @classmethod
    def of(cls, dtype: str, resize: str, identities: Mapping[str, str]) -> Self:
        """The row of a mixture that has these."""
        told = json.dumps([dtype, resize, dict(identities)], sort_keys=True)
        return cls(hashlib.sha256(told.encode()).hexdigest()[:16], dtype, resize, dict(identities))


@dataclass(frozen=True)
class RoundRow:
    """One round: how many queries were sent (miners times prompts), how many of them were answered.

    `rewarder` is the fingerprint of what scored it.
    """

    round_id: int
    started_at: float
    finished_at: float
    block: int
    queried: int
    answered: int
    rewarder: str | None = None


@dataclass(frozen=True)
class PromptRow:
    """A prompt of a round, with where it came from; `similarity` is the cosine to the topic's embedding.

    `prompt_id` is that of the prompt in the database it came from, `parents` a JSON list of the ids of all that went
    into the text, that one first.
    """

    round_id: int
    position: int
    topic: str
    text: str
    similarity: float
    source: str
    prompt_id: str | None = None
    parents: str | None = None


@dataclass(frozen=True)
class AnswerRow:
    """One miner's answer to one prompt; `incentive` is the mean over the images asked for, 0 if it stayed silent."""

    round_id: int
    position: int
    hotkey: str
    uid: int
    status: str
    elapsed_seconds: float
    seed: int
    incentive: float
    detail: str


@dataclass(frozen=True)
class ImageRow:
    """One image of an answer, under its gate's verdict; `total` is the seed's weighted sum, None where not scored.

    `disagreement`, None there too, is how far the experts are from each other on it, in [0, 0.5], and `trust`, in
    [0, 1], what that leaves of its incentive. `phash` is its perceptual hash, `embedding` its embedding as float16,
    `alignment` how much more it shows its own prompt than others, `unsafe` the probability that it is not safe for
    work; None where no gate asked. `evidence`, a JSON object, is what gates have found, and `model` what the miner
    says that it was made with. Hash and embedding are kept in a table of their own, and read as `FingerprintRow`.
    """

    round_id: int
    position: int
    hotkey: str
    number: int
    sha256: str
    format: str
    width: int
    height: int
    bytes: int
    verdict: str
    total: float | None
    incentive: float
    disagreement: float | None = None
    alignment: float | None = None
    unsafe: float | None = None
    trust: float | None = None
    evidence: str | None = None
    model: str | None = None
    phash: Blob | None = None
    embedding: Blob | None = None


@dataclass(frozen=True)
class FingerprintRow:
    """What the gates compare later images with: an image that has a perceptual hash, and the prompt it was made for."""

    round_id: int
    position: int
    hotkey: str
    number: int
    prompt: str
    phash: Blob
    embedding: Blob | None


@dataclass(frozen=True)
class ExpertScoreRow:
    """What one expert gave one scored image, in its own unit; `truncated` is 1 if its prompt was cut for it, or 0.

    `worst` is the lowest of what it gave the image and its transformed copies.
    """

    round_id: int
    position: int
    hotkey: str
    number: int
    expert: str
    score: float
    truncated: int | None = None
    worst: float | None = None


@dataclass(frozen=True)
class AverageRow:
    """A miner's observation in one round (the mean over its prompts) and its moving average after it."""

    round_id: int
    hotkey: str
    uid: int
    observation: float
    average: float


@dataclass(frozen=True)
class MinerRow:
    """The state of one miner's moving average (see `moving_average`); `last_round` is the last one it was asked in.

    `squares` accumulates its squared observations as `accumulator` does the observations themselves. `observed_at` is
    the time of the last one, 0 where that is not known; `absent_since` that from which on the hotkey was not
    registered, None while it is.
    """

    hotkey: str
    uid: int
    registered_at: int
    accumulator: float
    accumulated_weight: float
    observations: int
    last_round: int
    squares: float = 0.0
    observed_at: float = 0.0
    absent_since: float | None = None


@dataclass(frozen=True)
class WeightSettingRow:
    """One attempt to set weights and the chain's answer; `weights` maps uid to share, as sent.

    `basis`, a JSON object, is what they follow from: the shaping, and every miner's average.
    """

    id: int
    at: float
    block: int
    outcome: str
    detail: str
    weights: dict[int, float]
    basis: str | None = None


@dataclass(frozen=True)
class CommitmentRow:
    """What the validator has committed to ask in a round (see `commitments`); `block` is the chain's at that time.

    `id` counts from 1. `digest`, `head` and `secret` are 32 bytes in hexadecimal, `content` is JSON. Secret and content
    are None for a reader until they are revealed, with the outcome "asked", or "void" for a plan that was given up.
    """

    id: int
    round_id: int
    committed_at: float
    block: int
    digest: str
    head: str
    secret: str | None
    content: str | None
    revealed_at: float | None = None
    outcome: str | None = None


@dataclass(frozen=True)
class RoundRecord:
    """Everything one round leaves behind, written in one transaction; `miners` replaces the whole table.

    `commitment` is the number of the one that this round fulfils, and reveals.
    """

    round: RoundRow
    prompts: tuple[PromptRow, ...]
    answers: tuple[AnswerRow, ...]
    images: tuple[ImageRow, ...]
    expert_scores: tuple[ExpertScoreRow, ...]
    averages: tuple[AverageRow, ...]
    miners: tuple[MinerRow, ...]
    rewarder: RewarderRow | None = None
    commitment: int | None = None
