"""What abuse costs the honest: an axon under attack while a validator asks it, and a dendrite among hostile miners.

    python scripts/abuse_wire.py [--quick] [--json FILE] [--seconds 10] [--attacks NAME ...] [--miners 64]

All of it on loopback, and bounded in count and time. The axon is one process, the validator that asks it ten times a
second for 100 KB another, and this one attacks, in one way after the other (scripts/wire_abuse/callers.py), from other
addresses than the validator's, or in the last rows from its very own. Then a validator asks as many honest miners as
hostile ones (scripts/wire_abuse/miners.py), all at once, several times over, with a deadline of five seconds.

For each: honest answers of those asked for, p50 and p99 of their milliseconds, without abuse in the rows "nothing",
and the victim's peak of resident memory, what it grew by, and the share of one core that it took. The exit status is 0
only if the honest got every answer, but for the rows of the shared address, where it is told what is left, and if no
attacker got one for a request that was not its own (`served`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from typing import Any

from oracle.client import Oracle, OracleError
from wire_abuse.callers import ATTACKS, Attack, Siege, besiege
from wire_abuse.miners import HOSTILE, serving
from wire_benchmark.ours import OTHER_VALIDATOR, VALIDATOR, signer_of

from ig_subnet.reporting.measurements import write_measurements
from protocol import QueryStatus, Target

Answer = dict[str, Any]
HOST = "127.0.0.1"
NOTHING = "nothing"
IMAGE_BYTES = 100_000
PAUSE_SECONDS = 0.1  # between two honest queries: what an axon lets a validator do in the long run
AHEAD_SECONDS = 0.5  # attackers begin before the honest
DEADLINE_SECONDS = 5.0
CALL_SECONDS = 120.0
WIDTHS = {
    "victim": 8,
    "abuse": 47,
    "attempts": 8,
    "asked": 5,
    "answered": 8,
    "p50_ms": 7,
    "p99_ms": 7,
    "peak_mib": 8,
    "grown_mib": 9,
    "cores": 5,
    "outcomes": 0,
}


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        rows = asyncio.run(measure(options))
    except OracleError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        write_measurements(options.json, rows, seconds=options.seconds)
    missing = [row["abuse"] for row in rows if row["answered"] < row["asked"] and not may_be_missing(row)]
    served = [row["abuse"] for row in rows if row["served"]]
    if missing:
        print(f"honest answers are missing under: {', '.join(missing)}", file=sys.stderr)
    if served:
        print(f"attackers were answered with images: {', '.join(served)}", file=sys.stderr)
    return 1 if missing or served else 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, metavar="S", help="of each attack on the axon (default: 10)")
    parser.add_argument(
        "--attacks", nargs="*", choices=ATTACKS, default=list(ATTACKS), metavar="NAME", help="default: all of them"
    )
    parser.add_argument(
        "--miners", type=int, metavar="N", help="honest and as many hostile ones (default: 64; 0: none)"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="of the dendrite among them (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, the machine and the versions there")
    parser.add_argument("--quick", action="store_true", help="3 seconds, 22 miners, 1 round")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (3.0 if options.quick else 10.0)
    options.miners = (22 if options.quick else 64) if options.miners is None else options.miners
    options.rounds = options.rounds or (1 if options.quick else 5)
    if options.seconds <= AHEAD_SECONDS or options.miners < 0 or options.rounds < 1:
        parser.error(f"--seconds must be over {AHEAD_SECONDS}, --miners at least 0 and --rounds at least 1")
    return options


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows, each printed when it is there."""
    rows: list[dict[str, Any]] = []
    print("  ".join(f"{name:>{width}}" for name, width in WIDTHS.items()))

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print("  ".join(f"{short(row[name]):>{width}}" for name, width in WIDTHS.items()), flush=True)

    async with AsyncExitStack() as stack:
        validator = stack.enter_context(Oracle(sys.executable, VALIDATOR, server="wire_abuse.validator"))
        axon, honest = await start_miners(1, stack)
        for number, name in enumerate([NOTHING, *options.attacks]):
            add(await under_attack(name, number, axon, honest[0], validator, options.seconds))
        if options.miners:
            _, honest = await start_miners(options.miners, stack)
            add(await among_miners(NOTHING, honest, {}, validator, options.rounds))
            hostile = await start_hostile(options.miners, stack)
            add(await among_miners(f"{len(hostile)} hostile miners", honest, hostile, validator, options.rounds))
    return rows


async def start_miners(count: int, stack: AsyncExitStack) -> tuple[Oracle, list[Target]]:
    """Honest miners in a process of their own."""
    process = stack.enter_context(Oracle(sys.executable, "wire_benchmark.ours", server="wire_benchmark.serve"))
    ports = (await call(process, "serve", miners=count))["ports"]
    return process, [Target(signer_of(f"//Miner{number}").hotkey, HOST, port) for number, port in enumerate(ports)]


async def start_hostile(count: int, stack: AsyncExitStack) -> dict[Target, str]:
    """So many hostile miners in this process, of every kind in turn."""
    targets = {}
    for number, (name, miner) in zip(range(count), cycle(HOSTILE.items()), strict=False):
        signer = signer_of(f"//Hostile{number}")
        targets[Target(signer.hotkey, HOST, await stack.enter_async_context(serving(miner, signer)))] = name
    return targets


async def under_attack(
    name: str, number: int, axon: Oracle, target: Target, validator: Oracle, seconds: float
) -> dict[str, Any]:
    """The row of one attack on an axon that a validator asks all the while."""
    attack = ATTACKS.get(name)
    key = signer_of(OTHER_VALIDATOR if attack is not None and attack.with_a_permit else VALIDATOR)
    siege = Siege(target, key, cycle(addresses(attack, number)))
    await call(axon, "begin")
    began = time.perf_counter()
    besieging = asyncio.create_task(besiege(attack, siege, seconds) if attack else asyncio.sleep(0))
    await asyncio.sleep(AHEAD_SECONDS)
    answers = await ask(validator, [target], round((seconds - AHEAD_SECONDS) / PAUSE_SECONDS), PAUSE_SECONDS)
    await besieging
    outcomes = unanswered(answers)
    if megabytes := siege.tally.pop("sent_bytes", 0) // 10**6:
        outcomes["MB sent"] = megabytes
    usage = await call(axon, "usage")
    return {
        "victim": "axon",
        "abuse": name,
        "attempts": siege.connections,
        "served": 0 if attack is None or attack.with_a_permit else siege.tally["200"] - siege.tally["captured"],
        **figures(answers),
        **memory(usage),
        "cores": usage["cpu_seconds"] / (time.perf_counter() - began),
        "outcomes": dict(siege.tally + outcomes),
    }


def addresses(attack: Attack | None, number: int) -> list[str]:
    """An attack's own, so that no other has used up what they may do; or the validator's."""
    if attack is None or attack.from_the_validators_address:
        return [HOST]
    return [f"127.0.{number}.{own + 1}" for own in range(attack.addresses)]


async def among_miners(
    name: str, honest: Sequence[Target], hostile: Mapping[Target, str], validator: Oracle, rounds: int
) -> dict[str, Any]:
    """The row of a dendrite that asks the honest and the hostile at once."""
    targets = [*honest, *hostile]
    await call(validator, "begin")
    began = time.perf_counter()
    answers = [answer for _ in range(rounds) for answer in await ask(validator, targets, 1, 0.0)]
    seconds = time.perf_counter() - began
    usage = await call(validator, "usage")
    from_honest = [answer for answer in answers if answer["target"] < len(honest)]
    outcomes = unanswered(from_honest)
    for answer in answers:
        if kind := hostile.get(targets[answer["target"]]):
            as_expected = answer["status"] == HOSTILE[kind].expected
            outcomes["as expected" if as_expected else f"{kind}: {answer['status']}"] += 1
    return {
        "victim": "dendrite",
        "abuse": name,
        "attempts": rounds * len(hostile),
        "served": 0,
        **figures(from_honest),
        **memory(usage),
        "cores": usage["cpu_seconds"] / seconds,
        "outcomes": dict(outcomes),
    }


async def ask(validator: Oracle, targets: Sequence[Target], times: int, pause_seconds: float) -> list[Answer]:
    """What became of each query, see wire_abuse.validator."""
    reply = await call(
        validator,
        "ask",
        targets=[(target.hotkey, target.host, target.port) for target in targets],
        times=times,
        pause_seconds=pause_seconds,
        deadline_seconds=DEADLINE_SECONDS,
        image_bytes=IMAGE_BYTES,
    )
    return reply["answers"]


async def call(process: Oracle, operation: str, **fields: Any) -> dict[str, Any]:
    """Without holding up the attackers."""
    return await asyncio.to_thread(process.ask, operation, CALL_SECONDS, **fields)


def figures(answers: Sequence[Answer]) -> dict[str, Any]:
    """How many answers there are of those asked for, and how soon they came; None where there are too few to tell."""
    milliseconds = [answer["milliseconds"] for answer in answers if is_right(answer)]
    cuts = quantiles(milliseconds, n=100, method="inclusive") if len(milliseconds) > 1 else [None] * 99
    return {"asked": len(answers), "answered": len(milliseconds), "p50_ms": cuts[49], "p99_ms": cuts[98]}


def unanswered(answers: Sequence[Answer]) -> Counter[str]:
    return Counter(f"honest: {answer['status']}" for answer in answers if not is_right(answer))


def is_right(answer: Answer) -> bool:
    return answer["status"] == QueryStatus.ANSWERED and answer["bytes"] == IMAGE_BYTES


def memory(usage: Mapping[str, float]) -> dict[str, float]:
    return {"peak_mib": usage["peak_mib"], "grown_mib": usage["grown_mib"]}


def may_be_missing(row: Mapping[str, Any]) -> bool:
    """Who shares an address with an attacker shares what that address may ask for."""
    attack = ATTACKS.get(row["abuse"])
    return attack is not None and attack.from_the_validators_address


def short(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {times}" for name, times in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
