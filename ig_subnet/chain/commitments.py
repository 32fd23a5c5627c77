"""What a commitment is on the chain: up to three fields, each bytes, a hash, or something sealed until later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ig_subnet.chain.errors import InvalidCommitment

MAX_BYTES = 128  # of one field whose bytes are stored as they are
HASHES = {"BlakeTwo256", "Sha256", "Keccak256", "ShaThree256"}


def commitment_info(data: bytes) -> dict[str, Any]:
    """`data` as the argument of Commitments.set_commitment: one field of bytes, which the SDK's own reads show in full.

    Raises InvalidCommitment unless there are 1 to 128 bytes.
    """
    if not 1 <= len(data) <= MAX_BYTES:
        raise InvalidCommitment(f"a commitment of {len(data)} bytes: pass 1 to {MAX_BYTES}, such as a hash")
    return {"fields": [{f"Raw{len(data)}": data}]}


def readable_bytes(fields: Iterable[Any]) -> bytes:
    """The bytes and hashes among the fields that the SDK read, joined; nothing for fields that are sealed or flags.

    The SDK shows long bytes as text where they are UTF-8, so that of more than 128 a text that itself begins with 0x
    reads as the bytes which it spells.
    """
    values = [item for field in fields if isinstance(field, dict) for item in field.items()]
    return b"".join(
        _bytes_of(value)
        for variant, value in values
        if variant.startswith("Raw") or variant == "BigRaw" or variant in HASHES
    )


def _bytes_of(value: str | list[int]) -> bytes:
    if not isinstance(value, str):
        return bytes(value)
    return bytes.fromhex(value.removeprefix("0x")) if value.startswith("0x") else value.encode()
