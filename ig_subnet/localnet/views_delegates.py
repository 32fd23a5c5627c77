"""Runtime APIs about delegates: every hotkey is one, and whoever has stake on it is its nominator."""

from __future__ import annotations

from typing import Any

from ig_subnet.localnet.rules_balances import coldkey_stake, hotkey_stake
from ig_subnet.localnet.state import StateView

BLOCKS_A_DAY = 7200  # of finney; the runtime counts with it whatever the block time
RAO_PER_1000_TAO = 1000 * 10**9
U16_MAX = 65535

Nominators = list[tuple[str, list[tuple[int, int]]]]  # coldkey, and its stake (rao) by netuid


def get_delegate(state: StateView, hotkey: str) -> dict[str, Any] | None:
    if not state.has("Delegates", hotkey):
        return None
    stakes: dict[str, list[tuple[int, int]]] = {}
    for (coldkey, netuid), _ in state.items("AlphaV2", hotkey):
        stakes.setdefault(coldkey, []).append((netuid, coldkey_stake(state, hotkey, coldkey, netuid)))
    return _delegate(state, hotkey, list(stakes.items()))


def get_delegates(state: StateView) -> list[dict[str, Any] | None]:
    return [get_delegate(state, hotkey) for (hotkey,), _ in state.items("Delegates")]


def get_delegated(state: StateView, coldkey: str) -> list[tuple[dict[str, Any], tuple[int, int]]]:
    """What a coldkey has staked: the delegate, without its nominators, and (netuid, rao)."""
    return [
        (_delegate(state, hotkey, []), (netuid, coldkey_stake(state, hotkey, coldkey, netuid)))
        for (hotkey,), _ in state.items("Delegates")
        for (netuid,), _ in state.items("AlphaV2", hotkey, coldkey)
    ]


def _delegate(state: StateView, hotkey: str, nominators: Nominators) -> dict[str, Any]:
    take = state.get("Delegates", hotkey)
    uids = {
        netuid: state.get("Uids", netuid, hotkey)
        for (netuid,), member in state.items("IsNetworkMember", hotkey)
        if member
    }
    a_day = sum(
        state.get("Emission", netuid)[uid] * BLOCKS_A_DAY // state.get("Tempo", netuid) for netuid, uid in uids.items()
    )
    root_stake = hotkey_stake(state, hotkey, 0)
    after_take = a_day * (U16_MAX - take) // U16_MAX
    return {
        "delegate_ss58": hotkey,
        "take": take,
        "nominators": nominators,
        "owner_ss58": state.get("Owner", hotkey),
        "registrations": list(uids),
        "validator_permits": [netuid for netuid, uid in uids.items() if state.get("ValidatorPermit", netuid)[uid]],
        "return_per_1000": after_take * RAO_PER_1000_TAO // root_stake if root_stake else 0,
        "total_daily_return": a_day,
    }
