"""Submitting an extrinsic through the SDK, and reading what it says became of it."""

from __future__ import annotations

from typing import Any

import bittensor as bt

# What the transaction pool says of an extrinsic that lost a race or its way; another attempt may well succeed.
_POOL_RACES = {
    "AlreadyImported",
    "AncientBirthBlock",
    "Dropped",
    "ExhaustsResources",
    "FinalityTimeout",
    "Future",
    "PriorityTooLow",
    "Retracted",
    "Stale",
    "Usurped",
}


async def submit(client: bt.Client, request: bt.Intent | bt.calls.Call, signer: Any) -> bt.ExtrinsicResult:
    """Sign, submit and wait for finality: an intent, or a bare call for what the SDK has no intent.

    What the SDK refuses before signing is a failed result like the chain's own refusals; only a lost connection raises,
    and ValueError where a success is said to be in no block.
    """
    try:
        if isinstance(request, bt.calls.Call):
            result = await client.submit_call(request, signer)
        else:
            result = await client.execute(request, signer)
    except (bt.RpcConnectionError, bt.ConnectionNotReady):
        raise
    except bt.ChainError as error:
        return bt.ExtrinsicResult(success=False, message=error.message, error=error)
    except bt.BittensorError as error:
        refusal = bt.ChainError(str(error), code=bt.ErrorCode.INVALID_ARGUMENT)
        return bt.ExtrinsicResult(success=False, message=str(error), error=refusal)
    if result.success and result.extrinsic_id is None:
        raise ValueError("the extrinsic is said to have succeeded, and in no block")
    return result


def is_unconfirmed(result: bt.ExtrinsicResult) -> bool:
    """Whether a failed extrinsic's fate is open: it was seen in no block, and no rule of the chain refused it."""
    error = result.error
    if result.block_hash is not None:
        return False
    return error.name in _POOL_RACES or (error.name is None and error.code is bt.ErrorCode.UNKNOWN)


def code_of(error: bt.ChainError) -> str:
    """The chain's name of the error, or the SDK's class of it where it refused by itself."""
    return error.name or error.code.value


def reason_of(error: bt.ChainError) -> str:
    """What happened and what to do about it, in one line."""
    return f"{(error.description or error.message).rstrip('.')}; {error.remediation}"


def block_of(result: bt.ExtrinsicResult) -> int:
    """The block of an included extrinsic, from its id "block-index"."""
    return int(result.extrinsic_id.partition("-")[0])
