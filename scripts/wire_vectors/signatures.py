"""Development keys, signatures that stay the same from run to run, and bytes as JSON can hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from bittensor.keyfiles import Keypair

CLOCK_NS = 1_800_000_000_000_000_000
"""What the receiver's clock shows, nanoseconds since 1970."""

Piece = str | dict[str, Any]

_MANY = 64  # one character so often in a row is written as its number


class Signatures:
    """Signs for development keys. sr25519 signatures are random, so those of the file as it was are used again."""

    def __init__(self, known: Iterable[dict[str, str]] = ()) -> None:
        self._known = {(entry["by"], entry["payload"]): entry["signature"] for entry in known}
        self.made: list[dict[str, str]] = []
        """What was signed since it was last emptied: by which key, which payload, and the signature."""

    def sign(self, uri: str, payload: str) -> str:
        """`0x` and 128 hexadecimal digits."""
        signature = self._known.get((uri, payload))
        if signature is None:
            signature = "0x" + bytes(keypair(uri).sign(payload.encode())).hex()
            self._known[uri, payload] = signature
        entry = {"by": uri, "payload": payload, "signature": signature}
        if entry not in self.made:
            self.made.append(entry)
        return signature


def keypair(uri: str) -> Keypair:
    """The sr25519 key of a development URI such as "//Alice"."""
    return Keypair.create_from_uri(uri)


def hotkey(uri: str) -> str:
    """Its ss58 address in format 42."""
    address: str = keypair(uri).ss58_address
    return address


def sha256(body: bytes) -> str:
    """64 lowercase hexadecimal digits."""
    return hashlib.sha256(body).hexdigest()


def pieces(data: bytes) -> list[Piece]:
    """The bytes as texts of which each character is one byte, and long runs of one byte as a character and a number."""
    found: list[Piece] = []
    text, start = data.decode("latin-1"), 0
    while start < len(text):
        end = start
        while end < len(text):
            run = len(text[end:]) - len(text[end:].lstrip(text[end]))
            if run >= _MANY:
                break
            end += run
        if end > start:
            found.append(text[start:end])
        if end < len(text):
            found.append({"repeat": text[end], "times": run})
            end += run
        start = end
    return found
