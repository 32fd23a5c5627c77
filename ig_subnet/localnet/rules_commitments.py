"""Commitments: bytes or hashes that a hotkey publishes on a subnet, within a space that every epoch grants anew.

A commitment takes the place of the hotkey's last one; the chain keeps no history, only blocks do. The runtime's
InitialDeposit and FieldDeposit are zero, so nothing is reserved, and it has no other rate limit than the space.
"""

from __future__ import annotations

from typing import Any

from ig_subnet.localnet.codec import as_bytes
from ig_subnet.localnet.context import CallContext
from ig_subnet.localnet.errors import DispatchFailure, ensure
from ig_subnet.localnet.state import State

PALLET = "Commitments"
MAX_FIELDS = 3  # Commitments.MaxFields
MIN_SPACE = 100  # bytes that even the shortest commitment uses up
HASHES = ("BlakeTwo256", "Sha256", "Keccak256", "ShaThree256")
HASH_BYTES = 32
MAX_BIG_RAW_BYTES = 512
MAX_SEALED_BYTES = 1024


def set_commitment(context: CallContext, netuid: int, info: dict[str, Any]) -> None:
    """Publish up to three fields under the signing hotkey, which must be registered on the subnet."""
    state, who = context.state, context.signer
    ensure(state.has("Uids", netuid, who), "AccountNotAllowedCommit", PALLET)
    ensure(len(info["fields"]) <= MAX_FIELDS, "TooManyFieldsInCommitmentInfo", PALLET)
    measured = [_measured(field) for field in info["fields"]]
    fields = [field for field, _ in measured]
    _use_space(state, netuid, who, max(MIN_SPACE, sum(size for _, size in measured)))
    if "ResetBondsFlag" in fields:  # only noted: BondsResetOn, without which bonds stay, is off on every local subnet
        state.put("Commitments.LastBondsReset", netuid, who, value=context.number)
    registration = {"deposit": 0, "block": context.number, "info": {"fields": fields}}
    state.put("Commitments.CommitmentOf", netuid, who, value=registration)
    state.put("Commitments.LastCommitment", netuid, who, value=context.number)
    sealed = [field["TimelockEncrypted"] for field in fields if "TimelockEncrypted" in field]
    _index_sealed(state, netuid, who, add=bool(sealed))
    if sealed:
        attributes = {"netuid": netuid, "who": who, "reveal_round": sealed[0]["reveal_round"]}
        context.deposit("TimelockCommitment", attributes, PALLET)
    else:
        context.deposit("Commitment", {"netuid": netuid, "who": who}, PALLET)


def purge(state: State, netuid: int, hotkey: str) -> None:
    """Forget what a hotkey committed: it has lost its uid to another."""
    for name in ("CommitmentOf", "LastCommitment", "LastBondsReset", "RevealedCommitments", "UsedSpaceOf"):
        state.remove(f"Commitments.{name}", netuid, hotkey)
    _index_sealed(state, netuid, hotkey, add=False)


def _measured(field: Any) -> tuple[Any, int]:
    """A decoded field as the codec encodes it back, and the bytes it counts for."""
    if isinstance(field, str):  # None, ResetBondsFlag
        return field, 0
    ((variant, content),) = field.items()
    if variant in HASHES:
        return field, HASH_BYTES
    if variant == "BigRaw":
        data = as_bytes(content)
        _ensure_decodable(len(data) <= MAX_BIG_RAW_BYTES)
        return {variant: data}, len(data)
    if variant == "TimelockEncrypted":
        data = as_bytes(content["encrypted"])
        _ensure_decodable(len(data) <= MAX_SEALED_BYTES)
        return {variant: content | {"encrypted": data}}, len(data)
    if variant == "TimelockRevealFailed":
        raise DispatchFailure("TimelockRevealFailedNotAllowed", PALLET)
    return field, int(variant.removeprefix("Raw"))


def _ensure_decodable(condition: bool) -> None:
    """The real chain cannot decode a longer field, so that its call reaches no block; it has no name for the error."""
    ensure(condition, "Other", "")


def _use_space(state: State, netuid: int, who: str, size: int) -> None:
    epoch = state.get("SubnetEpochIndex", netuid)
    usage = state.get("Commitments.UsedSpaceOf", netuid, who)
    used = usage["used_space"] if usage and usage["last_epoch"] == epoch else 0
    ensure(used + size <= state.get("Commitments.MaxSpace"), "SpaceLimitExceeded", PALLET)
    state.put("Commitments.UsedSpaceOf", netuid, who, value={"last_epoch": epoch, "used_space": used + size})


def _index_sealed(state: State, netuid: int, who: str, *, add: bool) -> None:
    """Enter the hotkey into the chain's list of commitments that wait for their reveal, or strike it off."""
    index = {(other_netuid, other) for other_netuid, other in state.get("Commitments.TimelockedIndex")}
    entry = (netuid, who)
    if (entry in index) != add:
        state.put("Commitments.TimelockedIndex", value=sorted(index ^ {entry}))
