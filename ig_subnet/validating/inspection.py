"""What a score store tells of a validator and of one miner, read beside the validator that writes it.

Everything is of one moment (`StoreReader.snapshot`), and nothing is written. What a miner is told of itself over the
wire is the same `MinerRecord` that an operator sees of it.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ig_subnet.validating.explaining import is_same
from ig_subnet.validating.moving_average import average_of
from ig_subnet.validating.reading import StoreReader
from ig_subnet.validating.records import (
    VALID,
    AverageRow,
    ExpertScoreRow,
    ImageRow,
    MinerRow,
    RoundRow,
    WeightSettingRow,
)
from ig_subnet.validating.weighting import Shaping, Standing, shape_weights
from protocol.record import (
    MAX_TEXT,
    AnswerRecord,
    ExpertRecord,
    ImageRecord,
    MinerRecord,
    MinerRoundRecord,
    StandingRecord,
    WeightRecord,
)
from protocol.signing import is_hotkey

LOOKED_BACK = 10_000
"""Rounds in which a miner's newest ones are looked for: a look-up each, 20 ms where it was asked in none of them."""
WEIGHT_SETTINGS = 8
"""Attempts to set weights in a record, and in an overview."""
ANSWERED = "answered"


@dataclass(frozen=True)
class Basis:
    """What one attempt to set weights followed from; the miners keyed by hotkey."""

    standings: dict[str, Standing]
    shaping: dict[str, float | str | None]
    alpha: float | None
    owner_uid: int | None


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


def basis_of(setting: WeightSettingRow) -> Basis:
    """What weights followed from; empty where an earlier version has set them."""
    told = json.loads(setting.basis) if setting.basis else {"shaping": {}, "miners": []}
    standings = {hotkey: Standing(hotkey, *rest) for hotkey, *rest in told["miners"]}
    return Basis(standings, told["shaping"], told.get("alpha"), told.get("owner_uid"))


# --- one miner -------------------------------------------------------------------------------------------------------


def read_record(store: StoreReader, hotkey: str, *, rounds: int, before: int | None = None) -> MinerRecord:
    """What is on record of one miner: its newest `rounds` rounds below `before`. Raises StoreError."""
    with store.snapshot():
        before = before or store.next_round_id()
        wanted = store.asked_rounds(hotkey, before, rounds + 1, LOOKED_BACK)
        shown = wanted[:rounds]
        miner = next((miner for miner in store.miners() if miner.hotkey == hotkey), None)
        settings = list(store.weight_settings(WEIGHT_SETTINGS))
        return MinerRecord(
            hotkey=hotkey,
            at=time.time(),
            standing=None if miner is None else _standing(miner),
            rounds=tuple(_rounds(store, hotkey, shown)),
            older=shown[-1] if len(wanted) > len(shown) else None,
            weights=tuple(_weight(setting, hotkey, miner) for setting in reversed(settings)),
        )


def _standing(miner: MinerRow) -> StandingRecord:
    return StandingRecord(
        uid=miner.uid,
        registered_at=miner.registered_at,
        observations=miner.observations,
        last_round=miner.last_round,
        observed_at=miner.observed_at,
        absent_since=miner.absent_since,
        accumulator=miner.accumulator,
        accumulated_weight=miner.accumulated_weight,
        squares=miner.squares,
        average=average_of(miner),
    )


def _rounds(store: StoreReader, hotkey: str, wanted: Sequence[int]) -> Iterator[MinerRoundRecord]:
    """These rounds as this miner saw them, in this order."""
    experts: dict[tuple[int, int, int], dict[str, ExpertRecord]] = defaultdict(dict)
    for score in store.expert_scores(hotkey=hotkey, rounds=wanted):
        experts[score.round_id, score.position, score.number][score.expert] = _expert(score)
    images: dict[tuple[int, int], list[ImageRecord]] = defaultdict(list)
    for image in store.images(hotkey=hotkey, rounds=wanted):
        scores = experts[image.round_id, image.position, image.number]
        images[image.round_id, image.position].append(_image(image, scores))
    prompts = {(prompt.round_id, prompt.position): prompt for prompt in store.prompts(rounds=wanted)}
    answers: dict[int, list[AnswerRecord]] = defaultdict(list)
    for answer in store.answers(hotkey=hotkey, rounds=wanted):
        prompt = prompts[answer.round_id, answer.position]
        answers[answer.round_id].append(
            AnswerRecord(
                position=answer.position,
                topic=line(prompt.topic),
                prompt=prompt.text,
                prompt_id=prompt.prompt_id,
                source=line(prompt.source),
                status=answer.status,
                elapsed_seconds=answer.elapsed_seconds,
                seed=answer.seed,
                incentive=answer.incentive,
                detail=line(answer.detail),
                images=tuple(images[answer.round_id, answer.position]),
            )
        )
    averages: dict[int, AverageRow] = {row.round_id: row for row in store.averages(hotkey=hotkey, rounds=wanted)}
    rows = {row.round_id: row for row in store.rounds(rounds=wanted)}
    for round_id in wanted:
        row, average = rows[round_id], averages[round_id]
        yield MinerRoundRecord(
            round_id=round_id,
            started_at=row.started_at,
            finished_at=row.finished_at,
            block=row.block,
            observation=average.observation,
            average=average.average,
            answers=tuple(answers[round_id]),
        )


def _expert(row: ExpertScoreRow) -> ExpertRecord:
    return ExpertRecord(
        score=row.score, worst=row.worst, truncated=None if row.truncated is None else bool(row.truncated)
    )


def _image(row: ImageRow, experts: Mapping[str, ExpertRecord]) -> ImageRecord:
    return ImageRecord(
        number=row.number,
        sha256=row.sha256,
        format=row.format,
        width=row.width,
        height=row.height,
        bytes=row.bytes,
        model=row.model,
        verdict=line(row.verdict),
        evidence=None if row.evidence is None else line(row.evidence),
        total=row.total,
        incentive=row.incentive,
        disagreement=row.disagreement,
        trust=row.trust,
        alignment=row.alignment,
        unsafe=row.unsafe,
        experts=dict(experts),
    )


def _weight(setting: WeightSettingRow, hotkey: str, miner: MinerRow | None) -> WeightRecord:
    basis = basis_of(setting)
    standing = basis.standings.get(hotkey)
    uid = standing.uid if standing is not None else None
    if not basis.standings and miner is not None and setting.block > miner.registered_at:
        uid = miner.uid  # of an earlier version, which kept uids alone
    others = (each for each in basis.standings.values() if each.uid != basis.owner_uid)
    best = max(others, key=lambda each: each.limited, default=None)
    return WeightRecord(
        at=setting.at,
        block=setting.block,
        outcome=setting.outcome,
        detail=line(setting.detail),
        uid=uid,
        share=0.0 if uid is None else min(1.0, setting.weights.get(uid, 0.0)),
        average=None if standing is None else standing.average,
        limited=None if standing is None else standing.limited,
        highest=None if best is None else best.limited,
        highest_share=None if best is None else min(1.0, best.share),
        weighed=len(basis.standings) if setting.basis else None,
        paid=len(setting.weights),
        alpha=basis.alpha,
        shaping=basis.shaping,
    )


def line(text: str) -> str:
    """A text of ours or of the chain as a record carries it: one line without control characters, cut to `MAX_TEXT`."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:MAX_TEXT]
