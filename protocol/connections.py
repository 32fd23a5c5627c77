"""A server's connections: what must hold before a request is read and after a reply is written."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from . import replies
from .limits import Limits
from .rates import RateLimit
from .replies import ErrorReply

__all__ = ["GuardedConnection", "source_of"]


class _Refused(Exception):
    """Raised inside a parser callback: stops the parser where it is."""


class GuardedConnection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection with caps on connections, headers and body length, and a deadline for every phase.

    A request needs a Content-Length (no chunked bodies: one way to say where a request ends) and is answered before the
    next one may begin. `sources` counts the open connections by `source_of`, `rate` bounds the requests of each (None
    does not); both are shared by all connections of one server.
    """

    def __init__(
        self, *args: Any, limits: Limits, sources: Counter[str], rate: RateLimit | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._sources = sources
        self._rate = rate
        self._source: str | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._refusal: ErrorReply | None = None

    # --- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        source = source_of(self.client[0] if self.client else "")
        if (
            len(self.connections) > self._limits.max_connections
            or self._sources[source] >= self._limits.max_connections_per_address
        ):
            transport.abort()
            return
        # asyncio sets this only on sockets made with an explicit protocol number, which those of our listener are not.
        # Without it a reply's body waits for the caller's delayed acknowledgement of its head: 42 ms a query.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._source = source
        self._sources[source] += 1
        self._expect(self._limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._expect_read(None)
        if self._source is not None:
            self._sources[self._source] -= 1
            if not self._sources[self._source]:
                del self._sources[self._source]
            self._source = None
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            # The parser itself holds on to an unfinished line, so what goes in is counted, not what comes out.
            self._head_bytes += len(data)
            if self._deadline is None:
                self._expect(self._limits.header_seconds)
        super().data_received(data)
        if self._in_head and self._head_bytes > self._limits.max_header_bytes and not self.transport.is_closing():
            self._refuse(replies.HEADERS_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this when the parser stops; answers with the reason of ours if there is one."""
        self._refuse(self._refusal or replies.MALFORMED_REQUEST)

    # --- the parser's callbacks -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            raise _Refused("a second request before the first is answered")
        if self._rate is not None and self._source is not None and self._rate.take(self._source):
            self._stop(replies.TOO_MANY_REQUESTS)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > self._limits.max_header_count:
            self._stop(replies.HEADERS_TOO_LARGE)
        lowered = name.lower()
        if lowered == b"transfer-encoding":
            self._stop(replies.LENGTH_REQUIRED)
        if lowered in (b"upgrade", b"expect"):
            self._stop(replies.MALFORMED_REQUEST)
        # The parser has checked that it is a number, but not how many bytes we are ready to take.
        if lowered == b"content-length" and (len(value) > 9 or int(value) > self._limits.max_request_bytes):
            self._stop(replies.REQUEST_TOO_LARGE)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.max_header_bytes:
            self._stop(replies.HEADERS_TOO_LARGE)
        self._in_head = False
        self._expect(self._limits.body_seconds)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0
        self._expect(None)

    # --- a caller that does not read --------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_read(self._limits.write_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._expect_read(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size() and self._write_deadline is None:
            self._expect_read(self._limits.write_seconds)

    def timeout_keep_alive_handler(self) -> None:
        # close() would wait for unread bytes, for as long as the caller likes.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    # --- deadlines and refusals -------------------------------------------------------------------------------------

    def _expect(self, seconds: float | None) -> None:
        """Replace the running deadline, or end it with None."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self.loop.call_later(seconds, self._late)

    def _expect_read(self, seconds: float | None) -> None:
        """The same for the time the caller has to read what is written."""
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        if seconds is not None:
            self._write_deadline = self.loop.call_later(seconds, self.transport.abort)

    def _late(self) -> None:
        self._deadline = None
        self._refuse(replies.REQUEST_TIMEOUT)

    def _stop(self, reply: ErrorReply) -> None:
        self._refusal = reply
        raise _Refused(reply.code)

    def _refuse(self, reply: ErrorReply) -> None:
        if not self.transport.is_closing():
            self.transport.write(reply.raw())
            self.transport.close()


def source_of(address: str) -> str:
    """Who is behind an address, for counting: an IPv4 address itself, an IPv6 address' /64 (one customer's)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
