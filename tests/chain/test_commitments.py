"""Commitments through the real SDK on a local node: every way that publishing can end, and what others read."""

from __future__ import annotations

import asyncio
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import bittensor as bt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ig_subnet.chain import (
    ChainUnavailable,
    Commitment,
    CommitmentNotPermitted,
    CommitmentPublished,
    CommitmentRejected,
    CommitmentTooEarly,
    CommitmentUnchanged,
    CommitmentUnreachable,
    InvalidAddress,
    InvalidCommitment,
    WalletError,
    WeightsSet,
    open_chain,
    register,
)
from ig_subnet.chain.commitments import commitment_info, readable_bytes
from ig_subnet.chain.connection import Connection
from ig_subnet.localnet import LocalNode, calls
from ig_subnet.localnet.codec import Codec, load_metadata

VALIDATOR, MINER, STRANGER = "//Validator", "//Miner", "//Stranger"
HEAD = hashlib.sha256(b"the first head").digest()
NEXT_HEAD = hashlib.sha256(b"the next head").digest()
EPOCH_FULL = [{"BigRaw": bytes(512)}] * 3  # twice: 3072 of an epoch's 3100 bytes


@cache
def codec() -> Codec:
    return Codec(load_metadata(250))


async def commit_fields(endpoint: str, signer: Any, fields: list[Any]) -> None:
    """A commitment of any kind, as some other program would make it."""
    connection = Connection(endpoint)
    call = bt.calls.Commitments.set_commitment(netuid=1, info={"fields": fields})
    try:
        result = await connection.ask(lambda client: client.submit_call(call, signer), 30)
    finally:
        await connection.close()
    assert result.success, result.message


class TestPublishing:
    async def test_published_read_by_all_and_replaced(self, node, wallet) -> None:
        validator = wallet(VALIDATOR)
        async with open_chain(node.endpoint, 1, validator) as chain, open_chain(node.endpoint, 1, None) as reader:
            assert await reader.commitment_of(validator.hotkey_address) is None
            assert await chain.publish_commitment(HEAD) == CommitmentPublished(block=11, extrinsic="11-0001")
            assert await reader.commitment_of(validator.hotkey_address) == Commitment(HEAD, 11)
            assert await chain.publish_commitment(NEXT_HEAD) == CommitmentPublished(block=12, extrinsic="12-0001")
            assert await reader.commitment_of(validator.hotkey_address) == Commitment(NEXT_HEAD, 12)
            assert await reader.commitment_of(wallet(MINER).hotkey_address) is None

    async def test_the_same_bytes_are_not_sent_again(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            await chain.publish_commitment(HEAD)
            block = await chain.block_number()
            assert await chain.publish_commitment(HEAD) == CommitmentUnchanged(block)
            assert await chain.block_number() == block  # an extrinsic would have made a block

    async def test_the_sdk_shows_the_bytes_in_full(self, node, wallet) -> None:
        """Whoever checks a validator needs nothing of this package."""
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            await chain.publish_commitment(HEAD)
        async with bt.Client(node.endpoint) as client:
            hotkey = wallet(VALIDATOR).hotkey_address
            assert (await client.read("commitment", netuid=1, hotkey_ss58=hotkey)).data == "0x" + HEAD.hex()

    async def test_not_registered(self, node, wallet) -> None:
        stranger = wallet(STRANGER)
        async with open_chain(node.endpoint, 1, stranger) as chain:
            outcome = await chain.publish_commitment(HEAD)
            assert isinstance(outcome, CommitmentNotPermitted)
            assert "registered" in outcome.reason
            await register(node.endpoint, 1, wallet("//Alice").hotkey, stranger.hotkey_address)
            assert isinstance(await chain.publish_commitment(HEAD), CommitmentPublished)

    async def test_a_subnet_that_does_not_exist(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 9, wallet(VALIDATOR)) as chain:
            assert isinstance(await chain.publish_commitment(HEAD), CommitmentNotPermitted)
            assert await chain.commitment_of(wallet(VALIDATOR).hotkey_address) is None

    async def test_too_early_until_the_next_epoch(self, node, wallet) -> None:
        """What is used up is the hotkey's own space: others still publish."""
        for _ in range(2):
            await commit_fields(node.endpoint, wallet(VALIDATOR).hotkey, EPOCH_FULL)
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            outcome = await chain.publish_commitment(HEAD)
            assert outcome == CommitmentTooEarly(20 - node.block_number)
            async with open_chain(node.endpoint, 1, wallet(MINER)) as other:
                assert isinstance(await other.publish_commitment(HEAD), CommitmentPublished)
            await node.produce_block(20 - node.block_number)
            assert isinstance(await chain.publish_commitment(HEAD), CommitmentPublished)

    async def test_a_chain_that_takes_no_commitments(self, node, wallet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(calls.CALLS, ("Commitments", "set_commitment"))
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            outcome = await chain.publish_commitment(HEAD)
        assert isinstance(outcome, CommitmentRejected)
        assert outcome.code == "CallFiltered"

    @pytest.mark.parametrize("size", [1, 128])
    async def test_the_shortest_and_the_longest(self, node, wallet, size: int) -> None:
        data = b"\xff" * size
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            assert isinstance(await chain.publish_commitment(data), CommitmentPublished)
            assert (await chain.commitment_of(wallet(VALIDATOR).hotkey_address)).data == data

    @pytest.mark.parametrize("size", [0, 129])
    async def test_what_cannot_be_committed_raises(self, node, wallet, size: int) -> None:
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            with pytest.raises(InvalidCommitment, match=f"a commitment of {size} bytes: pass 1 to 128"):
                await chain.publish_commitment(bytes(size))

    async def test_beside_weights_and_twice_at_once(self, node, wallet) -> None:
        """Extrinsics of one hotkey do not race for its nonce."""
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            outcomes = await asyncio.gather(
                chain.publish_commitment(HEAD), chain.set_weights({1: 1.0}, 0), chain.publish_commitment(NEXT_HEAD)
            )
        assert [type(outcome) for outcome in outcomes] == [CommitmentPublished, WeightsSet, CommitmentPublished]

    async def test_without_a_wallet(self, node) -> None:
        async with open_chain(node.endpoint, 1, None) as chain:
            with pytest.raises(WalletError, match="without a wallet"):
                await chain.publish_commitment(HEAD)


class TestReading:
    @pytest.mark.parametrize(
        ("fields", "data"),
        [
            ([], b""),
            (["None", "ResetBondsFlag"], b""),
            ([{"Raw0": b""}, {"Raw5": b"0x123"}, {"Raw2": b"\xff\x00"}], b"0x123\xff\x00"),
            ([{"Sha256": HEAD}], HEAD),
            ([{"BlakeTwo256": HEAD}, {"Raw1": b"+"}, {"Keccak256": NEXT_HEAD}], HEAD + b"+" + NEXT_HEAD),
            ([{"BigRaw": b'{"model": "a"}' * 20}], b'{"model": "a"}' * 20),
            ([{"BigRaw": bytes(range(256))}], bytes(range(256))),
            ([{"BigRaw": b"0xzz"}], b"0xzz"),
            ([{"TimelockEncrypted": {"encrypted": b"\x00sealed", "reveal_round": 7}}, {"Raw1": b"!"}], b"!"),
        ],
    )
    async def test_whatever_others_committed(self, node, wallet, fields: list[Any], data: bytes) -> None:
        await commit_fields(node.endpoint, wallet(MINER).hotkey, fields)
        async with open_chain(node.endpoint, 1, None) as chain:
            assert await chain.commitment_of(wallet(MINER).hotkey_address) == Commitment(data, 11)

    @pytest.mark.parametrize("address", ["", "//Validator", "5CajGB8UYGhTdpPycuzurS4SPcgqD2kzYPL498GfAMwQGYB8"])
    async def test_what_is_no_address_is_named(self, node, address: str) -> None:
        async with open_chain(node.endpoint, 1, None) as chain:
            for read in (chain.commitment_of(address), chain.registered_uid(address)):
                with pytest.raises(InvalidAddress, match=f"'{address}' is no account's address"):
                    await read

    @given(st.binary(min_size=1, max_size=128))
    @example(b"0x1234")
    @settings(deadline=None)
    def test_no_byte_is_lost_on_the_way(self, data: bytes) -> None:
        call = codec().compose_call("Commitments", "set_commitment", {"netuid": 1, "info": commitment_info(data)})
        info = codec().runtime.decode_call(call)["call_args"][1]["value"]
        assert readable_bytes(info["fields"]) == data


class TestOutages:
    async def test_a_node_that_is_down(self, node, wallet) -> None:
        endpoint = node.endpoint
        await node.__aexit__(None, None, None)
        async with open_chain(endpoint, 1, wallet(VALIDATOR)) as chain:
            outcome = await chain.publish_commitment(HEAD)
            assert isinstance(outcome, CommitmentUnreachable)
            assert endpoint in outcome.reason
            with pytest.raises(ChainUnavailable):
                await chain.commitment_of(wallet(VALIDATOR).hotkey_address)
        await node.__aenter__()  # for the fixture, which stops it again

    async def test_a_silent_node_costs_the_deadline_and_no_more(self, wire, wallet) -> None:
        async with open_chain(wire.endpoint, 1, wallet(VALIDATOR), timeout_seconds=0.5) as chain:
            await chain.block_number()
            wire.stall()
            outcome = await asyncio.wait_for(chain.publish_commitment(HEAD), 10)
            assert isinstance(outcome, CommitmentUnreachable)
            assert "no answer within 0.5 s" in outcome.reason
            wire.flow()
            assert isinstance(await chain.publish_commitment(HEAD), CommitmentPublished)

    async def test_a_node_that_falls_silent_after_it_took_the_commitment(self, genesis, wallet) -> None:
        """Not confirmed; it lands later, and trying again finds it there."""
        async with LocalNode(genesis=genesis()) as node:
            await node.produce_block(10)
            async with open_chain(node.endpoint, 1, wallet(VALIDATOR), submit_seconds=0.5) as chain:
                outcome = await chain.publish_commitment(HEAD)
                assert isinstance(outcome, CommitmentUnreachable)
                await node.produce_block()
                assert await chain.publish_commitment(HEAD) == CommitmentUnchanged(11)

    async def test_a_restart_keeps_what_was_published(self, genesis, wallet, tmp_path: Path) -> None:
        hotkey = wallet(VALIDATOR).hotkey_address
        async with LocalNode(genesis=genesis(), state=tmp_path, instant_seal=True) as first:
            port = int(first.endpoint.rpartition(":")[2])
            async with open_chain(first.endpoint, 1, wallet(VALIDATOR)) as chain:
                assert await chain.publish_commitment(HEAD) == CommitmentPublished(1, "1-0001")
                await first.__aexit__(None, None, None)
                assert isinstance(await chain.publish_commitment(NEXT_HEAD), CommitmentUnreachable)
                async with LocalNode(genesis=genesis(), state=tmp_path, port=port, instant_seal=True):
                    assert await chain.commitment_of(hotkey) == Commitment(HEAD, 1)
                    assert await chain.publish_commitment(HEAD) == CommitmentUnchanged(1)
                    assert await chain.publish_commitment(NEXT_HEAD) == CommitmentPublished(2, "2-0001")
                await first.__aenter__()
