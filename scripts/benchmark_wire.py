"""What it costs a validator to have many miners' images verified and in hand, beside other stacks and no security.

    python scripts/benchmark_wire.py [--quick] [--json FILE] [--v10-python PATH] [--taowire-python PATH]
    python scripts/benchmark_wire.py --miners 256 --image-kb 100 400 --turns 5

For each stack one process is all miners, each with a key and a port on loopback, and another is the validator, which
asks all of them at once; a round is over when every answer is verified and its bytes are in hand. Stacks take turns,
A B C A B C, so that whatever else the machine does slows all of them; a turn begins with a round that is not counted.
Figures are medians of the rounds, `p50_ms` and `p95_ms` those of the queries, from the call to the verified bytes.
`cpu_seconds` are those of the validator's process, and compare best; `ratio_to_bare` is over those of `bare`, the same
bytes between aiohttp's client and server with no security at all. `rss_mib` is the peak of the process's resident
memory, and `grown_to_round` what it grew by from before its first connection, over the bytes of a round.

Where `miners` is 1, a round is one query, and several miners are asked one after another. `authentication_ms` is what
its p50 is above that of this project's axon and dendrite without keys: signing and verifying, both ways.

bittensor 10 and taowire need environments of their own: scripts/wire_benchmark/requirements-*.txt.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from oracle.client import Oracle, OracleError

from ig_subnet.reporting.measurements import write_measurements

SERVER = "wire_benchmark.serve"
BARE, OURS, UNSIGNED = "bare", "ig_subnet", "ig_subnet, unsigned"
V10, TAOWIRE = "bittensor 10.5.0", "taowire 0.1.0a2"
MODULES = {
    BARE: "wire_benchmark.bare",
    OURS: "wire_benchmark.ours",
    UNSIGNED: "wire_benchmark.unsigned",
    V10: "wire_benchmark.v10",
    TAOWIRE: "wire_benchmark.taowire_kit",
}
START_SECONDS = 180.0
TURN_SECONDS = 300.0
KB = 1000
ALONE_MINERS = 16  # who are asked one after another: an axon lets a validator ask ten times a second
LARGEST_KB = 1000  # a dendrite takes 1.1 MB for an image of 512 x 512 pixels
ROUNDS = 10  # of a turn, or queries of each miner that is asked alone
SLOW_ROUNDS = 2  # of a stack that would take minutes
WIDTHS = {
    "stack": 19,
    "miners": 6,
    "image_kb": 8,
    "wall_seconds": 12,
    "cpu_seconds": 11,
    "p50_ms": 7,
    "p95_ms": 7,
    "ratio_to_bare": 13,
    "rss_mib": 7,
    "grown_to_round": 14,
    "authentication_ms": 17,
}


@dataclass
class Runner:
    """A stack's validator, connected to its miners, and what was measured of it."""

    stack: str
    validator: Oracle
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    try:
        with ExitStack() as stack:
            ports = {name: start_miners(name, options, stack, versions) for name in chosen(options)}
            print("  ".join(f"{name:>{width}}" for name, width in WIDTHS.items()))
            for miners, image_kb in product(options.miners, options.image_kb):
                for row in measure(miners, image_kb, ports, options):
                    rows.append(row)
                    print("  ".join(f"{short(row[name]):>{width}}" for name, width in WIDTHS.items()), flush=True)
                if options.json:  # after every set: what was measured stays, whatever happens to the rest
                    write_measurements(options.json, rows, turns=options.turns, stacks=versions)
    except OracleError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--miners", nargs="+", type=int, metavar="N", help="asked at once (default: 1 64 256)")
    parser.add_argument("--image-kb", nargs="+", type=int, metavar="KB", help="of each answer (default: 100 400)")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="of each stack (default: %(default)s)")
    parser.add_argument(
        "--v10-python", type=Path, metavar="PATH", help="interpreter of an environment with bittensor 10"
    )
    parser.add_argument(
        "--taowire-python", type=Path, metavar="PATH", help="interpreter of an environment with taowire"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, the machine and the versions there")
    parser.add_argument("--quick", action="store_true", help="1 and 256 miners, 100 KB, 2 turns")
    options = parser.parse_args(arguments)
    options.miners = sorted(set(options.miners or ([1, 256] if options.quick else [1, 64, 256])))
    options.image_kb = sorted(set(options.image_kb or ([100] if options.quick else [100, 400])))
    options.turns = min(options.turns, 2) if options.quick else options.turns
    if min(*options.miners, *options.image_kb, options.turns) < 1:
        parser.error("--miners, --image-kb and --turns must be at least 1")
    if max(options.image_kb) > LARGEST_KB:
        parser.error(f"--image-kb must be at most {LARGEST_KB}: what a dendrite takes for 512 x 512 pixels")
    return options


def chosen(options: argparse.Namespace) -> Iterator[str]:
    """The stacks that there is an interpreter for, `bare` first. Says on standard error what is left out."""
    for name in MODULES:
        if interpreter(name, options) is None:
            print(f"{name} is left out: no interpreter of an environment that has it", file=sys.stderr)
        else:
            yield name


def interpreter(name: str, options: argparse.Namespace) -> str | Path | None:
    return {V10: options.v10_python, TAOWIRE: options.taowire_python}.get(name, sys.executable)


def start(name: str, options: argparse.Namespace, stack: ExitStack) -> Oracle:
    """A process of the stack, which ends with `stack`."""
    return stack.enter_context(Oracle(interpreter(name, options) or "", MODULES[name], server=SERVER))


def start_miners(name: str, options: argparse.Namespace, stack: ExitStack, versions: dict[str, str]) -> list[int]:
    """As many as are asked at most; their ports."""
    served = start(name, options, stack).ask("serve", START_SECONDS, miners=max(ALONE_MINERS, *options.miners))
    versions[name] = served["version"]
    return served["ports"]


def measure(
    miners: int, image_kb: int, ports: dict[str, list[int]], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """A row for each stack. Validators are fresh processes, so that their memory is that of these rounds."""
    with ExitStack() as stack:
        runners = [Runner(name, start(name, options, stack)) for name in ports]
        for runner in runners:
            asked = ports[runner.stack][: miners if miners > 1 else ALONE_MINERS]
            runner.validator.ask("connect", START_SECONDS, ports=asked)
            runner.validator.ask("begin", START_SECONDS)
        for _ in range(options.turns):
            for runner in runners:
                reply = runner.validator.ask(
                    "rounds",
                    TURN_SECONDS,
                    rounds=SLOW_ROUNDS if runner.stack in (V10, TAOWIRE) else ROUNDS,
                    image_bytes=image_kb * KB,
                    together=miners > 1,
                )
                for name, values in reply["figures"].items():
                    runner.figures[name] += values
        rows = [row_of(runner, miners, image_kb) for runner in runners]
    unsigned = next(row["p50_ms"] for row in rows if row["stack"] == UNSIGNED)
    for row in rows:
        row["ratio_to_bare"] = row["cpu_seconds"] / rows[0]["cpu_seconds"]
        row["authentication_ms"] = row["p50_ms"] - unsigned if miners == 1 and row["stack"] == OURS else None
        yield row


def row_of(runner: Runner, miners: int, image_kb: int) -> dict[str, Any]:
    usage = runner.validator.ask("usage", TURN_SECONDS)
    milliseconds = quantiles(runner.figures["milliseconds"], n=20, method="inclusive")
    return {
        "stack": runner.stack,
        "miners": miners,
        "image_kb": image_kb,
        "wall_seconds": median(runner.figures["wall_seconds"]),
        "cpu_seconds": median(runner.figures["cpu_seconds"]),
        "p50_ms": milliseconds[9],
        "p95_ms": milliseconds[18],
        "rounds": len(runner.figures["wall_seconds"]),
        "rss_mib": usage["peak_mib"],
        "grown_to_round": usage["grown_mib"] * 2**20 / (miners * image_kb * KB) if miners > 1 else None,
    }


def short(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
