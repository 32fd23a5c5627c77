"""A signed HTTP server that does no work for a stranger: what a miner's axon and a validator's records share.

A request passes, in this order, the connection's caps (`protocol.connections`), the shape of its headers, the caller
policy, the complete body, the signature, the hotkey's own rate, the synapse's bounds and the queue; only then is an
answer made. Everything before the signature is cheap: the dearest step for someone who only knows a permitted hotkey is
one verification, about 0.1 ms, which holds the GIL anyway and so stays on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import math
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import uvicorn
from fastapi import FastAPI, Request, Response
from loguru import logger
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from . import replies
from .admission import Admission
from .connections import RAW_TARGET, GuardedConnection
from .errors import AuthenticationError, Busy, FramingError, ListenError, Refusal, Unsupported
from .framing import parse_json
from .limits import Limits
from .rates import RateLimit
from .replies import ErrorReply
from .signing import HEADER_RESPONSE_SIGNATURE, Signer, VerifiedRequest, Verifier, parse_auth_headers
from .sources import Sources

__all__ = ["CallerPolicy", "SignedServer"]

CallerPolicy = Callable[[str], Refusal | None]
"""Whether a claimed hotkey (48 characters of base58, not yet proven) may go on; called before any cryptography."""


class Asked(Protocol):
    """A synapse: a request with a deadline of its own."""

    @property
    def deadline_seconds(self) -> float: ...


Synapse = TypeVar("Synapse", bound=Asked)

# Connections accepted in one iteration of the loop. Of 400 that came at once, with a request each, the longest took
# 4 ms of processor time instead of 24 to 67 with uvicorn's own 2,048.
_ACCEPTED_AT_ONCE = 16


class _Refused(Exception):
    """Ends the handling of a request with a fixed reply."""

    def __init__(self, reply: ErrorReply, retry_after_seconds: int | None = None) -> None:
        super().__init__(reply.code)
        self.reply = reply
        self.retry_after_seconds = retry_after_seconds


class _CallerGone(Exception):
    """The caller closed the connection; nobody is left to answer."""


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


class SignedServer(ABC, Generic[Synapse]):
    """Answers one kind of synapse, POSTed to `path`, and signs what it answers.

    A subclass says what a synapse is, how it is answered, and what a signature covers.

    Args:
        path: where it is asked; nothing else is served.
        media_type: of an answer.
        signer: this neuron's hotkey.
        verifier: checks requests for that hotkey.
        host: the IP address to listen on, such as "0.0.0.0", "127.0.0.1" or "::".
        port: the TCP port; 0 takes a free one, see `port`.
        policy: see `CallerPolicy`.
        priority: a number for a proven hotkey; waiting requests of a higher one run first. Equal for all if None.
        limits: what is accepted.
        trusted_proxies: IP addresses of the operator's own proxies. A request from one counts as that of the address
            which the proxy added last to X-Forwarded-For, and a proxy may have as many connections as there are.
    """

    def __init__(
        self,
        path: str,
        media_type: str,
        signer: Signer,
        verifier: Verifier,
        *,
        host: str,
        port: int,
        policy: CallerPolicy,
        priority: Callable[[str], float] | None,
        limits: Limits,
        trusted_proxies: Collection[str] = (),
    ) -> None:
        self.started = asyncio.Event()
        """Set once connections are accepted."""
        self.port = port
        """The port; the actual one from `started` on."""
        self._path = path
        self._media_type = media_type
        self._signer = signer
        self._verifier = verifier
        self._host = host
        self._policy = policy
        self._priority = priority
        self._limits = limits
        self._trusted_proxies = trusted_proxies
        self._admission = Admission(limits)
        self._callers = RateLimit(limits.caller_seconds, limits.caller_at_once) if limits.caller_seconds else None
        self._server: _Server | None = None
        self._stop_requested = False
        self._stopped = asyncio.Event()

    @abstractmethod
    def _parse(self, body: bytes) -> Synapse:
        """The synapse in an authentic body. Raises pydantic's ValidationError."""

    @abstractmethod
    async def _make(self, synapse: Synapse, caller: str) -> bytes:
        """The body of the answer to a proven caller; cancelled at the deadline and when the caller hangs up.

        Raises Busy, Unsupported, or FramingError for an answer that cannot be sent.
        """

    @abstractmethod
    def _payload(self, verified: VerifiedRequest, status: int, body_sha256: str) -> bytes:
        """What is signed of the answer to a request."""

    async def serve(self) -> None:
        """Listen until `stop` is called or the caller is cancelled; once per server. Raises `ListenError`.

        On return the port is closed, and so is every connection; handlers still running after `shutdown_seconds` have
        been cancelled.
        """
        if self._server is not None:
            raise RuntimeError("it serves once; make a new one")
        listener = self._listen()
        self.port = listener.getsockname()[1]
        server = self._server = _Server(self._configuration(), self.started, self._limits.max_connections)
        server.should_exit = self._stop_requested
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise
        finally:
            listener.close()
            await server.drop_everything()
            self._stopped.set()

    async def stop(self) -> None:
        """Close the port, let running handlers finish for at most `shutdown_seconds`, wait until `serve` is done.

        Called before `serve`, it makes that return at once.
        """
        self._stop_requested = True
        if self._server is not None:
            self._server.should_exit = True
            await self._stopped.wait()

    # --- the server -------------------------------------------------------------------------------------------------

    def _listen(self) -> socket.socket:
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            return socket.create_server((self._host, self.port), family=family, backlog=self._limits.max_connections)
        except (OSError, OverflowError) as error:
            raise ListenError(f"cannot listen on {self._host} port {self.port}: {error}; choose another one") from None

    def _configuration(self) -> uvicorn.Config:
        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        app.add_route(self._path, self._endpoint, methods=["POST"])
        app.add_exception_handler(404, _not_found)
        app.add_exception_handler(405, _method_not_allowed)
        limits = self._limits
        sources = Sources(limits, self._trusted_proxies)
        connection = functools.partial(GuardedConnection, limits=limits, sources=sources)
        return uvicorn.Config(
            app,
            http=connection,  # type: ignore[arg-type]  # a partial of the class is as good as a class
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # strangers cause its warnings; what matters is logged here
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_ACCEPTED_AT_ONCE,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=limits.shutdown_seconds,
        )

    # --- one request ------------------------------------------------------------------------------------------------

    async def _endpoint(self, request: Request) -> Response:
        arrived = asyncio.get_running_loop().time()
        try:
            body, verified = await self._authenticate(request)
        except _Refused as refused:
            return _unsigned(refused.reply)
        except ClientDisconnect:
            return Response()  # goes nowhere
        except Exception:
            logger.exception("{}: checking a request failed", self._path)
            return _unsigned(replies.INTERNAL_ERROR)
        try:
            answer = await self._answer(request, body, verified.hotkey, arrived)
        except _Refused as refused:
            answer = _error(refused)
        except _CallerGone:
            logger.debug("{}: {} hung up", self._path, verified.hotkey)
            return Response()
        except Exception:
            logger.exception("{}: answering {} failed", self._path, verified.hotkey)
            answer = _error(_Refused(replies.INTERNAL_ERROR))
        return self._sign(answer, verified)

    async def _authenticate(self, request: Request) -> tuple[bytes, VerifiedRequest]:
        """The body and its proven sender. Raises `_Refused`, or ClientDisconnect if the body never completes."""
        if request.scope[RAW_TARGET] != self._path.encode():
            raise _Refused(replies.NOT_FOUND)  # the signature covers the target as sent; there is one way to send it
        try:
            claimed = parse_auth_headers(request.headers.raw)
        except AuthenticationError as error:
            logger.debug("{}: refused a request: {}", self._path, error)
            raise _Refused(replies.AUTHENTICATION_FAILED) from None
        if (refusal := self._policy(claimed.hotkey)) is not None:
            logger.debug("{}: refused {}: {}", self._path, claimed.hotkey, refusal)
            raise _Refused(replies.REFUSALS[refusal])
        if request.headers.getlist("content-type") != ["application/json"] or "content-encoding" in request.headers:
            raise _Refused(replies.UNSUPPORTED_MEDIA_TYPE)
        body = await request.body()  # its length and time are bounded by the connection
        try:
            verified = await self._verifier.verify_request(
                method="POST", path=self._path, body=body, headers=claimed.values
            )
        except AuthenticationError as error:
            logger.debug("{}: refused {}: {}", self._path, claimed.hotkey, error)
            raise _Refused(replies.AUTHENTICATION_FAILED) from None
        return body, verified

    async def _answer(self, request: Request, body: bytes, caller: str, arrived: float) -> _Answer:
        """The answer to an authenticated request. Raises `_Refused` or `_CallerGone`."""
        if self._callers is not None and (wait := self._callers.take(caller)):
            raise _Refused(replies.BUSY, math.ceil(wait))
        try:
            parse_json(body)  # without repeated keys, of which pydantic would take the last
            synapse = self._parse(body)
        except (ValidationError, FramingError) as error:
            count = error.error_count() if isinstance(error, ValidationError) else 1
            logger.debug("{}: {} sent a synapse with {} errors", self._path, caller, count)
            raise _Refused(replies.INVALID_SYNAPSE) from None
        try:
            async with asyncio.timeout_at(arrived + synapse.deadline_seconds) as deadline:
                made = await _unless_gone(request, self._admitted(synapse, caller))
        except TimeoutError:
            if not deadline.expired():
                raise  # the handler's own
            raise _Refused(replies.DEADLINE_EXCEEDED) from None
        except Busy as busy:
            raise _Refused(replies.BUSY, max(1, math.ceil(busy.retry_after_seconds))) from None
        except Unsupported as unsupported:
            logger.debug("{}: cannot serve {}: {}", self._path, caller, unsupported)
            raise _Refused(replies.UNSUPPORTED) from None
        except FramingError as error:
            logger.error("{}: the handler's answer cannot be sent: {}", self._path, error)
            raise _Refused(replies.INTERNAL_ERROR) from None
        return _Answer(200, made, self._media_type)

    async def _admitted(self, synapse: Synapse, caller: str) -> bytes:
        priority = self._priority(caller) if self._priority is not None else 0.0
        async with self._admission.slot(caller, priority):
            return await self._make(synapse, caller)

    def _sign(self, answer: _Answer, verified: VerifiedRequest) -> Response:
        payload = self._payload(verified, answer.status, hashlib.sha256(answer.body).hexdigest())
        signature = "0x" + self._signer.sign(payload).hex()
        headers = {HEADER_RESPONSE_SIGNATURE: signature, **answer.headers}
        return Response(answer.body, answer.status, headers, answer.media_type)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (the neuron has its own), and with an end that leaves nothing open."""

    def __init__(self, config: uvicorn.Config, started: asyncio.Event, backlog: int) -> None:
        super().__init__(config)
        self._started_event = started
        self._backlog = backlog

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or []:
            listener.listen(self._backlog)  # what the kernel keeps waiting; asyncio made it what it accepts at once
        self._started_event.set()

    async def drop_everything(self) -> None:
        """After the graceful shutdown: end what did not end by itself."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the aborted connections report their end


async def _unless_gone(request: Request, work: Awaitable[bytes]) -> bytes:
    """The result of `work`, which is cancelled when the caller hangs up (then raises `_CallerGone`)."""

    async def hang_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(hang_up())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise _CallerGone
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


def _error(refused: _Refused) -> _Answer:
    headers = {}
    if refused.retry_after_seconds is not None:
        headers["Retry-After"] = str(refused.retry_after_seconds)
    return _Answer(refused.reply.status, refused.reply.body(refused.retry_after_seconds), "application/json", headers)


def _unsigned(reply: ErrorReply) -> Response:
    """For a caller that is not known. The connection is not kept: part of the request may still be unread."""
    return Response(reply.body(), reply.status, {"Connection": "close"}, "application/json")


async def _not_found(_: Request, __: Exception) -> Response:
    return _unsigned(replies.NOT_FOUND)


async def _method_not_allowed(_: Request, __: Exception) -> Response:
    return _unsigned(replies.METHOD_NOT_ALLOWED)
