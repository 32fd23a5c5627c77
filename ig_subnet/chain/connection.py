"""One connection to a node that every call can rely on: a deadline on each, and a fresh start after any failure.

The SDK's client reconnects by itself, but it waits for a silent node for minutes, hangs where a node says goodbye in
the middle of a request (11.3.0 fails on an assertion of its own), and keeps a stale nonce after a cancelled submission.
So a lost connection and a failed or late call drop the client, and the next call opens another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import bittensor as bt
from bittensor import settings
from websockets.exceptions import ConnectionClosed

from ig_subnet.chain.errors import ChainAnswerError, ChainError, ChainUnavailable, UnknownNetwork

T = TypeVar("T")

CLOSE_SECONDS = 2.0  # a silent node does not answer the closing handshake; more than this is not waited for


class Connection:
    """A lazily opened, self-renewing SDK client of one network."""

    def __init__(self, network: str) -> None:
        """`network`: "local", "finney", "test", ... or a ws:// or wss:// endpoint. Raises UnknownNetwork."""
        try:
            self._label, self.endpoint = settings.resolve_endpoint(network)
        except ValueError:
            raise UnknownNetwork(network, sorted(settings.NETWORKS)) from None
        self._client: bt.Client | None = None
        self._opening = asyncio.Lock()
        self._ending: set[asyncio.Task[object]] = set()

    async def ask(self, operation: Callable[[bt.Client], Awaitable[T]], seconds: float) -> T:
        """What `operation` returns when it is run with a connected client, within `seconds`.

        Raises:
            ChainUnavailable: no connection, a connection lost on the way, or no answer in time.
            ChainAnswerError: the node answered with an error or nonsense.
            ChainError: as raised by the operation itself.
        """
        # A task of its own: the SDK talks to the node even while it unwinds, so cancelling it in place might hang.
        task = asyncio.create_task(self._run(operation))
        self._let_end(task)
        try:
            await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                raise ChainUnavailable(self.endpoint, f"no answer within {seconds:g} s")
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                self._drop(self._client)

    async def close(self) -> None:
        """Close the connection and end calls in flight; takes CLOSE_SECONDS at most, also where the node is silent."""
        self._drop(self._client)
        if self._ending:
            _, open_still = await asyncio.wait(self._ending, timeout=CLOSE_SECONDS)
            for task in open_still:
                task.cancel()
            await asyncio.gather(*open_still, return_exceptions=True)

    async def _run(self, operation: Callable[[bt.Client], Awaitable[T]]) -> T:
        client = None
        try:
            client = await self._connected()
            return await operation(client)
        except ChainError:
            raise
        except Exception as error:
            # Of any kind: what the SDK raises for an answer that makes no sense depends on where it breaks.
            if client is not None and client is not self._client:
                raise ChainUnavailable(self.endpoint, "the connection was lost") from error
            self._drop(client)
            if isinstance(error, bt.RpcConnectionError | OSError):
                raise ChainUnavailable(self.endpoint, str(error)) from error
            raise ChainAnswerError(self.endpoint, f"{type(error).__name__}: {error}") from error

    async def _connected(self) -> bt.Client:
        async with self._opening:
            if self._client is None:
                transport = _Transport(self._label, self.endpoint, lost=lambda: self._drop(client))
                client = bt.Client(self._label, substrate=transport)
                try:
                    await client.connect()
                except BaseException:
                    self._let_end(asyncio.create_task(client.close()))
                    raise
                self._client = client
            return self._client

    def _drop(self, client: bt.Client | None) -> None:
        """Forget the client, unless another has taken its place, and close it in the background."""
        if client is self._client and client is not None:
            self._client = None
            self._let_end(asyncio.create_task(client.close()))

    def _let_end(self, task: asyncio.Task[object]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # what a call that was given up still had to say interests nobody


class _Transport(bt.RpcSubstrate):
    """The SDK's transport, which also tells when its websocket ends, and closes what it had opened only half-way."""

    def __init__(self, label: str, endpoint: str, lost: Callable[[], None]) -> None:
        super().__init__(
            endpoint,
            fallback_endpoints=[url for url in settings.default_fallback_endpoints(label) if url != endpoint],
            archive_endpoints=settings.default_archive_endpoints(label),
        )
        self._lost = lost
        self._opened: list[Any] = []

    def _interface(self, endpoint: str, fallbacks: list[str]) -> Any:
        connection = super()._interface(endpoint, fallbacks)
        dial = connection._session._connect

        async def watched(url: str) -> _Websocket:
            return _Websocket(await dial(url), self._lost)

        connection._session._connect = watched
        self._opened.append(connection)
        return connection

    async def close(self) -> None:
        await super().close()
        for connection in self._opened:
            await connection.close()


class _Websocket:
    """A websocket whose end is an error, however politely it came, and is told at once; so is what is no JSON object.

    The SDK's session ends without a word over some of that, or waits for an answer that it has thrown away.
    """

    def __init__(self, websocket: Any, lost: Callable[[], None]) -> None:
        self._websocket = websocket
        self._lost = lost
        self.send = websocket.send
        self.close = websocket.close

    async def recv(self) -> str:
        try:
            frame = await self._websocket.recv()
        except ConnectionClosed as error:
            self._lost()
            raise ConnectionResetError(f"the node closed the connection: {error}") from error
        text = frame.decode(errors="replace") if isinstance(frame, bytes) else frame
        if not (text.startswith("{") and text.rstrip().endswith("}")):
            self._lost()
            raise ConnectionResetError("the node sent what is no JSON-RPC")
        return text
