"""Every error an axon can answer with. The texts are fixed: nothing of a request or of the miner is echoed."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .errors import Refusal

__all__ = ["CODES", "ErrorReply"]


@dataclass(frozen=True)
class ErrorReply:
    """An HTTP status, a stable machine-readable code, and a sentence that says what to do."""

    status: int
    code: str
    message: str

    def body(self, retry_after_seconds: int | None = None) -> bytes:
        """The JSON body: {"error", "message"} and, where given, "retry_after_seconds"."""
        content: dict[str, str | int] = {"error": self.code, "message": self.message}
        if retry_after_seconds is not None:
            content["retry_after_seconds"] = retry_after_seconds
        return json.dumps(content).encode()

    def raw(self, retry_after_seconds: int | None = None) -> bytes:
        """The complete HTTP response, for a connection that is refused before there is a request to answer."""
        body = self.body(retry_after_seconds)
        head = f"HTTP/1.1 {self.status} Error\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        if retry_after_seconds is not None:
            head += f"retry-after: {retry_after_seconds}\r\n"
        return head.encode() + b"connection: close\r\n\r\n" + body


MALFORMED_REQUEST = ErrorReply(
    400, "malformed_request", "Send one HTTP/1.1 request at a time as docs/wire.md describes."
)
AUTHENTICATION_FAILED = ErrorReply(401, "authentication_failed", "Check hotkey, receiver, clock, nonce and signature.")
REFUSALS = {
    Refusal.NOT_REGISTERED: ErrorReply(403, "not_registered", "The hotkey is not registered on this subnet."),
    Refusal.NO_PERMIT: ErrorReply(403, "no_permit", "The hotkey has no validator permit on this subnet."),
    Refusal.TOO_LITTLE_STAKE: ErrorReply(403, "too_little_stake", "The hotkey has less stake than is asked for here."),
    Refusal.BLACKLISTED: ErrorReply(403, "blacklisted", "The hotkey is blacklisted here."),
}
NOT_FOUND = ErrorReply(404, "not_found", "There is nothing at this path.")
METHOD_NOT_ALLOWED = ErrorReply(405, "method_not_allowed", "Use POST.")
REQUEST_TIMEOUT = ErrorReply(408, "request_timeout", "Send the request without pausing.")
LENGTH_REQUIRED = ErrorReply(411, "length_required", "Send Content-Length instead of a chunked body.")
REQUEST_TOO_LARGE = ErrorReply(413, "request_too_large", "The body is larger than this axon accepts.")
UNSUPPORTED_MEDIA_TYPE = ErrorReply(415, "unsupported_media_type", "Send application/json without a content encoding.")
INVALID_SYNAPSE = ErrorReply(422, "invalid_synapse", "The body is not a synapse of this path within bounds.")
UNSUPPORTED = ErrorReply(422, "unsupported", "The miner's model cannot make such an image.")
TOO_MANY_REQUESTS = ErrorReply(429, "too_many_requests", "Ask less often from this address.")
HEADERS_TOO_LARGE = ErrorReply(431, "headers_too_large", "Send fewer or shorter headers.")
INTERNAL_ERROR = ErrorReply(500, "internal_error", "The answer could not be made.")
BUSY = ErrorReply(503, "busy", "No capacity now; ask again after retry_after_seconds.")
DEADLINE_EXCEEDED = ErrorReply(504, "deadline_exceeded", "The answer was not ready within deadline_seconds.")

CODES = frozenset(reply.code for reply in [*REFUSALS.values(), *globals().values()] if isinstance(reply, ErrorReply))
"""Every code above: what a dendrite repeats in its logs, and nothing else that a peer says."""
