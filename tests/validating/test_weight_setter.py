"""Weights find their way to the chain: whatever the chain says to them is logged, kept, and waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ig_subnet.chain import (
    ChainUnavailable,
    EpochTiming,
    MetagraphSnapshot,
    NeuronSnapshot,
    WeightsCommitted,
    WeightsNotPermitted,
    WeightsOutcome,
    WeightsRejected,
    WeightsSet,
    WeightsTooEarly,
    WeightsUnreachable,
)
from ig_subnet.validating.keeping import AWAY_SECONDS
from ig_subnet.validating.records import MinerRow
from ig_subnet.validating.schedule import SHORTEST_WAIT
from ig_subnet.validating.weight_setter import WeightSetter

BEFORE_AN_EPOCH = EpochTiming(
    block=95,
    tempo=20,
    blocks_until_next_epoch=5,
    last_epoch_block=80,
    blocks_since_last_update=15,
    weights_rate_limit=5,
)


def neuron(uid: int, hotkey: str, registered_at: int) -> NeuronSnapshot:
    return NeuronSnapshot(
        uid, hotkey, "cold", 0.0, False, True, registered_at, registered_at, None, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    )


@dataclass
class MadeUpChain:
    """A chain that says what a test wants it to say."""

    outcome: WeightsOutcome = field(default_factory=lambda: WeightsSet(96, "96-1"))
    timing: EpochTiming = BEFORE_AN_EPOCH
    down: bool = False
    netuid: int = 1
    sent: list[tuple[dict[int, float], int]] = field(default_factory=list)

    async def registered_uid(self, hotkey: str) -> int | None:
        if self.down:
            raise ChainUnavailable("ws://127.0.0.1:9944", "connection refused")
        return 0

    async def epoch_timing(self, uid: int | None) -> EpochTiming:
        return self.timing

    async def metagraph(self) -> MetagraphSnapshot:
        neurons = (neuron(0, "me", 0), neuron(1, "alice", 11), neuron(2, "newcomer", 90))
        return MetagraphSnapshot(1, 95, neurons)

    async def set_weights(self, weights: Mapping[int, float], version_key: int) -> WeightsOutcome:
        self.sent.append((dict(weights), version_key))
        return self.outcome


ALICE = MinerRow("alice", 1, 11, 0.4, 0.5, 3, 3)
GONE = MinerRow("gone", 2, 12, 0.5, 0.5, 3, 3)  # its uid is a newcomer's now
MINERS = {"alice": ALICE, "gone": GONE}


@pytest.fixture
def kept() -> list[dict[str, Any]]:
    return []


def setter(chain: MadeUpChain, kept: list[dict[str, Any]], miners: Mapping[str, MinerRow] = MINERS) -> WeightSetter:
    async def keep(**attempt: Any) -> None:
        kept.append(attempt)

    return WeightSetter(
        chain,  # type: ignore[arg-type]
        "me",
        miners=lambda: miners,
        record=keep,
        exponent=2.0,
        epoch_length=None,
        version_key=10,
    )


@pytest.mark.parametrize(
    ("outcome", "name", "block", "wait"),
    [
        (WeightsSet(96, "96-1"), "set", 96, SHORTEST_WAIT),
        (WeightsCommitted(120, "96-1"), "committed", 95, SHORTEST_WAIT),
        (WeightsTooEarly(4), "too_early", 95, 2.0),
        (WeightsNotPermitted("no permit"), "not_permitted", 95, 5.0),
        (WeightsRejected("IncorrectWeightVersionKey", "update"), "rejected", 95, 5.0),
        (WeightsUnreachable("no answer"), "unreachable", 95, AWAY_SECONDS),
    ],
)
async def test_every_answer_of_the_chain_is_kept_and_waited_for(
    outcome: WeightsOutcome, name: str, block: int, wait: float, kept: list[dict[str, Any]]
) -> None:
    chain = MadeUpChain(outcome)
    assert await setter(chain, kept).step() == wait
    assert chain.sent == [({1: 1.0}, 10)]  # nothing for the uid whose miner is gone
    (attempt,) = kept
    assert attempt.pop("at") > 0
    assert attempt == {"block": block, "outcome": name, "detail": str(outcome), "weights": {1: 1.0}}


async def test_weights_follow_the_averages_of_the_moment(kept: list[dict[str, Any]]) -> None:
    miners = {"alice": ALICE, "newcomer": MinerRow("newcomer", 2, 90, 0.4, 1.0, 1, 4)}
    chain = MadeUpChain()
    weights = setter(chain, kept, miners)
    await weights.step()
    assert chain.sent[0][0] == pytest.approx({1: 0.8, 2: 0.2})  # 0.8 and 0.4, squared
    miners["newcomer"] = replace(miners["newcomer"], accumulator=0.8)
    await weights.step()
    assert chain.sent[1][0] == pytest.approx({1: 0.5, 2: 0.5})


@pytest.mark.parametrize("miners", [{}, {"alice": replace(ALICE, accumulator=0.0)}, {"gone": GONE}])
async def test_nothing_is_sent_where_there_is_nothing_to_say(
    miners: dict[str, MinerRow], kept: list[dict[str, Any]]
) -> None:
    chain = MadeUpChain()
    assert await setter(chain, kept, miners).step() == SHORTEST_WAIT
    assert chain.sent == kept == []


async def test_weights_that_are_not_due_wait(kept: list[dict[str, Any]]) -> None:
    chain = MadeUpChain(timing=replace(BEFORE_AN_EPOCH, blocks_until_next_epoch=15, blocks_since_last_update=5))
    assert await setter(chain, kept).step() == 5.0  # ten blocks of a second, half of them
    chain.timing = replace(BEFORE_AN_EPOCH, blocks_since_last_update=None)  # not registered any more
    assert await setter(chain, kept).step() == 10.0
    assert chain.sent == []


async def test_a_chain_that_is_away_is_waited_for(kept: list[dict[str, Any]]) -> None:
    chain = MadeUpChain(down=True)
    weights = setter(chain, kept)
    assert await weights.step() == AWAY_SECONDS
    chain.down = False
    assert await weights.step() == SHORTEST_WAIT
    assert len(chain.sent) == 1
