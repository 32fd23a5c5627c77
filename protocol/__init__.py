"""The wire between validators (dendrite) and miners (axon), and back (record). docs/wire.md specifies it.

Knows neither the chain nor what an image shows: keys are injected as `Signer` and `Verifier`, images are opaque bytes.
The servers and clients bring a web server and a web client with them, so they are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .declaration import Declaration
from .errors import (
    AddressError,
    AuthenticationError,
    Busy,
    FramingError,
    ListenError,
    ProtocolError,
    Refusal,
    Unsupported,
)
from .framing import decode_images, encode_images
from .limits import DEFAULT_LIMITS, Limits
from .query import QueryResult, QueryStatus, Target
from .record import MinerRecord, RecordSynapse
from .signing import Signer, VerifiedRequest, Verifier
from .synapse import GeneratedImage, ImageFormat, TextToImageSynapse

if TYPE_CHECKING:
    from .axon import Axon, CallerPolicy, Handler
    from .dendrite import Dendrite
    from .record_client import RecordClient, RecordResult
    from .record_server import RecordHandler, RecordServer

__all__ = [
    "DEFAULT_LIMITS",
    "AddressError",
    "AuthenticationError",
    "Axon",
    "Busy",
    "CallerPolicy",
    "Declaration",
    "Dendrite",
    "FramingError",
    "GeneratedImage",
    "Handler",
    "ImageFormat",
    "Limits",
    "ListenError",
    "MinerRecord",
    "ProtocolError",
    "QueryResult",
    "QueryStatus",
    "RecordClient",
    "RecordHandler",
    "RecordResult",
    "RecordServer",
    "RecordSynapse",
    "Refusal",
    "Signer",
    "Target",
    "TextToImageSynapse",
    "Unsupported",
    "VerifiedRequest",
    "Verifier",
    "decode_images",
    "encode_images",
]

_LAZY = {
    "Axon": ".axon",
    "CallerPolicy": ".axon",
    "Dendrite": ".dendrite",
    "Handler": ".axon",
    "RecordClient": ".record_client",
    "RecordHandler": ".record_server",
    "RecordResult": ".record_client",
    "RecordServer": ".record_server",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
