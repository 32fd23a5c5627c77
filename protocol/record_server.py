"""The validator's side of a record: the signed server (`protocol.server`) that tells each miner its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .errors import FramingError
from .limits import RECORD_LIMITS, Limits
from .record import RECORD_PATH, RECORD_TAG, MinerRecord, RecordSynapse
from .server import CallerPolicy, SignedServer
from .signing import Signer, VerifiedRequest, Verifier, response_payload

__all__ = ["RecordHandler", "RecordServer"]

RecordHandler = Callable[[RecordSynapse, str], Awaitable[MinerRecord]]
"""The record of the caller's hotkey, and of nobody else; raises `Busy` for a caller that asks too often."""


class RecordServer(SignedServer[RecordSynapse]):
    """Serves `handler` to the callers that `policy` lets pass and `verifier` proves; see `SignedServer`."""

    def __init__(
        self,
        handler: RecordHandler,
        signer: Signer,
        verifier: Verifier,
        *,
        host: str,
        port: int,
        policy: CallerPolicy,
        limits: Limits = RECORD_LIMITS,
    ) -> None:
        super().__init__(
            RECORD_PATH,
            "application/json",
            signer,
            verifier,
            host=host,
            port=port,
            policy=policy,
            priority=None,
            limits=limits,
        )
        self._handler = handler

    def _parse(self, body: bytes) -> RecordSynapse:
        return RecordSynapse.model_validate_json(body)

    async def _make(self, synapse: RecordSynapse, caller: str) -> bytes:
        body = (await self._handler(synapse, caller)).model_dump_json().encode()
        if len(body) > self._limits.max_record_bytes:
            raise FramingError(f"the record has {len(body)} bytes, the limit is {self._limits.max_record_bytes}")
        return body

    def _payload(self, verified: VerifiedRequest, status: int, body_sha256: str) -> bytes:
        return response_payload(
            tag=RECORD_TAG,
            nonce=verified.nonce,
            validator=self._signer.hotkey,
            miner=verified.hotkey,
            status=status,
            body_sha256=body_sha256,
        )
