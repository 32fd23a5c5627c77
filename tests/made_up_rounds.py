"""Rounds and plans made up for the score store."""

from __future__ import annotations

from ig_subnet.validating.commitments import FIRST_HEAD, Plan, PlannedPrompt, PrompterIdentity, digest_of, next_head
from ig_subnet.validating.records import (
    AnswerRow,
    AverageRow,
    CommitmentRow,
    ExpertScoreRow,
    ImageRow,
    MinerRow,
    PromptRow,
    RewarderRow,
    RoundRecord,
    RoundRow,
)

PROMPT_ID = "a1e4a280d27cad5b"
HOTKEY = "5F" + "a" * 46


def make_plan(round_id: int, hotkey: str = HOTKEY, text: str = "a red circle") -> Plan:
    """The plan of the round that `make_round` makes."""
    prompt = PlannedPrompt(text=text, id=PROMPT_ID, parents=(PROMPT_ID,), source="pocket", row=3, similarity=0.5)
    identity = PrompterIdentity(database="ab" * 32, model="cd" * 32)
    return Plan(hotkey=hotkey, netuid=1, round=round_id, topic="colours", prompts=(prompt,), prompter=identity)


def make_commitments(*outcomes: str | None, hotkey: str = HOTKEY) -> list[CommitmentRow]:
    """One commitment for each outcome, None for one that is not revealed; a void round is planned again."""
    rows: list[CommitmentRow] = []
    head, round_id = FIRST_HEAD, 1
    for number, outcome in enumerate(outcomes, 1):
        secret, content = bytes([number]) * 32, make_plan(round_id, hotkey).canonical()
        digest = digest_of(secret, content)
        head = next_head(head, digest)
        revealed = (secret.hex(), content, 10.0 * number + 5, outcome) if outcome else (None,) * 4
        rows.append(CommitmentRow(number, round_id, 10.0 * number, 100 + number, digest, head, *revealed))
        round_id += outcome == "asked"
    return rows


def make_round(round_id: int) -> RoundRecord:
    """A round of two miners, one of them silent; the averages count the rounds."""
    rewarder = RewarderRow.of("float32", "pil", {"clip_aesthetic": "a directory", "pick_score": "a hub id at abc"})
    key = (round_id, 0, "alice", 0)
    return RoundRecord(
        RoundRow(round_id, 10.0 * round_id, 10.0 * round_id + 3, 100 + round_id, 2, 1, rewarder.fingerprint),
        (PromptRow(round_id, 0, "colours", "a red circle", 0.5, "pocket", PROMPT_ID, f'["{PROMPT_ID}"]'),),
        (
            AnswerRow(round_id, 0, "alice", 3, "answered", 0.25, 2**32 - 1, 0.5, ""),
            AnswerRow(round_id, 0, "bob", 4, "timeout", 1.0, 7, 0.0, "no answer in 1 s"),
        ),
        (
            ImageRow(
                *(*key, "ab" * 32, "png", 64, 64, 1234, "valid", -1.5, 0.5, 0.125),
                alignment=0.25,
                unsafe=0.0625,
                trust=0.75,
                model="pocket steps:20",
                phash=bytes([round_id]) * 8,
                embedding=b"\0\x3c" * 4,
            ),
            ImageRow(*key[:3], 1, "cd" * 32, "png", 64, 64, 12, "not a png file", None, 0.0, evidence="{}"),
        ),
        (ExpertScoreRow(*key, "clip_aesthetic", 5.5, 0, 5.25), ExpertScoreRow(*key, "pick_score", -0.25, 1, -0.5)),
        (AverageRow(round_id, "alice", 3, 0.5, 0.5), AverageRow(round_id, "bob", 4, 0.0, 0.0)),
        (
            MinerRow("alice", 3, 11, 0.5, 1.0, round_id, round_id, 0.25, 10.0 * round_id + 3),
            MinerRow("bob", 4, 12, 0.0, 1.0, round_id, round_id, 0.0, 10.0 * round_id + 3, 10.0 * round_id + 4),
        ),
        rewarder,
    )
