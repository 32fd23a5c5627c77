"""Miners that are endless, large or out of turn: what a dendrite makes of them. It never raises.

Single responses: hostile.json. A round among such miners: tests/validating/test_hostile_round.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from wire_peers import PATIENCE_SECONDS, Keys, paint, raw_miner, read_request

from ig_subnet.chain.auth import BtAuthVerifier
from protocol import Dendrite, Limits, QueryResult, QueryStatus, Target, TextToImageSynapse, encode_images
from protocol.signing import HEADER_NONCE, response_payload


class Miner:
    """One connection's honest answer, of which a test can then change one thing."""

    def __init__(self, keys: Keys, headers: dict[str, str], synapse: TextToImageSynapse, images: bytes) -> None:
        self.keys = keys
        self.nonce = int(headers[HEADER_NONCE.lower()])
        self.synapse = synapse
        self.images = images

    def signature(self, body: bytes | None = None, *, status: int = 200) -> str:
        payload = response_payload(
            nonce=self.nonce,
            validator=self.keys.validator.hotkey,
            miner=self.keys.miner.hotkey,
            status=status,
            body_sha256=hashlib.sha256(self.images if body is None else body).hexdigest(),
        )
        return "0x" + self.keys.miner.sign(payload).hex()

    def answer(
        self,
        body: bytes | None = None,
        *,
        status: int = 200,
        signature: str | None = None,
        length: int | None = None,
        extra: bytes = b"",
    ) -> bytes:
        body = self.images if body is None else body
        signature = self.signature(body, status=status) if signature is None else signature
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body) if length is None else length}\r\n"
        signed = f"X-Response-Signature: {signature}\r\n" if signature else ""
        return head.encode() + signed.encode() + extra + b"\r\n" + body


Say = Callable[[Miner], bytes]

RESPONSES: dict[str, tuple[Say, QueryStatus]] = {
    "honest": (lambda m: m.answer(), QueryStatus.ANSWERED),
    "huge signature": (lambda m: m.answer(signature="0x" + "00" * 4000), QueryStatus.BAD_SIGNATURE),
    "signed 503 of another kind": (lambda m: m.answer(b'["busy"]', status=503), QueryStatus.FAILED),
    "redirect": (
        lambda m: m.answer(status=307, extra=b"Location: http://127.0.0.1:9/\r\n"),
        QueryStatus.BAD_RESPONSE,
    ),
    "upgrade": (
        lambda m: b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        QueryStatus.BAD_RESPONSE,
    ),
    "100,000 times continue": (lambda m: b"HTTP/1.1 100 C\r\n\r\n" * 100_000, QueryStatus.BAD_RESPONSE),
    "the answer 10,000 times": (lambda m: m.answer() * 10_000, QueryStatus.ANSWERED),
    "deflate, truly not": (lambda m: m.answer(extra=b"Content-Encoding: deflate\r\n"), QueryStatus.BAD_RESPONSE),
    "compressed transfer": (
        lambda m: m.answer(extra=b"Transfer-Encoding: gzip, chunked\r\n"),
        QueryStatus.BAD_RESPONSE,
    ),
    "announces a terabyte": (lambda m: m.answer(length=10**12), QueryStatus.TOO_LARGE),
    "a large error": (lambda m: m.answer(bytes(5000), status=500), QueryStatus.TOO_LARGE),
    "a large unsigned error": (lambda m: m.answer(bytes(5000), status=401, signature=""), QueryStatus.TOO_LARGE),
    "a long reason": (lambda m: m.answer().replace(b"200 X", b"200 " + b"X" * 17_000), QueryStatus.BAD_RESPONSE),
    "a header of 4 MB": (lambda m: m.answer(extra=b"A: " + b"b" * 4_000_000), QueryStatus.BAD_RESPONSE),
    "half a head": (lambda m: m.answer()[:30], QueryStatus.UNREACHABLE),
    "bytes after the body": (lambda m: m.answer() + b"x" * 1000, QueryStatus.BAD_RESPONSE),
}


def asks(dendrite: Dendrite, keys: Keys, port: int, synapse: TextToImageSynapse) -> Awaitable[QueryResult]:
    return dendrite.query(Target(keys.miner.hotkey, "127.0.0.1", port), synapse)


async def honest_images(synapse: TextToImageSynapse) -> bytes:
    return encode_images(await paint(synapse, ""))


@pytest.mark.parametrize("name", RESPONSES)
async def test_hostile_responses(name: str, dendrite: Dendrite, keys: Keys, synapse: TextToImageSynapse) -> None:
    say, expected = RESPONSES[name]
    images = await honest_images(synapse)
    requests = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        headers, _ = await read_request(reader)
        requests += 1
        assert headers["accept-encoding"] == "identity"
        assert "user-agent" not in headers
        writer.write(say(Miner(keys, headers, synapse, images)))
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with raw_miner(script) as port:
        result = await asks(dendrite, keys, port, synapse)
    assert result.status is expected, result.detail
    assert bool(result.images) == (expected is QueryStatus.ANSWERED)
    assert requests == 1  # nothing is tried again, nor elsewhere


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (lambda m: (b"", b""), QueryStatus.TIMEOUT),
        (lambda m: (b"HTTP/1.1 200 X\r\n", b"A: b\r\n"), QueryStatus.BAD_RESPONSE),
        (lambda m: (b"", b"HTTP/1.1 102 P\r\n\r\n"), QueryStatus.BAD_RESPONSE),
        (lambda m: (m.answer(b"", signature=m.signature(), length=90_000), b"x"), QueryStatus.TIMEOUT),
    ],
    ids=["silence", "headers", "interim responses", "a body by the byte"],
)
async def test_endless_responses_end(
    stream: Callable[[Miner], tuple[bytes, bytes]],
    expected: QueryStatus,
    dendrite: Dendrite,
    keys: Keys,
    synapse: TextToImageSynapse,
) -> None:
    """By a cap where there is one, else by the deadline."""
    hurried = synapse.model_copy(update={"deadline_seconds": 0.5 if expected is QueryStatus.TIMEOUT else 15.0})
    images = await honest_images(hurried)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers, _ = await read_request(reader)
        start, again = stream(Miner(keys, headers, hurried, images))
        writer.write(start)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(0.001)

    async with raw_miner(script) as port, asyncio.timeout(PATIENCE_SECONDS):
        result = await asks(dendrite, keys, port, hurried)
    assert result.status is expected, result.detail
    assert result.images == ()


async def test_an_answer_before_the_question(dendrite: Dendrite, keys: Keys, synapse: TextToImageSynapse) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 102 P\r\n\r\n" * 2)
        await writer.drain()
        await reader.read()

    async with raw_miner(script) as port:
        assert (await asks(dendrite, keys, port, synapse)).status is QueryStatus.BAD_RESPONSE


async def test_an_old_answer_is_no_answer(dendrite: Dendrite, keys: Keys, synapse: TextToImageSynapse) -> None:
    """Recorded once, played again to the same question."""
    images = await honest_images(synapse)
    recorded: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers, _ = await read_request(reader)
        recorded.append(Miner(keys, headers, synapse, images).answer(extra=b"Connection: close\r\n"))
        writer.write(recorded[0])
        await writer.drain()

    async with raw_miner(script) as port:
        assert (await asks(dendrite, keys, port, synapse)).status is QueryStatus.ANSWERED
        assert (await asks(dendrite, keys, port, synapse)).status is QueryStatus.BAD_SIGNATURE


async def test_cookies_are_not_even_parsed(
    dendrite: Dendrite, keys: Keys, synapse: TextToImageSynapse, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = await honest_images(synapse)
    monkeypatch.setattr("aiohttp.abc.parse_set_cookie_headers", lambda headers: pytest.fail(f"parsed {headers}"))

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers, _ = await read_request(reader)
        writer.write(Miner(keys, headers, synapse, images).answer(extra=b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n"))
        await reader.read()

    async with raw_miner(script) as port:
        assert (await asks(dendrite, keys, port, synapse)).status is QueryStatus.ANSWERED


@pytest.mark.parametrize(
    ("hotkey", "host", "port"),
    [
        (None, "10.0.0.1", 8091),
        (None, "127.0.0.1", 8091),
        (None, "localhost", 8091),
        (None, "::ffff:8.8.8.8", 8091),
        (None, "8.8.8.8", 0),
        (None, "8.8.8.8", 65536),
        ("5" * 49, "8.8.8.8", 8091),
        ("5" * 40 + "\r\nX: y\r\n", "8.8.8.8", 8091),
    ],
)
async def test_bad_addresses_are_not_connected_to(
    hotkey: str | None, host: str, port: int, keys: Keys, synapse: TextToImageSynapse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    async with Dendrite(keys.validator, BtAuthVerifier(keys.validator.hotkey)) as dendrite:
        result = await dendrite.query(Target(hotkey or keys.miner.hotkey, host, port), synapse)
    assert result.status is QueryStatus.BAD_ADDRESS
    assert "\n" not in result.detail


async def test_nobody_there(keys: Keys, synapse: TextToImageSynapse, dendrite: Dendrite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    result = await asks(dendrite, keys, port, synapse)
    assert result.status is QueryStatus.UNREACHABLE
    assert result.elapsed_seconds < synapse.deadline_seconds


async def test_a_full_backlog_is_unreachable(keys: Keys, synapse: TextToImageSynapse) -> None:
    """A host that does not even accept uses up the time for connecting and not the whole deadline."""
    verifier = BtAuthVerifier(keys.validator.hotkey)
    limits = Limits(connect_seconds=0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        with socket.socket() as first, socket.socket() as second:
            for taken in (first, second):
                taken.setblocking(False)
                taken.connect_ex(("127.0.0.1", port))
            async with Dendrite(keys.validator, verifier, limits=limits, allow_private=True) as dendrite:
                result = await asks(dendrite, keys, port, synapse)
    assert (result.status, result.detail) == (QueryStatus.UNREACHABLE, "no connection in 0.2 s")


async def test_the_environment_has_no_say(
    dendrite: Dendrite, keys: Keys, synapse: TextToImageSynapse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a proxy nor a .netrc of the environment."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    images = await honest_images(synapse)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers, _ = await read_request(reader)
        assert "authorization" not in headers and "cookie" not in headers
        writer.write(Miner(keys, headers, synapse, images).answer(extra=b"Connection: close\r\nSet-Cookie: a=b\r\n"))
        await writer.drain()

    async with raw_miner(script) as port:
        for _ in range(2):
            assert (await asks(dendrite, keys, port, synapse)).status is QueryStatus.ANSWERED
