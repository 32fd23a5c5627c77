"""What a validator has on record of one miner, read beside the validator that writes it.

The same for the operator who inspects a store and for the miner itself, who is told it over the wire (docs/wire.md).
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ig_subnet.validating.moving_average import average_of
from ig_subnet.validating.reading import StoreReader
from ig_subnet.validating.records import AverageRow, ExpertScoreRow, ImageRow, MinerRow, WeightSettingRow
from ig_subnet.validating.weighting import Standing
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

LOOKED_BACK = 10_000
"""Rounds in which a miner's newest ones are looked for: a look-up of 4 us each."""
WEIGHT_SETTINGS = 8
"""Attempts to set weights in a record, and in an overview."""
TOLD_EVIDENCE = {
    "like": ("round_id", "hotkey", "position", "number"),
    "checked": ("number", "model", "cosine", "threshold", "matches", "levels"),
}
"""The parts of a gate's evidence that a miner is told, beside figures."""


@dataclass(frozen=True)
class Basis:
    """What one attempt to set weights followed from; the miners keyed by hotkey."""

    standings: dict[str, Standing]
    shaping: dict[str, float | str | None]
    alpha: float | None
    owner_uid: int | None


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
        evidence=None if row.evidence is None else told(row.evidence),
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
    if setting.weights and not setting.basis and miner is not None and setting.block > miner.registered_at:
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


def told(evidence: str) -> str:
    """What a gate found, as far as it may be told: figures, where the image stands that this one is like, and what came
    of making it again. Whatever else a gate may put there for the operator stays here."""
    found: dict[str, Any] = json.loads(evidence)
    kept = {name: value for name, value in found.items() if not isinstance(value, str | list | dict)}
    for name, parts in TOLD_EVIDENCE.items():
        if name in found:
            kept[name] = {part: found[name][part] for part in parts if part in found[name]}
    return json.dumps(kept)


def line(text: str) -> str:
    """A text of ours or of the chain as a record carries it: one line without control characters, cut to `MAX_TEXT`."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:MAX_TEXT]


def basis_of(setting: WeightSettingRow) -> Basis:
    """What weights followed from; empty where an earlier version has set them."""
    told = json.loads(setting.basis) if setting.basis else {"shaping": {}, "miners": []}
    standings = {hotkey: Standing(hotkey, *rest) for hotkey, *rest in told["miners"]}
    return Basis(standings, told["shaping"], told.get("alpha"), told.get("owner_uid"))
