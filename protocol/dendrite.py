"""The validator's side of the wire: ask a miner, believe nothing but a signed, well-formed answer in time."""

from __future__ import annotations

import asyncio
import functools

from .client import Ended, SignedClient
from .errors import FramingError
from .framing import check_answer, decode_images
from .limits import DEFAULT_LIMITS, Limits
from .query import QueryResult, QueryStatus, Target
from .signing import Signer, Verifier, response_payload
from .synapse import QUERY_PATH, GeneratedImage, TextToImageSynapse

__all__ = ["Dendrite"]

# SHA-256 of this much takes about a millisecond; more of it is checked on a thread (hashlib releases the GIL).
_OFF_LOOP_BYTES = 1 << 20


class Dendrite(SignedClient):
    """Queries miners for images; see `SignedClient`."""

    def __init__(
        self,
        signer: Signer,
        verifier: Verifier,
        *,
        limits: Limits = DEFAULT_LIMITS,
        allow_private: bool = False,
    ) -> None:
        super().__init__(signer, verifier, limits=limits, allow_private=allow_private)

    async def query(self, target: Target, synapse: TextToImageSynapse) -> QueryResult:
        """Ask one miner and wait at most `synapse.deadline_seconds`. Whatever the miner does, a result is returned.

        Cancelling the caller cancels the query and closes its connection. Raises RuntimeError outside `async with`.
        """
        status, images, seconds, detail = await self._ask(
            functools.partial(self._images, target, synapse), synapse.deadline_seconds
        )
        return QueryResult(target, status, images or (), seconds, detail)

    async def _images(self, target: Target, synapse: TextToImageSynapse) -> tuple[GeneratedImage, ...]:
        most = self._limits.max_response_bytes(synapse.width, synapse.height, synapse.num_images)
        answer = await self._exchange(target, QUERY_PATH, synapse.model_dump_json().encode(), most)
        try:
            decode = functools.partial(decode_images, answer, limits=self._limits)
            images = await asyncio.to_thread(decode) if len(answer) > _OFF_LOOP_BYTES else decode()
            check_answer(synapse, images)
        except FramingError as error:
            raise Ended(QueryStatus.BAD_RESPONSE, str(error)) from None
        return images

    def _payload(self, target: Target, nonce: int, status: int, body_sha256: str) -> bytes:
        return response_payload(
            nonce=nonce, validator=self._signer.hotkey, miner=target.hotkey, status=status, body_sha256=body_sha256
        )
