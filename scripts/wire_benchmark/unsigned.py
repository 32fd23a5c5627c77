"""This project's axons and dendrite without keys, for wire_benchmark.serve: what signing and verifying adds to them.

Headers, framing, hashes and limits are as ever; signatures are zeros that are made and checked by nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count as counting

from wire_benchmark import ours
from wire_benchmark.serve import HOST, Ask

from protocol import Target, VerifiedRequest
from protocol.signing import (
    HEADER_HOTKEY,
    HEADER_NONCE,
    HEADER_RECEIVER,
    HEADER_SIGNATURE,
    HEADER_VERSION,
)


class Unsigned:
    """A signer and a verifier that trust everybody."""

    def __init__(self, hotkey: str) -> None:
        self.hotkey = hotkey
        self._nonces = counting(1)

    def sign_request(self, *, method: str, path: str, body: bytes, receiver: str) -> dict[str, str]:
        return {
            HEADER_VERSION: "1",
            HEADER_HOTKEY: self.hotkey,
            HEADER_RECEIVER: receiver,
            HEADER_NONCE: str(next(self._nonces)),
            HEADER_SIGNATURE: "0x" + "0" * 128,
        }

    def sign(self, payload: bytes) -> bytes:
        return bytes(64)

    async def verify_request(
        self, *, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> VerifiedRequest:
        return VerifiedRequest(headers[HEADER_HOTKEY], int(headers[HEADER_NONCE]))

    def verify(self, hotkey: str, payload: bytes, signature: bytes) -> bool:
        return True


def version() -> str:
    return f"{ours.version()}, unsigned"


@asynccontextmanager
async def serve_miners(count: int) -> AsyncIterator[list[int]]:
    nobodies = [Unsigned(ours.signer_of(f"//Miner{number}").hotkey) for number in range(count)]
    async with ours.serving([(nobody, nobody) for nobody in nobodies]) as ports:
        yield ports


@asynccontextmanager
async def connect(ports: Sequence[int]) -> AsyncIterator[Ask]:
    nobody = Unsigned(ours.signer_of(ours.VALIDATOR).hotkey)
    async with ours.asking(nobody, nobody, [Target(nobody.hotkey, HOST, port) for port in ports]) as ask:
        yield ask
