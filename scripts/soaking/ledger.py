"""What a validator's averages have to be, computed a second time: from recorded answers and what the chain showed."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ig_subnet.validating.records import AnswerRow, AverageRow, ImageRow, MinerRow

HORIZON = 300  # observations; what came before counts less than 1e-13 of the newest, at an alpha of 0.1
CLOSED_FORM_ERROR = 1e-12  # of the average as it is kept against one that is summed up term by term


@dataclass
class Account:
    """A miner's row, and the newest observations of this registration."""

    row: MinerRow
    observations: array[float] = field(default_factory=lambda: array("d"))


@dataclass
class Ledger:
    """Follows a validator that averages with `alpha`, asks for `images` and drops who is away for `absence_seconds`."""

    alpha: float
    images: int
    absence_seconds: float
    accounts: dict[str, Account] = field(default_factory=dict)
    checked: int = 0

    def follow(
        self, round_id: int, at: float, answers: Iterable[AnswerRow], registered: Mapping[str, tuple[int, int]]
    ) -> None:
        """Takes in a round: its answers, and by hotkey the uid and the block of registration of all who had one."""
        for hotkey, account in list(self.accounts.items()):
            row = vars(account.row)
            if hotkey not in registered:
                since = at if account.row.absent_since is None else account.row.absent_since
                account.row = MinerRow(**{**row, "absent_since": since})
                if at - since >= self.absence_seconds:
                    del self.accounts[hotkey]
            elif registered[hotkey] != (account.row.uid, account.row.registered_at):
                del self.accounts[hotkey]
            else:
                account.row = MinerRow(**{**row, "absent_since": None})
        earned = defaultdict(list)
        for answer in answers:
            earned[answer.hotkey].append(answer.incentive)
        for hotkey, incentives in earned.items():
            if hotkey not in self.accounts:
                self.accounts[hotkey] = Account(MinerRow(hotkey, *registered[hotkey], 0.0, 0.0, 0, 0))
            self._observe(self.accounts[hotkey], math.fsum(incentives) / len(incentives), round_id, at)

    def _observe(self, account: Account, observation: float, round_id: int, at: float) -> None:
        old, kept = account.row, 1 - self.alpha
        account.observations.append(observation)
        del account.observations[:-HORIZON]
        weight = kept * old.accumulated_weight + self.alpha
        account.row = MinerRow(
            old.hotkey,
            old.uid,
            old.registered_at,
            accumulator=min(kept * old.accumulator + self.alpha * observation, weight),
            accumulated_weight=weight,
            observations=old.observations + 1,
            last_round=round_id,
            squares=min(kept * old.squares + self.alpha * observation**2, weight),
            observed_at=at,
        )

    def complaints(
        self,
        miners: Iterable[MinerRow],
        averages: Iterable[AverageRow],
        answers: Iterable[AnswerRow],
        images: Iterable[ImageRow],
    ) -> list[str]:
        """Where the validator's state after a round, and what it recorded of that round, is not what it has to be."""
        found = []
        kept = {miner.hotkey: miner for miner in miners}
        for hotkey in kept.keys() | self.accounts.keys():
            expected = self.accounts[hotkey].row if hotkey in self.accounts else None
            if kept.get(hotkey) != expected:
                found.append(f"the store has {kept.get(hotkey)}, expected {expected}")
        for average in averages:
            observations = self.accounts[average.hotkey].observations
            if abs(average.average - self._closed_form(observations)) > CLOSED_FORM_ERROR:
                found.append(f"the average {average} does not follow from {list(observations)}")
            self.checked += 1
        earned: dict[tuple[int, str], float] = defaultdict(float)
        for image in images:
            earned[image.position, image.hotkey] += image.incentive
        for answer in answers:
            expected_incentive = min(1.0, earned[answer.position, answer.hotkey] / self.images)
            if not math.isclose(answer.incentive, expected_incentive, abs_tol=CLOSED_FORM_ERROR):
                found.append(f"{answer} is paid other than its images, {expected_incentive}")
        return found

    def _closed_form(self, observations: array[float]) -> float:
        """The average of observations of which each counts (1 - alpha) times as much as the next one."""
        shares = [(1 - self.alpha) ** age for age in reversed(range(len(observations)))]
        return math.fsum(map(math.prod, zip(shares, observations, strict=True))) / math.fsum(shares)
