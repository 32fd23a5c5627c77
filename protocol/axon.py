"""The miner's side of the wire: the signed server (`protocol.server`) that answers a synapse with images."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Sequence

from .framing import check_answer, encode_images
from .limits import DEFAULT_LIMITS, Limits
from .server import CallerPolicy, SignedServer
from .signing import Signer, VerifiedRequest, Verifier, response_payload
from .synapse import QUERY_PATH, GeneratedImage, TextToImageSynapse

__all__ = ["Axon", "CallerPolicy", "Handler"]

Handler = Callable[[TextToImageSynapse, str], Awaitable[Sequence[GeneratedImage]]]
"""Makes 1 to `num_images` images of the requested size for a caller's hotkey; raises `Busy` when it has no capacity
and `Unsupported` for what its model cannot make.

It is cancelled at the synapse's deadline and when the caller hangs up."""

# SHA-256 of this much takes about a millisecond; more of it is framed on a thread (hashlib releases the GIL).
_OFF_LOOP_BYTES = 1 << 20


class Axon(SignedServer[TextToImageSynapse]):
    """Serves `handler` to the callers that `policy` lets pass and `verifier` proves; see `SignedServer`."""

    def __init__(
        self,
        handler: Handler,
        signer: Signer,
        verifier: Verifier,
        *,
        host: str,
        port: int,
        policy: CallerPolicy,
        priority: Callable[[str], float] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        trusted_proxies: Collection[str] = (),
    ) -> None:
        super().__init__(
            QUERY_PATH,
            "application/octet-stream",
            signer,
            verifier,
            host=host,
            port=port,
            policy=policy,
            priority=priority,
            limits=limits,
            trusted_proxies=trusted_proxies,
        )
        self._handler = handler

    def _parse(self, body: bytes) -> TextToImageSynapse:
        return TextToImageSynapse.model_validate_json(body)

    async def _make(self, synapse: TextToImageSynapse, caller: str) -> bytes:
        images = await self._handler(synapse, caller)
        check_answer(synapse, images)
        encode = functools.partial(encode_images, images, limits=self._limits)
        large = sum(len(image.data) for image in images) > _OFF_LOOP_BYTES
        return await asyncio.to_thread(encode) if large else encode()

    def _payload(self, verified: VerifiedRequest, status: int, body_sha256: str) -> bytes:
        return response_payload(
            nonce=verified.nonce,
            validator=verified.hotkey,
            miner=self._signer.hotkey,
            status=status,
            body_sha256=body_sha256,
        )
