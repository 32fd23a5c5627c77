"""The JSON-RPC surface: reads at any block, subscriptions, and requests that are wrong in every way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from bittensor import ChainError, Client
from bittensor.reads import REGISTRY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from localnet_chain import OK, RAO, local_chain, rpc_client, ss58
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ig_subnet.localnet import Genesis, LocalNode, rpc
from ig_subnet.localnet.rpc_methods import METHODS

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", PARSE_ERROR),
        ("", PARSE_ERROR),
        (b"\xff\xfe\x00", PARSE_ERROR),
        ("[" * 100_000, PARSE_ERROR),
        ('{"id": NaN, "method": "chain_getHead"}', PARSE_ERROR),
        ("9" * 5000, PARSE_ERROR),
        ("[]", INVALID_REQUEST),
        ("null", INVALID_REQUEST),
        ('"chain_getHead"', INVALID_REQUEST),
        ('{"id": 1, "method": 7}', INVALID_REQUEST),
        ('{"id": {}, "method": "chain_getHead"}', INVALID_REQUEST),
        ('{"id": 1e400, "method": "chain_getHead"}', INVALID_REQUEST),
        (json.dumps([{"id": 1, "method": "chain_getHead"}] * 65), INVALID_REQUEST),
        ('{"id": 1, "method": "state_everything"}', METHOD_NOT_FOUND),
        ('{"id": 1, "method": "chain_getHeader", "params": {"at": null}}', INVALID_PARAMS),
        ('{"id": 1, "method": "chain_getHeader", "params": [1]}', INVALID_PARAMS),
        ('{"id": 1, "method": "chain_getHeader", "params": ["0x12"]}', INVALID_PARAMS),
        ('{"id": 1, "method": "chain_getHeader", "params": [null, null]}', INVALID_PARAMS),
        ('{"id": 1, "method": "chain_getBlockHash", "params": [-1]}', INVALID_PARAMS),
        ('{"id": 1, "method": "chain_getBlockHash", "params": [true]}', INVALID_PARAMS),
        ('{"id": 1, "method": "state_getKeysPaged", "params": ["0x", 100000]}', INVALID_PARAMS),
        ('{"id": 1, "method": "state_queryStorageAt", "params": ["0x"]}', INVALID_PARAMS),
        ('{"id": 1, "method": "state_queryStorageAt", "params": [["zz"]]}', INVALID_PARAMS),
        ('{"id": 1, "method": "account_nextIndex", "params": ["//Alice"]}', INVALID_PARAMS),
        ('{"id": 1, "method": "account_nextIndex", "params": ["' + "5" * 60_000 + '"]}', INVALID_PARAMS),
        ('{"id": 1, "method": "chain_unsubscribeNewHeads", "params": [[]]}', INVALID_PARAMS),
        ('{"id": 1, "method": "state_call", "params": ["Core_version", "0x"]}', 4003),
        ('{"id": 1, "method": "state_call", "params": ["SubnetInfoRuntimeApi_get_metagraph", "0x"]}', 4003),
        ('{"id": 1, "method": "state_call", "params": ["SubnetInfoRuntimeApi_get_metagraph", "0x010002"]}', 4003),
        ('{"id": 1, "method": "state_getStorageAt", "params": ["0x", "0x' + "00" * 32 + '"]}', 4003),
    ],
)
async def test_a_wrong_request_gets_an_error_and_the_connection_lives(frame: str | bytes, code: int) -> None:
    async with LocalNode() as node, rpc_client(node) as client:
        assert (await client.send(frame))["error"]["code"] == code
        assert (await client.call("chain_getHead"))["result"] == "0x" + node.head.hash.hex()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.sampled_from(["0x", "0x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(sorted(METHODS)), params=st.lists(json_values, max_size=4))
def test_no_parameters_bring_a_method_down(method: str, params: list[Any]) -> None:
    """Whatever is asked, the answer is a result or an error that is not the node's own failure."""

    async def ask() -> dict[str, Any]:
        async with LocalNode() as node:
            session = rpc.Session(node, None)  # type: ignore[arg-type]
            text = json.dumps({"id": 1, "method": method, "params": params}, allow_nan=True)
            return json.loads(session._answer(text) or "{}")

    response = asyncio.run(ask())
    assert response.get("error", {}).get("code") != rpc.INTERNAL_ERROR, response


async def test_batches_and_notifications() -> None:
    async with LocalNode() as node, rpc_client(node) as client:
        batch = [{"id": 1, "method": "chain_getHead"}, {"method": "chain_getHead"}, {"id": "x", "method": "nope"}]
        first, second = await client.send(json.dumps(batch))
        assert first["id"] == 1 and "result" in first
        assert second["id"] == "x" and second["error"]["code"] == METHOD_NOT_FOUND


async def test_every_listed_method_exists() -> None:
    async with LocalNode() as node, rpc_client(node) as client:
        assert set((await client.call("rpc_methods"))["result"]["methods"]) == set(METHODS)


async def test_heads_are_announced_once_and_in_order() -> None:
    async with LocalNode() as node, rpc_client(node) as client:
        subscription = (await client.call("chain_subscribeNewHeads"))["result"]
        await node.produce_block(3)
        numbers = []
        for _ in range(4):
            update = await client.receive()
            assert (update["method"], update["params"]["subscription"]) == ("chain_newHead", subscription)
            numbers.append(int(update["params"]["result"]["number"], 16))
        assert numbers == [0, 1, 2, 3]
        assert (await client.call("chain_unsubscribeNewHeads", subscription))["result"] is True
        assert (await client.call("chain_unsubscribeNewHeads", subscription))["result"] is False
        await node.produce_block()
        assert (await client.call("system_chain"))["result"] == "Local"  # and no further head before it


async def test_the_sdk_waits_for_blocks_and_epochs() -> None:
    node = LocalNode(Genesis.parse({}, tempo=5, slot_milliseconds=20), block_time=0.02)
    async with node, Client(node.endpoint) as client:
        assert await client.block_time() == 0.02
        header = await client.wait_for_block(3, timeout=30)
        assert header.number >= 3
        event = await client.wait_for_epoch(1, timeout=30)
        assert event.block % 5 == 0


async def test_subscriptions_of_a_connection_are_bounded() -> None:
    async with LocalNode() as node, rpc_client(node) as client:
        for _ in range(rpc.MAX_SUBSCRIPTIONS):
            await client.connection.send('{"id": 1, "method": "chain_subscribeNewHeads"}')
        responses = [await client.receive() for _ in range(2 * rpc.MAX_SUBSCRIPTIONS)]
        assert sum("result" in response for response in responses) == rpc.MAX_SUBSCRIPTIONS
        assert (await client.call("chain_subscribeNewHeads"))["error"]["code"] == rpc.TOO_MANY_SUBSCRIPTIONS


async def test_connections_are_bounded() -> None:
    async with LocalNode() as node:
        connections = [await connect(node.endpoint) for _ in range(rpc.MAX_CONNECTIONS)]
        with pytest.raises(InvalidStatus, match="503"):
            await connect(node.endpoint)
        await asyncio.gather(*(connection.close() for connection in connections))
        async with connect(node.endpoint):
            pass


async def test_a_frame_that_is_too_large_ends_the_connection_alone() -> None:
    async with LocalNode() as node, rpc_client(node) as client:
        await client.connection.send("x" * (rpc.MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            await client.receive()
        async with rpc_client(node) as other:
            assert "result" in await other.call("chain_getHead")


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with LocalNode() as node, rpc_client(node) as idle, rpc_client(node) as other:
        for _ in range(rpc.MAX_SUBSCRIPTIONS):
            await idle.call("chain_subscribeNewHeads")
        for _ in range(rpc.MAX_QUEUED_NOTIFICATIONS // rpc.MAX_SUBSCRIPTIONS + 1):
            node._produce_block()  # without an await in between, as if the client's socket were full
        assert "result" in await other.call("chain_getHead")
        with pytest.raises(ConnectionClosed):
            while True:
                await idle.receive()


async def test_foreign_web_pages_are_refused() -> None:
    async with LocalNode() as node:
        with pytest.raises(InvalidStatus, match="403"):
            await connect(node.endpoint, origin="https://example.org")
        async with connect(node.endpoint, origin="http://localhost:3000"):
            pass


async def test_past_blocks_are_read_as_they_were() -> None:
    async with local_chain() as chain:
        for uid in range(3):
            assert await chain.register("Bob", f"H{uid}") == OK
        for block in range(4):
            snapshot = await chain.client.at(block)
            assert len((await snapshot.subnets.metagraph(1)).neurons) == block
            assert await snapshot.query(("SubtensorModule", "SubnetworkN"), [1]) == block
            hotkeys = await snapshot.query_map(("SubtensorModule", "Keys"), [1])
            assert dict(hotkeys) == {uid: ss58(f"H{uid}") for uid in range(block)}
            assert (await snapshot.timestamp()).timestamp() == block * 0.25


async def test_old_state_is_discarded_as_by_a_lite_node() -> None:
    async with LocalNode(state_history=4) as node, rpc_client(node) as client:
        await node.produce_block(10)
        old, recent = [(await client.call("chain_getBlockHash", number))["result"] for number in (5, 6)]
        answer = await client.call("state_getStorageAt", "0x00", old)
        assert "State already discarded for" in answer["error"]["message"]
        assert "result" in await client.call("state_getStorageAt", "0x00", recent)
        assert (await client.call("chain_getHeader", old))["result"]["number"] == "0x5"


async def test_unwritten_storage_has_the_runtimes_defaults() -> None:
    async with local_chain() as chain:
        assert await chain.query("Tempo", 77) == 10
        assert await chain.client.query(("Swap", "FeeRate"), [1]) == 33
        assert await chain.query("Uids", 1, ss58("Nobody")) is None
        assert await chain.client.query_map(("Commitments", "CommitmentOf")) == []


NOT_OFFERED = {"subnet_registration_cost"}  # no new subnet can be registered here, so it has no price


async def test_the_sdks_whole_catalogue_of_reads_works() -> None:
    values: dict[str, Any] = {
        "account_ss58": ss58("V"),
        "amount_alpha": 1.0,
        "amount_tao": 1.0,
        "call_hash": "0x" + "00" * 32,
        "coldkey_ss58": ss58("Alice"),
        "coldkey_ss58s": [ss58("Alice")],
        "hotkey_ss58": ss58("V"),
        "hotkey_ss58s": [ss58("V")],
        "lite": True,
        "mechid": 0,
        "netuids": [1],
        "uid": 0,
    }
    genesis = {"subnets": [{"netuid": 1, "neurons": [{"hotkey": "//V", "coldkey": "//Alice", "stake": 7}]}]}
    failed = set()
    async with local_chain(genesis) as chain:
        for name, read in REGISTRY.items():
            kinds = {"integer": 1, "number": 1, "string": ss58("V")}
            arguments = {param: values.get(param, kinds.get(kind)) for param, kind in read.params.items()}
            try:
                await chain.client.read(name, **arguments)
            except ChainError:
                failed.add(name)
    assert failed == NOT_OFFERED


async def test_token_economy_reads() -> None:
    """What wallets and dashboards ask: prices, quotes, stakes, fees."""
    async with local_chain({"subnets": [{"netuid": 1, "neurons": [{"hotkey": "//V", "stake": 7}]}]}) as chain:
        assert await chain.client.read("alpha_prices") == {0: 1.0, 1: 1.0}
        assert (await chain.client.read("quote_stake", netuid=1, amount_tao=2)).alpha.rao == 2 * RAO
        (position,) = await chain.client.read("stake_for_coldkey", coldkey_ss58=ss58("V"))
        assert (position.hotkey, position.stake.rao) == (ss58("V"), 7 * RAO)
        assert (await chain.client.read("subnets"))[1].neuron_count == 1
        assert len(await chain.client.read("neurons", netuid=1)) == 1


async def test_delegates_and_their_nominators() -> None:
    """Who staked on whom, and what it brings a day, as `btcli wallet inspect` asks."""
    neurons = [{"hotkey": "//V", "coldkey": "//Alice", "stake": 6}, {"hotkey": "//M", "coldkey": "//Bob"}]
    async with local_chain({"subnets": [{"netuid": 1, "hyperparameters": {"tempo": 10}, "neurons": neurons}]}) as chain:
        on_root = {"hotkey": ss58("V"), "netuid": 0, "amount_staked": 2 * RAO}
        assert await chain.call("Bob", "add_stake", **on_root) == OK
        assert await chain.set_weights("V", {1: 1}) == OK
        await chain.node.produce_block(10 - chain.node.block_number)
        emission = (await chain.query("Emission", 1))[0]
        delegate = await chain.client.read("delegate", hotkey_ss58=ss58("V"))
        assert (delegate.owner, delegate.nominators) == (ss58("Alice"), 2)
        assert (delegate.registrations, delegate.validator_permits) == ([1], [1])
        assert delegate.total_daily_return.rao == emission * 720 > 0
        after_take = delegate.total_daily_return.tao * (1 - delegate.take)
        assert delegate.return_per_1000.tao == pytest.approx(after_take / 2 * 1000)
        (miner,) = [one for one in await chain.client.read("delegates") if one.hotkey == ss58("M")]
        assert (miner.nominators, miner.validator_permits, miner.return_per_1000.rao) == (1, [], 0)
        (held,) = [one for one in await chain.client.read("delegated", coldkey_ss58=ss58("Bob")) if one.netuid == 0]
        assert (held.delegate.hotkey, held.stake.rao) == (ss58("V"), 2 * RAO)
        assert await chain.client.read("delegate", hotkey_ss58=ss58("Stranger")) is None
        assert not await chain.client.read("is_delegate", hotkey_ss58=ss58("Stranger"))


async def test_there_are_no_baskets() -> None:
    async with local_chain() as chain:
        assert (await chain.client.read("basket_trading_status", hotkey_ss58=ss58("V")))["enabled"] is False
        summary = await chain.client.read("validator_basket_summary", hotkey_ss58=ss58("V"))
        assert (summary["hotkey"], summary["holdings"]) == (ss58("V"), [])
