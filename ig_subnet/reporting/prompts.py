"""What a validator asked: whether it is what it had committed to ask, and how much of it was new to each miner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ig_subnet.reporting.history import History
from ig_subnet.reporting.summary import write_text_atomically
from ig_subnet.validating.commitments import ASKED, Plan, opened, to_lines, verify
from ig_subnet.validating.records import CommitmentRow, PromptRow


@dataclass(frozen=True)
class CommittedRound:
    """A commitment, its plan where that is revealed, and what does not fit, None where all does."""

    commitment: CommitmentRow
    plan: Plan | None
    fault: str | None


@dataclass
class Use:
    """How many prompts a miner was asked, and how many of them for the first time."""

    asked: int = 0
    fresh: int = 0

    @property
    def fresh_share(self) -> float:
        return self.fresh / self.asked


def committed_rounds(history: History) -> list[CommittedRound]:
    """Every commitment, oldest first, checked by `verify` and against the prompts that the store has of its round."""
    recorded: dict[int, list[PromptRow]] = {row.round_id: [] for row in history.rounds}
    for prompt in history.prompts:
        recorded[prompt.round_id].append(prompt)
    rounds = []
    for commitment, fault in zip(history.commitments, verify(history.commitments), strict=True):
        plan = _plan_of(commitment)
        asked = recorded.get(commitment.round_id) if commitment.outcome == ASKED else None
        if fault is None and plan is not None and asked is not None and list(plan.rows()) != asked:
            fault = "the prompts on record are others"
        rounds.append(CommittedRound(commitment, plan, fault))
    return rounds


def uses_by_miner(history: History) -> dict[str, Use]:
    """Keyed by hotkey; without the rounds of an earlier version, which did not keep the ids of prompts."""
    ids = {(prompt.round_id, prompt.position): prompt.prompt_id for prompt in history.prompts}
    had: dict[str, set[str]] = defaultdict(set)
    uses: dict[str, Use] = defaultdict(Use)
    for answer in history.answers:
        id = ids.get((answer.row.round_id, answer.row.position))
        if id is not None:
            use = uses[answer.row.hotkey]
            use.asked += 1
            use.fresh += id not in had[answer.row.hotkey]
            had[answer.row.hotkey].add(id)
    return dict(uses)


def write_commitments(path: Path, commitments: Sequence[CommitmentRow]) -> None:
    """Writes them as JSON Lines for scripts/check_commitments.py; a reader never sees half of it."""
    write_text_atomically(path, to_lines(commitments))


def _plan_of(commitment: CommitmentRow) -> Plan | None:
    try:
        return opened(commitment.digest, commitment.secret or "", commitment.content or "")
    except ValueError:
        return None
