"""What holds whatever anybody does: issuance is conserved, uids stay dense, shares add up, failures leave no trace."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from localnet_chain import RAO, ss58

from ig_subnet.localnet import Genesis, calls, epoch
from ig_subnet.localnet.codec import Codec, load_metadata
from ig_subnet.localnet.context import BlockContext, CallContext
from ig_subnet.localnet.errors import DispatchFailure
from ig_subnet.localnet.rules_balances import coldkey_stake, free_balance, hotkey_stake
from ig_subnet.localnet.state import PastState, State, StateView

COLDKEYS = ("Alice", "Bob", "Dust")
HOTKEYS = tuple(f"H{number}" for number in range(6))
GENESIS = {
    "accounts": {"//Alice": 50, "//Bob": 50, "//Dust": 0.000_000_1},  # less than an account has to keep
    "subnets": [
        {
            "netuid": 1,
            "hyperparameters": {"tempo": 3, "immunity_period": 1, "max_uids": 3, "burn": RAO, "weights_rate_limit": 0},
            "neurons": [{"hotkey": "//H0", "coldkey": "//Alice", "stake": 10}],
        },
        {"netuid": 2, "hyperparameters": {"tempo": 2}},
    ],
}

netuids = st.sampled_from([1, 2])
coldkeys = st.sampled_from(COLDKEYS)
hotkeys = st.sampled_from(HOTKEYS)
amounts = st.integers(0, 60 * RAO)
weights = st.dictionaries(st.integers(0, 3), st.integers(0, 65535), max_size=4)
actions = st.one_of(
    st.tuples(st.just("transfer"), coldkeys, coldkeys, amounts),
    st.tuples(st.just("transfer_all"), coldkeys, coldkeys, st.booleans()),
    st.tuples(st.just("register"), coldkeys, hotkeys, netuids),
    st.tuples(st.just("stake"), coldkeys, hotkeys, netuids, amounts),
    st.tuples(st.just("unstake"), coldkeys, hotkeys, netuids, amounts),
    st.tuples(st.just("weights"), hotkeys, netuids, weights),
    st.tuples(st.just("commit"), hotkeys, netuids, st.integers(0, 512)),
    st.tuples(st.just("block")),
)


@cache
def codec() -> Codec:
    return Codec(load_metadata(250))


def new_state() -> State:
    state = State(codec())
    Genesis.parse(GENESIS).write(state)
    state.take_changes()
    return state


# Values of every type that a call's argument has, the extreme ones often.
def unsigned(bits: int) -> st.SearchStrategy[int]:
    return st.sampled_from([0, 1, 2, 3, 2**bits - 1]) | st.integers(0, 2**bits - 1)


sealed = st.fixed_dictionaries(
    {"encrypted": st.sampled_from([b"", b"0xff", bytes(1025)]), "reveal_round": unsigned(64)}
)
fields = st.one_of(
    st.sampled_from(["None", "ResetBondsFlag", {"Raw0": b""}, {"Raw1": b"x"}, {"Raw128": bytes(128)}]),
    st.sampled_from([{"Keccak256": bytes(32)}, {"BigRaw": b"0xzz"}, {"BigRaw": bytes(513)}]),
    sealed.map(lambda content: {"TimelockEncrypted": content}),
    sealed.map(lambda content: {"TimelockRevealFailed": content}),
)
accounts = st.sampled_from([*COLDKEYS, *HOTKEYS]).map(ss58)
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "AccountId32": accounts,
    "MultiAddress": accounts | st.sampled_from([{"Raw": b"ab"}, {"Address20": bytes(20)}]),
    "NetUid": st.sampled_from([0, 1, 2]) | unsigned(16),
    "MechId": unsigned(8),
    "bool": st.booleans(),
    "u8": unsigned(8),
    "u16": unsigned(16),
    "u32": unsigned(32),
    "u64": unsigned(64),
    "u128": unsigned(128),
    "TaoBalance": unsigned(64),
    "AlphaBalance": unsigned(64),
    "Compact<TaoBalance>": unsigned(64),
    "Vec<u8>": st.binary(max_size=4),
    "Vec<u16>": st.lists(unsigned(16), max_size=3),
    "CommitmentInfo": st.fixed_dictionaries({"fields": st.lists(fields, max_size=4)}),
    "BoundedVec": st.binary(max_size=4) | st.sampled_from([b"0xzz", b"0x12", b"text"]),
}


@cache
def argument_types(pallet: str, function: str) -> dict[str, str]:
    """Name -> type of a call's arguments, by the metadata."""
    for entry in codec().runtime.metadata_ir()["pallets"]:
        for call in entry["calls"] if entry["name"] == pallet else ():
            if call["name"] == function:
                return {argument["name"]: argument["type_ident"] for argument in call["args"]}
    raise AssertionError(f"{pallet}.{function}")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_arguments_bring_a_rule_down(data: st.DataObject) -> None:
    """Whatever the arguments, a call succeeds or is refused by a name; money is conserved, and its events encode."""
    state = new_state()
    block = BlockContext(state, 1)
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(sorted(calls.CALLS)))
        types = argument_types(*name)
        chosen = {argument: data.draw(ARGUMENTS[kind], argument) for argument, kind in types.items()}
        decoded = codec().runtime.decode_call(codec().compose_call(*name, chosen))["call_args"]
        arguments = {argument["name"]: argument["value"] for argument in decoded}
        mark = state.mark()
        try:
            calls.CALLS[name](CallContext(block, data.draw(accounts, "signer")), **arguments)
        except DispatchFailure as failure:
            state.roll_back(mark)
            assert calls.dispatch_error(codec(), failure)
    records = [{"phase": phase, "event": event, "topics": []} for phase, event in block.events]
    codec().encode_value("System.Events", records)
    check_money(state)


def to_call(action: tuple[Any, ...]) -> tuple[str, tuple[str, str], dict[str, Any]]:
    match action:
        case ("transfer", source, destination, amount):
            return source, ("Balances", "transfer_allow_death"), {"dest": ss58(destination), "value": amount}
        case ("transfer_all", source, destination, keep_alive):
            return source, ("Balances", "transfer_all"), {"dest": ss58(destination), "keep_alive": keep_alive}
        case ("register", coldkey, hotkey, netuid):
            return coldkey, ("SubtensorModule", "burned_register"), {"netuid": netuid, "hotkey": ss58(hotkey)}
        case ("stake", coldkey, hotkey, netuid, amount):
            arguments = {"hotkey": ss58(hotkey), "netuid": netuid, "amount_staked": amount}
            return coldkey, ("SubtensorModule", "add_stake"), arguments
        case ("unstake", coldkey, hotkey, netuid, amount):
            arguments = {"hotkey": ss58(hotkey), "netuid": netuid, "amount_unstaked": amount}
            return coldkey, ("SubtensorModule", "remove_stake"), arguments
        case ("weights", hotkey, netuid, row):
            arguments = {"netuid": netuid, "dests": list(row), "weights": list(row.values()), "version_key": 0}
            return hotkey, ("SubtensorModule", "set_weights"), arguments
        case ("commit", hotkey, netuid, size):
            info = {"fields": [{"BigRaw": bytes(size)}] * 3}
            return hotkey, ("Commitments", "set_commitment"), {"netuid": netuid, "info": info}
    raise AssertionError(action)


def apply(state: State, actions: list[tuple[Any, ...]]) -> None:
    """Run the actions, checking after each that what fails changes nothing."""
    block = BlockContext(state, 0)
    for action in actions:
        if action[0] == "block":
            block = BlockContext(state, block.number + 1)
            epoch.begin_block(block, [])
            continue
        signer, call, arguments = to_call(action)
        mark = state.mark()
        try:
            calls.CALLS[call](CallContext(block, ss58(signer)), **arguments)
        except DispatchFailure:
            state.roll_back(mark)
            assert state.mark() == mark


def check_money(state: State) -> None:
    accounts = {account: info["data"]["free"] for (account,), info in state.items("System.Account")}
    assert all(free == free_balance(state, account) >= 0 for account, free in accounts.items())
    assert state.get("Balances.TotalIssuance") == sum(accounts.values())
    held = sum(tao for _, tao in state.items("SubnetTAO"))
    assert state.get("TotalStake") == held
    assert state.get("TotalIssuance") == sum(accounts.values()) + held


def check_uids(state: State, netuid: int) -> None:
    n = state.get("SubnetworkN", netuid)
    keys = {uid: hotkey for (uid,), hotkey in state.items("Keys", netuid)}
    assert sorted(keys) == list(range(n)) and n <= state.get("MaxAllowedUids", netuid)
    assert {hotkey: uid for uid, hotkey in keys.items()} == {
        hotkey: uid for (hotkey,), uid in state.items("Uids", netuid)
    }
    for vector in ("Active", "Emission", "Incentive", "Dividends", "LastUpdate", "ValidatorPermit", "Consensus"):
        assert len(state.get(vector, netuid)) == n


def check_stake(state: State, netuid: int) -> None:
    """Nobody's shares come to more than the pool, and rounding loses at most one rao a coldkey."""
    for (hotkey, _), pool in ((key, value) for key, value in state.items("TotalHotkeyAlpha") if key[1] == netuid):
        owners = [coldkey for (coldkey, on), _ in state.items("AlphaV2", hotkey) if on == netuid]
        held = sum(coldkey_stake(state, hotkey, coldkey, netuid) for coldkey in owners)
        assert pool - len(owners) <= held <= pool == hotkey_stake(state, hotkey, netuid)
    total = sum(value for (_, on), value in state.items("TotalHotkeyAlpha") if on == netuid)
    assert state.get("TotalAlphaStaked", netuid) == total


def check_commitments(state: State, netuid: int) -> None:
    """Only who has a uid has a commitment, and none is more than its space."""
    usage = {hotkey: used["used_space"] for (hotkey,), used in state.items("Commitments.UsedSpaceOf", netuid)}
    assert usage.keys() <= {hotkey for (hotkey,), _ in state.items("Uids", netuid)}
    assert usage.keys() == {hotkey for (hotkey,), _ in state.items("Commitments.CommitmentOf", netuid)}
    assert all(100 <= used <= 3100 for used in usage.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(actions, max_size=25))
def test_money_uids_and_shares_are_conserved(actions: list[tuple[Any, ...]]) -> None:
    state = new_state()
    apply(state, actions)
    check_money(state)
    for netuid in (1, 2):
        check_uids(state, netuid)
        check_stake(state, netuid)
        check_commitments(state, netuid)


def everything(state: StateView) -> dict[bytes, bytes | None]:
    return {key: state.raw(key) for key in state.raw_keys(b"")}


@settings(max_examples=40, deadline=None)
@given(st.lists(actions, max_size=10), st.lists(actions, max_size=10))
def test_the_past_can_be_read_and_restored(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> None:
    """What was written since some point can be looked past, and undone, to the byte."""
    state = new_state()
    apply(state, first)
    state.take_changes()
    before = everything(state)
    apply(state, second)
    state.roll_back(0)
    assert everything(state) == before
    apply(state, second)
    changes = state.take_changes()
    assert everything(PastState(state, {key: old for key, (old, _) in changes.items()})) == before


@given(st.dictionaries(st.binary(max_size=3), st.binary(max_size=2), max_size=12), st.binary(max_size=2))
def test_keys_are_paged_in_order(values: dict[bytes, bytes], prefix: bytes) -> None:
    state = State(codec(), values)
    expected = sorted(key for key in values if key.startswith(prefix))
    paged: list[bytes] = []
    while page := state.raw_keys(prefix, paged[-1] if paged else None, 2):
        assert len(page) <= 2
        paged += page
    assert paged == expected
    assert PastState(state, {}).raw_keys(prefix) == expected
