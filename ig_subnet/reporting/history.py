"""What a validator's score store tells, put together: each answer with its images and every expert's scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ig_subnet.validating.errors import StoreMissing
from ig_subnet.validating.records import (
    AnswerRow,
    AverageRow,
    CommitmentRow,
    ImageRow,
    PromptRow,
    RoundRow,
    WeightSettingRow,
)
from ig_subnet.validating.store import ScoreStore

ANSWERED = "answered"  # the status of an answer that came, was whole, and was signed


@dataclass(frozen=True)
class ScoredImage:
    row: ImageRow
    scores: dict[str, float]  # expert -> score, in the expert's own unit; empty where a gate refused the image


@dataclass(frozen=True)
class Answer:
    row: AnswerRow
    images: tuple[ScoredImage, ...]


@dataclass(frozen=True)
class History:
    """A score store in memory, each table in the order of its keys."""

    rounds: tuple[RoundRow, ...]
    prompts: tuple[PromptRow, ...]
    answers: tuple[Answer, ...]
    averages: tuple[AverageRow, ...]
    weight_settings: tuple[WeightSettingRow, ...]
    commitments: tuple[CommitmentRow, ...] = ()


def read_history(path: Path) -> History:
    """Everything in the store at `path`, up to the last finished round. Raises StoreError."""
    with ScoreStore.open_read_only(path) as store:
        rounds = tuple(store.rounds())
        last = rounds[-1].round_id if rounds else 0
        scores: dict[tuple[int, int, str, int], dict[str, float]] = defaultdict(dict)
        for score in store.expert_scores():
            scores[score.round_id, score.position, score.hotkey, score.number][score.expert] = score.score
        images: dict[tuple[int, int, str], list[ScoredImage]] = defaultdict(list)
        for image in store.images():
            answer_key = (image.round_id, image.position, image.hotkey)
            images[answer_key].append(ScoredImage(image, scores.get((*answer_key, image.number), {})))
        return History(
            rounds=rounds,
            prompts=tuple(row for row in store.prompts() if row.round_id <= last),
            answers=tuple(
                Answer(row, tuple(images.get((row.round_id, row.position, row.hotkey), ())))
                for row in store.answers()
                if row.round_id <= last
            ),
            averages=tuple(row for row in store.averages() if row.round_id <= last),
            weight_settings=tuple(store.weight_settings()),
            commitments=tuple(store.commitments()),
        )


@dataclass
class Standing:
    """One miner so far; the averages and incentives are in [0, 1]."""

    hotkey: str
    uid: int
    queries: int = 0
    answers: int = 0
    answered_incentive: float = 0.0  # sum over its answers
    moving_average: float = 0.0

    @property
    def reward(self) -> float:
        """The mean incentive of its answers; 0 when it never answered."""
        return self.answered_incentive / self.answers if self.answers else 0.0


class Standings:
    """Every miner's standing by hotkey, kept up with a store that its validator is still writing."""

    def __init__(self) -> None:
        self.rounds = 0
        self.by_hotkey: dict[str, Standing] = {}
        self._last_round = 0

    def update(self, path: Path) -> None:
        """Adds the rounds finished since the last call. A store that does not exist yet has none. Raises StoreError."""
        try:
            store = ScoreStore.open_read_only(path)
        except StoreMissing:
            return
        with store:
            after, rounds = self._last_round, list(store.rounds(self._last_round))
            if not rounds:
                return
            self._last_round = rounds[-1].round_id
            self.rounds += len(rounds)
            self._add_answers(row for row in store.answers(after) if row.round_id <= self._last_round)
            for row in store.averages(after):
                if row.round_id <= self._last_round:
                    self._of(row.hotkey, row.uid).moving_average = row.average

    def _add_answers(self, rows: Iterable[AnswerRow]) -> None:
        for row in rows:
            standing = self._of(row.hotkey, row.uid)
            standing.queries += 1
            if row.status == ANSWERED:
                standing.answers += 1
                standing.answered_incentive += row.incentive

    def _of(self, hotkey: str, uid: int) -> Standing:
        standing = self.by_hotkey.setdefault(hotkey, Standing(hotkey, uid))
        standing.uid = uid
        return standing
