"""The calls this chain knows, and how one is executed: all or nothing, with the runtime's events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loguru import logger

from ig_subnet.localnet import rules_balances, rules_commitments, rules_registration, rules_serving, rules_weights
from ig_subnet.localnet.codec import Codec
from ig_subnet.localnet.context import BlockContext, CallContext
from ig_subnet.localnet.errors import DispatchFailure
from ig_subnet.localnet.extrinsics import SignedExtrinsic

NO_WEIGHT = {"weight": {"ref_time": 0, "proof_size": 0}, "class": "Normal", "pays_fee": "No"}


def remark(context: CallContext, remark: Any) -> None:
    """Do nothing, on the record."""


CALLS: dict[tuple[str, str], Callable[..., None]] = {
    ("System", "remark"): remark,
    ("Balances", "transfer_allow_death"): rules_balances.transfer_allow_death,
    ("Balances", "transfer_keep_alive"): rules_balances.transfer_keep_alive,
    ("Balances", "transfer_all"): rules_balances.transfer_all,
    ("SubtensorModule", "add_stake"): rules_balances.add_stake,
    ("SubtensorModule", "add_stake_limit"): rules_balances.add_stake_limit,
    ("SubtensorModule", "remove_stake"): rules_balances.remove_stake,
    ("SubtensorModule", "remove_stake_limit"): rules_balances.remove_stake_limit,
    ("SubtensorModule", "burned_register"): rules_registration.burned_register,
    ("SubtensorModule", "register_limit"): rules_registration.register_limit,
    ("SubtensorModule", "serve_axon"): rules_serving.serve_axon,
    ("SubtensorModule", "set_weights"): rules_weights.set_weights,
    ("SubtensorModule", "set_mechanism_weights"): rules_weights.set_mechanism_weights,
    ("SubtensorModule", "commit_timelocked_weights"): rules_weights.commit_timelocked_weights,
    ("SubtensorModule", "commit_timelocked_mechanism_weights"): rules_weights.commit_timelocked_mechanism_weights,
    ("Commitments", "set_commitment"): rules_commitments.set_commitment,
}


def execute(block: BlockContext, extrinsic: SignedExtrinsic, index: int) -> None:
    """Execute a checked extrinsic as number `index` of the block. Its nonce is spent even if the call fails."""
    state = block.state
    block.phase = {"ApplyExtrinsic": index}
    account = state.get("System.Account", extrinsic.signer)
    account["nonce"] += 1
    state.put("System.Account", extrinsic.signer, value=account)
    events, mark = len(block.events), state.mark()
    try:
        dispatch(CallContext(block, extrinsic.signer), extrinsic)
    except Exception as error:
        state.roll_back(mark)
        del block.events[events:]
        block.deposit("TransactionFeePaid", _no_fee(extrinsic), "TransactionPayment")
        reason = dispatch_error(state.codec, error)
        block.deposit("ExtrinsicFailed", {"dispatch_error": reason, "dispatch_info": NO_WEIGHT}, "System")
    else:
        block.deposit("TransactionFeePaid", _no_fee(extrinsic), "TransactionPayment")
        block.deposit("ExtrinsicSuccess", {"dispatch_info": NO_WEIGHT}, "System")


def dispatch(context: CallContext, extrinsic: SignedExtrinsic) -> None:
    """Run the call; DispatchFailure if a rule refuses it or this chain does not offer it."""
    call = CALLS.get((extrinsic.pallet, extrinsic.function))
    if call is None:
        raise DispatchFailure("CallFiltered", "System")
    call(context, **extrinsic.arguments)


def dispatch_error(codec: Codec, error: Exception) -> Any:
    """The failure as the runtime's DispatchError value. Anything unforeseen is logged, and must not stop the chain."""
    if not isinstance(error, DispatchFailure):
        logger.opt(exception=error).error("a call failed in an unforeseen way")
        return "Corruption"
    if error.pallet == "Token":
        return {"Token": error.name}
    if not error.pallet:
        return error.name
    return {"Module": codec.module_errors[error.pallet, error.name]}


def _no_fee(extrinsic: SignedExtrinsic) -> dict[str, Any]:
    """Nothing costs a fee here, so that balances are easy to follow."""
    return {"who": extrinsic.signer, "actual_fee": 0, "tip": 0}
