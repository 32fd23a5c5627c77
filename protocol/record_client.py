"""The miner's side of a record: ask a validator what it has on record of this hotkey, and verify who says so."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from pydantic import ValidationError

from .client import Ended, SignedClient
from .errors import FramingError
from .framing import parse_json
from .limits import DEFAULT_LIMITS, Limits
from .query import QueryStatus, Target
from .record import RECORD_PATH, RECORD_TAG, MinerRecord, RecordSynapse
from .signing import Signer, Verifier, response_payload

__all__ = ["RecordClient", "RecordResult"]


@dataclass(frozen=True)
class RecordResult:
    """How a request for a record ended; `record` is None unless `status` is ANSWERED. The rest as in `QueryResult`."""

    target: Target
    status: QueryStatus
    record: MinerRecord | None
    elapsed_seconds: float
    detail: str = ""


class RecordClient(SignedClient):
    """Asks validators for the record of the signer's hotkey; see `SignedClient`."""

    def __init__(
        self,
        signer: Signer,
        verifier: Verifier,
        *,
        limits: Limits = DEFAULT_LIMITS,
        allow_private: bool = False,
    ) -> None:
        super().__init__(signer, verifier, limits=limits, allow_private=allow_private)

    async def query(self, target: Target, synapse: RecordSynapse) -> RecordResult:
        """Ask one validator and wait at most `synapse.deadline_seconds`. Whatever it does, a result is returned."""
        status, record, seconds, detail = await self._ask(
            functools.partial(self._record, target, synapse), synapse.deadline_seconds
        )
        return RecordResult(target, status, record, seconds, detail)

    async def _record(self, target: Target, synapse: RecordSynapse) -> MinerRecord:
        body = synapse.model_dump_json().encode()
        answer = await self._exchange(target, RECORD_PATH, body, self._limits.max_record_bytes)
        try:
            parse_json(answer)  # without repeated keys, of which pydantic would take the last
            record = MinerRecord.model_validate_json(answer)
        except FramingError as error:
            raise Ended(QueryStatus.BAD_RESPONSE, str(error)) from None
        except ValidationError as error:
            # The number and the kind of rule, never the value: it is the peer's text.
            kind = error.errors(include_input=False, include_url=False)[0]["type"]
            detail = f"the record breaks {error.error_count()} rules, the first: {kind}"
            raise Ended(QueryStatus.BAD_RESPONSE, detail) from None
        if record.hotkey != self._signer.hotkey:
            raise Ended(QueryStatus.BAD_RESPONSE, "the record is another miner's")
        return record

    def _payload(self, target: Target, nonce: int, status: int, body_sha256: str) -> bytes:
        return response_payload(
            tag=RECORD_TAG,
            nonce=nonce,
            validator=target.hotkey,
            miner=self._signer.hotkey,
            status=status,
            body_sha256=body_sha256,
        )
