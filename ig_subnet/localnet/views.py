"""Runtime APIs: the compound answers that clients ask of the runtime instead of single storage items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ig_subnet.localnet.codec import METADATA_V15
from ig_subnet.localnet.epoch import activity_cutoff
from ig_subnet.localnet.rules_balances import coldkey_stake, hotkey_stake, root_weight
from ig_subnet.localnet.state import StateView
from ig_subnet.localnet.views_delegates import get_delegate, get_delegated, get_delegates

U16_MAX = 65535
RAO_PER_ALPHA = 10**9  # the price of one alpha: local subnets are of the stable kind
NO_AXON = {
    "block": 0,
    "version": 0,
    "ip": 0,
    "port": 0,
    "ip_type": 0,
    "protocol": 0,
    "placeholder1": 0,
    "placeholder2": 0,
}
NO_PROMETHEUS = {"block": 0, "version": 0, "ip": 0, "port": 0, "ip_type": 0}
NO_FEE = {"weight": {"ref_time": 0, "proof_size": 0}, "class": "Normal", "partial_fee": 0}
NO_BASKET = {"nav_tao": 0, "spot_nav_tao": 0, "shares": 0, "deposited_tao": 0, "redeemed_tao": 0, "holdings": ()}
NO_BASKET_TRADING = {"enabled": False, "frozen": False, "refill_blocks": 7200, "tao_available": 0, "budget_tao": 0}

# What get_subnet_hyperparams_v3 lists: name, type and storage item.
HYPERPARAMETER_TYPES: dict[str, tuple[str, str]] = {
    "kappa": ("U16", "Kappa"),
    "immunity_period": ("U16", "ImmunityPeriod"),
    "min_allowed_weights": ("U16", "MinAllowedWeights"),
    "max_weights_limit": ("U16", "MaxWeightsLimit"),
    "tempo": ("U16", "Tempo"),
    "weights_version": ("U64", "WeightsVersionKey"),
    "weights_rate_limit": ("U64", "WeightsSetRateLimit"),
    "activity_cutoff": ("U16", "ActivityCutoff"),
    "activity_cutoff_factor": ("U32", "ActivityCutoffFactorMilli"),
    "registration_allowed": ("Bool", "NetworkRegistrationAllowed"),
    "target_regs_per_interval": ("U16", "TargetRegistrationsPerInterval"),
    "min_burn": ("TaoBalance", "MinBurn"),
    "max_burn": ("TaoBalance", "MaxBurn"),
    "bonds_moving_avg": ("U64", "BondsMovingAverage"),
    "max_regs_per_block": ("U16", "MaxRegistrationsPerBlock"),
    "serving_rate_limit": ("U64", "ServingRateLimit"),
    "max_validators": ("U16", "MaxAllowedValidators"),
    "max_allowed_uids": ("U16", "MaxAllowedUids"),
    "commit_reveal_period": ("U64", "RevealPeriodEpochs"),
    "commit_reveal_weights_enabled": ("Bool", "CommitRevealWeightsEnabled"),
    "liquid_alpha_enabled": ("Bool", "LiquidAlphaOn"),
    "yuma3_enabled": ("Bool", "Yuma3On"),
    "bonds_penalty": ("U16", "BondsPenalty"),
    "bonds_reset_enabled": ("Bool", "BondsResetOn"),
    "subnet_is_active": ("Bool", "SubtokenEnabled"),
    "transfers_enabled": ("Bool", "TransferToggle"),
    "burn_half_life": ("U16", "BurnHalfLife"),
    "burn_increase_mult": ("U64F64", "BurnIncreaseMult"),
}


def _neurons(state: StateView, netuid: int) -> int:
    return state.get("SubnetworkN", netuid)


def _vector(state: StateView, item: str, netuid: int) -> list[Any]:
    """A per-uid vector, as long as the subnet has neurons."""
    values = list(state.get(item, netuid))
    return values + [0] * (_neurons(state, netuid) - len(values))


def get_metagraph(state: StateView, netuid: int) -> dict[str, Any] | None:
    """All of a subnet in one answer."""
    if not state.get("NetworksAdded", netuid):
        return None
    hotkeys = [state.get("Keys", netuid, uid) for uid in range(_neurons(state, netuid))]
    coldkeys = [state.get("Owner", hotkey) for hotkey in hotkeys]
    alpha_low, alpha_high = state.get("AlphaValues", netuid)
    alpha_stake = [hotkey_stake(state, hotkey, netuid) for hotkey in hotkeys]
    root_stake = [hotkey_stake(state, hotkey, 0) for hotkey in hotkeys]
    total_stake = [alpha + root_weight(state, hotkey) for alpha, hotkey in zip(alpha_stake, hotkeys, strict=True)]
    dividends = dict(state.items("AlphaDividendsPerSubnet", netuid))
    incentive = _vector(state, "Incentive", netuid)
    return {
        **_pool_fields(state, netuid),
        "name": list(b"root" if netuid == 0 else b"local"),
        "symbol": list(state.get("TokenSymbol", netuid).encode()),
        "identity": state.get("SubnetIdentitiesV3", netuid),
        "block": state.get("System.Number"),
        "rho": state.get("Rho", netuid),
        "kappa": state.get("Kappa", netuid),
        "min_allowed_weights": state.get("MinAllowedWeights", netuid),
        "max_weights_limit": state.get("MaxWeightsLimit", netuid),
        "weights_version": state.get("WeightsVersionKey", netuid),
        "weights_rate_limit": state.get("WeightsSetRateLimit", netuid),
        "activity_cutoff": activity_cutoff(state, netuid),
        "max_validators": state.get("MaxAllowedValidators", netuid),
        "num_uids": len(hotkeys),
        "max_uids": state.get("MaxAllowedUids", netuid),
        "burn": state.get("Burn", netuid),
        "difficulty": state.get("Difficulty", netuid),
        "registration_allowed": state.get("NetworkRegistrationAllowed", netuid),
        "pow_registration_allowed": False,
        "immunity_period": state.get("ImmunityPeriod", netuid),
        "min_difficulty": state.get("MinDifficulty", netuid),
        "max_difficulty": state.get("MaxDifficulty", netuid),
        "min_burn": state.get("MinBurn", netuid),
        "max_burn": state.get("MaxBurn", netuid),
        "adjustment_alpha": state.get("AdjustmentAlpha", netuid),
        "adjustment_interval": state.get("AdjustmentInterval", netuid),
        "target_regs_per_interval": state.get("TargetRegistrationsPerInterval", netuid),
        "max_regs_per_block": state.get("MaxRegistrationsPerBlock", netuid),
        "serving_rate_limit": state.get("ServingRateLimit", netuid),
        "commit_reveal_weights_enabled": state.get("CommitRevealWeightsEnabled", netuid),
        "commit_reveal_period": state.get("RevealPeriodEpochs", netuid),
        "liquid_alpha_enabled": state.get("LiquidAlphaOn", netuid),
        "alpha_high": alpha_high,
        "alpha_low": alpha_low,
        "bonds_moving_avg": state.get("BondsMovingAverage", netuid),
        "hotkeys": hotkeys,
        "coldkeys": coldkeys,
        "identities": [state.get("IdentitiesV2", coldkey) for coldkey in coldkeys],
        "axons": [state.get("Axons", netuid, hotkey) or NO_AXON for hotkey in hotkeys],
        "active": _vector(state, "Active", netuid),
        "validator_permit": _vector(state, "ValidatorPermit", netuid),
        "pruning_score": [0] * len(hotkeys),  # this and the two below are no longer stored by runtime 461
        "trust": [0] * len(hotkeys),
        "rank": [0] * len(hotkeys),
        "last_update": _vector(state, "LastUpdate", netuid),
        "emission": _vector(state, "Emission", netuid),
        "dividends": _vector(state, "Dividends", netuid),
        "incentives": incentive,
        "consensus": _vector(state, "Consensus", netuid),
        "block_at_registration": [state.get("BlockAtRegistration", netuid, uid) for uid in range(len(hotkeys))],
        "alpha_stake": alpha_stake,
        "tao_stake": root_stake,
        "total_stake": total_stake,
        "tao_dividends_per_hotkey": [(hotkey, 0) for hotkey in hotkeys],
        "alpha_dividends_per_hotkey": [(hotkey, dividends.get((hotkey,), 0)) for hotkey in hotkeys],
        "collateral_locked": [0] * len(hotkeys),
        "collateral_min": [0] * len(hotkeys),
        "collateral_earned": [0] * len(hotkeys),
    }


def _pool_fields(state: StateView, netuid: int) -> dict[str, Any]:
    """What a subnet's metagraph and its dynamic info have in common."""
    pending = state.get("PendingServerEmission", netuid) + state.get("PendingValidatorEmission", netuid)
    return {
        "netuid": netuid,
        "owner_hotkey": state.get("SubnetOwnerHotkey", netuid),
        "owner_coldkey": state.get("SubnetOwner", netuid),
        "tempo": state.get("Tempo", netuid),
        "last_step": state.get("LastMechansimStepBlock", netuid),
        "blocks_since_last_step": state.get("System.Number") - state.get("LastMechansimStepBlock", netuid),
        "network_registered_at": state.get("NetworkRegisteredAt", netuid),
        "subnet_emission": 0,
        "alpha_in": state.get("SubnetAlphaIn", netuid),
        "alpha_out": state.get("SubnetAlphaOut", netuid),
        "tao_in": state.get("SubnetTAO", netuid),
        "alpha_out_emission": state.get("SubnetAlphaOutEmission", netuid),
        "alpha_in_emission": state.get("SubnetAlphaInEmission", netuid),
        "tao_in_emission": state.get("SubnetTaoInEmission", netuid),
        "pending_alpha_emission": pending,
        "pending_root_emission": 0,
        "subnet_volume": state.get("SubnetVolume", netuid),
        "moving_price": {"bits": 1 << 32},  # 1 TAO per alpha in I96F32
    }


def get_dynamic_info(state: StateView, netuid: int) -> dict[str, Any] | None:
    if not state.get("NetworksAdded", netuid):
        return None
    fields = _pool_fields(state, netuid)
    fields["emission"] = fields.pop("subnet_emission")
    return {
        **fields,
        "subnet_name": list(b"root" if netuid == 0 else b"local"),
        "token_symbol": list(state.get("TokenSymbol", netuid).encode()),
        "subnet_identity": state.get("SubnetIdentitiesV3", netuid),
    }


def get_all_dynamic_info(state: StateView) -> list[Any]:
    return [get_dynamic_info(state, netuid) for netuid in _netuids(state)]


def get_all_metagraphs(state: StateView) -> list[Any]:
    return [get_metagraph(state, netuid) for netuid in _netuids(state)]


def _netuids(state: StateView) -> list[int]:
    return sorted(netuid for (netuid,), added in state.items("NetworksAdded") if added)


def get_next_epoch_start_block(state: StateView, netuid: int) -> int | None:
    tempo = state.get("Tempo", netuid)
    return state.get("LastEpochBlock", netuid) + tempo if tempo and state.get("NetworksAdded", netuid) else None


def get_subnet_hyperparams_v3(state: StateView, netuid: int) -> list[dict[str, Any]] | None:
    """Name and typed value of every hyperparameter this chain has."""
    if not state.get("NetworksAdded", netuid):
        return None
    return [
        {"name": name.encode(), "value": {kind: state.get(item, netuid)}}
        for name, (kind, item) in HYPERPARAMETER_TYPES.items()
    ]


def get_neurons_lite(state: StateView, netuid: int) -> list[dict[str, Any]]:
    return [neuron for uid in range(_neurons(state, netuid)) if (neuron := get_neuron_lite(state, netuid, uid))]


def get_neuron_lite(state: StateView, netuid: int, uid: int) -> dict[str, Any] | None:
    if uid >= _neurons(state, netuid):
        return None
    hotkey = state.get("Keys", netuid, uid)
    coldkey = state.get("Owner", hotkey)
    return {
        "hotkey": hotkey,
        "coldkey": coldkey,
        "uid": uid,
        "netuid": netuid,
        "active": _vector(state, "Active", netuid)[uid],
        "axon_info": state.get("Axons", netuid, hotkey) or NO_AXON,
        "prometheus_info": NO_PROMETHEUS,
        "stake": [(coldkey, hotkey_stake(state, hotkey, netuid))],
        "rank": 0,
        "emission": _vector(state, "Emission", netuid)[uid],
        "incentive": _vector(state, "Incentive", netuid)[uid],
        "consensus": _vector(state, "Consensus", netuid)[uid],
        "trust": 0,
        "validator_trust": _vector(state, "ValidatorTrust", netuid)[uid],
        "dividends": _vector(state, "Dividends", netuid)[uid],
        "last_update": _vector(state, "LastUpdate", netuid)[uid],
        "validator_permit": _vector(state, "ValidatorPermit", netuid)[uid],
        "pruning_score": 0,
    }


def get_neurons(state: StateView, netuid: int) -> list[dict[str, Any]]:
    return [neuron for uid in range(_neurons(state, netuid)) if (neuron := get_neuron(state, netuid, uid))]


def get_neuron(state: StateView, netuid: int, uid: int) -> dict[str, Any] | None:
    neuron = get_neuron_lite(state, netuid, uid)
    if neuron is None:
        return None
    return {**neuron, "weights": state.get("Weights", netuid, uid), "bonds": state.get("Bonds", netuid, uid)}


def get_stake_info(state: StateView, hotkey: str, coldkey: str, netuid: int) -> dict[str, Any]:
    return {
        "hotkey": hotkey,
        "coldkey": coldkey,
        "netuid": netuid,
        "stake": coldkey_stake(state, hotkey, coldkey, netuid),
        "locked": 0,
        "emission": 0,
        "tao_emission": 0,
        "drain": 0,
        "is_registered": state.has("Uids", netuid, hotkey),
    }


def get_stake_info_for_coldkey(state: StateView, coldkey: str) -> list[dict[str, Any]]:
    stakes = (
        get_stake_info(state, hotkey, coldkey, netuid)
        for hotkey in state.get("StakingHotkeys", coldkey)
        for netuid in _netuids(state)
    )
    return [stake for stake in stakes if stake["stake"]]


def get_stake_info_for_coldkeys(state: StateView, coldkeys: list[str]) -> list[tuple[str, list[dict[str, Any]]]]:
    return [(coldkey, get_stake_info_for_coldkey(state, coldkey)) for coldkey in coldkeys]


def get_stake_availability_for_coldkeys(
    state: StateView, coldkeys: list[str], netuids: list[int] | None
) -> dict[str, dict[int, dict[str, int]]]:
    """Stake of each coldkey on each subnet; none of it is ever locked here."""
    wanted = _netuids(state) if netuids is None else netuids
    found: dict[str, dict[int, dict[str, int]]] = {}
    for coldkey in coldkeys:
        totals: dict[int, int] = {}
        for stake in get_stake_info_for_coldkey(state, coldkey):
            if stake["netuid"] in wanted:
                totals[stake["netuid"]] = totals.get(stake["netuid"], 0) + stake["stake"]
        found[coldkey] = {
            netuid: {"total": total, "locked": 0, "available": total} for netuid, total in sorted(totals.items())
        }
    return found


def current_alpha_price_all(state: StateView) -> list[dict[str, int]]:
    return [{"netuid": netuid, "price": RAO_PER_ALPHA} for netuid in _netuids(state)]


def sim_swap(state: StateView, netuid: int, amount: int) -> dict[str, int]:
    """One rao for one rao, without fee or slippage."""
    return {
        "tao_amount": amount,
        "alpha_amount": amount,
        "tao_fee": 0,
        "alpha_fee": 0,
        "tao_slippage": 0,
        "alpha_slippage": 0,
    }


RUNTIME_APIS: dict[str, Callable[..., Any]] = {
    "SubnetInfoRuntimeApi_get_metagraph": get_metagraph,
    "SubnetInfoRuntimeApi_get_all_metagraphs": get_all_metagraphs,
    "SubnetInfoRuntimeApi_get_dynamic_info": get_dynamic_info,
    "SubnetInfoRuntimeApi_get_all_dynamic_info": get_all_dynamic_info,
    "SubnetInfoRuntimeApi_get_next_epoch_start_block": get_next_epoch_start_block,
    "SubnetInfoRuntimeApi_get_subnet_hyperparams_v3": get_subnet_hyperparams_v3,
    "NeuronInfoRuntimeApi_get_neurons_lite": get_neurons_lite,
    "NeuronInfoRuntimeApi_get_neuron_lite": get_neuron_lite,
    "NeuronInfoRuntimeApi_get_neurons": get_neurons,
    "NeuronInfoRuntimeApi_get_neuron": get_neuron,
    "DelegateInfoRuntimeApi_get_delegate": get_delegate,
    "DelegateInfoRuntimeApi_get_delegates": get_delegates,
    "DelegateInfoRuntimeApi_get_delegated": get_delegated,
    "StakeInfoRuntimeApi_get_stake_info_for_hotkey_coldkey_netuid": get_stake_info,
    "StakeInfoRuntimeApi_get_stake_info_for_coldkey": get_stake_info_for_coldkey,
    "StakeInfoRuntimeApi_get_stake_info_for_coldkeys": get_stake_info_for_coldkeys,
    "StakeInfoRuntimeApi_get_stake_availability_for_coldkeys": get_stake_availability_for_coldkeys,
    # Nothing is ever locked on this chain, and there are no root baskets.
    "StakeInfoRuntimeApi_get_coldkey_lock": lambda state, coldkey, netuid: None,
    "StakeInfoRuntimeApi_get_hotkey_conviction": lambda state, hotkey, netuid: {"bits": 0},
    "StakeInfoRuntimeApi_get_most_convicted_hotkey_on_subnet": lambda state, netuid: None,
    "BetaBasketRuntimeApi_get_all_validator_baskets": lambda state: [],
    "BetaBasketRuntimeApi_get_basket_trading_status": lambda state, hotkey: NO_BASKET_TRADING,
    "BetaBasketRuntimeApi_get_validator_basket_summary": lambda state, hotkey: {"hotkey": hotkey, **NO_BASKET},
    "BetaBasketRuntimeApi_get_basket_position": lambda state, hotkey, coldkey: None,
    "BetaBasketRuntimeApi_get_root_basket_owed": lambda state, coldkey: 0,
    "BetaBasketRuntimeApi_get_root_basket_portfolio": lambda state, coldkey: [],
    "BetaBasketRuntimeApi_get_root_basket_positions": lambda state, coldkey: [],
    "BetaBasketRuntimeApi_get_root_basket_total_nav": lambda state: 0,
    "BetaBasketRuntimeApi_get_validator_basket": lambda state, hotkey: [],
    "BetaBasketRuntimeApi_get_validator_basket_nav": lambda state, hotkey: 0,
    "AccountNonceApi_account_nonce": lambda state, account: state.get("System.Account", account)["nonce"],
    "SwapRuntimeApi_current_alpha_price": lambda state, netuid: RAO_PER_ALPHA,
    "SwapRuntimeApi_current_alpha_price_all": current_alpha_price_all,
    "SwapRuntimeApi_sim_swap_tao_for_alpha": sim_swap,
    "SwapRuntimeApi_sim_swap_alpha_for_tao": sim_swap,
}


def runtime_call(state: StateView, name: str, data: bytes) -> bytes | None:
    """Answer `state_call`; None for a method this chain lacks, ValueError for parameters that do not decode."""
    codec = state.codec
    if name == "Metadata_metadata_at_version":
        return codec.opaque_metadata() if data == METADATA_V15.to_bytes(4, "little") else b"\0"
    api, _, method = name.partition("_")
    if name in ("TransactionPaymentApi_query_info", "TransactionPaymentCallApi_query_call_info"):
        return codec.encode_api_result(api, method, NO_FEE)  # nothing costs a fee: the extrinsic need not even decode
    view = RUNTIME_APIS.get(name)
    if view is None:
        return None
    return codec.encode_api_result(api, method, view(state, *codec.api_parameters(api, method, data)))
