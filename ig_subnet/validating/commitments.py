"""What a validator commits to before it asks, and how anybody checks afterwards that it asked just that.

Before a round begins its plan is fixed: a secret of 32 bytes and the content, which is canonical JSON (RFC 8785's form)
of the topic, the prompts and whose plan it is. Out of these come two SHA-256 hashes, in lower-case hexadecimal:

    digest = SHA-256(DIGEST_TAG + secret + content in UTF-8)
    head   = SHA-256(HEAD_TAG + head of the commitment before, or 32 zero bytes + digest)

The digest tells nothing of the prompts until secret and content are revealed, because nobody can guess the secret; and
since each head follows from all digests before it, none can be dropped, changed or reordered once a head is known. The
secret also decides the miners' seeds (`sampling.miner_seed`), so that a miner can check its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ig_subnet.validating.records import CommitmentRow, PromptRow

DIGEST_TAG = b"ig-subnet plan of a round, 1\0"
HEAD_TAG = b"ig-subnet chain of plans, 1\0"
FIRST_HEAD = "00" * 32
"""What stands for the head before the first commitment."""

ASKED, VOID = "asked", "void"
"""The outcomes of a commitment: its round is recorded; the validator itself failed, and the round is planned anew."""

_HASH = re.compile(r"[0-9a-f]{64}")
_ROW = TypeAdapter(CommitmentRow)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PlannedPrompt(_Strict):
    """A prompt to ask. `id` is its base in the database, found at `row` of `source`; `parents` are the ids of all the
    prompts that went into `text`, the base first. `similarity` is the base's cosine to the topic."""

    text: str
    id: str
    parents: tuple[str, ...]
    source: str
    row: int
    similarity: float


class PrompterIdentity(_Strict):
    """What the prompts were drawn from: digest of the database, fingerprint of the embedding model."""

    database: str
    model: str


class Plan(_Strict):
    """What one round asks: whose it is (`hotkey` on subnet `netuid`), which round, and its prompts in their order."""

    hotkey: str
    netuid: int
    round: int
    topic: str
    prompts: tuple[PlannedPrompt, ...] = Field(min_length=1)
    prompter: PrompterIdentity

    def canonical(self) -> str:
        """The one way to write it as JSON: keys in order, no spaces."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def rows(self) -> tuple[PromptRow, ...]:
        """Its prompts as they are recorded."""
        return tuple(
            PromptRow(
                self.round,
                position,
                self.topic,
                prompt.text,
                prompt.similarity,
                prompt.source,
                prompt.id,
                json.dumps(prompt.parents),
            )
            for position, prompt in enumerate(self.prompts)
        )


def digest_of(secret: bytes, content: str) -> str:
    """The digest of a plan."""
    return hashlib.sha256(DIGEST_TAG + secret + content.encode()).hexdigest()


def next_head(head: str, digest: str) -> str:
    """The head after one more commitment."""
    return hashlib.sha256(HEAD_TAG + bytes.fromhex(head) + bytes.fromhex(digest)).hexdigest()


def opened(digest: str, secret: str, content: str) -> Plan:
    """The plan that was committed to by `digest`. Raises ValueError, with the reason, where it is not this one."""
    if not _HASH.fullmatch(secret):
        raise ValueError("its secret is not 32 bytes in hexadecimal")
    if digest_of(bytes.fromhex(secret), content) != digest:
        raise ValueError("its digest is not that of its secret and content")
    try:
        plan = Plan.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "all of it"
        raise ValueError(f"its content is no plan of a round: {place}: {first['msg']}") from error
    if plan.canonical() != content:
        raise ValueError("its content is not written canonically")
    return plan


def verify(commitments: Sequence[CommitmentRow]) -> list[str | None]:
    """For each commitment of one validator, from its first on, what does not fit; None where all does.

    Checked are the chain of heads, the digests of what is revealed, that all are one hotkey's on one subnet, that every
    round was asked once and in order, and that only the newest is not revealed. A fault is told where it is: what comes
    after is checked against what stands there.
    """
    found: list[str | None] = []
    head, due, owner = FIRST_HEAD, None, None
    for number, commitment in enumerate(commitments, 1):
        try:
            _check_place(commitment, number, head, due)
            if commitment.revealed_at is not None:
                owner = _check_revealed(commitment, owner)
            elif number < len(commitments):
                raise ValueError("it was never revealed")
            found.append(None)
        except ValueError as error:
            found.append(str(error))
        head = commitment.head if _HASH.fullmatch(commitment.head) else head
        due = commitment.round_id + (commitment.outcome == ASKED)
    return found


def _check_place(commitment: CommitmentRow, number: int, head: str, due: int | None) -> None:
    if commitment.id != number:
        raise ValueError(f"it has number {commitment.id} where {number} is due: one is missing, or out of order")
    if not (_HASH.fullmatch(commitment.digest) and _HASH.fullmatch(commitment.head)):
        raise ValueError("its digest or its head is not 32 bytes in hexadecimal")
    if commitment.head != next_head(head, commitment.digest):
        raise ValueError("its head does not follow from the one before and its digest")
    if due is not None and commitment.round_id != due:
        raise ValueError(f"round {due} was due, not round {commitment.round_id}")


def _check_revealed(commitment: CommitmentRow, owner: tuple[str, int] | None) -> tuple[str, int]:
    """Whose it is: the owner's, if one is known already."""
    plan = opened(commitment.digest, commitment.secret or "", commitment.content or "")
    if plan.round != commitment.round_id:
        raise ValueError(f"what it reveals is the plan of round {plan.round}")
    if commitment.outcome not in (ASKED, VOID):
        raise ValueError(f"its outcome is {commitment.outcome!r}, neither {ASKED} nor {VOID}")
    if owner not in (None, (plan.hotkey, plan.netuid)):
        raise ValueError(f"it is of {plan.hotkey} on subnet {plan.netuid}, unlike those before it")
    return plan.hotkey, plan.netuid


def to_lines(commitments: Iterable[CommitmentRow]) -> str:
    """JSON Lines, one commitment each with the columns of the store as keys."""
    return "".join(json.dumps(vars(commitment), ensure_ascii=False) + "\n" for commitment in commitments)


def from_lines(text: str) -> list[CommitmentRow]:
    """What `to_lines` wrote. Raises ValueError that names the line."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line:
            try:
                rows.append(_ROW.validate_json(line, strict=True))
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "the line"
                raise ValueError(f"line {number} is no commitment: {place}: {first['msg']}") from error
    return rows
