"""What cheating earns: every attack among honest miners, with all gates off and on, from the chain's incentives.

    python scripts/attacks.py --quick --json attacks.json --out docs/images

Honest miners run the pocket model with 20, 8, 4 and 2 sampling steps; beside them every attack of scripts/adversaries
has a hotkey, or dozens. Prints what each earned a hotkey, and its ratio to the best honest miner, with every gate off
and on, and leaves attacks.png in --out. The full run is real: a chain, honest miners, axons of adversaries and a
validator in processes of their own, for either setting of the gates. --in-process and --quick play all of it in this
process, on the same chain rules, with answers whose time is told instead of spent.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adversaries.results import Row

ROUNDS, QUICK_ROUNDS = 4, 3
PROMPTS, IMAGES = 2, 1  # asked in a round: what an ascent earns depends on the prompt
TIMEOUT = 120.0
FIGURE = "attacks.png"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="pocket", help="profile of the validator (default: pocket)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each subnet (default: {ROUNDS})")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help=f"of an answer, seconds (default: {TIMEOUT:g})")
    parser.add_argument("--seed", type=int, default=1, help="of prompts and images (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"draw {FIGURE} there")
    parser.add_argument("--in-process", action="store_true", help="in this process, with every ascent")
    parser.add_argument("--quick", action="store_true", help=f"in this process, {QUICK_ROUNDS} rounds, fewer ascents")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds = QUICK_ROUNDS
    if options.rounds < 1 or options.timeout <= 0:
        parser.error(f"--rounds and --timeout must be positive, not {options.rounds} and {options.timeout:g}")
    options.prompts, options.images = PROMPTS, IMAGES
    from adversaries.results import draw, false_alarms, missed, table
    from loguru import logger

    from ig_subnet.reporting.measurements import write_measurements

    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        played = in_process if options.in_process or options.quick else in_processes
        rows = asyncio.run(played(options, Path(folder)))
    print(table(rows))
    print(false_alarms(rows))
    for sentence in missed(rows):
        print(f"missed: {sentence}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        draw(rows, options.out / FIGURE)
    if options.json:
        write_measurements(options.json, rows, rounds=options.rounds, seed=options.seed)
    return 0


async def in_process(options: argparse.Namespace, folder: Path) -> list[Row]:
    """The rows with gates off, then on, of two subnets in this process."""
    from adversaries.in_process import Arena, load_lab, play
    from adversaries.roster import FULL, QUICK, attackers, honest_miners

    lab = await asyncio.to_thread(load_lab, options.profile)
    arena = Arena([*honest_miners(lab), *attackers(lab, QUICK if options.quick else FULL)])
    try:
        played = await asyncio.gather(*(play(arena, gates, folder, options) for gates in (False, True)))
    finally:
        lab.close()
    return [row for rows in played for row in rows]


async def in_processes(options: argparse.Namespace, folder: Path) -> list[Row]:
    """The rows with gates off, then on, of two subnets of processes. A real validator has no decoder that believes
    every file: what malformed ones earn from one is played in this process."""
    from adversaries.in_process import Arena, load_lab
    from adversaries.in_process import play as play_here
    from adversaries.processes import play
    from adversaries.roster import ACCOMPLICE, REAL, attackers, honest_miners

    lab = await asyncio.to_thread(load_lab, options.profile)
    contestants = [*honest_miners(lab), *attackers(lab, REAL)]
    trusting = [one for one in contestants if one.honest or one.stopped_by == "decoder" or one.attack == ACCOMPLICE]
    try:
        files = await play_here(Arena(trusting), False, folder / "files", options)
    finally:
        lab.close()
    played = await asyncio.gather(*(play(contestants, REAL, gates, folder, options) for gates in (False, True)))
    rows = [row for of_one in played for row in of_one]
    malformed = {row["attack"]: row for row in files if row["stopped_by"] == "decoder"}
    return [malformed.get(row["attack"], row) if row["gate"] == "off" else row for row in rows]


if __name__ == "__main__":
    sys.exit(main())
