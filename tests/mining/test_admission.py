"""Admission: who may ask, who goes first, and what an old snapshot is worth."""

from __future__ import annotations

import pytest

from ig_subnet.chain import MetagraphSnapshot, NeuronSnapshot
from ig_subnet.config.settings import BlacklistSettings
from ig_subnet.mining.admission import MAX_SNAPSHOT_AGE_SECONDS, Admission
from protocol import Refusal

VALIDATOR, MINER, STRANGER = (letter * 48 for letter in "VMS")


def neuron(uid: int, hotkey: str, *, permit: bool, stake: float = 0.0) -> NeuronSnapshot:
    return NeuronSnapshot(
        uid=uid,
        hotkey=hotkey,
        coldkey="coldkey",
        stake=stake,
        validator_permit=permit,
        active=True,
        last_update=0,
        registered_at=0,
        axon=None,
        incentive=0.0,
        dividends=0.0,
        emission=0.0,
        consensus=0.0,
        trust=0.0,
        validator_trust=0.0,
    )


SNAPSHOT = MetagraphSnapshot(
    netuid=1, block=1, neurons=(neuron(0, VALIDATOR, permit=True, stake=100.0), neuron(1, MINER, permit=False))
)


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ({}, {MINER: Refusal.NO_PERMIT, STRANGER: Refusal.NOT_REGISTERED}),
        ({"force_validator_permit": False}, {STRANGER: Refusal.NOT_REGISTERED}),
        ({"allow_non_registered": True}, {MINER: Refusal.NO_PERMIT, STRANGER: Refusal.NO_PERMIT}),
        ({"allow_non_registered": True, "force_validator_permit": False}, {}),
        (
            {"hotkeys": (VALIDATOR, STRANGER)},
            {VALIDATOR: Refusal.BLACKLISTED, MINER: Refusal.NO_PERMIT, STRANGER: Refusal.BLACKLISTED},
        ),
        ({"allow_hotkeys": (STRANGER,), "min_stake": 1}, {MINER: Refusal.NO_PERMIT}),
        (
            {"allow_hotkeys": (MINER, STRANGER), "hotkeys": (STRANGER,)},
            {STRANGER: Refusal.BLACKLISTED},
        ),
        ({"min_stake": 100}, {MINER: Refusal.NO_PERMIT, STRANGER: Refusal.NOT_REGISTERED}),
        (
            {"min_stake": 100.5, "force_validator_permit": False},
            {
                VALIDATOR: Refusal.TOO_LITTLE_STAKE,
                MINER: Refusal.TOO_LITTLE_STAKE,
                STRANGER: Refusal.NOT_REGISTERED,
            },
        ),
    ],
)
def test_policy(rules: dict[str, object], refused: dict[str, Refusal]) -> None:
    admission = Admission(BlacklistSettings.model_validate(rules))
    admission.update(SNAPSHOT)
    callers = (VALIDATOR, MINER, STRANGER)
    assert {caller: reason for caller in callers if (reason := admission.refuse(caller))} == refused


def test_priority_is_stake() -> None:
    admission = Admission(BlacklistSettings())
    admission.update(SNAPSHOT)
    assert [admission.priority(caller) for caller in (VALIDATOR, MINER, STRANGER)] == [100.0, 0.0, 0.0]


def test_nobody_is_known_before_the_first_snapshot_or_from_one_too_old() -> None:
    now = 0.0
    admission = Admission(BlacklistSettings(), clock=lambda: now)
    assert admission.refuse(VALIDATOR) is Refusal.NOT_REGISTERED
    admission.update(SNAPSHOT)
    now = MAX_SNAPSHOT_AGE_SECONDS
    assert admission.refuse(VALIDATOR) is None
    now += 1.0
    assert admission.refuse(VALIDATOR) is Refusal.NOT_REGISTERED
    assert admission.priority(VALIDATOR) == 0.0
    admission.update(SNAPSHOT)
    assert admission.refuse(VALIDATOR) is None


def test_a_newer_snapshot_replaces_the_older() -> None:
    admission = Admission(BlacklistSettings())
    admission.update(SNAPSHOT)
    admission.update(MetagraphSnapshot(netuid=1, block=2, neurons=(neuron(0, "other", permit=True),)))
    assert admission.refuse(VALIDATOR) is Refusal.NOT_REGISTERED
    assert admission.refuse("other") is None
