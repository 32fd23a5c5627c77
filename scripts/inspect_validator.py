"""What a validator has on record, read beside it while it runs: scores, rounds, what the gates stopped, weights.

    python scripts/inspect_validator.py --wallet.name W --wallet.hotkey H --netuid 1
    python scripts/inspect_validator.py --store scores.sqlite3 --miner HOTKEY

With --miner, one miner's rounds and images, and step by step why it has its weight. Nothing is written to the store.
Exit status 0, 1 with one line where there is nothing to read, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ig_subnet.config.settings import state_directory
from ig_subnet.reporting.records import overview_tables, record_tables, show
from ig_subnet.validating.errors import StoreError
from ig_subnet.validating.explaining import explain
from ig_subnet.validating.inspection import find_miner, read_overview
from ig_subnet.validating.miner_record import read_record
from ig_subnet.validating.reading import StoreReader
from ig_subnet.validating.store import STORE_FILE
from protocol.record import MAX_ROUNDS


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = parser.add_argument_group("whose record")
    where.add_argument("--store", type=Path, metavar="FILE", help="the store itself, else it is found by what follows")
    where.add_argument("--netuid", type=int, default=1, help="the subnet (default: %(default)s)")
    environment = os.environ.get
    where.add_argument("--wallet.name", dest="coldkey", default=environment("BT_WALLET") or "default", metavar="NAME")
    where.add_argument(
        "--wallet.hotkey", dest="hotkey", default=environment("BT_WALLET_HOTKEY") or "default", metavar="NAME"
    )
    where.add_argument("--neuron.name", dest="neuron", default="validator", metavar="NAME")
    where.add_argument("--neuron.root", dest="root", type=Path, default=Path("~/.bittensor/miners"), metavar="FOLDER")
    what = parser.add_argument_group("what of it")
    what.add_argument("--miner", metavar="HOTKEY|UID", help="of this miner alone, and why it has its weight")
    what.add_argument("--rounds", type=positive, default=16, metavar="N", help="newest rounds (default: %(default)s)")
    what.add_argument("--before", type=positive, metavar="ROUND", help="with --miner: only rounds before this one")
    what.add_argument("--json", type=Path, metavar="FILE", help="JSON instead of tables; - prints it")
    options = parser.parse_args(argv)
    if options.before and options.miner is None:
        parser.error("--before goes with --miner")
    if options.miner is not None and options.rounds > MAX_ROUNDS:
        parser.error(f"--rounds is at most {MAX_ROUNDS} with --miner; --before leads on to older ones")
    return options


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads and prints; returns the exit status."""
    options = parse_arguments(argv)
    state = state_directory(options.root.expanduser(), options.coldkey, options.hotkey, options.netuid, options.neuron)
    try:
        with StoreReader.open_read_only(options.store or state / STORE_FILE) as store:
            if options.miner is None:
                overview = read_overview(store, options.rounds)
                show(asdict(overview), overview_tables(overview), options.json)
            else:
                miner = find_miner(store, options.miner)
                record = read_record(store, miner, rounds=options.rounds, before=options.before)
                steps = explain(record)
                why = {"why": [asdict(step) for step in steps]}
                show(record.model_dump() | why, record_tables(record, steps), options.json)
    except (StoreError, LookupError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, LookupError) else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
