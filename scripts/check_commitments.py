"""Did a validator ask what it had committed to ask? Checks the commitments.jsonl that it leaves beside its report.

Every plan that is revealed has to fit its digest, every digest the chain of heads, and every round has to be there once
and in order. --head compares with a head that is known from elsewhere; --hotkey, with --network and --netuid, with the
one that the validator has put on the chain. Exit status 0 if all is well, 1 if something does not fit, 2 if it could
not be checked: wrong usage, or a chain that does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ig_subnet.chain import ChainError
from ig_subnet.validating.commitments import VOID, Plan, from_lines, verify
from ig_subnet.validating.records import CommitmentRow

TOLD_MISFITS = 20


class Misfit(Exception):
    """Something is not as the validator says; the message tells where and why."""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=about, epilog=details)
    parser.add_argument("file", type=Path, help="commitments.jsonl")
    published = parser.add_mutually_exclusive_group()
    published.add_argument("--head", type=head, metavar="HEX", help="a head that was published: 64 hexadecimal digits")
    published.add_argument("--hotkey", metavar="SS58", help="compare with the head that this hotkey has on the chain")
    parser.add_argument("--network", default="finney", help="finney, test or a ws:// address (default: %(default)s)")
    parser.add_argument("--netuid", type=int, default=1, help="the subnet (default: %(default)s)")
    return parser.parse_args(argv)


def head(text: str) -> str:
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 64 hexadecimal digits")
    return text[-64:].lower()


def main(argv: Sequence[str] | None = None) -> int:
    """Checks the file; returns the exit status."""
    options = parse_arguments(argv)
    try:
        commitments = read(options.file)
        print(check(commitments))
        if options.hotkey:
            check_owner(commitments, options.hotkey, options.netuid)
            print(check_head(commitments, *asyncio.run(on_chain(options.network, options.netuid, options.hotkey))))
        elif options.head:
            print(check_head(commitments, options.head, "given"))
    except Misfit as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ChainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def read(file: Path) -> list[CommitmentRow]:
    """The commitments of a file, at least one."""
    try:
        commitments = from_lines(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Misfit(f"{file}: {error}") from error
    if not commitments:
        raise Misfit(f"{file} holds no commitment")
    return commitments


def check(commitments: Sequence[CommitmentRow]) -> str:
    """One line that says what was found in order. Raises Misfit with a line for each that is not."""
    faults = [
        f"round {commitment.round_id} (commitment {commitment.id}): {fault}"
        for commitment, fault in zip(commitments, verify(commitments), strict=True)
        if fault is not None
    ]
    if faults:
        more = [f"and {len(faults) - TOLD_MISFITS} more"] if len(faults) > TOLD_MISFITS else []
        raise Misfit("\n".join(["what was committed does not fit", *faults[:TOLD_MISFITS], *more]))
    revealed = [commitment for commitment in commitments if commitment.revealed_at is not None]
    void = sum(commitment.outcome == VOID for commitment in revealed)
    return (
        f"{len(commitments)} commitments fit, of rounds {commitments[0].round_id} to {commitments[-1].round_id}: "
        f"{len(revealed) - void} asked, {void} void, {len(commitments) - len(revealed)} not revealed yet; "
        f"newest head {commitments[-1].head}"
    )


def check_owner(commitments: Sequence[CommitmentRow], hotkey: str, netuid: int) -> None:
    """Raises Misfit if what is revealed is not of this validator."""
    content = next((commitment.content for commitment in commitments if commitment.content is not None), None)
    if content is None:
        raise Misfit("nothing is revealed yet, so nothing tells whose commitments these are")
    plan = Plan.model_validate_json(content)
    if (plan.hotkey, plan.netuid) != (hotkey, netuid):
        raise Misfit(f"these commitments are of {plan.hotkey} on subnet {plan.netuid}")


def check_head(commitments: Sequence[CommitmentRow], published: str, where: str) -> str:
    """One line that says up to where a published head fixes them. Raises Misfit if it is none of theirs."""
    found = next((commitment for commitment in commitments if commitment.head == published), None)
    if found is None:
        raise Misfit(
            f"no commitment has the head {published} ({where}): one was dropped or changed, or is not here yet"
        )
    return f"the head {where} is that of commitment {found.id}, to round {found.round_id}: all up to it is unchanged"


async def on_chain(network: str, netuid: int, hotkey: str) -> tuple[str, str]:
    """The head that a hotkey has on the chain, and where. Raises Misfit where there is none, or ChainError."""
    from ig_subnet.chain import open_chain  # the SDK

    async with open_chain(network, netuid, None) as chain:
        published = await chain.commitment_of(hotkey)
    if published is None:
        raise Misfit(f"{hotkey} has committed nothing on subnet {netuid} of {network}")
    return published.data.hex(), f"on the chain since block {published.block}"


if __name__ == "__main__":
    sys.exit(main())
