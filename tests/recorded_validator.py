"""A validator's store as its rounds leave it: averages that were moved, weights that were weighed, a plan to come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bittensor.keyfiles import Keypair
from made_up_rounds import make_plan

from ig_subnet.chain import AxonEndpoint, MetagraphSnapshot, NeuronSnapshot
from ig_subnet.validating.commitments import digest_of, next_head
from ig_subnet.validating.moving_average import average_of, registrations_of, update
from ig_subnet.validating.records import (
    COPY,
    VALID,
    AnswerRow,
    AverageRow,
    CommitmentRow,
    ExpertScoreRow,
    ImageRow,
    MinerRow,
    PromptRow,
    RoundRecord,
    RoundRow,
)
from ig_subnet.validating.store import ScoreStore
from ig_subnet.validating.weighting import Shaping, weigh

ALPHA = 0.1
VALIDATOR, ALICE, BOB, CAROL = (
    Keypair.create_from_uri(f"//{name}").ss58_address for name in ("Validator", "Alice", "Bob", "Carol")
)
MINERS = (ALICE, BOB, CAROL)
SECRET = bytes(range(32))
NEXT_PROMPT = "a prompt of the round to come"
PRIVATE = "what a gate says to the operator alone"
BEGINNING = 1_700_000_000.0


def metagraph(*hotkeys: str, validates: bool = True, axon: AxonEndpoint | None = None) -> MetagraphSnapshot:
    """The validator as uid 0, with an axon and a history of weights as told, and miners from uid 1 on."""
    neurons = [
        NeuronSnapshot(
            *(uid, hotkey, "cold", 0.0, uid == 0, True, 50 if uid == 0 and validates else 10 + uid, 10 + uid),
            axon if uid == 0 else AxonEndpoint("192.0.2.1", 8000 + uid),
            *(0.0,) * 6,
        )
        for uid, hotkey in enumerate((VALIDATOR, *hotkeys))
    ]
    return MetagraphSnapshot(1, 100, tuple(neurons))


def incentive(round_id: int, hotkey: str) -> float:
    """Alice does well, Bob less so, and Carol copies Alice."""
    return {ALICE: 0.75, BOB: 0.25 + round_id % 4 / 8, CAROL: 0.0}[hotkey]


def record_rounds(path: Path, rounds: int, *, prompts: int = 1, miners: Sequence[str] = MINERS) -> None:
    """Writes so many rounds of these miners, each two images a prompt, two settings of weights and the next plan.

    Bob is asked in every second round only.
    """
    snapshot = metagraph(*miners)
    remembered: dict[str, MinerRow] = {}
    with ScoreStore.open(path) as store:
        for round_id in range(1, rounds + 1):
            asked = [hotkey for hotkey in miners if hotkey != BOB or round_id % 2]
            now = BEGINNING + 60 * round_id
            observations = {hotkey: incentive(round_id, hotkey) for hotkey in asked}
            remembered = update(
                *(remembered, registrations_of(snapshot), observations), alpha=ALPHA, round_id=round_id, now=now
            )
            store.record_round(_round(round_id, now, prompts, remembered, observations))
        weighing = weigh(remembered, snapshot, VALIDATOR, alpha=ALPHA, shaping=Shaping(exponent=2.0))
        for block, outcome in ((1000, "set"), (1010, "too_early")):
            store.record_weight_setting(
                at=BEGINNING + 60 * rounds + block,
                block=block,
                outcome=outcome,
                detail=f"the chain says\n{outcome}\x1b[2J",
                weights=weighing.shares,
                basis=weighing.basis,
            )
        _, head = store.newest_head()
        content = make_plan(rounds + 1, VALIDATOR, NEXT_PROMPT).canonical()
        digest = digest_of(SECRET, content)
        store.commit(
            CommitmentRow(1, rounds + 1, BEGINNING, 100, digest, next_head(head, digest), SECRET.hex(), content)
        )


def _round(
    round_id: int, now: float, prompts: int, remembered: dict[str, MinerRow], observations: dict[str, float]
) -> RoundRecord:
    answers, images, scores = [], [], []
    for position in range(prompts):
        for hotkey, earned in observations.items():
            uid = remembered[hotkey].uid
            answers.append(AnswerRow(round_id, position, hotkey, uid, "answered", 0.5, 7, earned, ""))
            for number in range(2):
                key = (round_id, position, hotkey, number)
                evidence = None
                if hotkey == CAROL:
                    like = {"round_id": round_id, "hotkey": ALICE, "position": 0, "number": 0, "sha256": PRIVATE}
                    evidence = json.dumps({"like": like, "cosine": 0.99, "bits": 3, "prompt": PRIVATE})
                verdict = VALID if evidence is None else COPY
                images.append(
                    ImageRow(
                        *(*key, f"{round_id:064x}", "png", 64, 64, 999, verdict, 0.5, earned),
                        phash=bytes(32),
                        evidence=evidence,
                        embedding=bytes(512),
                    )
                )
                scores += [ExpertScoreRow(*key, name, 0.5, 0, 0.25) for name in ("clip_aesthetic", "pick_score")]
    return RoundRecord(
        RoundRow(round_id, now - 5, now, 100 + round_id, len(answers), len(answers)),
        tuple(
            PromptRow(round_id, position, "colours", f"prompt {position} of round {round_id}", 0.5, "pocket")
            for position in range(prompts)
        ),
        tuple(answers),
        tuple(images),
        tuple(scores),
        tuple(
            AverageRow(round_id, hotkey, remembered[hotkey].uid, earned, average_of(remembered[hotkey]))
            for hotkey, earned in observations.items()
        ),
        tuple(remembered.values()),
    )
