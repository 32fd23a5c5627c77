"""The Commitments pallet, read by the unmodified SDK: what it stores, tells, counts, and forgets."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import bittensor as bt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from localnet_chain import OK, LocalChain, local_chain, ss58

from ig_subnet.localnet import Genesis, calls, rules_commitments
from ig_subnet.localnet.codec import HEX, Codec, load_metadata
from ig_subnet.localnet.context import BlockContext, CallContext
from ig_subnet.localnet.state import State

HASH = bytes(range(32))
SEALED = {"TimelockEncrypted": {"encrypted": b"\x01\x02", "reveal_round": 77}}
GENESIS: dict[str, Any] = {
    "subnets": [
        {
            "netuid": 1,
            "hyperparameters": {"tempo": 10, "max_uids": 2, "immunity_period": 0},
            "neurons": [{"hotkey": "//V", "coldkey": "//Alice", "stake": 1000}, {"hotkey": "//M", "coldkey": "//Bob"}],
        }
    ]
}


async def commit(chain: LocalChain, signer: str, *fields: Any, netuid: int = 1) -> str:
    return await chain.call(signer, "set_commitment", "Commitments", netuid=netuid, info={"fields": list(fields)})


async def stored(chain: LocalChain, item: str, hotkey: str) -> Any:
    return await chain.client.query(("Commitments", item), [1, ss58(hotkey)])


async def events(chain: LocalChain) -> list[tuple[str, dict[str, Any]]]:
    """Name and attributes of the pallet's events in the newest block."""
    records = await chain.client.query(("System", "Events"))
    found = [record["event"] for record in records if record["module_id"] == "Commitments"]
    return [(event["event_id"], event["attributes"]) for event in found]


async def test_every_read_of_the_sdk_finds_them() -> None:
    async with local_chain(GENESIS) as chain:
        assert await commit(chain, "V", {"Raw5": b"hello"}) == OK
        assert await events(chain) == [("Commitment", {"netuid": 1, "who": ss58("V")})]
        assert await commit(chain, "M", {"Sha256": HASH}) == OK
        plain = await chain.client.read("commitment", netuid=1, hotkey_ss58=ss58("V"))
        assert (plain.data, plain.block, plain.deposit.rao) == ("hello", 1, 0)
        rows = await chain.client.read("commitments", netuid=1)
        found = [(row["hotkey"], row["uid"], row["commitment"], row["block"], row["status"]) for row in rows]
        hash_shown = "sha256:0x" + HASH.hex()
        assert found == [(ss58("M"), 1, hash_shown, 2, "plain"), (ss58("V"), 0, "hello", 1, "plain")]
        graph = await chain.client.subnets.metagraph(1, commitments=True)
        assert [neuron.commitment.value for neuron in graph.neurons] == ["hello", hash_shown]
        assert graph.unregistered_commitments == {}
        assert await chain.client.read("revealed_commitment", netuid=1, hotkey_ss58=ss58("V")) is None


async def test_one_takes_the_place_of_the_other_and_the_past_keeps_it() -> None:
    async with local_chain(GENESIS) as chain:
        assert await commit(chain, "V", {"Raw1": b"1"}, {"Raw1": b"+"}, {"Raw1": b"2"}) == OK
        assert await commit(chain, "V", {"Raw1": b"3"}) == OK
        arguments = {"netuid": 1, "hotkey_ss58": ss58("V")}
        assert (await chain.client.read("commitment", **arguments)).data == "3"
        assert await stored(chain, "LastCommitment", "V") == 2
        past = await chain.client.at(1)
        assert (await past.read("commitment", **arguments)).data == "1+2"


async def test_space_is_counted_by_hotkey_and_epoch() -> None:
    async with local_chain(GENESIS) as chain:
        assert await commit(chain, "V", {"Raw1": b"1"}) == OK  # counts as 100
        assert await commit(chain, "V", {"BigRaw": bytes(512)}, {"Raw128": bytes(128)}, {"Sha256": HASH}) == OK
        assert await stored(chain, "UsedSpaceOf", "V") == {"last_epoch": 0, "used_space": 100 + 672}
        await chain.node.produce_block(10)
        assert await commit(chain, "V", "None") == OK
        assert await stored(chain, "UsedSpaceOf", "V") == {"last_epoch": 1, "used_space": 100}
        assert await stored(chain, "UsedSpaceOf", "M") is None


async def test_a_sealed_commitment_waits_for_a_beacon_that_is_not_here() -> None:
    async with local_chain(GENESIS) as chain:
        assert await commit(chain, "V", SEALED) == OK
        attributes = {"netuid": 1, "who": ss58("V"), "reveal_round": 77}
        assert await events(chain) == [("TimelockCommitment", attributes)]
        (row,) = await chain.client.read("commitments", netuid=1)
        assert (row["status"], row["commitment"], row["is_revealed"]) == ("sealed", None, False)
        assert await chain.client.query(("Commitments", "TimelockedIndex"), []) == [(1, ss58("V"))]
        assert await commit(chain, "V", {"Raw4": b"open"}) == OK
        assert await chain.client.query(("Commitments", "TimelockedIndex"), []) == []


async def test_a_hotkey_that_loses_its_uid_loses_its_commitment() -> None:
    async with local_chain(GENESIS) as chain:
        assert await commit(chain, "M", SEALED, "ResetBondsFlag") == OK
        assert await stored(chain, "LastBondsReset", "M") == 1
        assert await commit(chain, "V", {"Raw1": b"v"}) == OK
        await chain.set_weights("V", {0: 1})
        await chain.node.produce_block(10)
        assert await chain.register("Bob", "New") == OK
        assert await chain.query("Uids", 1, ss58("M")) is None
        for item in ("CommitmentOf", "LastCommitment", "LastBondsReset", "UsedSpaceOf"):
            assert await stored(chain, item, "M") is None
        assert await chain.client.query(("Commitments", "TimelockedIndex"), []) == []
        assert [row["hotkey"] for row in await chain.client.read("commitments", netuid=1)] == [ss58("V")]
        assert await commit(chain, "M", {"Raw1": b"m"}) == "AccountNotAllowedCommit"


async def test_they_survive_the_node(tmp_path: Path) -> None:
    async with local_chain(GENESIS, state=tmp_path) as chain:
        assert await commit(chain, "V", {"Raw32": HASH}) == OK
        before = await chain.client.read("commitment", netuid=1, hotkey_ss58=ss58("V"))
    async with local_chain(GENESIS, state=tmp_path) as chain:
        assert await chain.client.read("commitment", netuid=1, hotkey_ss58=ss58("V")) == before
        assert await commit(chain, "V", {"Raw1": b"2"}) == OK
        assert await stored(chain, "UsedSpaceOf", "V") == {"last_epoch": 0, "used_space": 200}


@pytest.mark.parametrize(
    "field", [{"BigRaw": bytes(513)}, {"TimelockEncrypted": {"encrypted": bytes(1025), "reveal_round": 1}}]
)
async def test_a_field_that_the_real_chain_could_not_decode_is_refused(field: dict[str, Any]) -> None:
    async with local_chain(GENESIS) as chain:
        call = bt.calls.Commitments.set_commitment(netuid=1, info={"fields": [field]})
        result = await chain.client.submit_call(call, bt.keyfiles.Keypair.create_from_uri("//V"))
        assert not result.success and "Other" in str(result.error)
        assert await stored(chain, "CommitmentOf", "V") is None


@cache
def codec() -> Codec:
    return Codec(load_metadata(250))


def test_the_rules_constants_are_the_runtimes() -> None:
    names = ("MaxFields", "InitialDeposit", "FieldDeposit")
    constants = [codec().runtime.constant(rules_commitments.PALLET, name) for name in names]
    assert constants == [rules_commitments.MAX_FIELDS, 0, 0]


def looks_like_hex(data: bytes) -> bool:
    return HEX.fullmatch(data.decode(errors="replace")) is not None


long_bytes = st.binary(max_size=300).filter(lambda data: not looks_like_hex(data))
fields = st.one_of(
    st.binary(max_size=128).map(lambda data: {f"Raw{len(data)}": data}),
    st.sampled_from(rules_commitments.HASHES).flatmap(
        lambda name: st.binary(min_size=32, max_size=32).map(lambda data: {name: data})
    ),
    long_bytes.map(lambda data: {"BigRaw": data}),
    st.builds(
        lambda data, number: {"TimelockEncrypted": {"encrypted": data, "reveal_round": number}},
        long_bytes,
        st.integers(0, 2**64 - 1),
    ),
    st.sampled_from(["None", "ResetBondsFlag"]),
)


@settings(deadline=None)
@given(st.lists(fields, max_size=3))
@example([{"BigRaw": b"0x3132"}, {"Raw6": b"0x3132"}, {"BigRaw": b"0x"}])
def test_what_was_signed_is_what_is_stored(chosen: list[Any]) -> None:
    """To the byte, although the codec shows bytes as text where it can."""
    state = State(codec())
    Genesis.parse(GENESIS).write(state)
    call = codec().compose_call("Commitments", "set_commitment", {"netuid": 1, "info": {"fields": chosen}})
    arguments = {argument["name"]: argument["value"] for argument in codec().runtime.decode_call(call)["call_args"]}
    calls.CALLS["Commitments", "set_commitment"](CallContext(BlockContext(state, 7), ss58("V")), **arguments)
    raw = state.raw(codec().key("Commitments.CommitmentOf", 1, ss58("V")))
    deposit_and_block, signed_info = bytes(8) + (7).to_bytes(4, "little"), call[4:]
    assert raw == deposit_and_block + signed_info
