"""The newest head finds its way to the chain once an epoch, and whatever the chain says to it stops nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from loguru import logger

from ig_subnet.chain import (
    ChainUnavailable,
    Commitment,
    CommitmentNotPermitted,
    CommitmentOutcome,
    CommitmentPublished,
    CommitmentRejected,
    CommitmentTooEarly,
    CommitmentUnchanged,
    CommitmentUnreachable,
    EpochTiming,
)
from ig_subnet.validating.keeping import AWAY_SECONDS
from ig_subnet.validating.publishing import HeadPublisher
from ig_subnet.validating.schedule import SHORTEST_WAIT

IN_AN_EPOCH = EpochTiming(
    block=90,
    tempo=20,
    blocks_until_next_epoch=10,
    last_epoch_block=80,
    blocks_since_last_update=None,
    weights_rate_limit=5,
)
HEAD = "ab" * 32


@dataclass
class MadeUpChain:
    """A chain that says what a test wants it to say."""

    outcome: CommitmentOutcome = field(default_factory=lambda: CommitmentPublished(91, "91-1"))
    published: Commitment | None = None
    down: bool = False
    timing: EpochTiming = IN_AN_EPOCH
    sent: list[bytes] = field(default_factory=list)

    async def epoch_timing(self, uid: int | None) -> EpochTiming:
        if self.down:
            raise ChainUnavailable("ws://127.0.0.1:9944", "connection refused")
        return self.timing

    async def commitment_of(self, hotkey: str) -> Commitment | None:
        assert hotkey == "me"
        return self.published

    async def publish_commitment(self, data: bytes) -> CommitmentOutcome:
        self.sent.append(data)
        return self.outcome


def publisher(chain: MadeUpChain, number: int = 3) -> HeadPublisher:
    async def newest_head() -> tuple[int, str]:
        return number, HEAD

    return HeadPublisher(chain, "me", newest_head)  # type: ignore[arg-type]


@pytest.fixture
def said() -> Iterator[list[tuple[str, str]]]:
    lines: list[tuple[str, str]] = []
    sink = logger.add(lambda message: lines.append((message.record["level"].name, message.record["message"])))
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize(
    ("outcome", "level", "wait"),
    [
        (CommitmentPublished(91, "91-1"), "INFO", 5.0),  # ten blocks of a second, half of them
        (CommitmentUnchanged(70), "INFO", 5.0),
        (CommitmentTooEarly(4), "WARNING", 2.0),
        (CommitmentNotPermitted("not registered"), "WARNING", 5.0),
        (CommitmentRejected("TooManyFields", "fewer"), "WARNING", 5.0),
        (CommitmentUnreachable("no answer"), "WARNING", AWAY_SECONDS),
    ],
)
async def test_every_answer_of_the_chain_is_logged_and_waited_for(
    outcome: CommitmentOutcome, level: str, wait: float, said: list[tuple[str, str]]
) -> None:
    chain = MadeUpChain(outcome)
    assert await publisher(chain).step() == wait
    assert chain.sent == [bytes.fromhex(HEAD)]
    assert said == [(level, f"head of commitment 3: {outcome}")]


async def test_once_an_epoch_is_enough_whoever_published_it() -> None:
    chain = MadeUpChain(published=Commitment(b"an older head", 85))  # also by the run before this one
    heads = publisher(chain)
    assert await heads.step() == 5.0
    assert chain.sent == []
    chain.timing = replace(IN_AN_EPOCH, block=100, last_epoch_block=100, blocks_until_next_epoch=20)
    await heads.step()
    assert chain.sent == [bytes.fromhex(HEAD)]


async def test_nothing_is_published_before_the_first_plan() -> None:
    chain = MadeUpChain()
    assert await publisher(chain, number=0).step() == SHORTEST_WAIT
    assert chain.sent == []


async def test_a_chain_that_is_away_is_waited_for(said: list[tuple[str, str]]) -> None:
    chain = MadeUpChain(down=True)
    heads = publisher(chain)
    assert await heads.step() == AWAY_SECONDS
    assert said[0][0] == "WARNING" and "connection refused" in said[0][1]
    chain.down = False
    assert await heads.step() == 5.0
    assert len(chain.sent) == 1
