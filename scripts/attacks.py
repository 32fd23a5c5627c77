"""What cheating earns: every attack among honest miners, with all gates off and on, from the chain's incentives.

    python scripts/attacks.py --quick --json attacks.json --out docs/images

Honest miners run the pocket model with 20, 8, 4 and 2 sampling steps; beside them every attack of scripts/adversaries
has a hotkey, or dozens. Prints what each earned a hotkey, and its ratio to the best honest miner, with every gate off
and on, and leaves attacks.png in --out. The full run is real: a chain, honest miners, axons of adversaries and a
validator in processes of their own, once for each setting of the gates. --quick plays all of them in this process,
on the same chain rules, with answers whose time is told instead of spent.
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
    from adversaries.roster import Size

ROUNDS, PROMPTS, IMAGES = 4, 1, 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="pocket", help="profile of the validator (default: pocket)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each subnet (default: {ROUNDS})")
    parser.add_argument("--seed", type=int, default=1, help="of prompts and images (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--out", type=Path, metavar="DIR", help="draw attacks.png there")
    parser.add_argument("--quick", action="store_true", help="in one process, and the dearest attacks left out")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    options.prompts, options.images = PROMPTS, IMAGES
    from adversaries.roster import QUICK
    from loguru import logger

    from ig_subnet.reporting.measurements import write_measurements

    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        rows = asyncio.run(in_process(options, Path(folder), QUICK))
    for row in rows:
        print(row)
    if options.json:
        write_measurements(options.json, rows, torch_threads=1)
    return 0


async def in_process(options: argparse.Namespace, folder: Path, size: Size) -> list[Row]:
    """The rows with gates off, then on."""
    from adversaries.in_process import Arena, load_lab, play
    from adversaries.roster import attackers, honest_miners

    lab = await asyncio.to_thread(load_lab, options.profile)
    try:
        arena = Arena([*honest_miners(lab), *attackers(lab, size)])
        (folder / "off").mkdir()
        rows = await play(arena, options.profile, False, folder / "off", options)
    finally:
        lab.close()
    return rows


if __name__ == "__main__":
    sys.exit(main())
