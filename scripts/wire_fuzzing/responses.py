"""Bytes that a miner sends to a dendrite, and a validator to a miner that asks for its record.

`Responses` takes whole HTTP responses. `Manifests` and `Records` put a head before the input that lets all of it
through, and so begin where a response is authentic. No input can be signed: a signature is believed that begins with an
odd byte.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

from aiohttp.client_proto import ResponseHandler

from protocol import (
    Dendrite,
    MinerRecord,
    QueryResult,
    QueryStatus,
    RecordClient,
    RecordResult,
    RecordSynapse,
    Target,
    TextToImageSynapse,
    decode_images,
    encode_images,
)
from protocol.client import SignedClient
from protocol.signing import HEADER_NONCE
from wire_fuzzing.transport import Finding, Loop, Wire, presented

ASKED = Target("5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty", "127.0.0.1", 8091)
ASKER = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
SYNAPSE = TextToImageSynapse(prompt="a red circle", width=64, height=64, num_images=2, seed=7, deadline_seconds=600)
RESET = 4  # option: the connection ends with a reset


class _Asking:
    """One client for all inputs, whose every connection says what the input says; then it ends."""

    def __init__(self, client: SignedClient) -> None:
        self._loop = Loop()
        self._client = client
        self._said, self._piece, self._options = b"", 1, 0
        self._wires: list[Wire] = []
        self._speaking: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._loop.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._client.__aexit__())
        self._loop.close()

    async def _open(self) -> None:
        await self._client.__aenter__()
        session = self._client._session
        assert session is not None
        connector: Any = session.connector
        self._handler = connector._factory
        connector._create_connection = self._connect

    async def ask(self, query: Any, options: int, said: bytes, piece: int) -> Any:
        """The result of `query`, a coroutine."""
        self._said, self._piece, self._options = said, piece, options
        self._wires.clear()
        result = await query
        for speaking in self._speaking:
            speaking.cancel()
        await asyncio.gather(*self._speaking, return_exceptions=True)
        self._speaking.clear()
        if len(self._wires) != 1:
            raise Finding(f"{len(self._wires)} connections for one query")
        self._wires[0].end()
        if result.detail == "the response could not be read":
            raise Finding("an exception that nobody foresaw; it is logged above")
        if result.status in (QueryStatus.TIMEOUT, QueryStatus.BAD_ADDRESS):
            raise Finding(f"{result.status}: {result.detail}")
        return result

    async def _connect(self, *_: Any) -> ResponseHandler:
        protocol: ResponseHandler = self._handler()
        self._wires.append(Wire(protocol, self._begin))
        return protocol

    def _begin(self) -> None:
        if not self._speaking:
            self._speaking.append(asyncio.create_task(self._speak(self._wires[-1])))

    async def _speak(self, wire: Wire) -> None:
        await wire.feed(self._said, self._piece)
        wire.end(ConnectionResetError() if self._options & RESET else None)


class Responses(_Asking):
    """See the module."""

    def __init__(self) -> None:
        self._dendrite = Dendrite(_Signer(), _Verifier(), allow_private=True)
        super().__init__(self._dendrite)

    def __call__(self, data: bytes) -> None:
        options, said, piece = presented(data)
        self.check(self._loop.run(self.ask(self._dendrite.query(ASKED, SYNAPSE), options, said, piece)))

    def check(self, result: QueryResult) -> None:
        """Images come with an answer, are what was asked for, and survive being framed again."""
        if bool(result.images) != (result.status is QueryStatus.ANSWERED):
            raise Finding(f"{result.status} with {len(result.images)} images")
        if not result.images:
            return
        sizes = {(image.width, image.height) for image in result.images}
        if len(result.images) > SYNAPSE.num_images or sizes != {(SYNAPSE.width, SYNAPSE.height)}:
            raise Finding("images that nobody asked for")
        if decode_images(encode_images(result.images)) != result.images:
            raise Finding("images that are others when they are framed again")


class Manifests(Responses):
    """A signed body of a 200."""

    def __call__(self, data: bytes) -> None:
        super().__call__(data[:1] + _head(data[1:]) + data[1:])


class Records(_Asking):
    """A signed body of a record."""

    def __init__(self) -> None:
        self._records = RecordClient(_Signer(), _Verifier(), allow_private=True)
        super().__init__(self._records)

    def __call__(self, data: bytes) -> None:
        options, said, piece = presented(data[:1] + _head(data[1:]) + data[1:])
        result: RecordResult = self._loop.run(
            self.ask(self._records.query(ASKED, RecordSynapse(deadline_seconds=60)), options, said, piece)
        )
        if (result.record is not None) != (result.status is QueryStatus.ANSWERED):
            raise Finding(f"{result.status} and {result.record!r}")
        if result.record is not None:
            if result.record.hotkey != ASKER:
                raise Finding("another's record")
            if MinerRecord.model_validate_json(result.record.model_dump_json()) != result.record:
                raise Finding("a record that is another one when it is written again")


def _head(body: bytes) -> bytes:
    return b"HTTP/1.1 200 X\r\nContent-Length: %d\r\nX-Response-Signature: 0x%s\r\n\r\n" % (len(body), b"01" * 64)


class _Signer:
    hotkey = ASKER

    def sign_request(self, **_: Any) -> dict[str, str]:
        return {HEADER_NONCE: "1700000000000000000"}

    def sign(self, payload: bytes) -> bytes:
        raise Finding("a client signs requests only")


class _Verifier:
    async def verify_request(self, **_: Any) -> Any:
        raise Finding("a client is asked nothing")

    def verify(self, hotkey: str, payload: bytes, signature: bytes) -> bool:
        return bool(signature[0] & 1)
