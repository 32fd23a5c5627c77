"""Everything this package raises, and the refusals an axon may give.

    ProtocolError                 base: catch this for "something about the wire"
    ├── AuthenticationError       a request is not provably from the hotkey it names, for us, now: refuse it (HTTP 401)
    ├── FramingError              a response body does not follow docs/wire.md: discard the response
    ├── ListenError               the axon cannot listen on its address: choose another --axon.port or --axon.ip
    ├── AddressError              a target's address must not be connected to (private, malformed): skip the miner
    ├── Busy                      raised *by a handler*: no capacity, ask again after `retry_after_seconds` (HTTP 503)
    └── Unsupported               raised *by a handler*: its model cannot make such an image, whenever asked (HTTP 422)

A dendrite never raises for what a peer does: it returns a `QueryResult`. Text of these errors is for the local
operator; a peer only ever sees one of the fixed texts of `protocol.replies`.
"""

from __future__ import annotations

import math
from enum import StrEnum

__all__ = [
    "AddressError",
    "AuthenticationError",
    "Busy",
    "FramingError",
    "ListenError",
    "ProtocolError",
    "Refusal",
    "Unsupported",
]


class ProtocolError(Exception):
    """Base of every error of this package."""


class AuthenticationError(ProtocolError):
    """A request's headers, freshness, receiver or signature do not prove who sent it."""


class FramingError(ProtocolError):
    """A response body breaks the format of docs/wire.md; the message names the rule."""


class ListenError(ProtocolError):
    """The axon's address cannot be bound."""


class AddressError(ProtocolError):
    """A target's host or port is malformed or not allowed."""


class Busy(ProtocolError):
    """A handler has no capacity now.

    Args:
        retry_after_seconds: an honest estimate of when to ask again; at least 1 second is announced.
    """

    def __init__(self, retry_after_seconds: float = 1.0) -> None:
        if not (math.isfinite(retry_after_seconds) and retry_after_seconds >= 0):
            raise ValueError(f"retry_after_seconds must be a finite number of seconds >= 0, not {retry_after_seconds}")
        super().__init__(f"busy, ask again in {retry_after_seconds:g} s")
        self.retry_after_seconds = retry_after_seconds


class Unsupported(ProtocolError):
    """A handler's model cannot serve this synapse at all, such as a size it was not made for; the message is logged."""


class Refusal(StrEnum):
    """Why a caller policy turns a hotkey away (HTTP 403). All of it is public knowledge, so the caller is told."""

    NOT_REGISTERED = "not_registered"
    NO_PERMIT = "no_permit"
    TOO_LITTLE_STAKE = "too_little_stake"
    BLACKLISTED = "blacklisted"
