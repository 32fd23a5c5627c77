"""Weights: what a validator says about the others, in the clear or as a timelocked commit."""

from __future__ import annotations

from collections.abc import Sequence

from ig_subnet.localnet.codec import as_bytes, blake2_256
from ig_subnet.localnet.context import CallContext, storage_index
from ig_subnet.localnet.errors import ensure
from ig_subnet.localnet.rules_balances import stake_weight
from ig_subnet.localnet.state import State, StateView

U16_MAX = 65535
MAX_UNREVEALED_COMMITS = 10
MAX_COMMIT_BYTES = 5000


def set_weights(
    context: CallContext, netuid: int, dests: Sequence[int], weights: Sequence[int], version_key: int
) -> None:
    set_mechanism_weights(context, netuid, 0, dests, weights, version_key)


def set_mechanism_weights(
    context: CallContext, netuid: int, mecid: int, dests: Sequence[int], weights: Sequence[int], version_key: int
) -> None:
    """Set the signing hotkey's weights in the clear."""
    ensure(not context.state.get("CommitRevealWeightsEnabled", netuid), "CommitRevealEnabled")
    uid = apply_weights(context, context.signer, netuid, mecid, dests, weights, version_key)
    index = storage_index(netuid, mecid)
    context.state.put_element("LastUpdate", index, index=uid, value=context.number)
    context.deposit("WeightsSet", [index, uid])


def apply_weights(
    context: CallContext,
    hotkey: str,
    netuid: int,
    mecid: int,
    uids: Sequence[int],
    weights: Sequence[int],
    version_key: int,
    *,
    revealed: bool = False,
) -> int:
    """Check weights in the chain's order and store them; the uid that set them. Reveals have no rate limit."""
    state = context.state
    index = storage_index(netuid, mecid)
    ensure(len(uids) == len(weights), "WeightVecNotEqualSize")
    ensure(_mechanism_exists(state, netuid, mecid), "MechanismDoesNotExist")
    neurons = state.get("SubnetworkN", netuid)
    ensure(len(uids) <= neurons, "UidsLengthExceedUidsInSubNet")
    uid = state.get("Uids", netuid, hotkey)
    ensure(uid is not None, "HotKeyNotRegisteredInSubNet")
    ensure(_has_enough_stake(state, hotkey, netuid), "NotEnoughStakeToSetWeights")
    ensure(version_key >= state.get("WeightsVersionKey", netuid), "IncorrectWeightVersionKey")
    ensure(revealed or _rate_limit_passed(state, netuid, index, uid, context.number), "SettingWeightsTooFast")
    own_weight = list(uids) == [uid]
    owner = state.get("SubnetOwnerHotkey", netuid) == hotkey
    ensure(own_weight or owner or state.get("ValidatorPermit", netuid)[uid], "NeuronNoValidatorPermit")
    ensure(len(set(uids)) == len(uids), "DuplicateUids")
    ensure(all(other < neurons for other in uids), "UidVecContainInvalidOne")
    minimum = min(neurons, state.get("MinAllowedWeights", netuid))
    ensure(own_weight or len(uids) >= minimum, "WeightVecLengthIsLow")
    upscaled = max_upscale(weights)
    ensure(own_weight or _within_limit(upscaled, state.get("MaxWeightsLimit", netuid)), "MaxWeightExceeded")
    state.put("Weights", index, uid, value=list(zip(uids, upscaled, strict=True)))
    return uid


def max_upscale(weights: Sequence[int]) -> list[int]:
    """Weights scaled so that the largest is 65535, rounded to the nearest (halves up)."""
    top = max(weights, default=0)
    return [(2 * weight * U16_MAX + top) // (2 * top) for weight in weights] if top else list(weights)


def _within_limit(weights: Sequence[int], limit: int) -> bool:
    """No weight is more than limit / 65535 of their sum."""
    return limit == U16_MAX or max(weights, default=0) * U16_MAX <= limit * sum(weights)


def _mechanism_exists(state: StateView, netuid: int, mecid: int) -> bool:
    return state.get("NetworksAdded", netuid) and mecid < state.get("MechanismCountCurrent", netuid)


def _has_enough_stake(state: StateView, hotkey: str, netuid: int) -> bool:
    if state.get("SubnetOwnerHotkey", netuid) == hotkey:
        return True
    return stake_weight(state, hotkey, netuid) >= state.get("StakeThreshold")


def _rate_limit_passed(state: StateView, netuid: int, index: int, uid: int, block: int) -> bool:
    updates = state.get("LastUpdate", index)
    last = updates[uid] if uid < len(updates) else 0
    return last == 0 or block - last >= state.get("WeightsSetRateLimit", netuid)


# Commit-reveal


def commit_timelocked_weights(
    context: CallContext, netuid: int, commit: str | bytes, reveal_round: int, commit_reveal_version: int
) -> None:
    commit_timelocked_mechanism_weights(context, netuid, 0, commit, reveal_round, commit_reveal_version)


def commit_timelocked_mechanism_weights(
    context: CallContext, netuid: int, mecid: int, commit: str | bytes, reveal_round: int, commit_reveal_version: int
) -> None:
    """Store an encrypted commit under the current epoch. Only `LocalNode.reveal` can open it."""
    state = context.state
    index = storage_index(netuid, mecid)
    ensure(_mechanism_exists(state, netuid, mecid), "MechanismDoesNotExist")
    ensure(state.get("CommitRevealWeightsEnabled", netuid), "CommitRevealDisabled")
    ensure(commit_reveal_version == state.get("CommitRevealWeightsVersion"), "IncorrectCommitRevealVersion")
    uid = state.get("Uids", netuid, context.signer)
    ensure(uid is not None, "HotKeyNotRegisteredInSubNet")
    ensure(_has_enough_stake(state, context.signer, netuid), "NotEnoughStakeToSetWeights")
    ensure(_rate_limit_passed(state, netuid, index, uid, context.number), "CommittingWeightsTooFast")
    epoch = state.get("SubnetEpochIndex", netuid)
    commits = state.get("TimelockedWeightCommits", index, epoch)
    pending = sum(1 for account, *_ in commits if account == context.signer)
    ensure(pending < MAX_UNREVEALED_COMMITS, "TooManyUnrevealedCommits")
    payload = as_bytes(commit)
    ensure(len(payload) <= MAX_COMMIT_BYTES, "InvalidValue")
    entry = (context.signer, context.number, payload, reveal_round)
    commits = [(account, block, as_bytes(data), round_) for account, block, data, round_ in commits]
    state.put("TimelockedWeightCommits", index, epoch, value=[*commits, entry])
    state.put_element("LastUpdate", index, index=uid, value=context.number)
    digest = "0x" + blake2_256(payload).hex()
    context.deposit("TimelockedWeightsCommitted", [context.signer, index, digest, reveal_round])


def commits_of_epoch(state: State, index: int, epoch: int) -> list[tuple[str, int, bytes, int]]:
    """(hotkey, block, commit, reveal round) of every commit made in an epoch."""
    return [
        (account, block, as_bytes(commit), reveal_round)
        for account, block, commit, reveal_round in state.get("TimelockedWeightCommits", index, epoch)
    ]
