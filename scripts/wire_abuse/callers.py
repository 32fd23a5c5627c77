"""Callers that break docs/wire.md in every way that is known, each as what it does with one connection to an axon.

All of them are on loopback, where every address of 127.0.0.0/8 can be had: an attacker has as many as it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ig_subnet.chain.auth import KeypairSigner
from protocol import Target, TextToImageSynapse
from protocol.signing import HEADER_SIGNATURE
from protocol.synapse import QUERY_PATH

DRIP_SECONDS = 0.5  # between two bytes of those who are slow
CAPTURED_SECONDS = 4.0  # how long a captured request is replayed before the next is captured
HUNDRED_MB = 100_000_000
BLOCK = bytes(64 * 1024)


@dataclass
class Siege:
    """What attackers of one kind know, share and count. `validator` is one whom the axon lets in, and its key."""

    target: Target
    validator: KeypairSigner
    addresses: Iterator[str]  # the attackers' own, endless
    connections: int = 0
    """How many they opened."""
    tally: Counter[str] = field(default_factory=Counter)
    """What came of them: HTTP statuses, "dropped" without one; "sent_bytes", "captured"."""
    _captured: bytes = b""
    _captured_at: float = -CAPTURED_SECONDS

    def request(self, *, length: int | None = None, signed: bool = True, extra: bytes = b"") -> bytes:
        """A request as this validator would send it now."""
        body = _BODY
        headers = self.validator.sign_request(method="POST", path=QUERY_PATH, body=body, receiver=self.target.hotkey)
        if not signed:
            headers[HEADER_SIGNATURE] = f"0x{os.urandom(64).hex()}"
        lines = [
            f"POST {QUERY_PATH} HTTP/1.1",
            f"Host: {self.target.host}:{self.target.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body) if length is None else length}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n" + extra + b"\r\n" + body

    def captured(self) -> bytes:
        """A request that the validator did send; whoever calls this first sends it for the validator."""
        if time.monotonic() - self._captured_at > CAPTURED_SECONDS:
            self._captured, self._captured_at = self.request(), time.monotonic()
            self.tally["captured"] += 1
        return self._captured

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.Future[bytes], asyncio.StreamWriter]]:
        """To the axon, from the next address, with the first line of its answer, which is awaited and counted."""
        reader, writer = await asyncio.open_connection(
            self.target.host, self.target.port, local_addr=(next(self.addresses), 0)
        )
        self.connections += 1
        # From the beginning: what is refused in the middle would be lost with the reset that follows.
        answer = asyncio.ensure_future(reader.readline())
        try:
            with contextlib.suppress(ConnectionError):
                yield answer, writer
            with contextlib.suppress(ConnectionError, ValueError):
                await answer
            self._count(answer)
        finally:
            writer.transport.abort()
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    def _count(self, answer: asyncio.Future[bytes]) -> None:
        line = b"" if answer.exception() else answer.result()
        self.tally[line.split()[1].decode() if line.startswith(b"HTTP/1.1 ") else "dropped"] += 1


Act = Callable[[Siege], Awaitable[None]]


@dataclass(frozen=True)
class Attack:
    """An act that `workers` repeat at the same time, from `addresses` addresses, at most `most` times in all."""

    act: Act
    workers: int
    addresses: int = 1
    most: int = 20_000
    with_a_permit: bool = False  # of its own, instead of the honest validator's name
    from_the_validators_address: bool = False


async def besiege(attack: Attack, siege: Siege, seconds: float) -> None:
    """Lets an attack go on for so long, or until it has done all it may."""
    left = attack.most

    async def repeat() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            try:
                await attack.act(siege)
            except OSError:
                siege.tally["dropped"] += 1
                await asyncio.sleep(0.01)

    workers = [asyncio.create_task(repeat()) for _ in range(attack.workers)]
    await asyncio.wait(workers, timeout=seconds)
    for worker in workers:
        worker.cancel()
    for ended in await asyncio.gather(*workers, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


_BODY = (
    TextToImageSynapse(prompt="anything", width=512, height=512, seed=1000, deadline_seconds=5)
    .model_dump_json()
    .encode()
)


# --- what they do ----------------------------------------------------------------------------------------------------


async def invalid_signature(siege: Siege) -> None:
    """All is right but the signature: the dearest request that somebody without a key can make."""
    async with siege.connection() as (_, writer):
        writer.write(siege.request(signed=False))


async def replay(siege: Siege) -> None:
    async with siege.connection() as (_, writer):
        writer.write(siege.captured())


async def greedy(siege: Siege) -> None:
    """A validator with a permit that asks without end."""
    async with siege.connection() as (_, writer):
        writer.write(siege.request())


async def slow_headers(siege: Siege) -> None:
    async with siege.connection() as (answer, writer):
        await _drip(answer, writer, siege.request().split(b"\r\n\r\n")[0])


async def slow_body(siege: Siege) -> None:
    async with siege.connection() as (answer, writer):
        writer.write(siege.request().removesuffix(_BODY))
        await _drip(answer, writer, _BODY)


async def silent(siege: Siege) -> None:
    """A connection, and nothing else."""
    async with siege.connection():
        pass  # it waits for an answer


async def hundred_megabytes(siege: Siege) -> None:
    """Announced."""
    await _pour(siege, siege.request(length=HUNDRED_MB))


async def hundred_megabytes_in_chunks(siege: Siege) -> None:
    head = siege.request().replace(b"Content-Length: " + str(len(_BODY)).encode(), b"Transfer-Encoding: chunked")
    await _pour(siege, head.removesuffix(_BODY) + b"5F5E100\r\n")


async def hundred_megabytes_too_many(siege: Siege) -> None:
    """Behind a request that is complete, but for its signature."""
    await _pour(siege, siege.request(signed=False))


async def endless_header(siege: Siege) -> None:
    await _pour(siege, b"POST / HTTP/1.1\r\nHost: a\r\nX: ")


async def many_headers(siege: Siege) -> None:
    async with siege.connection() as (_, writer):
        writer.write(siege.request(extra=b"A: b\r\n" * 2000))
        await writer.drain()


async def full_headers(siege: Siege) -> None:
    """As many and as long as are taken."""
    async with siege.connection() as (_, writer):
        writer.write(siege.request(signed=False, extra=b"".join(b"X%02d: %s\r\n" % (i, b"b" * 170) for i in range(80))))
        await writer.drain()


async def _drip(answer: asyncio.Future[bytes], writer: asyncio.StreamWriter, data: bytes) -> None:
    """A byte at a time, until the other side has had enough."""
    for place in range(len(data)):
        writer.write(data[place : place + 1])
        if (await asyncio.wait({answer}, timeout=DRIP_SECONDS))[0]:
            return


async def _pour(siege: Siege, head: bytes) -> None:
    """The head and a hundred megabytes, or as much of them as is taken."""
    async with siege.connection() as (_, writer):
        writer.write(head)
        for _ in range(HUNDRED_MB // len(BLOCK)):
            writer.write(BLOCK)
            await writer.drain()
            siege.tally["sent_bytes"] += len(BLOCK)


ATTACKS: dict[str, Attack] = {
    "invalid signatures, 1 address": Attack(invalid_signature, workers=16),
    "invalid signatures, 64 addresses": Attack(invalid_signature, workers=16, addresses=64),
    "replay storm, 64 addresses": Attack(replay, workers=16, addresses=64),
    "permitted validator asks without end": Attack(greedy, workers=16, with_a_permit=True),
    "slow headers": Attack(slow_headers, workers=640, addresses=16),
    "slow bodies": Attack(slow_body, workers=640, addresses=16),
    "silent connections": Attack(silent, workers=640, addresses=16),
    "100 MB bodies, announced": Attack(hundred_megabytes, workers=4, addresses=64),
    "100 MB bodies, in chunks": Attack(hundred_megabytes_in_chunks, workers=4, addresses=64),
    "100 MB after a request": Attack(hundred_megabytes_too_many, workers=4, addresses=64),
    "endless header": Attack(endless_header, workers=4, addresses=64),
    "2,000 headers": Attack(many_headers, workers=16, addresses=64),
    "headers as large as may be": Attack(full_headers, workers=16, addresses=64),
    "silent connections, the validator's own address": Attack(silent, workers=80, from_the_validators_address=True),
    "invalid signatures, the validator's own address": Attack(
        invalid_signature, workers=16, from_the_validators_address=True
    ),
}
"""By name."""
