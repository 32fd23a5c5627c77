"""A server's connections: what must hold before a request is read and after a reply is written."""

from __future__ import annotations

import asyncio
import math
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from . import replies
from .limits import Limits
from .replies import ErrorReply
from .sources import Sources, forwarded_for, source_of

__all__ = ["RAW_TARGET", "GuardedConnection"]

RAW_TARGET = "raw_target"
"""Key of the ASGI scope under which the request target stands, byte for byte as it was sent."""


class _Refused(Exception):
    """Raised inside a parser callback: stops the parser where it is."""


class GuardedConnection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection with caps on connections, headers and body length, and a deadline for every phase.

    A request needs a Content-Length (no chunked bodies: one way to say where a request ends) and is answered before the
    next one may begin. `sources`, shared by all connections of one server, bounds what one address may take.
    """

    def __init__(self, *args: Any, limits: Limits, sources: Sources, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._sources = sources
        self._source: str | None = None
        self._is_proxy = False
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._refusal: ErrorReply | None = None
        self._retry_after_seconds: int | None = None

    # --- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        source, self._is_proxy = source_of(address), self._sources.is_proxy(address)
        if not self._sources.enter(source, transport, is_proxy=self._is_proxy):
            transport.abort()
            return
        # asyncio sets this only on sockets made with an explicit protocol number, which those of our listener are not.
        # Without it a reply's body waits for the caller's delayed acknowledgement of its head: 42 ms a query.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._source = source
        self._expect(self._limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._expect_read(None)
        if self._source is not None:
            self._sources.leave(self._source, self.transport)
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
        self._refuse(self._refusal or replies.MALFORMED_REQUEST, self._retry_after_seconds)

    # --- the parser's callbacks -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            raise _Refused("a second request before the first is answered")
        if self._source is not None and not self._is_proxy:
            self._bound(self._source)
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
        if self._is_proxy:
            address = forwarded_for(self.headers)
            self._bound(source_of(address) if address is not None else self._source or "")
        # One way to ask: an HTTP/1.0 or a hostless request would mean something else to whatever stands in between.
        if self.parser.get_http_version() != "1.1" or [name for name, _ in self.headers].count(b"host") != 1:
            self._stop(replies.MALFORMED_REQUEST)
        self.scope[RAW_TARGET] = self.url  # type: ignore[literal-required]
        self._in_head = False
        self._expect(self._limits.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        # The handler wants all of it. Woken for each piece, it would be woken for each byte of a slow caller.
        if not self.cycle.response_complete:
            self.cycle.body += body

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._sources.spoke(self.transport)
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

    def _bound(self, source: str) -> None:
        """Count a request; stops one of a source that asks too often."""
        if wait := self._sources.wait_seconds(source):
            self._retry_after_seconds = math.ceil(wait)
            self._stop(replies.TOO_MANY_REQUESTS)

    def _stop(self, reply: ErrorReply) -> None:
        self._refusal = reply
        raise _Refused(reply.code)

    def _refuse(self, reply: ErrorReply, retry_after_seconds: int | None = None) -> None:
        if not self.transport.is_closing():
            self.transport.write(reply.raw(retry_after_seconds))
            self.transport.close()
