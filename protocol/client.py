"""A signed HTTP client that believes nothing but a signed answer in time: what a validator's dendrite and a miner that
asks for its record share."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader
from loguru import logger

from .addresses import check_address
from .errors import AddressError, FramingError
from .framing import parse_json
from .limits import Limits
from .query import QueryStatus, Target
from .replies import CODES
from .signing import HEADER_NONCE, HEADER_RESPONSE_SIGNATURE, Signer, Verifier, is_hotkey, parse_signature

__all__ = ["Ended", "SignedClient"]

# A socket read brings up to 256 KiB: 13,000 of the shortest messages, and 70 ms of parsing them.
_PARSED_AT_ONCE = 16 * 1024

Answer = TypeVar("Answer")


class Ended(Exception):
    """A query that ended in anything but an answer."""

    def __init__(self, status: QueryStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class SignedClient(ABC):
    """Asks neurons over one shared HTTP session. Use as an async context manager; many queries may run at once.

    A subclass says what is asked and what a signature covers. `signer` signs requests, `verifier` checks what is signed
    in return. With `allow_private` loopback and private addresses may be asked (a local network); see
    `protocol.addresses`.
    """

    def __init__(self, signer: Signer, verifier: Verifier, *, limits: Limits, allow_private: bool) -> None:
        self._signer = signer
        self._verifier = verifier
        self._limits = limits
        self._allow_private = allow_private
        self._turns = asyncio.Semaphore(limits.max_queries)
        self._session: aiohttp.ClientSession | None = None

    @abstractmethod
    def _payload(self, target: Target, nonce: int, status: int, body_sha256: str) -> bytes:
        """What `target` has to have signed of its answer to the request with this nonce."""

    async def __aenter__(self) -> Self:
        limits = self._limits
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=limits.reuse_seconds)
        # aiohttp has no setting for this; tests/protocol/test_hostile_responses.py would notice if it had no effect.
        handler: Any = functools.partial(
            _OneResponseHandler, loop=asyncio.get_running_loop(), max_head_bytes=limits.max_response_header_bytes
        )
        connector._factory = handler
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_seconds),
            cookie_jar=_NoCookies(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("User-Agent",),
            headers={"Accept-Encoding": "identity", "Content-Type": "application/json"},
            max_line_size=limits.max_response_header_bytes,
            max_field_size=limits.max_response_header_bytes,
            max_headers=limits.max_response_header_count,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(
        self, exchange: Callable[[], Awaitable[Answer]], deadline_seconds: float
    ) -> tuple[QueryStatus, Answer | None, float, str]:
        """How an exchange ended, with the answer only where it is ANSWERED, its seconds, and a detail for logs."""
        async with self._turns:
            loop = asyncio.get_running_loop()
            started = loop.time()
            answer, status, detail = None, QueryStatus.ANSWERED, ""
            try:
                async with asyncio.timeout(deadline_seconds):
                    answer = await exchange()
            except TimeoutError:
                status, detail = QueryStatus.TIMEOUT, f"no answer in {deadline_seconds:g} s"
            except Ended as end:
                status, detail = end.status, end.detail
            return status, answer, loop.time() - started, detail

    async def _exchange(self, target: Target, path: str, body: bytes, most: int) -> bytes:
        """Send the request, receive a response 200 of at most `most` bytes, check who signed it.

        Raises `Ended` for everything else, RuntimeError outside `async with`.
        """
        if self._session is None:
            raise RuntimeError(f"ask inside `async with {type(self).__name__}(...)`")
        if not is_hotkey(target.hotkey):
            raise Ended(QueryStatus.BAD_ADDRESS, "the hotkey is not 48 characters of base58")
        try:
            host = check_address(target.host, target.port, allow_private=self._allow_private)
        except AddressError as error:
            raise Ended(QueryStatus.BAD_ADDRESS, str(error)) from None
        headers = self._signer.sign_request(method="POST", path=path, body=body, receiver=target.hotkey)
        nonce = int(headers[HEADER_NONCE])
        url = f"http://{f'[{host}]' if ':' in host else host}:{target.port}{path}"
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                try:
                    return await self._receive(response, target, nonce, most)
                except BaseException:
                    response.close()  # with unread bytes in it, the connection is of no further use
                    raise
        except Ended:
            raise
        except aiohttp.ConnectionTimeoutError:
            detail = f"no connection in {self._limits.connect_seconds:g} s"
            raise Ended(QueryStatus.UNREACHABLE, detail) from None
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            raise Ended(QueryStatus.UNREACHABLE, f"the connection failed ({type(error).__name__})") from None
        except aiohttp.ClientPayloadError:
            raise Ended(QueryStatus.UNREACHABLE, "the response was cut short or malformed") from None
        except aiohttp.ClientError as error:
            raise Ended(QueryStatus.BAD_RESPONSE, f"not our protocol ({type(error).__name__})") from None
        except Exception:
            # Not foreseen: a fault of ours or of a library, met on one peer's bytes. The queries of the others go on.
            logger.exception("{}: reading the response of {} failed", path, target.hotkey)
            raise Ended(QueryStatus.BAD_RESPONSE, "the response could not be read") from None

    async def _receive(self, response: aiohttp.ClientResponse, target: Target, nonce: int, most: int) -> bytes:
        """The body of a response 200, once the signature over it is verified."""
        status = response.status
        if response.content_length is None:
            raise Ended(QueryStatus.BAD_RESPONSE, "the response has no Content-Length")
        if status != 200 and not 400 <= status < 600:
            raise Ended(QueryStatus.BAD_RESPONSE, f"HTTP {status} is not part of the protocol")
        if any(encoding.lower() != "identity" for encoding in response.headers.getall("Content-Encoding", [])):
            raise Ended(QueryStatus.BAD_RESPONSE, "the response has a content encoding")
        signatures = response.headers.getall(HEADER_RESPONSE_SIGNATURE, [])
        if not signatures and status != 200:
            # What is said before the caller is known is not signed.
            body, _ = await _read_capped(response, self._limits.max_error_bytes)
            raise _explain(status, body, signed=False)
        signature = parse_signature(signatures[0]) if len(signatures) == 1 else None
        if signature is None:
            raise Ended(QueryStatus.BAD_SIGNATURE, "the response has no well-formed signature")
        body, digest = await _read_capped(response, most if status == 200 else self._limits.max_error_bytes)
        payload = self._payload(target, nonce, status, digest)
        if not self._verifier.verify(target.hotkey, payload, signature):
            raise Ended(QueryStatus.BAD_SIGNATURE, "the signature is not that of the hotkey that was asked")
        if status != 200:
            raise _explain(status, body, signed=True)
        return body


async def _read_capped(response: aiohttp.ClientResponse, most: int) -> tuple[bytes, str]:
    """The complete body and its SHA-256 in hexadecimal; stops reading at the first byte too many."""
    too_large = Ended(QueryStatus.TOO_LARGE, f"the body is over {most} bytes")
    if (response.content_length or 0) > most:
        raise too_large  # before a byte of it is read
    digest = hashlib.sha256()
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > most:
            raise too_large
        digest.update(chunk)
        chunks.append(chunk)
    return b"".join(chunks), digest.hexdigest()


def _explain(status: int, body: bytes, *, signed: bool) -> Ended:
    """What an error response means. Of its text only a known code and a plausible number of seconds are repeated; one
    that is not signed is not even parsed."""
    content: Any = {}
    if signed:
        with contextlib.suppress(FramingError):
            content = parse_json(body)
        code = content.get("error") if isinstance(content, dict) else None
    else:
        code = next((code for code in sorted(CODES) if b'"%s"' % code.encode() in body), None)
    code = code if isinstance(code, str) and code in CODES else "unknown error"
    if signed and status == 503 and code == "busy":
        seconds = content.get("retry_after_seconds")
        known = type(seconds) is int and 0 < seconds <= 86_400
        return Ended(QueryStatus.BUSY, f"busy, ask again in {seconds} s" if known else "busy")
    detail = f"HTTP {status} {code}" + ("" if signed else ", unsigned")
    return Ended(QueryStatus.REFUSED if status < 500 else QueryStatus.FAILED, detail)


class _NoCookies(aiohttp.DummyCookieJar):
    """aiohttp's own keeps none either, but parses them first, before anybody has looked at the signature."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: Any) -> None:
        pass


class _OneResponseHandler(ResponseHandler):
    """Lets one final response with a Content-Length and a short head through, and parses few bytes before it looks
    whether to go on.

    aiohttp bounds each line of a head but not all of it, and skips interim (1xx) responses, for which nothing we send
    asks, without ever yielding to the event loop; tiny chunks, or responses after the first, cost a thousand times what
    the same bytes of a body cost.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, max_head_bytes: int) -> None:
        super().__init__(loop)
        self._max_head_bytes = max_head_bytes
        self._head_bytes: int | None = None  # received of a head that is not complete; None outside of one

    def set_response_params(self, **options: Any) -> None:
        self._head_bytes = 0
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        if len(data) <= _PARSED_AT_ONCE:
            self._parse(data)
            return
        for start in range(0, len(data), _PARSED_AT_ONCE):
            if self.transport is None:
                return
            self._parse(data[start : start + _PARSED_AT_ONCE])

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        message = data[0]
        if message.code < 200 or message.chunked or len(self):
            self._refuse("interim, chunked or more than one")
        elif sum(len(name) + len(value) + 4 for name, value in message.raw_headers) > self._max_head_bytes:
            self._refuse("a head that is too long")
        else:
            self._head_bytes = None
            super().feed_data(data, size)

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is not None:
            # The parser keeps what it has of an unfinished head to itself, so what goes in is counted.
            self._head_bytes += len(data)
            if self._head_bytes > self._max_head_bytes:
                self._refuse("a head that does not end")

    def _refuse(self, what: str) -> None:
        if self.transport is not None:
            self.abort()
            self.set_exception(HttpProcessingError(message=what))
