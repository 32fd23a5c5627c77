"""What a score store tells of a validator: its miners, rounds, the images that gates stopped, and its weights.

Read beside the validator that writes it: everything is of one moment (`StoreReader.snapshot`), and nothing is written.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ig_subnet.validating.explaining import is_same
from ig_subnet.validating.miner_record import LOOKED_BACK, WEIGHT_SETTINGS, Basis, basis_of, line
from ig_subnet.validating.moving_average import average_of
from ig_subnet.validating.reading import StoreReader
from ig_subnet.validating.records import VALID, ImageRow, MinerRow, RoundRow, WeightSettingRow
from ig_subnet.validating.weighting import Shaping, shape_weights
from protocol.signing import is_hotkey

ANSWERED = "answered"


@dataclass(frozen=True)
class MinerView:
    """One miner: its moving average, what was made of it last, and its queries and images in the rounds looked at."""

    hotkey: str
    uid: int
    observations: int
    average: float
    limited: float | None
    share: float | None
    last_round: int
    observed_at: float
    absent_since: float | None
    queries: int
    answers: int
    images: int
    verdicts: dict[str, int]


@dataclass(frozen=True)
class RoundView:
    """One round; `verdicts` counts its images by verdict, `observations` are the miners', by hotkey."""

    round: RoundRow
    topic: str
    prompts: int
    verdicts: dict[str, int]
    observations: dict[str, float]


@dataclass(frozen=True)
class StoppedImage:
    """An image that did not pass, with the reason, and what the gate found (a JSON object)."""

    round_id: int
    position: int
    hotkey: str
    number: int
    sha256: str
    verdict: str
    evidence: str | None


@dataclass(frozen=True)
class SettingView:
    """One attempt to set weights (uid -> share); `agrees` says whether shaping the averages again leads to the same."""

    at: float
    block: int
    outcome: str
    detail: str
    weights: dict[int, float]
    basis: Basis
    agrees: bool | None


@dataclass(frozen=True)
class Overview:
    """A validator's newest rounds, its miners (best average first), the images that a gate stopped in these rounds,
    and its newest attempts to set weights; oldest first but for the miners."""

    at: float
    rounds: tuple[RoundView, ...]
    miners: tuple[MinerView, ...]
    stopped: tuple[StoppedImage, ...]
    weight_settings: tuple[SettingView, ...]


def read_overview(store: StoreReader, rounds: int) -> Overview:
    """The newest `rounds` rounds and what came of them. Raises StoreError."""
    with store.snapshot():
        first = max(0, store.next_round_id() - 1 - rounds)
        images = list(store.images(first))
        answers = list(store.answers(first))
        settings = tuple(map(_setting, store.weight_settings(WEIGHT_SETTINGS)))
        miners = list(store.miners())
        topics: dict[int, list[str]] = defaultdict(list)
        for prompt in store.prompts(first):
            topics[prompt.round_id].append(prompt.topic)
        observations: dict[int, dict[str, float]] = defaultdict(dict)
        for row in store.averages(first):
            observations[row.round_id][row.hotkey] = row.observation
        found = list(store.rounds(first))
    of_round = _verdicts((image.round_id, image) for image in images)
    of_miner = _verdicts((image.hotkey, image) for image in images)
    queries = Counter(answer.hotkey for answer in answers)
    answered = Counter(answer.hotkey for answer in answers if answer.status == ANSWERED)
    last = {hotkey: standing for setting in settings for hotkey, standing in setting.basis.standings.items()}

    def view(miner: MinerRow) -> MinerView:
        verdicts, standing = of_miner.get(miner.hotkey, {}), last.get(miner.hotkey)
        return MinerView(
            miner.hotkey,
            miner.uid,
            miner.observations,
            average_of(miner),
            None if standing is None else standing.limited,
            None if standing is None else standing.share,
            miner.last_round,
            miner.observed_at,
            miner.absent_since,
            queries[miner.hotkey],
            answered[miner.hotkey],
            sum(verdicts.values()),
            verdicts,
        )

    return Overview(
        time.time(),
        tuple(
            RoundView(
                round,
                topics[round.round_id][0] if topics[round.round_id] else "",
                len(topics[round.round_id]),
                of_round.get(round.round_id, {}),
                observations[round.round_id],
            )
            for round in found
        ),
        tuple(sorted(map(view, miners), key=lambda miner: (-miner.average, miner.uid))),
        tuple(
            StoppedImage(
                *(image.round_id, image.position, image.hotkey, image.number),
                *(image.sha256, image.verdict, image.evidence),
            )
            for image in images
            if image.verdict != VALID
        ),
        settings,
    )


def _verdicts(keyed: Iterable[tuple[int | str, ImageRow]]) -> dict[int | str, dict[str, int]]:
    counted: dict[int | str, Counter[str]] = defaultdict(Counter)
    for key, image in keyed:
        counted[key][image.verdict] += 1
    return {key: dict(counter.most_common()) for key, counter in counted.items()}


def find_miner(store: StoreReader, name: str) -> str:
    """The hotkey that is named, by itself or by its uid as of the last round. Raises LookupError for none on record."""
    for miner in store.miners():
        if name in (miner.hotkey, str(miner.uid)):
            return miner.hotkey
    if is_hotkey(name) and store.asked_rounds(name, store.next_round_id(), 1, LOOKED_BACK):
        return name  # it is not a miner any more, or registered anew
    raise LookupError(f"no miner {name!r} is on record in {store.path}; give a hotkey or uid of those without --miner")


def _setting(row: WeightSettingRow) -> SettingView:
    basis = basis_of(row)
    agrees = None
    if basis.standings and row.weights:
        averages = {each.uid: each.limited for each in basis.standings.values()}
        again = shape_weights(averages, Shaping(**basis.shaping), basis.owner_uid)  # type: ignore[arg-type]
        agrees = again.keys() == row.weights.keys() and all(is_same(again[uid], row.weights[uid]) for uid in again)
    return SettingView(row.at, row.block, row.outcome, line(row.detail), row.weights, basis, agrees)
