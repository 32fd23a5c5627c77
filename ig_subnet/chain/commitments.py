"""What a commitment is on the chain: up to three fields, each bytes, a hash, or something sealed until later."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ig_subnet.chain.errors import InvalidCommitment

MAX_BYTES = 128  # of one field whose bytes are stored as they are
HEX = re.compile("0x(?:[0-9a-f]{2})+")
HASHES = {"BlakeTwo256", "Sha256", "Keccak256", "ShaThree256"}


def commitment_info(data: bytes) -> dict[str, Any]:
    """`data` as the argument of Commitments.set_commitment: one field of bytes, which the SDK's own reads show in full.

    Raises InvalidCommitment unless there are 1 to 128 bytes.
    """
    if not 1 <= len(data) <= MAX_BYTES:
        raise InvalidCommitment(f"a commitment of {len(data)} bytes: pass 1 to {MAX_BYTES}, such as a hash")
    return {"fields": [{f"Raw{len(data)}": data}]}


def readable_bytes(fields: Iterable[Any]) -> bytes:
    """The bytes and hashes among the fields that the SDK read, joined; nothing for fields that are sealed or flags."""
    contents = [item for field in fields if isinstance(field, dict) for item in field.items()]
    return b"".join(
        _long_bytes(content) if variant == "BigRaw" else _fixed_bytes(content)
        for variant, content in contents
        if variant == "BigRaw" or variant.startswith("Raw") or variant in HASHES
    )


def _fixed_bytes(content: str | list[int]) -> bytes:
    """Of a field whose length is part of its type: hex, or an empty list for no bytes."""
    return bytes.fromhex(content.removeprefix("0x")) if isinstance(content, str) else bytes(content)


def _long_bytes(content: str) -> bytes:
    """Of a field of 129 to 512 bytes, which the SDK shows as text where they are UTF-8, else as hex.

    A text that itself looks like such hex cannot be told from the bytes it spells, and is taken for them.
    """
    return _fixed_bytes(content) if HEX.fullmatch(content) else content.encode()
