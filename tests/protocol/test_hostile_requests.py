"""Callers that are endless, slow or many: what an axon answers, and that it goes on. Single requests: hostile.json."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
from wire_peers import PATIENCE_SECONDS, Keys, Serve, read_to_the_end, say, verdict

from protocol import Axon, Dendrite, GeneratedImage, Limits, QueryStatus, Target, TextToImageSynapse

PATH = b"/v1/text-to-image"
IMPATIENT = Limits(header_seconds=0.6, body_seconds=0.6, idle_seconds=1, write_seconds=0.6)


class Caller:
    """Signs honestly, so that a test can then do one thing wrong."""

    def __init__(self, keys: Keys, synapse: TextToImageSynapse) -> None:
        self.keys = keys
        self.body = synapse.model_dump_json().encode()

    def request(self, replace: dict[str, str] | None = None) -> bytes:
        headers = {
            "Host": "miner",
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            **self.keys.validator.sign_request(
                method="POST", path=PATH.decode(), body=self.body, receiver=self.keys.miner.hotkey
            ),
            **(replace or {}),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return b"POST " + PATH + b" HTTP/1.1\r\n" + lines.encode() + b"\r\n" + self.body


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"POST /", b"a"),
        (b"POST " + PATH + b" HTTP/1.1\r\n", b"A: b\r\n"),
        (b"POST " + PATH + b" HTTP/1.1\r\nA: ", b"b"),
        (b"POST " + PATH + b" HTTP/1.1\r\n", b"a"),
        (b"", b"\r\n"),
    ],
    ids=["path", "headers", "one value", "one name", "empty lines"],
)
async def test_endless_heads_are_cut_off(
    start: bytes, again: bytes, serve: Serve, dendrite: Dendrite, keys: Keys, synapse: TextToImageSynapse
) -> None:
    """The answer may be lost, because more was on its way when the connection was closed; 64 MB are not read."""
    async with serve() as axon:
        answer = await say(axon.port, start, *[again * (64_000 // len(again))] * 1000)
        after = await dendrite.query(Target(keys.miner.hotkey, "127.0.0.1", axon.port), synapse)
    assert answer == b"" or verdict(answer) == (431, "headers_too_large", False)
    assert after.status is QueryStatus.ANSWERED


# --- slowly ----------------------------------------------------------------------------------------------------------


async def trickle(port: int, request: bytes) -> bytes:
    """The answer to a request of which a byte arrives every 10 ms, forever."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def write() -> None:
        try:
            for byte in request:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await read_to_the_end(reader)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "slow",
    [
        b"",
        b"POST /v1/text-to-image HTTP/1.1\r\n" + b"A: b\r\n" * 1000,
        b"\r\n" * 3000,
        b"POST /v1/text-to-image HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n" + b"x" * 30000,
    ],
    ids=["silence", "headers", "empty lines", "body"],
)
async def test_slow_requests_are_cut_off(slow: bytes, serve: Serve) -> None:
    async with serve(limits=IMPATIENT) as axon:
        answer = await trickle(axon.port, slow)
    assert verdict(answer)[:2] in [(408, "request_timeout"), (401, "authentication_failed")]


async def test_a_slow_body_of_a_permitted_hotkey_is_cut_off(
    serve: Serve, keys: Keys, synapse: TextToImageSynapse
) -> None:
    head, _, body = Caller(keys, synapse).request().partition(b"\r\n\r\n")
    async with serve(limits=IMPATIENT) as axon:
        reader, writer = await asyncio.open_connection("127.0.0.1", axon.port)
        writer.write(head + b"\r\n\r\n" + body[:-1])
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await read_to_the_end(reader)
        writer.transport.abort()
    assert verdict(answer) == (408, "request_timeout", False)


async def test_idle_connections_are_closed(serve: Serve, keys: Keys, synapse: TextToImageSynapse) -> None:
    """With nothing, or with empty lines, after a complete request."""
    caller = Caller(keys, synapse)
    async with serve(limits=IMPATIENT) as axon:
        for rest in (b"", b"\r\n" * 3000):
            reader, writer = await asyncio.open_connection("127.0.0.1", axon.port)
            writer.write(caller.request(replace={"Connection": "keep-alive"}))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await reader.readuntil(b"8")  # the last image's only byte
                try:
                    for byte in rest:
                        if reader.at_eof() or writer.transport.is_closing():
                            break
                        writer.write(bytes([byte]))
                        await asyncio.sleep(0.01)
                    await reader.read()
                except ConnectionError:
                    pass
            writer.transport.abort()
            await asyncio.sleep(0)


async def test_a_caller_that_does_not_read_is_dropped(serve: Serve, keys: Keys, synapse: TextToImageSynapse) -> None:
    """The unread reply does not stay in memory, whether the connection is to be kept or not."""
    data = bytes(12_000_000)

    async def handler(asked: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
        return [GeneratedImage("png", asked.width, asked.height, asked.seed, "m", data)]

    big = synapse.model_copy(update={"width": 2048, "height": 2048})
    async with serve(handler, limits=IMPATIENT) as axon:
        for connection in ("close", "keep-alive"):
            with socket.socket() as caller:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                caller.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(caller, ("127.0.0.1", axon.port))
                await loop.sock_sendall(caller, Caller(keys, big).request(replace={"Connection": connection}))
                await until(lambda: len(connections(axon)) == 1)
                await until(lambda: len(connections(axon)) == 0)


def connections(axon: Axon) -> list[Any]:
    assert axon._server is not None
    return list(axon._server.server_state.connections)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  (about sockets of the other side: nothing signals them)
            await asyncio.sleep(0.01)


# --- many ------------------------------------------------------------------------------------------------------------


async def test_connections_from_one_address_are_capped(
    serve: Serve, dendrite: Dendrite, keys: Keys, synapse: TextToImageSynapse
) -> None:
    async with serve(limits=Limits(max_connections_per_address=5)) as axon:
        target = Target(keys.miner.hotkey, "127.0.0.1", axon.port)
        crowd = [await asyncio.open_connection("127.0.0.1", axon.port) for _ in range(5)]
        await until(lambda: len(connections(axon)) == 5)
        assert (await dendrite.query(target, synapse)).status is QueryStatus.UNREACHABLE
        assert verdict(await say_from("127.0.0.2", axon.port, Caller(keys, synapse).request())) == (200, "", True)
        for _, writer in crowd:
            writer.transport.abort()
        await until(lambda: not connections(axon))
        assert (await dendrite.query(target, synapse)).status is QueryStatus.ANSWERED


async def test_a_crowd_that_says_nothing_keeps_nobody_out(
    serve: Serve, dendrite: Dendrite, keys: Keys, synapse: TextToImageSynapse
) -> None:
    """Who has been silent longest gives way to a newcomer; who was answered keeps its connection."""
    async with serve(limits=Limits(max_connections=5)) as axon:
        target = Target(keys.miner.hotkey, "127.0.0.1", axon.port)
        assert (await dendrite.query(target, synapse)).status is QueryStatus.ANSWERED
        (kept,) = connections(axon)
        crowd = [await asyncio.open_connection("127.0.0.1", axon.port) for _ in range(6)]
        await until(
            lambda: [reader.at_eof() or reader.exception() is not None for reader, _ in crowd][:2] == [True] * 2
        )
        assert len(connections(axon)) == 5
        assert kept in connections(axon)
        assert verdict(await say(axon.port, Caller(keys, synapse).request())) == (200, "", True)
        assert (await dendrite.query(target, synapse)).status is QueryStatus.ANSWERED
        for _, writer in crowd:
            writer.transport.abort()


async def test_a_server_full_of_callers_that_were_answered_takes_no_more(
    serve: Serve, keys: Keys, synapse: TextToImageSynapse
) -> None:
    async with serve(limits=Limits(max_connections=1)) as axon:
        reader, writer = await asyncio.open_connection("127.0.0.1", axon.port)
        writer.write(Caller(keys, synapse).request(replace={"Connection": "keep-alive"}))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await reader.readuntil(b"8")  # the last image's only byte
        assert await say(axon.port, Caller(keys, synapse).request()) == b""
        writer.transport.abort()


async def say_from(address: str, port: int, request: bytes) -> bytes:
    """The answer to a request that comes from this address."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await read_to_the_end(reader)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_requests_from_one_address_are_bounded(serve: Serve, keys: Keys, synapse: TextToImageSynapse) -> None:
    """Whoever sends them and whatever they are; the answer says when to come back."""
    caller = Caller(keys, synapse)
    async with serve(limits=Limits(address_seconds=3600, address_at_once=2)) as axon:
        assert verdict(await say(axon.port, caller.request())) == (200, "", True)
        assert verdict(await say(axon.port, b"GET / HTTP/1.1\r\nHost: m\r\n\r\n")) == (404, "not_found", False)
        answer = await say(axon.port, caller.request())
        assert verdict(answer) == (429, "too_many_requests", False)
        told = re.search(rb"retry-after: (\d+)\r\n", answer)
        assert told is not None
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["retry_after_seconds"] == int(told[1])
        assert 3500 < int(told[1]) <= 3600
        assert verdict(await say_from("127.0.0.2", axon.port, caller.request())) == (200, "", True)


async def test_requests_of_one_hotkey_are_bounded(serve: Serve, keys: Keys, synapse: TextToImageSynapse) -> None:
    """Wherever they come from, and only those that it signed; the answer is signed, the header says the same."""
    caller = Caller(keys, synapse)
    forged = {"X-Bittensor-Signature": "0x" + "00" * 64}
    async with serve(limits=Limits(caller_seconds=3600, caller_at_once=2)) as axon:
        for _ in range(3):
            assert verdict(await say(axon.port, caller.request(replace=forged)))[0] == 401
        for _ in range(2):
            assert verdict(await say(axon.port, caller.request())) == (200, "", True)
        answer = await say_from("127.0.0.2", axon.port, caller.request())
        assert verdict(answer) == (503, "busy", True)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"retry-after: %d" % json.loads(body)["retry_after_seconds"] in head.lower()


async def test_the_operators_proxy_says_who_is_behind_it(serve: Serve, keys: Keys, synapse: TextToImageSynapse) -> None:
    """Only its own word, the last, counts; what it cannot say counts as its own request."""
    caller = Caller(keys, synapse)

    async def ask(forwarded: str, address: str = "127.0.0.1") -> int:
        request = caller.request(replace={"X-Forwarded-For": forwarded})
        return verdict(await say_from(address, axon.port, request))[0]

    limits = Limits(address_seconds=3600, address_at_once=1, max_connections_per_address=1)
    async with serve(limits=limits, trusted_proxies=["127.0.0.1"]) as axon:
        assert [await ask("203.0.113.7"), await ask("1.1.1.1, 203.0.113.7"), await ask("203.0.113.8")] == [
            200,
            429,
            200,
        ]
        assert [await ask("2001:db8::1"), await ask("2001:db8::2"), await ask("2001:db8:0:1::1")] == [200, 429, 200]
        assert [await ask("unknown"), await ask("")] == [200, 429]
        # Anybody else's word is worth nothing.
        assert [await ask("203.0.113.1", "127.0.0.2"), await ask("203.0.113.2", "127.0.0.2")] == [200, 429]
        idle = await asyncio.open_connection("127.0.0.1", axon.port)
        await until(lambda: len(connections(axon)) == 1)
        assert await ask("203.0.113.9") == 200  # a proxy may have more connections than one address
        idle[1].transport.abort()


async def test_replies_do_not_wait_for_acknowledgements(serve: Serve) -> None:
    async with serve() as axon:
        _, writer = await asyncio.open_connection("127.0.0.1", axon.port)
        await until(lambda: len(connections(axon)) == 1)
        accepted = connections(axon)[0].transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        writer.transport.abort()
        await until(lambda: not connections(axon))
