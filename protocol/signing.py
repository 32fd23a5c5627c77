"""Who says what: the shape of btauth/1 request headers, the bytes a response signature covers, and the injected key.

This package never touches a key. A `Signer` and a `Verifier` are handed in (ig_subnet.chain.auth has the sr25519 ones).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .errors import AuthenticationError

__all__ = [
    "HEADER_HOTKEY",
    "HEADER_NONCE",
    "HEADER_RECEIVER",
    "HEADER_RESPONSE_SIGNATURE",
    "HEADER_SIGNATURE",
    "HEADER_VERSION",
    "RESPONSE_TAG",
    "AuthHeaders",
    "Signer",
    "VerifiedRequest",
    "Verifier",
    "is_hotkey",
    "parse_auth_headers",
    "parse_signature",
    "response_payload",
]

HEADER_VERSION = "X-Bittensor-Version"
HEADER_HOTKEY = "X-Bittensor-Hotkey"
HEADER_RECEIVER = "X-Bittensor-Receiver"
HEADER_NONCE = "X-Bittensor-Nonce"
HEADER_SIGNATURE = "X-Bittensor-Signature"
HEADER_CRYPTO = "X-Bittensor-Crypto"
HEADER_RESPONSE_SIGNATURE = "X-Response-Signature"

RESPONSE_TAG = "text-to-image-response/1"
"""First line of what a miner signs of its images: a signature made for anything else cannot stand in for one."""

_REQUIRED = (HEADER_VERSION, HEADER_HOTKEY, HEADER_RECEIVER, HEADER_NONCE, HEADER_SIGNATURE)
_AUTH_PREFIX = b"x-bittensor-"
# Checked before anything else looks at the values. Decoding base58 is quadratic: 65 KB of it cost 1.85 s of CPU, so a
# hotkey has exactly 48 characters of its alphabet. int() would also take "+1", "1_0" and digits of other scripts.
_HOTKEY = re.compile(r"[1-9A-HJ-NP-Za-km-z]{48}")
_NONCE = re.compile(r"[1-9][0-9]{0,18}")
_SIGNATURE = re.compile(r"0x[0-9a-f]{128}")


class Signer(Protocol):
    """The hotkey of this neuron."""

    @property
    def hotkey(self) -> str:
        """The ss58 address, 48 characters."""
        ...

    def sign_request(self, *, method: str, path: str, body: bytes, receiver: str) -> dict[str, str]:
        """The btauth/1 headers of one request to the hotkey `receiver`. No two calls use the same nonce."""
        ...

    def sign(self, payload: bytes) -> bytes:
        """The 64-byte sr25519 signature of `payload`."""
        ...


@dataclass(frozen=True)
class VerifiedRequest:
    """A request that is proven to come from `hotkey`, for us, unchanged, now, and for the first time."""

    hotkey: str
    nonce: int


class Verifier(Protocol):
    """Checks what others signed."""

    async def verify_request(
        self, *, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> VerifiedRequest:
        """The authenticated caller of a request; a nonce is accepted once. Raises `AuthenticationError`."""
        ...

    def verify(self, hotkey: str, payload: bytes, signature: bytes) -> bool:
        """True if `signature` is the one of `hotkey` over exactly `payload`. Never raises for malformed input."""
        ...


@dataclass(frozen=True)
class AuthHeaders:
    """btauth/1 headers of the right shape. Nothing in them is proven yet."""

    hotkey: str
    receiver: str
    nonce: int
    signature: bytes
    values: Mapping[str, str]
    """The headers by their canonical names, as `Verifier.verify_request` takes them."""


def parse_auth_headers(headers: Iterable[tuple[bytes, bytes]]) -> AuthHeaders:
    """The btauth/1 headers of a request, checked for shape only: no decoding, no cryptography.

    `headers` are the raw names (any case) and values; others than `X-Bittensor-*` are ignored. Raises
    `AuthenticationError` when one is missing, repeated, unknown or malformed, or when the scheme is not sr25519.
    """
    found: dict[bytes, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered.startswith(_AUTH_PREFIX):
            if lowered in found:
                raise AuthenticationError("an X-Bittensor header is repeated")
            found[lowered] = value.decode("latin-1")
    values: dict[str, str] = {}
    for required in _REQUIRED:
        if (text := found.pop(required.lower().encode(), None)) is None:
            raise AuthenticationError(f"{required} is missing")
        values[required] = text
    # One scheme: with two, the same 32 bytes of public key would be two identities.
    if found.pop(HEADER_CRYPTO.lower().encode(), "sr25519") != "sr25519":
        raise AuthenticationError(f"{HEADER_CRYPTO} must be absent or sr25519")
    if found:
        raise AuthenticationError("an unknown X-Bittensor header is present")
    if values[HEADER_VERSION] != "1":
        raise AuthenticationError(f"{HEADER_VERSION} must be 1")
    for name_of_key in (HEADER_HOTKEY, HEADER_RECEIVER):
        if not _HOTKEY.fullmatch(values[name_of_key]):
            raise AuthenticationError(f"{name_of_key} must be 48 characters of base58")
    if not _NONCE.fullmatch(values[HEADER_NONCE]):
        raise AuthenticationError(f"{HEADER_NONCE} must be 1 to 19 decimal digits")
    if (signature := parse_signature(values[HEADER_SIGNATURE])) is None:
        raise AuthenticationError(f"{HEADER_SIGNATURE} must be 0x and 128 lowercase hexadecimal digits")
    return AuthHeaders(values[HEADER_HOTKEY], values[HEADER_RECEIVER], int(values[HEADER_NONCE]), signature, values)


def is_hotkey(text: str) -> bool:
    """True if `text` has the shape of a hotkey's ss58 address: 48 characters of base58."""
    return _HOTKEY.fullmatch(text) is not None


def parse_signature(text: str) -> bytes | None:
    """The 64 bytes of a signature header, `0x` and 128 lowercase hexadecimal digits; None for any other shape."""
    return bytes.fromhex(text[2:]) if _SIGNATURE.fullmatch(text) else None


def response_payload(
    *, nonce: int, validator: str, miner: str, status: int, body_sha256: str, tag: str = RESPONSE_TAG
) -> bytes:
    """The exact bytes that are signed of one response; the tag says what kind, and so which of the two answers.

    Newline-joined ASCII: the tag, the request's nonce in decimal, the validator's and the miner's ss58 addresses, the
    HTTP status in decimal, and the lowercase hexadecimal SHA-256 of the complete response body.
    """
    return "\n".join((tag, str(nonce), validator, miner, str(status), body_sha256)).encode("ascii")
