"""A thousand rounds of the real validator with 256 made-up miners, of which three in ten are faulty.

    python scripts/soak.py --json soak.json

The validator's loop, planner, gates, averages, store, retention and weight setter are the real ones; the device, the
chain, the clock and the wire are made up (scripts/made_up_subnet.py), and so are the miners, faulty in every way that
scripts/simulated_miners.py knows. The chain is away now and then, the decoders fail, and the validator is stopped and
started again. After each round its state is held against one that is computed here, from nothing but the recorded
answers and what the chain showed: it has to be the same to the last bit. Ends with status 1, and says why, where state
is wrong, weights make no sense, the store outgrows its limit, or memory grows by more than a MiB in a hundred rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from loguru import logger
from made_up_subnet import EXPERT, MadeUpChain, MadeUpDevice
from numpy.typing import NDArray
from soaking.ledger import Ledger
from soaking.miners import FAULTS, HONEST, NOTHING_EARNED, Patterns
from soaking.world import FAULTY_SHARE, OWN_HOTKEY, World

from ig_subnet.config.settings import parse_validator_settings
from ig_subnet.imaging import DecoderPool
from ig_subnet.reporting.measurements import write_measurements
from ig_subnet.reporting.wandb_log import open_run
from ig_subnet.validating.device import Device
from ig_subnet.validating.errors import RoundError
from ig_subnet.validating.gate_settings import GateSettings
from ig_subnet.validating.memory import Memory
from ig_subnet.validating.records import NOT_REGENERATED, VALID
from ig_subnet.validating.regeneration import Regenerator
from ig_subnet.validating.retention import Retention
from ig_subnet.validating.store import STORE_FILE, ScoreStore
from ig_subnet.validating.weight_setter import WeightSetter
from neurons.validator import ValidatorNeuron

ALPHA, IMAGES, SIDE = 0.1, 2, 32
ABSENCE_HOURS = 1.0  # 6 rounds
VERIFY_SHARE, VERIFY_SECONDS = 0.2, 5.0
LIVES = 4  # the validator is started as often
SAMPLES = 100
WARM_UP_SHARE = 0.4  # of the rounds: until then history and store fill up
MAX_SLOPE = 1.0  # MiB in a hundred rounds
FALSE_ALARMS = 0.05  # of honest images, at most
COPIED_SHARE = 0.2  # of what honest images earn, at most
FEWEST_MINERS = math.ceil(len(FAULTS) / FAULTY_SHARE)
LARGEST_SHARE = 0.2  # of all weight, once half of the miners are known
MIB, MEGABYTE = 2**20, 10**6

Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much a run is: `history` in images, and what the store keeps, in days and megabytes."""

    rounds: int
    miners: int
    history: int
    days: float
    megabytes: float


# Of the store's 40 MB, 20 are full of answers after 780 rounds: from then on whole rounds are forgotten.
FULL = Size(rounds=1000, miners=256, history=4000, days=3, megabytes=40)
QUICK = Size(rounds=60, miners=64, history=500, days=0.05, megabytes=5)  # 7 rounds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help=f"(default: {FULL.rounds})")
    parser.add_argument("--miners", type=int, help=f"(default: {FULL.miners})")
    parser.add_argument("--seed", type=int, default=1, help="of all that is made up (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.rounds} rounds with {QUICK.miners} miners")
    options = parser.parse_args(arguments)
    default = QUICK if options.quick else FULL
    size = replace(default, rounds=options.rounds or default.rounds, miners=options.miners or default.miners)
    if size.rounds < 2 * LIVES or size.miners < FEWEST_MINERS:
        parser.error(f"it takes {2 * LIVES} rounds and {FEWEST_MINERS} miners at least")
    logger.remove()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(size, options.seed, Path(folder))
        asyncio.run(soak.run())
    rows = soak.rows()
    for row in rows:
        print("  ".join(f"{name} {_short(value)}" for name, value in row.items()))
    if options.json:
        write_measurements(options.json, rows)
    for complaint in soak.complaints():
        print(f"soak.py: {complaint}", file=sys.stderr)
    return 1 if soak.complaints() else 0


class Soak:
    """One run: the validator with its store in `folder`, the world around it, and what was found wrong."""

    def __init__(self, size: Size, seed: int, folder: Path) -> None:
        self.size = size
        self.world = World(size.miners, seed)
        self.shown = self.world.snapshot()
        self.chain = MadeUpChain(self.shown, OWN_HOTKEY)
        self.ledger = Ledger(ALPHA, IMAGES, 3600 * ABSENCE_HOURS)
        self.settings = parse_validator_settings(
            [
                *("--subtensor.network", "local", "--neuron.root", str(folder), "--neuron.seed", str(seed)),
                *("--neuron.moving_average_alpha", str(ALPHA), "--neuron.images_per_prompt", str(IMAGES)),
                *("--neuron.image_width", str(SIDE), "--neuron.image_height", str(SIDE)),
                *("--neuron.sample_size", str(size.miners // 2), "--neuron.absence_hours", str(ABSENCE_HOURS)),
                *("--neuron.keep_days", str(size.days), "--neuron.keep_megabytes", str(size.megabytes)),
            ]
        )
        self.path = self.settings.state_directory / STORE_FILE
        self.wrong: list[str] = []
        self.samples: list[Row] = []
        self.done = self.void = self.lives = self.weight_settings = 0
        self.forgotten_rounds = self.forgotten_details = 0
        self.seconds = 0.0
        self.answers: Counter[str] = Counter()  # by role
        self.earned: dict[str, float] = defaultdict(float)  # by role, by all answers
        self.verdicts: dict[str, Counter[str]] = defaultdict(Counter)  # by role, of images

    # --- the run

    async def run(self) -> None:
        duplicates = {"hash_distance": 80, "laid_over": 0.95, "times_nearer": 3.5, "expert": EXPERT, "cosine": 0.9}
        models = {Patterns.name: {"cosine": 0.999, "provenance": "made-up images come out the same"}}
        gates = {
            "duplicates": {**duplicates, "history": self.size.history, "provenance": "made-up images are unlike"},
            "regeneration": {"models": models},
        }
        async with AsyncExitStack() as stack:
            device = await stack.enter_async_context(MadeUpDevice(GateSettings.parse(gates, "the soak")))
            regenerator = Regenerator(device, width=SIDE, height=SIDE, share=VERIFY_SHARE, seconds=VERIFY_SECONDS)
            await regenerator.load(Patterns)
            decoders = await stack.enter_async_context(DecoderPool(1))
            began = time.monotonic()
            for life in range(1, LIVES + 1):
                await self.live(self.size.rounds * life // LIVES, device, regenerator, decoders)
            self.seconds = time.monotonic() - began

    async def live(self, until: int, device: Device, regenerator: Regenerator, decoders: DecoderPool) -> None:
        """Starts the validator, and stops it after the round `until`."""

        async def decode(data: bytes, **expected: Any) -> NDArray[np.uint8]:
            if self.world.decoders_fail:
                raise RuntimeError("the decoders fail")
            return await decoders.decode(data, **expected)

        async with Memory(self.path) as memory:
            validator = ValidatorNeuron(
                self.settings,
                OWN_HOTKEY,
                self.chain,
                self.shown,
                memory,
                device,
                decode,
                self.world.miners.ask,
                open_run(self.settings, 0),
                regenerator,
                self.world.clock,
            )
            setter, retention = validator.weight_setter(), validator.retention()
            while self.done < until:
                await self.one_round(validator, setter, retention)
        self.lives += 1

    async def one_round(self, validator: ValidatorNeuron, setter: WeightSetter, retention: Retention) -> None:
        """A round and what goes on beside it, each held against what it should be."""
        self.world.advance()
        self.chain.snapshot, self.chain.block = self.world.snapshot(), self.world.block
        self.chain.away = self.world.chain_is_away
        if not self.chain.away:
            self.shown = self.chain.snapshot
        try:
            await validator.run_one_round()
        except RoundError as error:
            self.void += 1
            if not self.world.decoders_fail:
                self.wrong.append(str(error))
            return
        self.done += 1
        with ScoreStore.open_read_only(self.path) as store:
            self.check_round(store)
        known = len(self.chain.settings)
        await setter.step()
        for _, shares in self.chain.settings[known:]:
            self.check_weights(shares)
            self.weight_settings += 1
        del self.chain.settings[:-1]
        forgotten = await retention.step()
        self.forgotten_rounds += forgotten.rounds
        self.forgotten_details += forgotten.details
        self.sample()

    # --- the checks

    def check_round(self, store: ScoreStore) -> None:
        """Holds what is recorded of the newest round, and the state after it, against what they have to be."""
        newest = store.next_round_id() - 1
        (recorded,) = store.rounds(newest - 1)
        answers, images = list(store.answers(newest - 1)), list(store.images(newest - 1))
        registered = {neuron.hotkey: (neuron.uid, neuron.registered_at) for neuron in self.shown.neurons}
        self.ledger.follow(newest, recorded.finished_at, answers, registered)
        found = self.ledger.complaints(store.miners(), store.averages(newest - 1), answers, images)
        if (newest, recorded.finished_at) != (self.done, self.world.now):
            found.append(f"round {self.done} was recorded as {newest}, at {recorded.finished_at}")
        if recorded.queried != self.size.miners // 2:
            found.append(f"{recorded.queried} miners were asked")
        for answer in answers:
            role = self.world.role_of(answer.hotkey)
            self.answers[role] += 1
            self.earned[role] += answer.incentive
            if role in NOTHING_EARNED and answer.incentive:
                found.append(f"{role} is paid: {answer}")
        for image in images:
            self.verdicts[self.world.role_of(image.hotkey)][image.verdict] += 1
        self.wrong += [f"round {newest}: {complaint}" for complaint in found]

    def check_weights(self, shares: dict[int, float]) -> None:
        """Weights are shares of 1, of miners that are there and have earned something, and none has most of it."""
        hotkeys = {neuron.uid: neuron.hotkey for neuron in self.shown.neurons}
        roles = {uid: self.world.miners.roles.get(hotkeys.get(uid, "")) for uid in shares}
        if not all(math.isfinite(share) and 0 < share <= LARGEST_SHARE for share in shares.values()):
            self.wrong.append(f"round {self.done}: a share out of bounds in {shares}")
        if abs(math.fsum(shares.values()) - 1) > 1e-9:
            self.wrong.append(f"round {self.done}: the shares sum to {math.fsum(shares.values())}")
        if unpaid := [uid for uid, role in roles.items() if role is None or role in NOTHING_EARNED]:
            self.wrong.append(f"round {self.done}: weights for uids {unpaid}, who are gone or have earned nothing")

    def sample(self) -> None:
        """Memory and disk, now and then."""
        if self.done % max(1, self.size.rounds // SAMPLES):
            return
        process = psutil.Process()
        log = self.path.with_name(self.path.name + "-wal")
        self.samples.append(
            {
                "round": self.done,
                "rss_mib": process.memory_info().rss / MIB,
                "decoders_rss_mib": sum(child.memory_info().rss for child in process.children(recursive=True)) / MIB,
                "store_megabytes": self.path.stat().st_size / MEGABYTE,
                "store_log_megabytes": log.stat().st_size / MEGABYTE,  # SQLite's, of what is not in the file yet
            }
        )

    # --- what is told

    def rows(self) -> list[Row]:
        """What came of it all, then what each kind of miner earned, then memory and disk over the rounds."""
        honest = self.mean_of(HONEST)
        last = self.samples[-1]
        summary = {
            "rounds": self.done,
            "miners": self.size.miners,
            "faulty": sum(slot.role != HONEST for slot in self.world.slots),
            "void_rounds": self.void,
            "starts": self.lives,
            "seconds_per_round": self.seconds / (self.done + self.void),
            "answers": self.answers.total(),
            "averages_checked": self.ledger.checked,
            "wrong": len(self.wrong),
            "weight_settings": self.weight_settings,
            "honest_false_alarms": 1 - self.valid_share(HONEST),
            "rss_mib": last["rss_mib"],
            "rss_mib_in_100_rounds": self.slope("rss_mib"),
            "decoders_rss_mib_in_100_rounds": self.slope("decoders_rss_mib"),
            "largest_store_megabytes": self.largest("store_megabytes"),
            "largest_store_log_megabytes": self.largest("store_log_megabytes"),
            "allowed_megabytes": self.size.megabytes,
            "rounds_forgotten": self.forgotten_rounds,
            "details_of_rounds_forgotten": self.forgotten_details,
        }
        by_role = [
            {
                "role": role,
                "answers": self.answers[role],
                "earned": self.mean_of(role),
                "ratio_to_honest": self.mean_of(role) / honest,
                "valid_images": self.verdicts[role][VALID],
                "verdicts": ", ".join(f"{number} {name}" for name, number in self.verdicts[role].most_common()),
            }
            for role in sorted(self.answers)
        ]
        return [summary, *by_role, *self.samples]

    def complaints(self) -> list[str]:
        """Everything that is not as it has to be, in words."""
        found = list(self.wrong)
        if (alarms := 1 - self.valid_share(HONEST)) > FALSE_ALARMS:
            found.append(f"{alarms:.1%} of the honest images were refused")
        for role in ("copies", "recodes", "replays"):
            if self.mean_of(role) > COPIED_SHARE * self.mean_of(HONEST):
                found.append(
                    f"{role} earns {self.mean_of(role):.3f} an answer, honest miners {self.mean_of(HONEST):.3f}"
                )
        if not self.verdicts["wrong_seeds"][NOT_REGENERATED]:
            found.append("no declaration of a seed that was not used was found out")
        if not self.weight_settings:
            found.append("no weights were set")
        if self.largest("store_megabytes") > self.size.megabytes:
            found.append(f"the store had {self.largest('store_megabytes'):.1f} MB, allowed are {self.size.megabytes:g}")
        if self.done >= FULL.rounds and (slope := self.slope("rss_mib")) > MAX_SLOPE:
            found.append(f"memory grows by {slope:.2f} MiB in a hundred rounds")
        return found

    def mean_of(self, role: str) -> float:
        """What an answer of these miners earned."""
        return self.earned[role] / max(1, self.answers[role])

    def valid_share(self, role: str) -> float:
        return self.verdicts[role][VALID] / max(1, self.verdicts[role].total())

    def largest(self, figure: str) -> float:
        return max(sample[figure] for sample in self.samples)

    def slope(self, figure: str) -> float:
        """By how much it grows in a hundred rounds, by least squares over the samples after the warm-up."""
        later = [sample for sample in self.samples if sample["round"] > WARM_UP_SHARE * self.size.rounds]
        return 100 * float(
            np.polyfit([sample["round"] for sample in later], [sample[figure] for sample in later], 1)[0]
        )


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
