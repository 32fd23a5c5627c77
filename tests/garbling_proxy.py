"""What stands between a client and a node and passes on something else than the node says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Garble = Callable[[str, random.Random], str | bytes | None]
"""What a client gets in the place of a message from the node; None for nothing at all."""


def _with_result(change: Callable[[Any, random.Random], Any]) -> Garble:
    """Changes the results of answers, and leaves notifications and errors as they are."""

    def garble(message: str, chance: random.Random) -> str:
        answer = json.loads(message)
        if "result" in answer:
            answer["result"] = change(answer["result"], chance)
        return json.dumps(answer)

    return garble


def _other_digits(result: Any, chance: random.Random) -> Any:
    """Hex of the same length, none of it the same; other values are turned into some."""
    length = len(result) - 2 if isinstance(result, str) and result.startswith("0x") else 64
    return "0x" + chance.randbytes((length + 1) // 2).hex()[:length]


def _flipped(result: Any, chance: random.Random) -> Any:
    """One digit of sixty-four is another one."""
    if not (isinstance(result, str) and result.startswith("0x")):
        return result
    digits = list(result[2:])
    for _ in range(len(digits) // 64 + 1):
        digits[chance.randrange(len(digits))] = chance.choice("0123456789abcdef")
    return "0x" + "".join(digits)


def _another_id(message: str, chance: random.Random) -> str:
    answer = json.loads(message)
    return json.dumps({**answer, "id": chance.randrange(10**6, 10**7)}) if "id" in answer else message


def _error(message: str, chance: random.Random) -> str:
    answer = json.loads(message)
    error = {"code": -32603, "message": "Internal error"}
    return json.dumps({"jsonrpc": "2.0", "id": answer["id"], "error": error}) if "id" in answer else message


NONSENSE: Mapping[str, Garble] = {
    "a web page": lambda message, chance: "<html><body>502 Bad Gateway</body></html>",
    "half of it": lambda message, chance: message[: len(message) // 2],
    "bytes": lambda message, chance: chance.randbytes(len(message)),
    "no object": lambda message, chance: json.dumps([1, 2, 3]),
    "nothing": lambda message, chance: None,
    "an error": _error,
    "another id": _another_id,
    "null": _with_result(lambda result, chance: None),
    "a number": _with_result(lambda result, chance: 17),
    "a list": _with_result(lambda result, chance: [[], {"a": 1}]),
    "other digits": _with_result(_other_digits),
    "flipped digits": _with_result(_flipped),
    "short hex": _with_result(lambda result, chance: "0x0"),
}


class GarblingProxy:
    """A websocket server that hands everything on to `target` and, through `garble` while that is set, back.

    `delay` is in seconds, of each message on its way back.
    """

    def __init__(self, target: str, *, port: int = 0, seed: int = 1) -> None:
        self.garble: Garble | None = None
        self.garbled = 0
        self.delay = 0.0
        self._target = target
        self._port = port
        self._chance = random.Random(seed)

    async def __aenter__(self) -> GarblingProxy:
        self._server = await serve(self._relay, "127.0.0.1", self._port, max_size=None)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def endpoint(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    async def _relay(self, client: ServerConnection) -> None:
        try:
            async with connect(self._target, max_size=None) as node:
                there, back = asyncio.create_task(_pass_on(client, node)), asyncio.create_task(self._back(node, client))
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        except OSError:  # the node is down: the client sees its connection close
            return

    async def _back(self, node: ClientConnection, client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in node:
                assert isinstance(message, str)
                answer: str | bytes | None = message
                if self.garble is not None:
                    answer = self.garble(message, self._chance)
                    self.garbled += 1
                if self.delay:
                    await asyncio.sleep(self.delay)
                if answer is not None:
                    await client.send(answer)


async def _pass_on(client: ServerConnection, node: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in client:
            await node.send(message)
