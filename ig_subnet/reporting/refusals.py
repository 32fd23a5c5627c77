"""What the gates stopped: of which miner, for which reason, and what they had found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ig_subnet.reporting.history import History
from ig_subnet.validating.records import VALID

MOST_REASONS = 8  # columns of a table; what is rarer is counted together
OTHER_REASONS = "other reasons"


@dataclass
class Refusals:
    """How many images of a miner came, and how many of them were stopped, by reason."""

    images: int = 0
    stopped: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        return self.stopped.total() / self.images


def refusals_by_miner(history: History) -> dict[str, Refusals]:
    """Keyed by hotkey, of every miner that sent an image; the rarest reasons are `OTHER_REASONS`."""
    images = [image.row for answer in history.answers for image in answer.images]
    common = dict(Counter(row.verdict for row in images if row.verdict != VALID).most_common(MOST_REASONS))
    found: dict[str, Refusals] = {}
    for row in images:
        refusals = found.setdefault(row.hotkey, Refusals())
        refusals.images += 1
        if row.verdict != VALID:
            refusals.stopped[row.verdict if row.verdict in common else OTHER_REASONS] += 1
    return found


def reasons_of(refusals: Iterable[Refusals]) -> list[str]:
    """All their reasons, the most frequent first and `OTHER_REASONS` last."""
    total = sum((found.stopped for found in refusals), Counter())
    return sorted(total, key=lambda reason: (reason == OTHER_REASONS, -total[reason]))


def describe_evidence(evidence: str | None, roles: Mapping[str, str]) -> str:
    """The figures of a gate's evidence (a JSON object) in a line; a miner is called by its role where it has one."""
    return ", ".join(_told(json.loads(evidence), roles)) if evidence else ""


def _told(found: Mapping[str, Any], roles: Mapping[str, str]) -> Iterable[str]:
    for name, value in found.items():
        match value:
            case {"hotkey": hotkey, "round_id": round_id, "position": position, "number": number}:
                yield f"{name} image {number} of {roles.get(hotkey, hotkey)} (round {round_id}, prompt {position})"
            case dict():
                yield from _told(value, roles)
            case float():
                yield f"{name} {value:.3f}"
            case _:
                yield f"{name} {value}"
