"""Callers and miners for tests of the wire: honest ones with real keys, and ones that speak raw bytes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from ig_subnet.chain.auth import KeypairSigner
from protocol import Axon, GeneratedImage, RecordServer, TextToImageSynapse

PATIENCE_SECONDS = 20.0  # for what must happen; no test measures how soon


Serve = Callable[..., AbstractAsyncContextManager[Axon]]
Server = TypeVar("Server", Axon, RecordServer)


@dataclass(frozen=True)
class Keys:
    validator: KeypairSigner
    miner: KeypairSigner
    stranger: KeypairSigner


async def paint(synapse: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
    """An honest handler: bytes that depend on the seed, in the requested number."""
    return [
        GeneratedImage(
            "png", synapse.width, synapse.height, synapse.seed_of(i), "test/model", f"{synapse.seed_of(i)}".encode()
        )
        for i in range(synapse.num_images)
    ]


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_miner(script: Script) -> AsyncIterator[int]:
    """A TCP server that does exactly what `script` does with each connection. Yields its port."""
    connections: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the dendrite hung up, or the test is over
        finally:
            connections.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    """A signed server that serves, and is stopped at the end."""
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await server.started.wait()
        yield server
    finally:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await server.stop()
            await serving


async def read_request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    """The headers (lowercase names) and the body of one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return headers, await reader.readexactly(int(headers["content-length"]))


async def say(port: int, *pieces: bytes) -> bytes:
    """Everything an axon answers on one connection to which `pieces` are written, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            except ConnectionError:
                pass  # refused before the end; the answer may still be readable
            return await read_to_the_end(reader)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    """Everything that arrived until the other side closed or reset the connection; `read()` loses it at a reset."""
    answer = b""
    try:
        while chunk := await reader.read(65536):
            answer += chunk
    except ConnectionError:
        pass
    return answer


def verdict(answer: bytes) -> tuple[int, str, bool]:
    """Status, error code (empty for a 200), and whether the answer carries a signature."""
    head, _, body = answer.partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
    assert match is not None, answer[:200]
    code = "" if match[1] == b"200" else json.loads(body)["error"]
    return int(match[1]), code, b"x-response-signature: " in head.lower()
