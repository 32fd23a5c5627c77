"""Miners that break docs/wire.md in every way that is known, each as what it does with one connection.

What they send is bounded: by the other side's reading, and by the end of the connection. Their keys are real, so that
some of them can sign what they should not.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from protocol import GeneratedImage, QueryStatus, Signer, TextToImageSynapse, encode_images
from protocol.signing import HEADER_HOTKEY, HEADER_NONCE, response_payload

DRIP_SECONDS = 0.05  # between two bytes of those who are slow
BLOCK = bytes(64 * 1024)


@dataclass(frozen=True)
class Caught:
    """One connection to a hostile miner, with the request that came on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    signer: Signer
    nonce: int
    validator: str
    synapse: TextToImageSynapse

    def head(self, body: bytes, *, length: int | None = None, status: int = 200, extra: str = "") -> bytes:
        """The head of an answer that is properly signed for `body`."""
        payload = response_payload(
            nonce=self.nonce,
            validator=self.validator,
            miner=self.signer.hotkey,
            status=status,
            body_sha256=hashlib.sha256(body).hexdigest(),
        )
        lines = [
            f"HTTP/1.1 {status} X",
            f"Content-Length: {len(body) if length is None else length}",
            f"X-Response-Signature: 0x{self.signer.sign(payload).hex()}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n" + extra.encode() + b"\r\n"

    def answer(self, body: bytes, *, status: int = 200, extra: str = "") -> bytes:
        """A complete answer, properly signed."""
        return self.head(body, status=status, extra=extra) + body

    def images(self, data: bytes) -> bytes:
        """The body with the number of images that was asked for, each of which is `data`."""
        asked = self.synapse
        return encode_images(
            [
                GeneratedImage("png", asked.width, asked.height, asked.seed_of(number), "made up", data)
                for number in range(asked.num_images)
            ]
        )

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def go_on_with(self, piece: bytes, *, pause: float = 0.0) -> None:
        """The same for ever: until the other side hangs up."""
        while True:
            await self.send(piece)
            await asyncio.sleep(pause)


Script = Callable[[Caught], Awaitable[None]]


@dataclass(frozen=True)
class HostileMiner:
    """What it does with a request, and what a dendrite makes of it. `deaf` ones do not read the request."""

    script: Script
    expected: QueryStatus
    deaf: bool = False


@asynccontextmanager
async def serving(miner: HostileMiner, signer: Signer) -> AsyncIterator[int]:
    """The miner on a free port of 127.0.0.1, which is yielded; afterwards nothing of it is left."""
    connections: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            if miner.deaf:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.Event().wait()
            while True:
                await miner.script(await _caught(reader, writer, signer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side hung up, or this one stops
        finally:
            connections.discard(task)
            writer.transport.abort()

    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        if miner.deaf:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
        server = await asyncio.start_server(talk, sock=listener)
        try:
            yield listener.getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()
            for task in list(connections):
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
            await asyncio.sleep(0)  # lets the aborted connections report their end


async def _caught(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, signer: Signer) -> Caught:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Caught(
        reader,
        writer,
        signer,
        int(headers[HEADER_NONCE.lower()]),
        headers[HEADER_HOTKEY.lower()],
        TextToImageSynapse.model_validate_json(body),
    )


# --- what they do ----------------------------------------------------------------------------------------------------


async def silent(caught: Caught) -> None:
    await caught.reader.read()


async def slow_head(caught: Caught) -> None:
    for byte in caught.answer(BLOCK):
        await caught.send(bytes([byte]))
        await asyncio.sleep(DRIP_SECONDS)


async def slow_body(caught: Caught) -> None:
    await caught.send(caught.head(BLOCK))
    await caught.go_on_with(b"\0", pause=DRIP_SECONDS)


async def endless_head(caught: Caught) -> None:
    await caught.send(b"HTTP/1.1 200 X\r\n")
    await caught.go_on_with(b"A: b\r\n")


async def endless_header(caught: Caught) -> None:
    await caught.send(b"HTTP/1.1 200 X\r\nA: ")
    await caught.go_on_with(b"b" * 1000)


async def endless_interim(caught: Caught) -> None:
    await caught.go_on_with(b"HTTP/1.1 102 P\r\n\r\n" * 1000)


async def endless_chunks(caught: Caught) -> None:
    await caught.send(caught.head(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
    await caught.go_on_with(b"1\r\nx\r\n" * 1000)


async def endless_body(caught: Caught) -> None:
    """Without a length: until the connection ends."""
    await caught.send(caught.head(b"").replace(b"Content-Length: 0", b"Connection: close"))
    await caught.go_on_with(BLOCK)


async def endless_after(caught: Caught) -> None:
    """An answer that is complete, and goes on."""
    body = b"no images at all"
    await caught.send(caught.answer(body))
    await caught.go_on_with(BLOCK)


async def terabyte(caught: Caught) -> None:
    await caught.send(caught.head(b"", length=10**12))
    await caught.go_on_with(BLOCK)


async def full_size(caught: Caught) -> None:
    """As many bytes as are let through, signed, and none of them an image."""
    await caught.send(caught.answer(bytes(4 + caught.synapse.num_images * 4 * caught.synapse.width**2)))


async def redirect(caught: Caught) -> None:
    own = caught.writer.get_extra_info("sockname")
    await caught.send(caught.answer(b"", status=307, extra=f"Location: http://{own[0]}:{own[1]}/v1/text-to-image\r\n"))


async def compressed(caught: Caught) -> None:
    """A megabyte of zeros for each kilobyte."""
    squeezed = zlib.compress(bytes(10_000_000), 9)
    await caught.send(caught.answer(squeezed, extra="Content-Encoding: deflate\r\n"))


async def short(caught: Caught) -> None:
    body = caught.images(b"pixels")
    await caught.send(caught.head(body) + body[:-1])
    caught.writer.write_eof()
    await caught.reader.read()


async def reset(caught: Caught) -> None:
    await caught.send(caught.head(BLOCK) + BLOCK[:1000])
    caught.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionResetError  # the transport is aborted, which sends a reset now


async def garbage(caught: Caught) -> None:
    await caught.send(caught.answer(hashlib.sha512(str(caught.nonce).encode()).digest() * 100))


async def nested(caught: Caught) -> None:
    await caught.send(caught.answer((16_000).to_bytes(4, "big") + b"[" * 16_000))


async def for_another(caught: Caught) -> None:
    """Signed, for a request that was not made."""
    body = caught.images(b"pixels")
    await caught.send(replace(caught, nonce=caught.nonce - 1).answer(body))


async def cookies(caught: Caught) -> None:
    """Work for a parser of cookies, before anything is signed."""
    await caught.send(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n" + b'Set-Cookie: a="' + b"\\" * 15_000 + b"\r\n\r\n")


async def bomb(caught: Caught) -> None:
    """Files of some kilobytes that would take gigabytes as pixels."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(bytes(2_000_000), 9))
    await caught.send(caught.answer(caught.images(b"\x89PNG\r\n\x1a\n" + header + pixels + _chunk(b"IEND", b""))))


async def laborious(caught: Caught) -> None:
    """Files of the right size, made of as many pieces as fit."""
    width, height = caught.synapse.width, caught.synapse.height
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pieces = _chunk(b"IDAT", b"") * ((4 * width * height + 60_000) // 12)
    await caught.send(caught.answer(caught.images(b"\x89PNG\r\n\x1a\n" + header + pieces + _chunk(b"IEND", b""))))


def _chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


HOSTILE: dict[str, HostileMiner] = {
    "silent": HostileMiner(silent, QueryStatus.TIMEOUT),
    "never reading": HostileMiner(silent, QueryStatus.TIMEOUT, deaf=True),
    "slow head": HostileMiner(slow_head, QueryStatus.TIMEOUT),
    "slow body": HostileMiner(slow_body, QueryStatus.TIMEOUT),
    "endless head": HostileMiner(endless_head, QueryStatus.BAD_RESPONSE),
    "endless header": HostileMiner(endless_header, QueryStatus.BAD_RESPONSE),
    "endless interim responses": HostileMiner(endless_interim, QueryStatus.BAD_RESPONSE),
    "endless chunks": HostileMiner(endless_chunks, QueryStatus.BAD_RESPONSE),
    "endless body": HostileMiner(endless_body, QueryStatus.BAD_RESPONSE),
    "endless after its end": HostileMiner(endless_after, QueryStatus.BAD_RESPONSE),
    "a terabyte announced": HostileMiner(terabyte, QueryStatus.TOO_LARGE),
    "as large as may be": HostileMiner(full_size, QueryStatus.BAD_RESPONSE),
    "redirecting": HostileMiner(redirect, QueryStatus.BAD_RESPONSE),
    "compressed": HostileMiner(compressed, QueryStatus.BAD_RESPONSE),
    "shorter than it says": HostileMiner(short, QueryStatus.UNREACHABLE),
    "reset in the middle": HostileMiner(reset, QueryStatus.UNREACHABLE),
    "signed garbage": HostileMiner(garbage, QueryStatus.BAD_RESPONSE),
    "signed nesting": HostileMiner(nested, QueryStatus.BAD_RESPONSE),
    "signed for another request": HostileMiner(for_another, QueryStatus.BAD_SIGNATURE),
    "cookies": HostileMiner(cookies, QueryStatus.REFUSED),
    "signed bombs": HostileMiner(bomb, QueryStatus.ANSWERED),
    "signed puzzles": HostileMiner(laborious, QueryStatus.ANSWERED),
}
"""By name. The images of those that are ANSWERED do not decode."""
