"""The Chain on the real SDK and a local node: what it reads, and every way a write can end."""

from __future__ import annotations

import asyncio
import math

import pytest

from ig_subnet.chain import (
    AxonEndpoint,
    AxonServed,
    AxonUnchanged,
    EpochTiming,
    InvalidWeights,
    ServeNotPermitted,
    ServeRejected,
    ServeTooEarly,
    SubnetNotFound,
    WalletError,
    WeightsCommitted,
    WeightsNotPermitted,
    WeightsOutdated,
    WeightsRejected,
    WeightsSealed,
    WeightsSet,
    WeightsTooEarly,
    open_chain,
    register,
)
from ig_subnet.localnet import LocalNode

VALIDATOR, MINER, POOR, STRANGER = "//Validator", "//Miner", "//Poor", "//Stranger"


class TestReads:
    async def test_metagraph(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            await chain.set_weights({1: 1.0}, 0)
            await node.produce_block(10)
            metagraph = await chain.metagraph()
        assert (metagraph.netuid, metagraph.block) == (1, node.block_number)
        assert [neuron.uid for neuron in metagraph.neurons] == [0, 1, 2]
        validator, miner, _ = metagraph.neurons
        assert validator.hotkey == wallet(VALIDATOR).hotkey_address
        assert validator.coldkey == wallet(VALIDATOR).coldkey_address
        assert validator.stake > 1000 > miner.stake > 0
        assert (validator.validator_permit, miner.validator_permit) == (True, False)
        assert (validator.dividends, validator.validator_trust, validator.incentive) == (1.0, 1.0, 0.0)
        assert (miner.incentive, miner.consensus, miner.validator_trust) == (1.0, 1.0, 0.0)
        assert miner.emission == pytest.approx(validator.emission)
        assert (validator.last_update, validator.registered_at, validator.active, validator.axon) == (11, 0, True, None)
        assert metagraph.by_hotkey(miner.hotkey) is miner
        assert metagraph.by_hotkey("nobody") is None
        assert metagraph.owner_hotkey == wallet("//CharliesHotkey").hotkey_address

    async def test_uids_and_blocks(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 1, None) as chain:
            assert await chain.block_number() == node.block_number
            assert await chain.registered_uid(wallet(MINER).hotkey_address) == 1
            assert await chain.registered_uid(wallet(STRANGER).hotkey_address) is None

    async def test_epoch_timing(self, node, wallet) -> None:
        await node.produce_block(3)
        async with open_chain(node.endpoint, 1, None) as chain:
            expected = EpochTiming(
                block=13,
                tempo=10,
                blocks_until_next_epoch=7,
                last_epoch_block=10,
                blocks_since_last_update=13,
                weights_rate_limit=4,
            )
            assert await chain.epoch_timing(1) == expected
            assert (await chain.epoch_timing(None)).blocks_since_last_update is None
            assert await chain.sealed_weights(wallet(VALIDATOR).hotkey_address) is None
            assert (await chain.epoch_timing(77)).blocks_since_last_update is None

    async def test_weights_on_chain_are_shares(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            assert await chain.weights_on_chain() == {}
            await chain.set_weights({1: 3, 2: 1, 0: 0}, 0)
            weights = await chain.weights_on_chain()
        assert weights.keys() == {0}
        assert weights[0] == pytest.approx({1: 0.75, 2: 0.25}, abs=1e-4)
        assert sum(weights[0].values()) == pytest.approx(1)

    async def test_a_subnet_that_does_not_exist(self, node) -> None:
        async with open_chain(node.endpoint, 9, None) as chain:
            for read in (chain.metagraph(), chain.epoch_timing(None)):
                with pytest.raises(SubnetNotFound, match="subnet 9 does not run"):
                    await read
            assert await chain.weights_on_chain() == {}

    async def test_many_reads_at_once_share_a_connection(self, node) -> None:
        async with open_chain(node.endpoint, 1, None) as chain:
            answers = await asyncio.gather(*(chain.block_number() for _ in range(20)), chain.metagraph())
        assert answers[:20] == [node.block_number] * 20


class TestSetWeights:
    async def test_done_then_too_early_until_the_limit_has_passed(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            assert await chain.set_weights({1: 0.2, 2: 0.8}, 0) == WeightsSet(block=11, extrinsic="11-0001")
            assert await chain.set_weights({1: 1.0}, 0) == WeightsTooEarly(4)
            await node.produce_block(3)
            assert await chain.set_weights({1: 1.0}, 0) == WeightsTooEarly(1)
            await node.produce_block(1)
            assert isinstance(await chain.set_weights({1: 1.0}, 0), WeightsSet)

    async def test_registration_starts_the_rate_limit(self, node, wallet) -> None:
        newcomer = wallet(STRANGER)
        await register(node.endpoint, 1, wallet("//Alice").hotkey, newcomer.hotkey_address)
        async with open_chain(node.endpoint, 1, newcomer) as chain:
            assert await chain.set_weights({3: 1.0}, 0) == WeightsTooEarly(4)

    @pytest.mark.parametrize(
        ("who", "reason"),
        [(STRANGER, "not registered on subnet 1"), (MINER, "uid 1 holds no validator permit")],
    )
    async def test_not_permitted(self, node, wallet, who, reason) -> None:
        async with open_chain(node.endpoint, 1, wallet(who)) as chain:
            outcome = await chain.set_weights({0: 1.0}, 0)
        assert isinstance(outcome, WeightsNotPermitted)
        assert reason in outcome.reason
        assert str(outcome).startswith("not permitted to set weights")

    async def test_anyone_may_weight_itself(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 1, wallet(MINER)) as chain:
            assert isinstance(await chain.set_weights({1: 1.0}, 0), WeightsSet)

    async def test_the_owner_needs_no_permit(self, genesis, wallet) -> None:
        async with LocalNode(genesis=genesis(owner_hotkey=MINER), instant_seal=True) as node:
            await node.produce_block(4)
            async with open_chain(node.endpoint, 1, wallet(MINER)) as chain:
                assert isinstance(await chain.set_weights({0: 1.0}, 0), WeightsSet)

    async def test_too_little_stake(self, genesis, wallet) -> None:
        async with LocalNode(genesis=genesis(stake_threshold=500), instant_seal=True) as node:
            await node.produce_block(5)
            async with open_chain(node.endpoint, 1, wallet(POOR)) as chain:
                outcome = await chain.set_weights({1: 1.0}, 0)
        assert isinstance(outcome, WeightsNotPermitted)
        assert "stake" in outcome.reason

    async def test_stale_version(self, genesis, wallet) -> None:
        async with LocalNode(genesis=genesis(weights_version=1020), instant_seal=True) as node:
            await node.produce_block(10)
            async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
                outcome = await chain.set_weights({1: 1.0}, 1010)
                assert outcome == WeightsOutdated(required=1020, version=1010)
                assert str(outcome) == "the subnet requires version 1020, this is 1010: update this software"
                assert isinstance(await chain.set_weights({1: 1.0}, 1020), WeightsSet)

    async def test_fewer_than_the_subnet_demands(self, genesis, wallet) -> None:
        async with LocalNode(genesis=genesis(min_allowed_weights=2), instant_seal=True) as node:
            await node.produce_block(10)
            async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
                outcome = await chain.set_weights({1: 1.0, 2: 0.0}, 0)
                assert isinstance(outcome, WeightsRejected)
                assert outcome.code == "invalid_argument"
                assert "requires at least 2 weights; only 1 are nonzero" in outcome.reason
                assert isinstance(await chain.set_weights({1: 1.0, 2: 0.1}, 0), WeightsSet)

    async def test_a_uid_that_does_not_exist(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            outcome = await chain.set_weights({99: 1.0}, 0)
        assert isinstance(outcome, WeightsRejected)
        assert outcome.code == "UidVecContainInvalidOne"

    async def test_a_largest_weight_is_clipped_not_refused(self, genesis, wallet) -> None:
        async with LocalNode(genesis=genesis(max_weights_limit=40000), instant_seal=True) as node:
            await node.produce_block(10)
            async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
                assert isinstance(await chain.set_weights({1: 0.9, 2: 0.1}, 0), WeightsSet)
                row = (await chain.weights_on_chain())[0]
        assert row[1] == pytest.approx(40000 / 65535, abs=1e-3)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ({1: math.nan}, "weight of uid 1 is nan"),
            ({1: math.inf}, "weight of uid 1 is inf"),
            ({1: 1.0, 2: -0.5}, "weight of uid 2 is -0.5"),
            ({1: 0.0}, "nothing to set"),
            ({}, "nothing to set"),
            ({-1: 1.0}, "uid -1 is not a uid"),
            ({70_000: 1.0}, "uid 70000 is not a uid"),
        ],
    )
    async def test_what_is_no_weight_raises(self, node, wallet, weights, message) -> None:
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            with pytest.raises(InvalidWeights, match=message):
                await chain.set_weights(weights, 0)

    async def test_a_commit_names_the_block_of_its_reveal(self, genesis, wallet) -> None:
        hyperparameters = {"commit_reveal_weights_enabled": True, "commit_reveal_period": 2}
        async with LocalNode(genesis=genesis(**hyperparameters), instant_seal=True) as node:
            await node.produce_block(12)
            async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
                outcome = await chain.set_weights({1: 1.0}, 0)
                assert outcome == WeightsCommitted(reveal_block=30, extrinsic="13-0001")
                assert (await chain.epoch_timing(0)).reveal_epochs == 2
                node.reveal(wallet(VALIDATOR).hotkey_address, 1, [1], [65535])
                for epoch in (2, 3):
                    await node.produce_block(10 * epoch - 1 - node.block_number)
                    assert await chain.weights_on_chain() == {}
                    assert await chain.sealed_weights(wallet(VALIDATOR).hotkey_address) == 13
                    assert await chain.set_weights({2: 1.0}, 0) == WeightsSealed(13, 30), "no second commit"
                await node.produce_block(1)
                assert await chain.weights_on_chain() == {0: {1: 1.0}}
                assert await chain.sealed_weights(wallet(VALIDATOR).hotkey_address) is None
                assert await chain.set_weights({2: 1.0}, 0) == WeightsCommitted(50, "31-0001")

    async def test_a_commit_that_lands_in_the_next_epoch_is_opened_with_that_ones_commits(
        self, genesis, wallet
    ) -> None:
        async with LocalNode(genesis=genesis(commit_reveal_weights_enabled=True), instant_seal=True) as node:
            await node.produce_block(19)
            async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
                assert await chain.set_weights({1: 1.0}, 0) == WeightsCommitted(reveal_block=30, extrinsic="20-0001")
                assert await chain.set_weights({1: 1.0}, 0) == WeightsSealed(20, 30)

    async def test_a_commit_that_would_be_dropped_is_refused(self, genesis, wallet) -> None:
        hyperparameters = {"commit_reveal_weights_enabled": True, "weights_version": 7}
        async with LocalNode(genesis=genesis(**hyperparameters), instant_seal=True) as node:
            await node.produce_block(10)
            async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
                assert await chain.set_weights({1: 1.0}, 6) == WeightsOutdated(7, 6)
            async with open_chain(node.endpoint, 1, wallet(MINER)) as chain:
                assert isinstance(await chain.set_weights({0: 1.0}, 7), WeightsNotPermitted)

    async def test_two_processes_with_one_hotkey(self, node, wallet) -> None:
        """Whichever comes second is told so; nothing raises."""
        async with (
            open_chain(node.endpoint, 1, wallet(VALIDATOR)) as one,
            open_chain(node.endpoint, 1, wallet(VALIDATOR)) as other,
        ):
            await asyncio.gather(one.block_number(), other.block_number())
            outcomes = await asyncio.gather(one.set_weights({1: 1.0}, 0), other.set_weights({1: 1.0}, 0))
            assert sum(isinstance(outcome, WeightsSet) for outcome in outcomes) == 1
            assert isinstance(await other.set_weights({1: 1.0}, 0), WeightsTooEarly)


class TestServeAxon:
    async def test_served_and_seen(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 1, wallet(MINER)) as chain:
            assert await chain.serve_axon("198.51.100.7", 8091) == AxonServed(block=11, extrinsic="11-0001")
            assert (await chain.metagraph()).neurons[1].axon == AxonEndpoint("198.51.100.7", 8091)
            assert await chain.serve_axon("198.51.100.7", 8091) == AxonUnchanged()
            assert await chain.serve_axon("198.51.100.7", 8092) == ServeTooEarly(5)
            await node.produce_block(5)
            assert isinstance(await chain.serve_axon("2001:db8::7", 8092), AxonServed)
            assert (await chain.metagraph()).neurons[1].axon == AxonEndpoint("2001:db8::7", 8092)

    async def test_not_registered(self, node, wallet) -> None:
        async with open_chain(node.endpoint, 1, wallet(STRANGER)) as chain:
            assert isinstance(await chain.serve_axon("198.51.100.7", 8091), ServeNotPermitted)

    async def test_refused_addresses(self, genesis, wallet) -> None:
        async with LocalNode(genesis=genesis(), instant_seal=True, allow_loopback_axons=False) as node:
            async with open_chain(node.endpoint, 1, wallet(MINER)) as chain:
                for ip, port, code in [
                    ("127.0.0.1", 8091, "InvalidIpAddress"),
                    ("example.org", 8091, "InvalidIpAddress"),
                    ("198.51.100.7", 0, "InvalidPort"),
                    ("198.51.100.7", 70_000, "InvalidPort"),
                ]:
                    outcome = await chain.serve_axon(ip, port)
                    assert isinstance(outcome, ServeRejected)
                    assert outcome.code == code

    async def test_serving_and_weights_at_once(self, node, wallet) -> None:
        """Two extrinsics of one hotkey do not race for its nonce."""
        async with open_chain(node.endpoint, 1, wallet(VALIDATOR)) as chain:
            outcomes = await asyncio.gather(chain.serve_axon("198.51.100.7", 8091), chain.set_weights({1: 1.0}, 0))
        assert [type(outcome) for outcome in outcomes] == [AxonServed, WeightsSet]


async def test_without_a_wallet_nothing_is_written(node) -> None:
    async with open_chain(node.endpoint, 1, None) as chain:
        for write in (chain.set_weights({1: 1.0}, 0), chain.serve_axon("198.51.100.7", 8091)):
            with pytest.raises(WalletError, match="without a wallet"):
                await write
