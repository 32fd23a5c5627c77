"""The package's surface: what it exports, what importing it costs, and what its errors and outcomes say."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import typing

import pytest

import ig_subnet.chain
from ig_subnet.chain import (
    ChainError,
    ChainUnavailable,
    CommitmentOutcome,
    MetagraphSnapshot,
    NeuronSnapshot,
    ServeOutcome,
    WeightsOutcome,
    WeightsSet,
    WeightsTooEarly,
)


def test_everything_exported_exists() -> None:
    for name in ig_subnet.chain.__all__:
        assert getattr(ig_subnet.chain, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Subtensor'"):
        ig_subnet.chain.Subtensor  # noqa: B018


def test_snapshots_and_outcomes_cost_no_sdk() -> None:
    code = (
        "import sys; from ig_subnet.chain import Chain, MetagraphSnapshot, WeightsSet, ChainUnavailable; "
        "assert not {'bittensor', 'bittensor_core', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [({}, "ws://127.0.0.1:9944"), ({"BT_CHAIN_ENDPOINT": "ws://127.0.0.1:19944"}, "ws://127.0.0.1:19944")],
)
def test_where_the_local_network_is(environment: dict[str, str], endpoint: str) -> None:
    code = "from ig_subnet.chain.connection import Connection; print(Connection('local').endpoint)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True, env=os.environ | environment)
    assert done.stdout.strip() == endpoint


@pytest.mark.parametrize("outcomes", [WeightsOutcome, ServeOutcome, CommitmentOutcome])
def test_every_outcome_is_a_line_that_says_all_it_knows(outcomes: object) -> None:
    known = {
        "block": 123,
        "reveal_block": 456,
        "committed": 400,
        "required": 1020,
        "version": 1010,
        "blocks": 7,
        "extrinsic": "123-0001",
        "reason": "because",
        "code": "Bad",
    }
    for outcome in typing.get_args(outcomes):
        fields = {field.name: known[field.name] for field in dataclasses.fields(outcome)}
        line = str(outcome(**fields))
        assert "\n" not in line
        assert all(str(value) in line for value in fields.values())


def test_outcomes_are_matched_on() -> None:
    outcome: WeightsOutcome = WeightsTooEarly(3)
    match outcome:
        case WeightsSet():
            raise AssertionError
        case WeightsTooEarly(blocks=blocks):
            assert blocks == 3


def test_errors_form_one_tree() -> None:
    errors = [value for value in vars(ig_subnet.chain.errors).values() if isinstance(value, type)]
    assert all(issubclass(error, ChainError) for error in errors if issubclass(error, Exception))
    assert "is down" in str(ChainUnavailable("ws://a:1", "it is down"))


def test_a_metagraph_finds_hotkeys() -> None:
    figures = dict.fromkeys(("incentive", "dividends", "emission", "consensus", "trust", "validator_trust"), 0.0)
    neurons = tuple(
        NeuronSnapshot(
            uid=uid,
            hotkey=hotkey,
            coldkey="owner",
            stake=1.0,
            validator_permit=False,
            active=True,
            last_update=0,
            registered_at=0,
            axon=None,
            **figures,
        )
        for uid, hotkey in enumerate(["a", "b"])
    )
    metagraph = MetagraphSnapshot(netuid=1, block=5, neurons=neurons)
    assert metagraph.by_hotkey("b") is neurons[1]
    assert metagraph.by_hotkey("c") is None
    assert metagraph == MetagraphSnapshot(netuid=1, block=5, neurons=neurons)
