"""A score store as a validator leaves it: four miners of different quality, and prompts that nobody should trust."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from made_up_rounds import make_plan
from PIL import Image, ImageDraw

from ig_subnet.reporting.epochs import EpochReading
from ig_subnet.reporting.history import read_history
from ig_subnet.reporting.html import Run
from ig_subnet.reporting.summary import MinerSummary, Summary
from ig_subnet.validating.commitments import Plan, PlannedPrompt, digest_of, next_head
from ig_subnet.validating.records import (
    DUPLICATE,
    VALID,
    AnswerRow,
    AverageRow,
    CommitmentRow,
    ExpertScoreRow,
    ImageRow,
    RoundRecord,
    RoundRow,
)
from ig_subnet.validating.store import STORE_FILE, ScoreStore

QUALITY = {"pocket-20": 0.72, "pocket-2": 0.55, "pocket-1": 0.4, "noise": 0.03}
HOTKEYS = {f"5{letter * 47}": role for letter, role in zip("ABCD", QUALITY, strict=True)}
WEIGHTS = {1: 0.61, 2: 0.27, 3: 0.115, 4: 0.005}
HOSTILE = """<script>alert(1)</script><img src=x onerror="alert(2)">'"&amp;{{ 7*7 }} </style></svg>"""
ROUNDS = 14
EVIDENCE = json.dumps(
    {"like": {"round_id": 1, "position": 0, "hotkey": "5" + "C" * 47, "number": 0}, "bits": 3, "cosine": 0.98765}
)


def draw(folder: Path, quality: float, random_source: random.Random) -> str:
    """A picture whose shapes are the more broken the lower the quality; returns its sha256."""
    picture = Image.new("RGB", (64, 64), "seagreen")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((10, 8, 34, 32), fill="crimson")
    pen.rectangle((30, 36, 52, 58), fill="royalblue")
    for _ in range(round((1 - quality) * 1500)):
        place = (random_source.randrange(64), random_source.randrange(64))
        picture.putpixel(place, tuple(random_source.randrange(256) for _ in range(3)))
    folder.mkdir(exist_ok=True)
    partial = folder / "drawn.png"
    picture.save(partial)
    sha256 = hashlib.sha256(partial.read_bytes()).hexdigest()
    partial.rename(folder / f"{sha256}.png")
    return sha256


def plan_of(round_id: int) -> Plan:
    """Two prompts a round; the second one is the same in every other round, and made from two prompts."""
    prompts = tuple(
        PlannedPrompt(
            text=HOSTILE if (round_id, position) == (1, 0) else f"a red circle above a blue square, take {round_id}",
            id=(id := f"{round_id if position == 0 else round_id % 2 + 100:016x}"),
            parents=(id, "donor") if position else (id,),
            source="pocket",
            row=position,
            similarity=0.71,
        )
        for position in range(2)
    )
    return make_plan(round_id).model_copy(update={"topic": "a red <shape>", "prompts": prompts})


def commit(store: ScoreStore, round_id: int) -> int:
    """Commits to the plan of the round; returns the number."""
    newest, head = store.newest_head()
    secret, content = hashlib.sha256(b"%d" % newest).digest(), plan_of(round_id).canonical()
    digest = digest_of(secret, content)
    at = 1_790_000_000 + 4.0 * round_id - 0.3
    store.commit(
        CommitmentRow(
            newest + 1, round_id, at, 8 + 4 * round_id, digest, next_head(head, digest), secret.hex(), content
        )
    )
    return newest + 1


def fill_store(store: ScoreStore, images: Path, rounds: int = ROUNDS) -> None:
    chance = random.Random(5)
    averages = dict.fromkeys(HOTKEYS, 0.0)
    for round_id in range(1, rounds + 1):
        answers, pictures, scores, rows = [], [], [], []
        for position in range(2):
            for uid, (hotkey, role) in enumerate(HOTKEYS.items(), start=1):
                silent = role == "noise" and round_id % 5 == 1
                values = [min(1.0, max(0.001, chance.gauss(QUALITY[role], 0.12))) for _ in range(2)]
                status, detail = ("timeout", "no answer in 10 s <b>") if silent else ("answered", "")
                incentive = 0.0 if silent else sum(values) / 2
                elapsed = 10.0 if silent else chance.uniform(0.1, 0.6)
                answers.append(AnswerRow(round_id, position, hotkey, uid, status, elapsed, 7, incentive, detail))
                for number, value in enumerate(() if silent else values):
                    gated = role == "pocket-1" and (round_id, position, number) == (1, 0, 1)
                    sha256 = draw(images, QUALITY[role], chance)
                    pictures.append(
                        ImageRow(
                            round_id, position, hotkey, number, sha256, "png", 64, 64, 4096,
                            DUPLICATE if gated else VALID, None if gated else value, 0.0 if gated else value,
                            evidence=EVIDENCE if gated else None,
                        )
                    )  # fmt: skip
                    if not gated:
                        for expert, scale in (("pick_score", 20.0), ("clip_aesthetic", 9.0)):
                            scores.append(ExpertScoreRow(round_id, position, hotkey, number, expert, value * scale))
        for uid, hotkey in enumerate(HOTKEYS, start=1):
            observed = [answer.incentive for answer in answers if answer.hotkey == hotkey]
            observation = sum(observed) / len(observed)
            averages[hotkey] += (observation - averages[hotkey]) / round_id
            rows.append(AverageRow(round_id, hotkey, uid, observation, averages[hotkey]))
        planned = commit(store, round_id)
        if round_id == 3:
            store.void_commitment(planned, 1_790_000_012.0)
            planned = commit(store, round_id)
        started = 1_790_000_000 + 4.0 * round_id
        answered = sum(answer.status == "answered" for answer in answers)
        store.record_round(
            RoundRecord(
                RoundRow(round_id, started, started + 3.6, 10 + 4 * round_id, len(answers), answered),
                plan_of(round_id).rows(), tuple(answers), tuple(pictures), tuple(scores), tuple(rows), (),
                commitment=planned,
            )
        )  # fmt: skip
    commit(store, rounds + 1)
    store.record_weight_setting(at=1_790_000_030.0, block=38, outcome="WeightsSet", detail="", weights=WEIGHTS)
    store.record_weight_setting(
        at=1_790_000_050.0, block=44, outcome="WeightsTooEarly", detail="5 blocks <early>", weights=WEIGHTS
    )


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the filled store; images lie beside it in `images`."""
    folder = tmp_path_factory.mktemp("validator")
    with ScoreStore.open(folder / STORE_FILE) as store:
        fill_store(store, folder / "images")
    return folder / STORE_FILE


@pytest.fixture(scope="session")
def run(store_path: Path) -> Run:
    history = read_history(store_path)
    last = {row.hotkey: row.average for row in history.averages}
    miners = [
        MinerSummary(
            uid=uid, hotkey=hotkey, role=role, queries=28, answers=22 if role == "noise" else 28, reward=QUALITY[role],
            moving_average=last[hotkey], weight=WEIGHTS[uid], incentive=WEIGHTS[uid],
        )
        for uid, (hotkey, role) in enumerate(HOTKEYS.items(), start=1)
    ]  # fmt: skip
    return Run(
        summary=Summary(
            netuid=1, rounds=ROUNDS, epochs=2, seconds=96.4, miners=tuple(miners), versions={"torch": "2.14.1"}
        ),
        history=history,
        images=store_path.parent / "images",
        epochs=(EpochReading(20, WEIGHTS), EpochReading(40, WEIGHTS)),
        facts={"seed": "7", "blocks": "1 s each, tempo 20"},
    )
