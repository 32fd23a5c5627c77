"""A hotkey that a node does not show: an error of the node first, the truth later."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import AsyncMock

from ig_subnet.chain import ChainUnavailable, MetagraphSnapshot, NeuronSnapshot, Presence, wait_for_chain
from ig_subnet.chain.presence import MISSING_SECONDS

OWN = NeuronSnapshot(0, "me", "cold", 0.0, False, True, 0, 0, None, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
WITH = MetagraphSnapshot(1, 10, (OWN,))
WITHOUT = MetagraphSnapshot(1, 11, (replace(OWN, hotkey="another"),))
EMPTY = MetagraphSnapshot(1, 0, ())


def test_it_is_believed_gone_only_when_it_stays_away() -> None:
    now = 0.0
    presence = Presence("me", clock=lambda: now)
    assert presence.believes(WITH)
    assert not presence.believes(EMPTY)
    now = MISSING_SECONDS - 1
    assert not presence.believes(WITHOUT)
    assert presence.believes(WITH)
    now += 2
    assert not presence.believes(WITHOUT), "it was there in between, so it counts anew"
    now += MISSING_SECONDS
    assert presence.believes(WITHOUT)


async def test_a_chain_that_comes_up_later_is_waited_for() -> None:
    away = ChainUnavailable("ws://nowhere", "connection refused")
    chain = AsyncMock()
    chain.metagraph.side_effect = [away, away, WITH]
    assert await wait_for_chain(chain, pause_seconds=0.01) is WITH
