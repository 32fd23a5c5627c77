"""How large a validator's store grows, and how long its transactions take.

    python scripts/benchmark_store.py --json store.json

Rounds are made up: every miner answers one prompt with valid images, of which all that the gates look at is kept. Each
round is recorded in a transaction of its own, as a validator does it; then the fingerprints are read as they are at a
start, and all but the newest rounds lose first their fingerprints, then their details.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MINERS, IMAGES, ROUNDS, QUICK_ROUNDS = 192, 4, 100, 20
EXPERTS, DIMENSION = 4, 1024  # of the published mixture, its largest embedding
KEPT = 5  # rounds whose fingerprints and details stay


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--miners", type=int, default=MINERS, help=f"(default: {MINERS})")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"of each miner (default: {IMAGES})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"(default: {ROUNDS})")
    parser.add_argument("--experts", type=int, default=EXPERTS, help=f"(default: {EXPERTS})")
    parser.add_argument("--dimension", type=int, default=DIMENSION, help=f"of an embedding (default: {DIMENSION})")
    parser.add_argument("--out", type=Path, metavar="DIR", help="make the store there (default: a temporary folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds = QUICK_ROUNDS
    if options.rounds <= KEPT or min(options.miners, options.images, options.experts, options.dimension) < 1:
        parser.error(f"it takes more than {KEPT} rounds, and a miner, an image, an expert and a dimension at least")
    from ig_subnet.reporting.measurements import write_measurements

    with tempfile.TemporaryDirectory(prefix="benchmark-store-", dir=options.out) as folder:
        row = measure(Path(folder) / "scores.sqlite3", options)
    for name, value in row.items():
        print(f"{name:42} {value:,}")
    if options.json:
        write_measurements(options.json, [row])
    return 0


def measure(path: Path, options: argparse.Namespace) -> dict[str, float]:
    """The figures; a kB is 1,000 bytes, and times are of the wall clock."""
    from ig_subnet.validating.store import ScoreStore

    chance = random.Random(1)
    rounds, images = options.rounds, options.miners * options.images
    with ScoreStore.open(path) as store:
        empty = store.size()
        recorded = [timed(store.record_round, make_record(number, options, chance)) for number in range(1, rounds + 1)]
        full = store.size()
        start = time.perf_counter()
        read = sum(1 for _ in store.fingerprints(rounds * images))
        reading = time.perf_counter() - start
        thinned = until_nothing_is_left(lambda: store.thin(KEPT * images))
        thin = store.size()
        forgotten = [timed(store.forget, number, wholly=False) for number in range(1, rounds - KEPT + 1)]
        shrunk = until_nothing_is_left(store.shrink)
        with_prints = (full - empty) / rounds
        return {
            "miners": options.miners,
            "images_each": options.images,
            "experts": options.experts,
            "embedding_dimension": options.dimension,
            "kb_a_round": round(with_prints / 1000, 1),
            "kb_a_round_without_fingerprints": round((thin - empty - KEPT * with_prints) / (rounds - KEPT) / 1000, 1),
            "kb_a_round_without_details": round(
                (store.size() - empty - KEPT * with_prints) / (rounds - KEPT) / 1000, 1
            ),
            "record_ms_median": milliseconds(statistics.median(recorded)),
            "record_ms_max": milliseconds(max(recorded)),
            "read_fingerprints_ms_for_1000": milliseconds(reading / read * 1000),
            "thin_ms_max": milliseconds(max(thinned)),
            "forget_ms_max": milliseconds(max(forgotten)),
            "shrink_ms_max": milliseconds(max(shrunk)),
        }


def make_record(round_id: int, options: argparse.Namespace, chance: random.Random) -> Any:
    """A round in which everybody has answered, every figure made up."""
    from ig_subnet.imaging.fingerprints import FINGERPRINT_BYTES
    from ig_subnet.validating.records import (
        VALID,
        AnswerRow,
        AverageRow,
        ExpertScoreRow,
        ImageRow,
        MinerRow,
        PromptRow,
        RewarderRow,
        RoundRecord,
        RoundRow,
    )

    experts = [f"expert_number_{number}" for number in range(options.experts)]
    rewarder = RewarderRow.of("float32", "pil", dict.fromkeys(experts, "weights at a revision"))
    hotkeys = [f"5{number:047}" for number in range(options.miners)]
    images = [(hotkey, number) for hotkey in hotkeys for number in range(options.images)]
    share = chance.random
    return RoundRecord(
        RoundRow(
            round_id,
            600.0 * round_id,
            600.0 * round_id + 60,
            50 * round_id,
            len(hotkeys),
            len(hotkeys),
            rewarder.fingerprint,
        ),
        (PromptRow(round_id, 0, "a topic", "a prompt " * 20, share(), "a database", f"{round_id:016x}", "[]"),),
        tuple(
            AnswerRow(round_id, 0, hotkey, uid, "answered", share(), chance.getrandbits(32), share(), "")
            for uid, hotkey in enumerate(hotkeys)
        ),
        tuple(
            ImageRow(
                *(round_id, 0, hotkey, number, chance.randbytes(32).hex(), "png", 1024, 1024, 1_170_000, VALID),
                *(share(), share(), share(), share(), share(), share()),
                model="stabilityai/stable-diffusion-xl-base-1.0 steps:30 guidance:7.5",
                phash=chance.randbytes(FINGERPRINT_BYTES),
                embedding=chance.randbytes(2 * options.dimension),
            )
            for hotkey, number in images
        ),
        tuple(
            ExpertScoreRow(round_id, 0, hotkey, number, expert, share(), 0, share())
            for hotkey, number in images
            for expert in experts
        ),
        tuple(AverageRow(round_id, hotkey, uid, share(), share()) for uid, hotkey in enumerate(hotkeys)),
        tuple(
            MinerRow(hotkey, uid, 1, share(), 1.0, round_id, round_id, share(), 600.0 * round_id + 60)
            for uid, hotkey in enumerate(hotkeys)
        ),
        rewarder,
    )


def timed(function: Callable[..., object], *args: Any, **kwargs: Any) -> float:
    start = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - start


def until_nothing_is_left(step: Callable[[], bool]) -> list[float]:
    """The seconds of each step, the last of which has nothing left to do."""
    taken, left = [], True
    while left:
        start = time.perf_counter()
        left = step()
        taken.append(time.perf_counter() - start)
    return taken


def milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1)


if __name__ == "__main__":
    sys.exit(main())
