"""Bytes that a caller sends to an axon: HTTP, headers, authentication, synapse.

No input can be signed, so the options say whether the verifier believes it: what comes after the signature is fuzzed
too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self

from uvicorn.server import ServerState

from protocol import AuthenticationError, Axon, GeneratedImage, Limits, TextToImageSynapse, VerifiedRequest
from protocol.replies import CODES
from protocol.signing import HEADER_RESPONSE_SIGNATURE
from wire_fuzzing.transport import Finding, Loop, Wire, presented, responses_in

DISBELIEVED = 4  # option: the verifier refuses
SIGNED = (200, 422, 503, 504)  # what is answered to a caller that is known
TURNS = 200  # of the event loop, for an answer; it takes about ten


class Requests:
    """See the module. One axon for all inputs, a connection for each."""

    def __init__(self) -> None:
        self._loop = Loop()
        self._believes = True
        self._made = 0
        # No bounds on how often: all inputs come from one address, and most from one hotkey.
        limits = Limits(address_seconds=0, caller_seconds=0)
        axon = Axon(self._paint, _Signer(), self, host="127.0.0.1", port=0, policy=lambda hotkey: None, limits=limits)
        self._configuration = axon._configuration()
        self._configuration.load()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.close()

    def __call__(self, data: bytes) -> None:
        options, said, piece = presented(data)
        self._believes = not options & DISBELIEVED
        self._made = 0
        answered = 0
        written = self._loop.run(self._converse(said, piece))
        for status, headers, body in responses_in(written, bodiless=b"HEAD" in said):
            answered += status == 200
            if status != 200 and json.loads(body)["error"] not in CODES:
                raise Finding(f"an error of no known kind: {body!r}")
            if status == 500:
                raise Finding("an internal error")
            if (status in SIGNED) != (HEADER_RESPONSE_SIGNATURE.lower() in headers):
                raise Finding(f"a status {status} that should be signed, or should not")
        # What was made is not sent where the caller breaks the rules meanwhile.
        if answered > self._made or (self._made and not self._believes):
            raise Finding(f"{answered} answers, {self._made} of them made")

    async def _converse(self, said: bytes, piece: int) -> bytes:
        """What the axon writes to a caller that says this and reads what comes."""
        state = ServerState()
        made: Any = self._configuration.http_protocol_class
        connection = made(
            config=self._configuration, server_state=state, app_state={}, _loop=asyncio.get_running_loop()
        )
        wire = Wire(connection)
        await wire.feed(said, piece)
        for _ in range(TURNS):
            if not state.tasks or (wire.is_closing() and not self._made):
                break
            cycle = connection.cycle
            if cycle is not None and not cycle.response_complete and cycle.more_body:
                break  # the body is never going to be complete
            await asyncio.sleep(0)
        wire.end()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        return wire.written

    async def _paint(self, synapse: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
        self._made += 1
        return [GeneratedImage("png", synapse.width, synapse.height, synapse.seed_of(0), "made up", b"pixels")]

    async def verify_request(
        self, *, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> VerifiedRequest:
        """Believes what the options say."""
        if not self._believes:
            raise AuthenticationError("not believed")
        return VerifiedRequest(headers["X-Bittensor-Hotkey"], int(headers["X-Bittensor-Nonce"]))

    def verify(self, hotkey: str, payload: bytes, signature: bytes) -> bool:
        raise Finding("an axon verifies no responses")


class _Signer:
    hotkey = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"

    def sign_request(self, **_: Any) -> dict[str, str]:
        raise Finding("an axon asks nobody")

    def sign(self, payload: bytes) -> bytes:
        return bytes(64)
