"""Weights find their way to the chain: whatever the chain says to them is logged, kept, and waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import pytest

from ig_subnet.chain import (
    ChainUnavailable,
    EpochTiming,
    MetagraphSnapshot,
    WeightsCommitted,
    WeightsNotPermitted,
    WeightsOutcome,
    WeightsOutdated,
    WeightsRejected,
    WeightsSealed,
    WeightsSet,
    WeightsTooEarly,
    WeightsUnreachable,
)
from ig_subnet.validating.keeping import AWAY_SECONDS
from ig_subnet.validating.schedule import SHORTEST_WAIT, TEMPO_SECONDS
from ig_subnet.validating.weight_setter import ALARM, OUTCOME_NAMES, WeightSetter
from ig_subnet.validating.weighting import Shaping, Standing, Weighing

BEFORE_AN_EPOCH = EpochTiming(
    block=95,
    tempo=20,
    blocks_until_next_epoch=5,
    last_epoch_block=80,
    blocks_since_last_update=15,
    weights_rate_limit=5,
)


@dataclass
class MadeUpChain:
    """A chain that says what a test wants it to say."""

    outcome: WeightsOutcome = field(default_factory=lambda: WeightsSet(96, "96-1"))
    timing: EpochTiming = BEFORE_AN_EPOCH
    down: bool = False
    netuid: int = 1
    registered: bool = True
    sealed: int | None = None
    weights: dict[int, dict[int, float]] = field(default_factory=dict)
    sent: list[tuple[dict[int, float], int]] = field(default_factory=list)

    async def registered_uid(self, hotkey: str) -> int | None:
        if self.down:
            raise ChainUnavailable("ws://127.0.0.1:9944", "connection refused")
        return 0 if self.registered else None

    async def epoch_timing(self, uid: int | None) -> EpochTiming:
        return replace(self.timing, blocks_since_last_update=None) if uid is None else self.timing

    async def metagraph(self) -> MetagraphSnapshot:
        return MetagraphSnapshot(1, self.timing.block, ())

    async def sealed_weights(self, hotkey: str) -> int | None:
        return self.sealed

    async def weights_on_chain(self) -> dict[int, dict[int, float]]:
        return self.weights

    async def set_weights(self, weights: Mapping[int, float], version_key: int) -> WeightsOutcome:
        self.sent.append((dict(weights), version_key))
        return self.outcome


SHARES = {1: 0.8, 2: 0.2}


def weighing(shares: dict[int, float], silence: str = "", warnings: tuple[str, ...] = ()) -> Weighing:
    standings = tuple(Standing(f"miner {uid}", uid, 0.5, 0.4, share) for uid, share in shares.items())
    return Weighing(shares, standings, 0.1, Shaping(), None, silence, warnings)


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A weight setter on a made-up chain, and all that came of it."""

    chain: MadeUpChain = field(default_factory=MadeUpChain)
    weighed: Weighing = field(default_factory=lambda: weighing(SHARES))
    kept: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    epoch_length: int | None = None

    def __post_init__(self) -> None:
        self.setter = WeightSetter(
            self.chain,  # type: ignore[arg-type]
            "me",
            weigh=lambda metagraph: self.weighed,
            record=self._keep,
            alarm=self._alarm,
            epoch_length=self.epoch_length,
            version_key=10,
            clock=self.clock,
        )

    async def _keep(self, **attempt: Any) -> None:
        self.kept.append(attempt)

    async def _alarm(self, message: str) -> None:
        self.alarms.append(message)

    async def step(self) -> float:
        return await self.setter.step()

    async def at_block(self, block: int) -> float:
        """A step at that block of the same epochs, a second a block; the last weights were set where they were."""
        timing, passed = self.chain.timing, block - self.chain.timing.block
        since = timing.blocks_since_last_update
        self.chain.timing = replace(
            timing,
            block=block,
            blocks_until_next_epoch=timing.tempo - block % timing.tempo,
            last_epoch_block=block - block % timing.tempo,
            blocks_since_last_update=None if since is None else since + passed,
        )
        self.clock.now += passed
        return await self.step()

    @property
    def outcomes(self) -> list[str]:
        return [attempt["outcome"] for attempt in self.kept]


@pytest.mark.parametrize(
    ("outcome", "name", "block", "wait"),
    [
        (WeightsSet(96, "96-1"), "set", 96, SHORTEST_WAIT),
        (WeightsCommitted(120, "96-1"), "committed", 95, SHORTEST_WAIT),
        (WeightsTooEarly(4), "too_early", 95, 2.0),
        (WeightsSealed(80, 101), "sealed", 95, 3.0),
        (WeightsNotPermitted("no permit"), "not_permitted", 95, 5.0),
        (WeightsRejected("WeightVecLengthIsLow", "too few"), "rejected", 95, 5.0),
        (WeightsUnreachable("no answer"), "unreachable", 95, AWAY_SECONDS),
    ],
)
async def test_every_answer_of_the_chain_is_kept_and_waited_for(
    outcome: WeightsOutcome, name: str, block: int, wait: float
) -> None:
    bench = Bench(MadeUpChain(outcome))
    assert await bench.step() == wait
    assert bench.chain.sent == [(SHARES, 10)]
    (attempt,) = bench.kept
    assert attempt.pop("at") > 0
    assert attempt == {
        "block": block,
        "outcome": name,
        "detail": str(outcome),
        "weights": SHARES,
        "basis": bench.weighed.basis,
    }
    assert bench.alarms == []


def test_every_outcome_has_a_name() -> None:
    assert set(OUTCOME_NAMES) == set(get_args(WeightsOutcome))
    assert ALARM not in OUTCOME_NAMES.values()


async def test_weights_follow_the_averages_of_the_moment() -> None:
    bench = Bench()
    await bench.step()
    bench.weighed = weighing({2: 1.0})
    await bench.step()
    assert [shares for shares, _ in bench.chain.sent] == [SHARES, {2: 1.0}]


async def test_nothing_is_sent_where_there_is_nothing_to_say() -> None:
    bench = Bench(weighed=weighing({}, silence="no miner has earned anything yet"))
    assert await bench.step() == SHORTEST_WAIT
    assert bench.chain.sent == bench.kept == bench.alarms == []


async def test_weights_that_are_not_due_wait() -> None:
    bench = Bench()
    bench.chain.timing = replace(BEFORE_AN_EPOCH, blocks_until_next_epoch=15, blocks_since_last_update=5)
    assert await bench.step() == 5.0  # ten blocks of a second, half of them
    bench.chain.registered = False
    assert await bench.step() == 10.0
    assert bench.chain.sent == []


async def test_a_chain_that_is_away_is_waited_for() -> None:
    bench = Bench(MadeUpChain(down=True))
    assert await bench.step() == AWAY_SECONDS
    bench.chain.down = False
    assert await bench.step() == SHORTEST_WAIT
    assert len(bench.chain.sent) == 1


async def test_what_was_refused_is_not_tried_at_every_block() -> None:
    """And with the window of 5 blocks, not for 10 of them; unless the chain begins anew meanwhile."""
    bench = Bench(MadeUpChain(WeightsNotPermitted("no permit")))
    for block in range(96, 120):
        await bench.at_block(block)
    assert [attempt["block"] for attempt in bench.kept] == [96, 106, 116]
    bench.chain.timing = replace(BEFORE_AN_EPOCH, block=15, last_epoch_block=0)
    await bench.step()
    assert [attempt["block"] for attempt in bench.kept] == [96, 106, 116, 15]


@pytest.mark.parametrize("outcome", [WeightsSealed(80, 90), WeightsUnreachable("no answer within 120 s")])
async def test_what_lasts_is_kept_once_until_something_else_comes(outcome: WeightsOutcome) -> None:
    """A commit that nobody opens is met at every block, a node that takes nothing every few seconds."""
    bench = Bench(MadeUpChain(outcome))
    for block in range(96, 120):
        await bench.at_block(block)
    assert len(bench.chain.sent) == 24
    assert [attempt["block"] for attempt in bench.kept] == [96]
    bench.chain.outcome = WeightsTooEarly(1)
    await bench.at_block(120)
    bench.chain.outcome = outcome
    await bench.at_block(121)
    assert [attempt["block"] for attempt in bench.kept] == [96, 120, 121]


# --- alarms


async def test_three_tempos_without_success_raise_the_alarm_once_and_again_after_three_more() -> None:
    bench = Bench(MadeUpChain(WeightsNotPermitted("uid 0 holds no validator permit")))
    for block in range(96, 220):  # the last weights are those of block 80
        await bench.at_block(block)
    assert [attempt["block"] for attempt in bench.kept if attempt["outcome"] == ALARM] == [140, 200]
    assert len(bench.alarms) == 2
    assert bench.alarms[0] == (
        "no weights were set for 3.0 tempos: not permitted to set weights: uid 0 holds no validator permit"
    )
    alarm = next(attempt for attempt in bench.kept if attempt["outcome"] == ALARM)
    assert (alarm["detail"], alarm["weights"]) == (bench.alarms[0], {})

    bench.chain.outcome = WeightsSet(230, "230-1")
    await bench.at_block(235)
    assert bench.outcomes[-1] == "set"
    bench.chain.timing = replace(bench.chain.timing, blocks_since_last_update=5)
    bench.chain.outcome = WeightsNotPermitted("lost again")
    for block in range(236, 295):
        await bench.at_block(block)
    assert len(bench.alarms) == 3, "a success ends the count"


async def test_who_has_just_started_has_a_tempo_to_make_up_for_what_was_before() -> None:
    late = replace(BEFORE_AN_EPOCH, blocks_since_last_update=2000)
    bench = Bench(MadeUpChain(timing=late), weighed=weighing({}, silence="no miner has earned anything yet"))
    for block in range(96, 115):
        await bench.at_block(block)
    assert bench.alarms == []
    for block in range(115, 118):
        await bench.at_block(block)
    assert bench.alarms == ["no weights were set for 101.0 tempos: no miner has earned anything yet"]


async def test_a_chain_that_stays_away_raises_the_alarm_by_the_clock() -> None:
    bench = Bench()
    await bench.at_block(96)  # set, a second a block
    await bench.at_block(97)
    bench.chain.timing = replace(bench.chain.timing, blocks_since_last_update=0)
    await bench.step()
    bench.chain.down = True
    bench.clock.now += 59
    await bench.step()
    assert bench.alarms == []
    bench.clock.now += 2
    await bench.step()
    (alarm,) = bench.alarms
    assert "for 3.0 tempos: the chain at ws://127.0.0.1:9944 is not available" in alarm


async def test_a_chain_that_was_never_reached_raises_the_alarm_too() -> None:
    bench = Bench(MadeUpChain(down=True))
    for _ in range(4):
        await bench.step()
        bench.clock.now += TEMPO_SECONDS
    await bench.step()
    assert len(bench.alarms) == 1


async def test_nothing_to_say_for_three_tempos_is_said() -> None:
    bench = Bench(weighed=weighing({}, silence="no miner has earned anything yet"))
    for block in range(96, 160):
        await bench.at_block(block)
    assert bench.alarms == ["no weights were set for 3.0 tempos: no miner has earned anything yet"]
    assert bench.outcomes == [ALARM]


async def test_one_that_lost_its_registration_is_told() -> None:
    bench = Bench(MadeUpChain(registered=False))
    for block in range(96, 160):
        await bench.at_block(block)
    assert bench.alarms == ["no weights were set for 3.0 tempos: me is not registered"]


@pytest.mark.parametrize(
    ("timing", "epoch_length"),
    [
        (replace(BEFORE_AN_EPOCH, weights_rate_limit=100), None),
        (BEFORE_AN_EPOCH, 100),
        (replace(BEFORE_AN_EPOCH, reveal_epochs=5), None),
    ],
)
async def test_who_sets_weights_rarely_on_purpose_is_not_late(timing: EpochTiming, epoch_length: int | None) -> None:
    bench = Bench(MadeUpChain(WeightsTooEarly(1), timing=timing), epoch_length=epoch_length)
    for block in range(96, 370):  # the last weights are those of block 80
        await bench.at_block(block)
    assert bench.alarms == []
    await bench.at_block(380)
    assert len(bench.alarms) == 1


async def test_newer_software_is_asked_for_once_and_weights_go_on_when_that_is_taken_back() -> None:
    bench = Bench(MadeUpChain(WeightsOutdated(required=11, version=10)))
    for block in range(96, 130):
        await bench.at_block(block)
    assert bench.outcomes == ["outdated", ALARM]
    assert bench.alarms == [
        "no weights are set any more: the subnet requires version 11, this is 10: update this software"
    ]
    bench.chain.outcome = WeightsOutdated(required=12, version=10)
    await bench.at_block(136)
    assert len(bench.alarms) == 2, "another version is another message"
    bench.chain.outcome = WeightsSet(155, "155-1")
    await bench.at_block(155)
    assert bench.outcomes[-1] == "set"


# --- commits


@pytest.fixture
async def committed() -> Bench:
    """Weights committed at block 96, to be opened from block 100 on."""
    timing = replace(BEFORE_AN_EPOCH, reveal_epochs=1)
    bench = Bench(MadeUpChain(WeightsCommitted(100, "97-1"), timing=timing, weights={0: {2: 1.0}}))
    await bench.at_block(96)
    bench.chain.timing = replace(bench.chain.timing, blocks_since_last_update=0)
    bench.chain.sealed = 96
    assert bench.outcomes == ["committed"]
    return bench


async def test_a_commit_that_is_opened_in_time_is_fine(committed: Bench) -> None:
    await committed.at_block(99)
    committed.chain.sealed = None
    committed.chain.weights = {0: {1: 0.7, 3: 0.3}}  # what another limit has made of them
    for block in range(100, 114):
        await committed.at_block(block)
    assert committed.alarms == []


async def test_weights_that_are_the_same_as_before_are_in_effect() -> None:
    row = {1: 0.80001, 2: 0.19999}
    chain = MadeUpChain(WeightsCommitted(100, "97-1"), replace(BEFORE_AN_EPOCH, reveal_epochs=1), weights={0: row})
    bench = Bench(chain)
    await bench.at_block(96)
    bench.chain.timing = replace(bench.chain.timing, blocks_since_last_update=0)
    await bench.at_block(101)
    assert bench.alarms == []


async def test_a_reveal_without_effect_raises_the_alarm_once(committed: Bench) -> None:
    committed.chain.sealed = None  # gone, and the weights are what they were
    for block in range(97, 114):
        await committed.at_block(block)
    (alarm,) = committed.alarms
    assert alarm.startswith("the weights to be opened from block 100 on have no effect: the chain has dropped them")
    assert committed.outcomes == ["committed", ALARM]
    assert committed.kept[-1]["block"] == 100


async def test_a_beacon_that_is_late_has_a_tempo(committed: Bench) -> None:
    committed.chain.outcome = WeightsSealed(96, 100)
    for block in range(97, 120):
        await committed.at_block(block)
    assert committed.alarms == []
    await committed.at_block(120)
    (alarm,) = committed.alarms
    assert "they are still sealed a tempo later" in alarm
