"""Registration: a hotkey gets a uid for a burn, and when the subnet is full the weakest neuron gives up its own."""

from __future__ import annotations

from ig_subnet.localnet import rules_commitments
from ig_subnet.localnet.context import BlockContext, CallContext
from ig_subnet.localnet.errors import DispatchFailure, ensure
from ig_subnet.localnet.rules_balances import associate, free_balance, withdraw
from ig_subnet.localnet.state import State, StateView

ONE_U64F64 = 1 << 64
PER_UID_VECTORS = {  # what a neuron starts with, for every vector that is indexed by uid
    "Active": True,
    "Emission": 0,
    "Consensus": 0,
    "ConsensusByMechanism": 0,
    "Incentive": 0,
    "Dividends": 0,
    "ValidatorTrust": 0,
    "ValidatorPermit": False,
    "StakeWeight": 0,
}


def burned_register(context: CallContext, netuid: int, hotkey: str) -> None:
    """Register a hotkey of the signing coldkey for the current burn."""
    state = context.state
    ensure(netuid != 0, "RegistrationNotPermittedOnRootSubnet")
    ensure(state.get("NetworksAdded", netuid), "SubnetNotExists")
    ensure(state.get("NetworkRegistrationAllowed", netuid), "SubNetRegistrationDisabled")
    ensure(not state.has("Uids", netuid, hotkey), "HotKeyAlreadyRegisteredInSubNet")
    burn = state.get("Burn", netuid)
    ensure(free_balance(state, context.signer) >= burn, "NotEnoughBalanceToStake")
    associate(state, context.signer, hotkey)
    ensure(state.get("Owner", hotkey) == context.signer, "NonAssociatedColdKey")
    uid = _free_uid(state, netuid, context.number)

    withdraw(state, context.signer, burn, "NotEnoughBalanceToStake")
    state.add("TotalIssuance", amount=-burn)
    state.add("RAORecycledForRegistration", netuid, amount=burn)
    place_neuron(state, netuid, uid, hotkey, context.number)
    state.add("RegistrationsThisBlock", netuid, amount=1)
    multiplier = max(state.get("BurnIncreaseMult", netuid)["bits"], ONE_U64F64)
    _set_burn(state, netuid, burn * multiplier // ONE_U64F64)
    context.deposit("NeuronRegistered", [netuid, uid, hotkey])


def register_limit(context: CallContext, netuid: int, hotkey: str, limit_price: int) -> None:
    """As burned_register, unless the burn is above the limit."""
    ensure(context.state.get("Burn", netuid) <= limit_price, "RegistrationPriceLimitExceeded")
    burned_register(context, netuid, hotkey)


def _free_uid(state: StateView, netuid: int, block: int) -> int:
    """The next uid, or in a full subnet the one to be replaced; NoNeuronIdAvailable if there is none."""
    neurons, capacity = state.get("SubnetworkN", netuid), state.get("MaxAllowedUids", netuid)
    ensure(capacity > 0, "NoNeuronIdAvailable")
    if neurons < capacity:
        return neurons
    uid = neuron_to_prune(state, netuid, block)
    if uid is None:
        raise DispatchFailure("NoNeuronIdAvailable")
    return uid


def neuron_to_prune(state: StateView, netuid: int, block: int) -> int | None:
    """The uid with the lowest emission, then the earliest registration, then the lowest uid.

    Neurons registered less than the immunity period ago and the subnet owner's hotkey are spared.
    """
    emission = state.get("Emission", netuid)
    immunity = state.get("ImmunityPeriod", netuid)
    owner_uid = state.get("Uids", netuid, state.get("SubnetOwnerHotkey", netuid))
    candidates = []
    for uid in range(state.get("SubnetworkN", netuid)):
        registered = state.get("BlockAtRegistration", netuid, uid)
        if uid != owner_uid and block - registered >= immunity:
            candidates.append((emission[uid], registered, uid))
    return min(candidates)[2] if candidates else None


def place_neuron(state: State, netuid: int, uid: int, hotkey: str, block: int) -> None:
    """Give a uid to a hotkey: a new one at the end, or that of the neuron which held it."""
    if uid == state.get("SubnetworkN", netuid):
        state.put("SubnetworkN", netuid, value=uid + 1)
    else:
        _clear_neuron(state, netuid, uid)
    for vector, value in PER_UID_VECTORS.items():
        state.put_element(vector, netuid, index=uid, value=value)
    state.put_element("LastUpdate", netuid, index=uid, value=block)
    state.put("Keys", netuid, uid, value=hotkey)
    state.put("Uids", netuid, hotkey, value=uid)
    state.put("IsNetworkMember", hotkey, netuid, value=True)
    state.put("BlockAtRegistration", netuid, uid, value=block)


def _clear_neuron(state: State, netuid: int, uid: int) -> None:
    """Forget the neuron under a uid. Weights and bonds that others have towards it are masked by the epoch."""
    hotkey = state.get("Keys", netuid, uid)
    for name in ("Uids", "Axons", "NeuronCertificates", "Prometheus"):
        state.remove(name, netuid, hotkey)
    rules_commitments.purge(state, netuid, hotkey)
    state.remove("IsNetworkMember", hotkey, netuid)
    state.remove("Weights", netuid, uid)
    state.remove("Bonds", netuid, uid)


def begin_block(block: BlockContext, netuid: int) -> None:
    """Let the burn decay by its half-life towards its minimum, and count registrations anew."""
    state = block.state
    state.remove("RegistrationsThisBlock", netuid)
    half_life = state.get("BurnHalfLife", netuid)
    if half_life and block.number > 1:
        burn = state.get("Burn", netuid)
        _set_burn(state, netuid, burn * round(2 ** -(1 / half_life) * 2**32) >> 32)


def _set_burn(state: State, netuid: int, burn: int) -> None:
    low, high = state.get("MinBurn", netuid), state.get("MaxBurn", netuid)
    state.put("Burn", netuid, value=min(max(burn, low), high))
