"""Every refusal of the chain's rules, as the SDK reports it: by the chain's own name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from localnet_chain import OK, RAO, local_chain, ss58

from ig_subnet.localnet import rules_balances, rules_commitments, rules_registration, rules_serving, rules_weights
from ig_subnet.localnet.codec import Codec, load_metadata

# Subnet 1 is generous, 2 is closed, 3 is full of an immune neuron, 4 has strict weights, 5 has commit-reveal on.
GENESIS: dict[str, Any] = {
    "accounts": {"//Alice": 10_000, "//Bob": 10_000, "//Poor": 0.0001},
    "stake_threshold": 10,
    "subnets": [
        {
            "netuid": 1,
            "neurons": [{"hotkey": "//Neuron", "coldkey": "//Alice"}],
            "hyperparameters": {"serving_rate_limit": 50},
        },
        {"netuid": 2, "hyperparameters": {"registration_allowed": False}},
        {
            "netuid": 3,
            "hyperparameters": {"max_uids": 1, "immunity_period": 65535},
            "neurons": [{"hotkey": "//Immune", "coldkey": "//Alice"}],
        },
        {
            "netuid": 4,
            "hyperparameters": {
                "weights_rate_limit": 1000,
                "min_allowed_weights": 4,
                "max_weights_limit": 30_000,
                "weights_version": 7,
                "max_validators": 1,
            },
            "neurons": [
                {"hotkey": "//Top", "coldkey": "//Alice", "stake": 1000},
                {"hotkey": "//Second", "coldkey": "//Alice", "stake": 20},
                {"hotkey": "//Third", "coldkey": "//Alice", "stake": 15},
                {"hotkey": "//Unstaked", "coldkey": "//Alice"},
                {"hotkey": "//Fourth", "coldkey": "//Alice"},
                {"hotkey": "//Fifth", "coldkey": "//Alice"},
            ],
        },
        {
            "netuid": 5,
            "hyperparameters": {"commit_reveal_weights_enabled": True, "weights_rate_limit": 0},
            "neurons": [
                {"hotkey": "//Committer", "coldkey": "//Alice", "stake": 100},
                {"hotkey": "//Unstaked", "coldkey": "//Alice"},
            ],
        },
    ],
}


def axon(**changes: Any) -> dict[str, Any]:
    fields = {
        "netuid": 1,
        "version": 1,
        "ip": 0x0A000001,
        "port": 8091,
        "ip_type": 4,
        "protocol": 4,
        "placeholder1": 0,
        "placeholder2": 0,
    }
    return fields | changes


def weights(**changes: Any) -> dict[str, Any]:
    fields = {"netuid": 4, "mecid": 0, "dests": [0, 1, 2, 3], "weights": [1, 1, 1, 1], "version_key": 7}
    return fields | changes


def commit(**changes: Any) -> dict[str, Any]:
    fields = {"netuid": 5, "mecid": 0, "commit": b"\xff\x01", "reveal_round": 1, "commit_reveal_version": 4}
    return fields | changes


def stake(**changes: Any) -> dict[str, Any]:
    return {"hotkey": ss58("Neuron"), "netuid": 1, "amount_staked": 5 * RAO} | changes


def unstake(**changes: Any) -> dict[str, Any]:
    return {"hotkey": ss58("Top"), "netuid": 4, "amount_unstaked": RAO} | changes


def commitment(*fields: Any, netuid: int = 1) -> dict[str, Any]:
    return {"pallet": "Commitments", "netuid": netuid, "info": {"fields": list(fields)}}


REFUSALS: list[tuple[str, str, dict[str, Any], str]] = [
    ("Alice", "burned_register", {"netuid": 0, "hotkey": ss58("New")}, "RegistrationNotPermittedOnRootSubnet"),
    ("Alice", "burned_register", {"netuid": 9, "hotkey": ss58("New")}, "SubnetNotExists"),
    ("Alice", "burned_register", {"netuid": 2, "hotkey": ss58("New")}, "SubNetRegistrationDisabled"),
    ("Alice", "burned_register", {"netuid": 1, "hotkey": ss58("Neuron")}, "HotKeyAlreadyRegisteredInSubNet"),
    ("Poor", "burned_register", {"netuid": 1, "hotkey": ss58("New")}, "NotEnoughBalanceToStake"),
    ("Bob", "burned_register", {"netuid": 1, "hotkey": ss58("Immune")}, "NonAssociatedColdKey"),
    ("Alice", "burned_register", {"netuid": 3, "hotkey": ss58("New")}, "NoNeuronIdAvailable"),
    (
        "Alice",
        "register_limit",
        {"netuid": 1, "hotkey": ss58("New"), "limit_price": 1},
        "RegistrationPriceLimitExceeded",
    ),
    ("Stranger", "serve_axon", axon(), "HotKeyNotRegisteredInNetwork"),
    ("Neuron", "serve_axon", axon(ip_type=5), "InvalidIpType"),
    ("Neuron", "serve_axon", axon(ip=0x7F000001), "InvalidIpAddress"),
    ("Neuron", "serve_axon", axon(ip=0xFFFFFFFF), "InvalidIpAddress"),
    ("Neuron", "serve_axon", axon(ip=1 << 40), "InvalidIpAddress"),
    ("Neuron", "serve_axon", axon(ip=1, ip_type=6), "InvalidIpAddress"),
    ("Neuron", "serve_axon", axon(port=0), "InvalidPort"),
    ("Alice", "add_stake", stake(netuid=9), "SubnetNotExists"),
    ("Alice", "add_stake", stake(amount_staked=1), "AmountTooLow"),
    ("Poor", "add_stake", stake(), "NotEnoughBalanceToStake"),
    ("Alice", "add_stake", stake(hotkey=ss58("Nobody")), "HotKeyAccountNotExists"),
    ("Alice", "add_stake_limit", stake(limit_price=RAO - 1, allow_partial=False), "SlippageTooHigh"),
    ("Bob", "remove_stake", unstake(), "NotEnoughStakeToWithdraw"),
    ("Alice", "remove_stake", unstake(hotkey=ss58("Nobody")), "HotKeyAccountNotExists"),
    ("Alice", "remove_stake", unstake(amount_unstaked=1), "AmountTooLow"),
    ("Alice", "remove_stake_limit", unstake(limit_price=RAO + 1, allow_partial=False), "SlippageTooHigh"),
    ("Committer", "set_mechanism_weights", weights(netuid=5), "CommitRevealEnabled"),
    ("Top", "commit_timelocked_mechanism_weights", commit(netuid=4), "CommitRevealDisabled"),
    ("Committer", "commit_timelocked_mechanism_weights", commit(mecid=1), "MechanismDoesNotExist"),
    (
        "Committer",
        "commit_timelocked_mechanism_weights",
        commit(commit_reveal_version=3),
        "IncorrectCommitRevealVersion",
    ),
    ("Stranger", "commit_timelocked_mechanism_weights", commit(), "HotKeyNotRegisteredInSubNet"),
    ("Unstaked", "commit_timelocked_mechanism_weights", commit(), "NotEnoughStakeToSetWeights"),
    ("Committer", "commit_timelocked_mechanism_weights", commit(commit=bytes(5001)), "InvalidValue"),
    ("Stranger", "set_commitment", commitment({"Raw1": b"x"}), "AccountNotAllowedCommit"),
    ("Neuron", "set_commitment", commitment({"Raw1": b"x"}, netuid=4), "AccountNotAllowedCommit"),
    ("Neuron", "set_commitment", commitment(*[{"Raw1": b"x"}] * 4), "TooManyFieldsInCommitmentInfo"),
    (
        "Neuron",
        "set_commitment",
        commitment({"TimelockRevealFailed": {"encrypted": b"x", "reveal_round": 1}}),
        "TimelockRevealFailedNotAllowed",
    ),
    ("Alice", "set_max_space", {"pallet": "Commitments", "new_limit": 10**6}, "CallFiltered"),
    ("Alice", "root_register", {"hotkey": ss58("Neuron")}, "CallFiltered"),
]


async def test_each_refusal_has_the_chains_name() -> None:
    async with local_chain(GENESIS, allow_loopback_axons=False) as chain:
        issuance = await chain.query("TotalIssuance")
        for signer, function, arguments, expected in REFUSALS:
            assert await chain.call(signer, function, **arguments) == expected, (signer, function, arguments)
        emitted = chain.node.block_number * (RAO // 5) * 5  # nothing but emission changed what there is
        assert await chain.query("TotalIssuance") == issuance + emitted


async def test_balances_refuse_by_the_token_errors() -> None:
    async with local_chain(GENESIS) as chain:
        poor = await chain.free("Poor")
        transfer = {"pallet": "Balances", "dest": ss58("Bob")}
        assert await chain.call("Poor", "transfer_keep_alive", value=poor + 1, **transfer) == "FundsUnavailable"
        assert await chain.call("Poor", "transfer_keep_alive", value=poor, **transfer) == "NotExpendable"
        assert (
            await chain.call("Poor", "transfer_keep_alive", "Balances", dest=ss58("Nobody"), value=1) == "BelowMinimum"
        )
        assert await chain.call("Poor", "transfer_allow_death", value=poor, **transfer) == OK
        assert await chain.free("Poor") == 0


async def test_weights_are_checked_in_the_chains_order() -> None:
    """One call with everything wrong with it; mending one fault at a time brings up the next check."""
    async with local_chain(GENESIS) as chain:
        assert await chain.call("Second", "set_mechanism_weights", **weights(dests=[1], weights=[1])) == OK
        faulty: dict[str, Any] = weights(mecid=1, dests=[1] * 7, weights=[1] * 6, version_key=0)
        mending: list[tuple[str, dict[str, Any], str]] = [
            ("Stranger", {}, "WeightVecNotEqualSize"),
            ("Stranger", {"weights": [1] * 7}, "MechanismDoesNotExist"),
            ("Stranger", {"mecid": 0}, "UidsLengthExceedUidsInSubNet"),
            ("Stranger", {"dests": [1, 1, 99], "weights": [9, 1, 1]}, "HotKeyNotRegisteredInSubNet"),
            ("Unstaked", {}, "NotEnoughStakeToSetWeights"),
            ("Second", {}, "IncorrectWeightVersionKey"),
            ("Second", {"version_key": 7}, "SettingWeightsTooFast"),
            ("Third", {}, "NeuronNoValidatorPermit"),
            ("Top", {}, "DuplicateUids"),
            ("Top", {"dests": [1, 2, 99]}, "UidVecContainInvalidOne"),
            ("Top", {"dests": [1, 2, 3]}, "WeightVecLengthIsLow"),
            ("Top", {"dests": [1, 2, 3, 4], "weights": [9, 1, 1, 1]}, "MaxWeightExceeded"),
            ("Top", {"weights": [4, 3, 1, 2]}, OK),
        ]
        for signer, mended, expected in mending:
            faulty |= mended
            assert await chain.call(signer, "set_mechanism_weights", **faulty) == expected, faulty
        assert await chain.query("Weights", 4, 0) == [(1, 65535), (2, 49151), (3, 16384), (4, 32768)]


async def test_own_weight_and_owner_are_exempt() -> None:
    """A neuron may always weight itself alone; the subnet's owner needs neither permit nor stake."""
    genesis = {"subnets": [dict(GENESIS["subnets"][3], owner="//Alice", owner_hotkey="//Fifth")], "stake_threshold": 10}
    async with local_chain(genesis) as chain:
        assert await chain.call("Third", "set_mechanism_weights", **weights(dests=[2], weights=[1])) == OK
        assert await chain.call("Fifth", "set_weights", **_plain(weights())) == OK
        assert await chain.call("Third", "set_weights", **_plain(weights())) == "SettingWeightsTooFast"


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "mecid"}


@pytest.mark.parametrize(("limit", "passes"), [(3, False), (2, True)])
async def test_weights_rate_limit_counts_blocks_since_the_last_update(limit: int, passes: bool) -> None:
    genesis = {
        "subnets": [
            {
                "netuid": 1,
                "hyperparameters": {"weights_rate_limit": limit},
                "neurons": [{"hotkey": "//V", "stake": 10}, {"hotkey": "//M"}],
            }
        ]
    }
    async with local_chain(genesis) as chain:
        assert await chain.set_weights("V", {1: 1}) == OK
        await chain.node.produce_block()
        assert (await chain.set_weights("V", {1: 1}) == OK) is passes


async def test_serving_rate_limit_counts_from_the_last_serving() -> None:
    async with local_chain(GENESIS) as chain:
        assert await chain.call("Neuron", "serve_axon", **axon(ip=0x7F000001)) == OK
        assert await chain.call("Neuron", "serve_axon", **axon()) == "ServingRateLimitExceeded"
        await chain.node.produce_block(48)
        assert await chain.call("Neuron", "serve_axon", **axon(ip=0)) == OK


async def test_commits_are_limited_in_rate_and_number() -> None:
    async with local_chain(GENESIS) as chain:
        for _ in range(10):
            assert await chain.call("Committer", "commit_timelocked_mechanism_weights", **commit()) == OK
        assert await chain.call("Committer", "commit_timelocked_mechanism_weights", **commit()) == (
            "TooManyUnrevealedCommits"
        )
    genesis = {"subnets": [dict(GENESIS["subnets"][4], hyperparameters={"commit_reveal_weights_enabled": True})]}
    async with local_chain(genesis) as chain:
        assert await chain.call("Committer", "commit_timelocked_weights", **_plain(commit())) == OK
        assert await chain.call("Committer", "commit_timelocked_weights", **_plain(commit())) == (
            "CommittingWeightsTooFast"
        )


async def test_commitments_are_limited_in_space() -> None:
    """3100 bytes an epoch, of which the shortest takes 100: what does not fit leaves the space to what does."""
    half, rest = [{"BigRaw": bytes(512)}] * 3, {"Raw28": bytes(28)}
    neuron = dict(GENESIS, subnets=[dict(GENESIS["subnets"][0], hyperparameters={"tempo": 10})])
    async with local_chain(neuron) as chain:
        assert await chain.call("Neuron", "set_commitment", **commitment(*half)) == OK
        assert await chain.call("Neuron", "set_commitment", **commitment(*half[:2], {"BigRaw": bytes(440)})) == OK
        assert await chain.call("Neuron", "set_commitment", **commitment(*half)) == "SpaceLimitExceeded"
        assert await chain.call("Neuron", "set_commitment", **commitment(rest)) == OK
        assert await chain.call("Neuron", "set_commitment", **commitment(rest)) == "SpaceLimitExceeded"
        await chain.node.produce_block(10 - chain.node.block_number)
        assert await chain.call("Neuron", "set_commitment", **commitment(rest)) == OK


async def test_a_failed_call_changes_nothing_but_the_nonce() -> None:
    """This registration fails only after the hotkey was given to the coldkey."""
    async with local_chain(GENESIS) as chain:
        before = await chain.free("Alice")
        assert await chain.call("Alice", "burned_register", netuid=3, hotkey=ss58("New")) == "NoNeuronIdAvailable"
        assert await chain.free("Alice") == before
        assert await chain.client.read("hotkey_owner", hotkey_ss58=ss58("New")) != ss58("Alice")
        assert chain.node.next_nonce(ss58("Alice")) == 1


async def test_a_subnet_pays_out_no_more_tao_than_it_holds() -> None:
    """Where several subnets share the block's TAO, each emits more alpha than it has TAO."""
    neuron = {"hotkey": "//Rich", "coldkey": "//Alice", "stake": 1}
    async with local_chain({"subnets": [{"netuid": 1, "neurons": [neuron]}, {"netuid": 2}]}) as chain:
        await chain.node.produce_block(40)
        held = await chain.client.read("stake", coldkey_ss58=ss58("Alice"), hotkey_ss58=ss58("Rich"), netuid=1)
        everything = {"hotkey": ss58("Rich"), "netuid": 1, "amount_unstaked": held.rao}
        assert await chain.call("Alice", "remove_stake", **everything) == "InsufficientLiquidity"


def test_every_error_of_the_rules_is_tested() -> None:
    modules = (rules_balances, rules_commitments, rules_registration, rules_serving, rules_weights)
    source = "".join(inspect.getsource(module) for module in modules)
    known = {name for _, name in Codec(load_metadata(250)).module_errors}
    raised = {name for name in re.findall(r'"([A-Z]\w+)"', source) if name in known}
    assert raised - _expected_names() == set()


def _expected_names() -> set[str]:
    """Names of errors that tests of this module compare with."""
    return set(re.findall(r'"([A-Z]\w+)"', Path(__file__).read_text()))
