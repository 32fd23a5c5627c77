"""A connection without a network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

PIECES = (1 << 30, 1000, 13, 1)  # bytes that arrive at once
FEW = 300  # so many single bytes are enough


class Finding(AssertionError):
    """Something that the code under test must not do."""


class Wire(asyncio.Transport):
    """What `protocol` writes is kept in `written`, and `on_write` is told of it; `feed` gives it what the peer says."""

    def __init__(self, protocol: asyncio.Protocol, on_write: Callable[[], None] = lambda: None) -> None:
        super().__init__({"socket": _Socket()})
        self.written = b""
        self._protocol = protocol
        self._on_write = on_write
        self._closing = self._lost = False
        self._resumed = asyncio.Event()
        self._resumed.set()
        protocol.connection_made(self)

    async def feed(self, data: bytes, piece: int) -> None:
        """The bytes in pieces of that length, while the other side reads, with a turn of the event loop after each."""
        for start in range(0, len(data), piece):
            await self._resumed.wait()
            if self._closing:
                return
            self._protocol.data_received(data[start : start + piece])
            await asyncio.sleep(0)

    def end(self, error: Exception | None = None) -> None:
        """The peer hangs up, or resets the connection with `error`."""
        if not self._closing and error is None:
            self._protocol.eof_received()
        self._closing = True
        self._resumed.set()
        if not self._lost:
            self._lost = True
            self._protocol.connection_lost(error)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self.written += bytes(data)
            self._on_write()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._resumed.set()
            asyncio.get_running_loop().call_soon(self.end)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self._resumed.clear()

    def resume_reading(self) -> None:
        self._resumed.set()

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol


class _Socket:
    """As much of one as is asked for."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def setsockopt(self, *_: Any) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 5

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 4


class Loop:
    """An event loop that is kept between inputs, and what went wrong in it where nobody saw it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._unseen: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda loop, context: self._unseen.append(context))

    def run(self, work: Any) -> Any:
        """The result of a coroutine; raises `Finding` if something else failed meanwhile, or goes on afterwards."""
        result = self._loop.run_until_complete(_and_nothing_more(work))
        if self._unseen:
            context = self._unseen.pop()
            self._unseen.clear()
            raise Finding(context["message"]) from context.get("exception")
        return result

    def close(self) -> None:
        self._loop.close()


async def _and_nothing_more(work: Any) -> Any:
    result = await work
    for _ in range(20):  # turns of the loop for what has been cancelled to end
        if len(asyncio.all_tasks()) == 1:
            return result
        await asyncio.sleep(0)
    raise Finding(f"left running: {asyncio.all_tasks() - {asyncio.current_task()}}")


def presented(data: bytes) -> tuple[int, bytes, int]:
    """The options of an input (its first byte), the rest, and in pieces of how many bytes it is to arrive."""
    if not data:
        return 0, b"", PIECES[0]
    rest = data[1:]
    piece = PIECES[data[0] & 3]
    return data[0], rest, piece if len(rest) <= FEW else max(piece, 13)


def responses_in(written: bytes, *, bodiless: bool) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each response. Raises `Finding` unless it is nothing but complete ones.

    With `bodiless` (there was a HEAD request) a response may also consist of its head.
    """
    while written:
        head, found, rest = written.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        length = int(headers.get("content-length", -1))
        if bodiless and not rest:
            return
        if not found or not line.startswith("HTTP/1.1 ") or not 0 <= length <= len(rest):
            raise Finding(f"not a complete response: {written[:300]!r}")
        yield int(line[9:12]), headers, rest[:length]
        written = rest[length:]
