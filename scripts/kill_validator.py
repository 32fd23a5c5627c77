"""Kills a validator at random instants, over and over, and checks each time what it remembers.

    python scripts/kill_validator.py --restarts 200 --json kills.json

The validator's own loop runs in a process of its own, with rounds, commitments, weights and retention on its real store
and real decoders; chain, device and miners are made up (`made_up_subnet`). SIGKILL meets it while it starts or anywhere
in its rounds. After each, the store has to be sound: every round that was recorded is there, whole and unchanged, but
for what retention forgot; at most the one in flight is missing; the moving averages are what the answers on record come
to, each counted once; and the commitments are one unbroken chain. Ends with status 1 at the first fault.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import math
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_subnet.validating.commitments import ASKED, verify
from ig_subnet.validating.errors import StoreMissing
from ig_subnet.validating.records import AnswerRow
from ig_subnet.validating.store import STORE_FILE, ScoreStore

if TYPE_CHECKING:
    from ig_subnet.config.settings import ValidatorSettings
    from protocol import QueryResult, Target, TextToImageSynapse

RESTARTS, QUICK_RESTARTS = 200, 10
PHASES = {0: 0.25, 1: 0.25, 2: 0.5}  # share of the kills that wait for as many words: ready, a round, another, ...
LIFE_SECONDS = 0.6  # that the validator has after them at most: about ten rounds
HOTKEY = "5F" + "a" * 46
MINERS = tuple("5G" + letter * 46 for letter in "bcdefghi")
PROMPTS, IMAGES, SIDE, ALPHA = 2, 2, 32, 0.1
HISTORY = 200  # images that the gate remembers: of about ten rounds
FLAGS = (
    *("--subtensor.network", "local", "--neuron.round_seconds", "0", "--neuron.timeout", "30"),
    *("--neuron.prompts_per_round", str(PROMPTS), "--neuron.images_per_prompt", str(IMAGES)),
    *("--neuron.image_width", str(SIDE), "--neuron.image_height", str(SIDE), "--neuron.sample_size", "6"),
    *("--neuron.moving_average_alpha", str(ALPHA), "--neuron.decoder_workers", "1", "--neuron.keep_megabytes", "2"),
)
READY = "ready"


class Fault(Exception):
    """The store is not what it has to be; the message says what is wrong with it."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=RESTARTS, help=f"(default: {RESTARTS})")
    parser.add_argument("--seed", type=int, default=1, help="of the instants (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the validator's state there, or go on with it")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RESTARTS} restarts")
    parser.add_argument("--write", type=Path, metavar="DIR", help=argparse.SUPPRESS)  # be the validator that is killed
    options = parser.parse_args(arguments)
    if options.write:
        asyncio.run(validate(settings_in(options.write)))
        return 0
    restarts = QUICK_RESTARTS if options.quick else options.restarts
    if restarts < 1:
        parser.error(f"--restarts must be at least 1, not {restarts}")
    from ig_subnet.reporting.measurements import write_measurements

    with tempfile.TemporaryDirectory(prefix="kill-validator-") as folder:
        try:
            row = kill_over_and_over(options.out or Path(folder), restarts, random.Random(options.seed))
        except Fault as fault:
            print(f"FAULT: {fault}", file=sys.stderr)
            return 1
    print(", ".join(f"{name} {value}" for name, value in row.items()))
    if options.json:
        write_measurements(options.json, [row])
    return 0


def settings_in(folder: Path) -> ValidatorSettings:
    from ig_subnet.config.settings import parse_validator_settings

    kept = ("--neuron.root", str(folder / "state"), "--neuron.save_images", str(folder / "images"))
    return parse_validator_settings([*FLAGS, *kept])


# --- the validator that is killed


async def validate(settings: ValidatorSettings) -> None:
    """The validator's own loop; tells on standard output when it begins, and each round that it has recorded."""
    from made_up_subnet import EXPERT, MadeUpChain, MadeUpDevice, neuron

    from ig_subnet.chain import MetagraphSnapshot
    from ig_subnet.imaging import DecoderPool
    from ig_subnet.reporting.wandb_log import WandbRun
    from ig_subnet.validating.gate_settings import DuplicatesGate, GateSettings
    from ig_subnet.validating.memory import Memory
    from ig_subnet.validating.records import RoundRecord
    from neurons.validator import ValidatorNeuron, until_first_ends

    class TellingMemory(Memory):
        async def remember(self, *args: Any, **kwargs: Any) -> RoundRecord:
            record = await super().remember(*args, **kwargs)
            tell(record.round.round_id)
            return record

    gate = DuplicatesGate(
        hash_distance=8,
        laid_over=0.99,
        times_nearer=4,
        expert=EXPERT,
        cosine=0.99,
        history=HISTORY,
        provenance="made up",
    )
    assert settings.neuron.save_images is not None
    settings.neuron.save_images.mkdir(parents=True, exist_ok=True)
    snapshot = MetagraphSnapshot(
        settings.netuid, 1000, (neuron(0, HOTKEY, axon=False), *(neuron(1 + n, key) for n, key in enumerate(MINERS)))
    )
    async with AsyncExitStack() as stack:
        memory = await stack.enter_async_context(TellingMemory(settings.state_directory / STORE_FILE))
        device = await stack.enter_async_context(MadeUpDevice(GateSettings(duplicates=gate)))
        decoders = await stack.enter_async_context(DecoderPool(settings.neuron.decoder_workers))
        validator = ValidatorNeuron(
            settings,
            HOTKEY,
            MadeUpChain(snapshot, HOTKEY),
            snapshot,
            memory,
            device,
            decoders.decode,
            answer,
            WandbRun(None),
        )
        tell(READY)
        await until_first_ends(validator.run_rounds(), validator.keep_weights_set(), validator.keep_within_limits())


def tell(what: object) -> None:
    os.write(1, f"{what}\n".encode())  # at once: nothing of it is lost with the process


async def answer(target: Target, synapse: TextToImageSynapse) -> QueryResult:
    """As `Dendrite.query`: one is silent, one sends what is no image, the others are brighter in turn."""
    import numpy as np
    from PIL import Image

    from protocol import GeneratedImage, QueryResult, QueryStatus

    place = MINERS.index(target.hotkey)
    if place == 0:
        return QueryResult(target, QueryStatus.TIMEOUT, (), 0.01, "made up to be silent")
    images = []
    for number in range(synapse.num_images):
        rng = np.random.default_rng(synapse.seed + number)
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 32 * (place + 1), (SIDE, SIDE, 3), dtype=np.uint8)).save(file, "PNG")
        data = file.getvalue() if place < len(MINERS) - 1 else b"no image"
        images.append(GeneratedImage("png", SIDE, SIDE, synapse.seed + number, "made up", data))
    return QueryResult(target, QueryStatus.ANSWERED, tuple(images), 0.01)


# --- the one who kills it


def kill_over_and_over(folder: Path, restarts: int, rng: random.Random) -> dict[str, Any]:
    """The figures of all of it. Raises Fault."""
    folder.mkdir(parents=True, exist_ok=True)
    path = settings_in(folder).state_directory / STORE_FILE
    known, begun, starting, untold, start_seconds = Known(), time.monotonic(), 0, 0, LIFE_SECONDS
    known.check(path)
    for number in range(1, restarts + 1):
        (words,) = rng.choices(list(PHASES), list(PHASES.values()))
        started = time.monotonic()
        told = live_and_die(folder, words, rng.uniform(0, LIFE_SECONDS if words else start_seconds))
        if words == 1:
            start_seconds = time.monotonic() - started
        starting += READY not in told
        recorded = [int(line) for line in told if line.isdigit()]
        last_told = max([known.last_round, *recorded])
        known.check(path)
        if known.last_round < last_told:
            raise Fault(f"round {last_told} was recorded, and {known.last_round} is the last on record")
        if known.last_round > last_told + 1:
            raise Fault(f"round {known.last_round} is on record, and {last_told} was the last before it")
        untold += known.last_round - last_told
        if number % 10 == 0:
            print(f"{number} kills, {known.last_round} rounds, {known.forgotten} forgotten, all well", flush=True)
    return {
        "restarts": restarts,
        "killed_while_starting": starting,
        "killed_between_record_and_word_of_it": untold,
        "rounds": known.last_round,
        "rounds_lost": 0,
        "rounds_whose_details_were_forgotten": known.forgotten,
        "commitments": known.commitments,
        "observations": sum(miner.observations for miner in known.miners.values()),
        "seconds": round(time.monotonic() - begun, 1),
    }


def live_and_die(folder: Path, words: int, seconds: float) -> list[str]:
    """What a validator told before it was killed, so many seconds after so many words of it."""
    with (
        (folder / "validator.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, __file__, "--write", str(folder)], stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(words)]
        time.sleep(seconds)
        ended = process.poll()
        process.kill()
        told = "".join(first) + process.stdout.read()
    if ended is not None:
        raise Fault(f"the validator ended by itself: {(folder / 'validator.log').read_text()[-2000:]}")
    return told.splitlines()


@dataclass
class Miner:
    """A moving average, added up here from the answers on record."""

    accumulator: float = 0.0
    accumulated_weight: float = 0.0
    squares: float = 0.0
    observations: int = 0
    last_round: int = 0

    def observe(self, round_id: int, observation: float) -> None:
        self.accumulator += ALPHA * (observation - self.accumulator)
        self.accumulated_weight += ALPHA * (1 - self.accumulated_weight)
        self.squares += ALPHA * (observation**2 - self.squares)
        self.observations += 1
        self.last_round = round_id


@dataclass
class Known:
    """What was on record at the last look; `rounds` are the answers by round."""

    last_round: int = 0
    rounds: dict[int, tuple[AnswerRow, ...]] = field(default_factory=dict)
    miners: dict[str, Miner] = field(default_factory=lambda: defaultdict(Miner))
    commitments: int = 0
    head: str = ""
    forgotten: int = 0

    def check(self, path: Path) -> None:
        """Takes in what is in the store now. Raises Fault."""
        try:
            store = ScoreStore.open_read_only(path)
        except StoreMissing:
            if self.commitments or self.last_round:
                raise Fault("the store is gone") from None
            return
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            if (found := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                raise Fault(f"SQLite says of the file: {found}")
        with store, store.snapshot():
            self._check_rounds(store)
            self._check_details(store)
            self._check_averages(store)
            self._check_commitments(store)

    def _check_rounds(self, store: ScoreStore) -> None:
        """Those known are there as they were, but for the oldest, which may be forgotten; new ones follow, whole."""
        answers = by_round(store.answers())
        prompts = by_round(store.prompts())
        rows = list(store.rounds())
        ids = [row.round_id for row in rows]
        if ids != list(range(ids[0] if ids else 1, (ids[0] if ids else 1) + len(ids))):
            raise Fault(f"the rounds on record are {ids}")
        if answers.keys() != set(ids) or prompts.keys() != set(ids):
            raise Fault("there are answers or prompts of no round, or a round without")
        if self.last_round and (not ids or ids[-1] < self.last_round):
            raise Fault(f"round {self.last_round} was on record, and is not any more")
        for row in rows:
            asked = {(answer.position, answer.hotkey) for answer in answers[row.round_id]}
            if len(asked) != row.queried or len(prompts[row.round_id]) != PROMPTS:
                raise Fault(f"round {row.round_id} is not whole")
            if answers[row.round_id] != self.rounds.get(row.round_id, answers[row.round_id]):
                raise Fault(f"the answers of round {row.round_id} have changed")
        for round_id in range(self.last_round + 1, ids[-1] + 1 if ids else 0):
            self._observe(round_id, answers[round_id])
        self.rounds = answers
        self.last_round = ids[-1] if ids else 0

    def _observe(self, round_id: int, answers: Sequence[AnswerRow]) -> None:
        incentives: dict[str, list[float]] = defaultdict(list)
        for row in answers:
            incentives[row.hotkey].append(row.incentive)
        for hotkey, earned in incentives.items():
            self.miners[hotkey].observe(round_id, math.fsum(earned) / len(earned))

    def _check_details(self, store: ScoreStore) -> None:
        """A round has all of its details or none, and the newest rounds have them."""
        averages, images, scores = (
            by_round(rows) for rows in (store.averages(), store.images(), store.expert_scores())
        )
        detailed = set(averages)
        if detailed != set(range(min(detailed, default=1), self.last_round + 1)):
            raise Fault(f"of {self.last_round} rounds, these have details: {sorted(detailed)}")
        for round_id in detailed:
            answered = [answer for answer in self.rounds[round_id] if answer.status == "answered"]
            scored = [image for image in images[round_id] if image.total is not None]
            if (
                {row.hotkey for row in averages[round_id]} != {row.hotkey for row in self.rounds[round_id]}
                or len(images[round_id]) != IMAGES * len(answered)
                or len(scores[round_id]) != len(scored)
            ):
                raise Fault(f"the details of round {round_id} are not whole")
        if not images.keys() | scores.keys() <= detailed:
            raise Fault("there are images or scores of a round without averages")
        self.forgotten = self.last_round - len(detailed)

    def _check_averages(self, store: ScoreStore) -> None:
        """They are what the answers come to, each counted once."""
        rows = {row.hotkey: row for row in store.miners()}
        if rows.keys() != self.miners.keys():
            raise Fault(f"{len(rows)} miners have an average, {len(self.miners)} were observed")
        for hotkey, miner in self.miners.items():
            for name, value in vars(miner).items():
                if not math.isclose(getattr(rows[hotkey], name), value, rel_tol=1e-9, abs_tol=1e-12):
                    raise Fault(f"{name} of {hotkey} is {getattr(rows[hotkey], name)}, its answers come to {value}")

    def _check_commitments(self, store: ScoreStore) -> None:
        """One unbroken chain, that goes on from what was known; every recorded round was committed to."""
        rows = list(store.commitments())
        if faults := [f"commitment {n}: {fault}" for n, fault in enumerate(verify(rows), 1) if fault is not None]:
            raise Fault(faults[0])
        if self.commitments and (len(rows) < self.commitments or rows[self.commitments - 1].head != self.head):
            raise Fault(f"commitment {self.commitments} was on record, and is not any more")
        if (asked := sum(row.outcome == ASKED for row in rows)) != self.last_round:
            raise Fault(f"{asked} commitments were asked, {self.last_round} rounds recorded")
        self.commitments, self.head = len(rows), rows[-1].head if rows else ""


def by_round(rows: Iterable[Any]) -> dict[int, tuple[Any, ...]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.round_id].append(row)
    return {round_id: tuple(of_round) for round_id, of_round in found.items()}


if __name__ == "__main__":
    sys.exit(main())
