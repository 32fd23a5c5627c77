"""Tells each registered miner what this validator has on record of it, over the signed wire, beside the rounds.

Reads the store on a thread and with a connection of its own, so that neither rounds nor their writer wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from ig_subnet.chain.interface import AxonEndpoint, Chain, MetagraphSnapshot
from ig_subnet.chain.outcomes import AxonServed, AxonUnchanged
from ig_subnet.config.groups import ValidatorAxonSettings
from ig_subnet.validating.keeping import AWAY_SECONDS, Keeper
from ig_subnet.validating.miner_record import read_record
from ig_subnet.validating.reading import StoreReader
from ig_subnet.validating.sampling import validates
from ig_subnet.validating.thread import OneThread
from protocol import Busy, MinerRecord, RecordSynapse, Refusal
from protocol.limits import RECORD_LIMITS
from protocol.rates import RateLimit

if TYPE_CHECKING:
    from protocol import RecordServer  # a web server, which --help can do without

SECONDS_BETWEEN = 30.0
"""Between two records of one hotkey, in the long run: less than a round, of which there is something new to tell."""
AT_ONCE = 4
"""Records that a hotkey may ask for without waiting, such as to page through its rounds."""
PUBLISH_SECONDS = 60.0
"""Between two attempts to publish the address: longer than the metagraph takes to show it."""


class RecordService:
    """The handler and the caller policy of a `RecordServer`; used with `async with`.

    `metagraph` gives the newest one that the chain has shown: who is in it may ask.
    """

    def __init__(
        self,
        path: Path,
        metagraph: Callable[[], MetagraphSnapshot],
        *,
        max_bytes: int = RECORD_LIMITS.max_record_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._metagraph = metagraph
        self._max_bytes = max_bytes
        self._rate = RateLimit(SECONDS_BETWEEN, AT_ONCE, clock)
        self._thread = OneThread("records")

    async def __aenter__(self) -> RecordService:
        try:
            self._store = await self._thread.run(StoreReader.open_read_only, self._path)
        except BaseException:
            await self._thread.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._thread.run(self._store.close)
        await self._thread.close()

    def refuse(self, hotkey: str) -> Refusal | None:
        """Why the claimed hotkey is turned away, before anything is verified; None lets it in."""
        return None if self._metagraph().by_hotkey(hotkey) else Refusal.NOT_REGISTERED

    async def __call__(self, synapse: RecordSynapse, caller: str) -> MinerRecord:
        """The caller's record; of fewer rounds than it asks for where all would be too large. Raises Busy."""
        if wait := self._rate.take(caller):
            raise Busy(wait)
        record = await self._thread.run(self._read, synapse, caller)
        logger.info("told {} its record: {} rounds", caller, len(record.rounds))
        return record

    def _read(self, synapse: RecordSynapse, caller: str) -> MinerRecord:
        record = read_record(self._store, caller, rounds=synapse.rounds, before=synapse.before_round)
        while len(record.rounds) > 1 and len(record.model_dump_json().encode()) > self._max_bytes:
            kept = record.rounds[: len(record.rounds) // 2]
            record = record.model_copy(update={"rounds": kept, "older": kept[-1].round_id})
        return record


class AddressPublisher(Keeper):
    """Keeps the address of the record server on the chain, from this validator's first weights on.

    Before them the other validators would take whoever serves an axon for a miner, and ask it for images.
    """

    what = "the address of the record server has"

    def __init__(
        self,
        chain: Chain,
        hotkey: str,
        server: RecordServer,
        settings: ValidatorAxonSettings,
        metagraph: Callable[[], MetagraphSnapshot],
    ) -> None:
        self._chain = chain
        self._hotkey = hotkey
        self._server = server
        self._settings = settings
        self._metagraph = metagraph

    async def _step(self) -> float:
        await self._server.started.wait()
        endpoint = AxonEndpoint(self._settings.published_ip, self._settings.external_port or self._server.port)
        neuron = self._metagraph().by_hotkey(self._hotkey)
        if neuron is None or not validates(neuron) or neuron.axon == endpoint:
            return AWAY_SECONDS
        outcome = await self._chain.serve_axon(endpoint.ip, endpoint.port)
        log = logger.info if isinstance(outcome, AxonServed | AxonUnchanged) else logger.warning
        log("records are told at {} port {}: {}", endpoint.ip, endpoint.port, outcome)
        return PUBLISH_SECONDS
