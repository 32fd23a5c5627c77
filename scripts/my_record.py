"""What a validator has on record of you, a miner, and why you have the weight that it gives you.

    python scripts/my_record.py --netuid 1 --wallet.name W --wallet.hotkey H --validator HOTKEY

Asks a validator that serves records for those of the wallet's hotkey, at the address that it has on the chain or at
--address, and verifies that the answer is signed by it. Exit status 0 if there is one, 1 if not, with one line that
says why, and 2 for wrong usage.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from loguru import logger
from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from ig_subnet.chain import ChainError
from ig_subnet.config.groups import Hotkey, UserPath
from ig_subnet.config.settings import ChainSettings
from ig_subnet.config.sources import parse_settings
from ig_subnet.reporting.records import record_tables, show
from ig_subnet.validating.explaining import explain
from protocol.record import MAX_ROUNDS

if TYPE_CHECKING:
    from ig_subnet.chain import Wallet
    from protocol import MinerRecord, RecordResult, Target


class RecordSettings(ChainSettings):
    """Ask a validator what it has on record of your miner, and why it has the weight that it gives it."""

    model_config = SettingsConfigDict(cli_prog_name="my_record.py")

    validator: Hotkey = Field(description="hotkey (ss58) of the validator that is asked")
    address: str | None = Field(default=None, description="IP:PORT of it; unset, what it has on the chain")
    rounds: int = Field(default=8, ge=1, le=MAX_ROUNDS, description="newest rounds that you were asked in")
    before: int | None = Field(default=None, ge=1, description="only rounds before this one")
    timeout: float = Field(default=30, gt=0, le=60, description="seconds to wait for the answer")
    json_file: UserPath | None = Field(
        default=None, alias="json", description="file for the record as JSON, instead of tables; - prints it"
    )

    @field_validator("address")
    @classmethod
    def _has_a_port(cls, address: str | None) -> str | None:
        if address is not None and not address.rpartition(":")[2].isdecimal():
            raise ValueError("must be IP:PORT, such as 203.0.113.7:8093 or [2001:db8::1]:8093")
        return address


class NoRecord(Exception):
    """There is no answer; the message says why, and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Asks and prints; returns the exit status."""
    settings = parse_settings(RecordSettings, sys.argv[1:] if argv is None else argv)
    logger.remove()
    logger.add(sys.stderr, level=settings.logging.level if settings.logging.debug else "WARNING")
    try:
        record = asyncio.run(ask(settings))
        steps = explain(record)
        content = record.model_dump() | {"why": [asdict(step) for step in steps]}
        show(content, record_tables(record, steps), settings.json_file)
    except (NoRecord, ChainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def ask(settings: RecordSettings) -> MinerRecord:
    """The record of the wallet's hotkey, signed by the validator. Raises NoRecord, ChainError or OSError."""
    from ig_subnet.chain import load_wallet
    from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
    from protocol import RecordClient, RecordSynapse

    wallet = load_wallet(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
    target = await find(settings, wallet)
    synapse = RecordSynapse(rounds=settings.rounds, before_round=settings.before, deadline_seconds=settings.timeout)
    async with RecordClient(
        KeypairSigner(wallet.hotkey),
        BtAuthVerifier(wallet.hotkey_address),
        allow_private=settings.subtensor.is_local or settings.address is not None,
    ) as client:
        return told(await client.query(target, synapse))


async def find(settings: RecordSettings, wallet: Wallet) -> Target:
    """Where the validator listens: as it was given, or as the chain says."""
    from ig_subnet.chain import open_chain
    from protocol import Target

    if settings.address is not None:
        host, _, port = settings.address.rpartition(":")
        return Target(settings.validator, host.strip("[]"), int(port))
    async with open_chain(settings.subtensor.target, settings.netuid, wallet) as chain:
        neuron = (await chain.metagraph()).by_hotkey(settings.validator)
    if neuron is None:
        raise NoRecord(f"{settings.validator} is not registered on subnet {settings.netuid}; check --validator")
    if neuron.axon is None:
        raise NoRecord(
            f"{settings.validator} has no address on the chain, so it serves no records; "
            "its operator may tell you one for --address"
        )
    return Target(settings.validator, neuron.axon.ip, neuron.axon.port)


def told(result: RecordResult) -> MinerRecord:
    """The record of an answer. Raises NoRecord."""
    if result.record is None:
        where = f"{result.target.host} port {result.target.port}"
        raise NoRecord(f"no record from {result.target.hotkey} at {where}: {result.status}: {result.detail}")
    return result.record


if __name__ == "__main__":
    sys.exit(main())
