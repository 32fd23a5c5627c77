"""What a miner asks a validator of itself, and what the validator answers, as types. docs/wire.md specifies both.

Everything in a record is the caller's own: its answers, what was found in them, and how its weight came about. Times
are seconds since 1970 UTC, incentives, observations, averages and shares are in [0, 1].
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .synapse import check_characters

__all__ = [
    "MAX_INTEGER",
    "MAX_ROUNDS",
    "MAX_TEXT",
    "RECORD_PATH",
    "RECORD_TAG",
    "AnswerRecord",
    "ExpertRecord",
    "ImageRecord",
    "MinerRecord",
    "MinerRoundRecord",
    "RecordSynapse",
    "StandingRecord",
    "WeightRecord",
]

RECORD_PATH = "/v1/record"
"""Where a validator takes a record synapse."""
RECORD_TAG = "record-response/1"
"""First line of every signed record payload."""
MAX_ROUNDS = 32
"""Rounds in one record."""
MAX_TEXT = 2048
"""Characters of any text in a record. A prompt has 1,024 at most; what a chain says may be longer, and is cut."""
MAX_INTEGER = 2**53 - 1
"""The largest whole number in a record or a request for one: what every JSON reader keeps exactly."""
SMALLEST_ALPHA = 1e-9
LARGEST_SUM = 1.001  # 1, and what rounding adds to it

Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(check_characters)]
Unit = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
RoundId = Annotated[int, Field(ge=1, le=MAX_INTEGER)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RecordSynapse(_Model):
    """One request for the caller's record; its JSON is the body of the HTTP request."""

    rounds: int = Field(default=8, ge=1, le=MAX_ROUNDS)
    """The newest rounds that the caller was asked in, at most so many."""
    before_round: RoundId | None = None
    """Only rounds before this one; None begins with the newest. `MinerRecord.older` leads on."""
    deadline_seconds: float = Field(default=30.0, gt=0, le=60)
    """How long the miner waits for the complete answer, from opening the connection."""


class ExpertRecord(_Model):
    """What one expert gave one image, in its own unit."""

    score: float
    worst: float | None
    """The lowest score of the image and its transformed copies."""
    truncated: bool | None
    """Whether the prompt was cut to what the expert can read."""


class ImageRecord(_Model):
    """One image of an answer, and what the gates and experts found; None is "not asked" or "not kept"."""

    number: Count
    sha256: str = Field(pattern=r"\A[0-9a-f]{64}\z")
    format: Text
    width: Count
    height: Count
    bytes: Count
    model: Text | None
    """What the miner declared of it."""
    verdict: Text
    """"valid", or the reason of the gate that stopped it."""
    evidence: Text | None
    """What that gate found: a JSON object. It may name another image by hotkey, round_id, position and number."""
    total: float | None
    """The weighted sum of the experts' scores."""
    incentive: Unit
    disagreement: float | None
    trust: float | None
    alignment: float | None
    unsafe: float | None
    experts: dict[Annotated[str, Field(max_length=64, pattern=r"\A[A-Za-z0-9._-]+\z")], ExpertRecord] = Field(
        max_length=32
    )


class AnswerRecord(_Model):
    """The caller's answer to one prompt; `incentive` is the mean over the images asked for, 0 if none came."""

    position: Count
    topic: Text
    prompt: Text
    prompt_id: Text | None
    source: Text
    status: Text
    """How the query ended, as in docs/wire.md."""
    elapsed_seconds: float = Field(ge=0)
    seed: Count
    incentive: Unit
    detail: Text
    images: tuple[ImageRecord, ...] = Field(max_length=16)


class MinerRoundRecord(_Model):
    """One round that the caller was asked in."""

    round_id: RoundId
    started_at: float
    finished_at: float
    block: Count
    observation: Unit
    """The mean incentive over its prompts."""
    average: Unit
    """The caller's moving average after it."""
    answers: tuple[AnswerRecord, ...] = Field(max_length=64)


class StandingRecord(_Model):
    """The state of the caller's moving average; `average` = `accumulator` / `accumulated_weight`."""

    uid: Count
    registered_at: Count
    """The block of its registration: another registration is another miner, and starts anew."""
    observations: int = Field(ge=1, le=MAX_INTEGER)
    last_round: Count
    observed_at: float
    """When it was last observed; 0 where that is not known."""
    absent_since: float | None
    """Since when it is not registered; None while it is."""
    accumulator: float = Field(ge=0, le=LARGEST_SUM)
    accumulated_weight: float = Field(ge=SMALLEST_ALPHA, le=LARGEST_SUM)
    squares: float = Field(ge=0, le=LARGEST_SUM)
    """As `accumulator`, of the squared observations: what the average's uncertainty follows from."""
    average: Unit


class WeightRecord(_Model):
    """One attempt of the validator to set weights, as far as it is about the caller."""

    at: float
    block: Count
    outcome: Text
    """"set", "committed", or why not; `detail` is the chain's answer in words."""
    detail: Text
    uid: Count | None
    """The caller's at the time; None where the caller is not known to have been among the miners weighed."""
    share: Unit
    """Of all that was given; 0 for none."""
    average: Unit | None
    """The moving average that the share came from; None where it is not kept, as with all that follows."""
    limited: Unit | None
    """The same after the limit by uncertainty, which is what was shaped into shares."""
    highest: Unit | None
    """The highest limited average of any miner (but for the subnet's owner's, who gets the burnt share on top) ..."""
    highest_share: Unit | None
    """... and its share."""
    weighed: Count | None
    """How many miners were weighed."""
    paid: Count
    """How many uids got a share."""
    alpha: float | None = Field(ge=SMALLEST_ALPHA, le=1)
    """The share of the newest observation in a moving average."""
    shaping: dict[Annotated[str, Field(max_length=64)], float | Text | None] = Field(max_length=32)
    """The validator's settings that decided; empty where they are not kept."""


class MinerRecord(_Model):
    """What a validator has on record of one miner."""

    hotkey: Text
    at: float
    """When it was read."""
    standing: StandingRecord | None
    """None before the first observation, and after the caller was dropped."""
    rounds: tuple[MinerRoundRecord, ...] = Field(max_length=MAX_ROUNDS)
    """Newest first, without gaps: every round that the caller was asked in and that is still kept."""
    older: RoundId | None
    """`before_round` of the next request, which leads on to older rounds; None where there are none."""
    weights: tuple[WeightRecord, ...] = Field(max_length=16)
    """The newest attempts, newest first."""
