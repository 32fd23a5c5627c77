"""What one address may take of a server, without a network."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Limits
from protocol.sources import Sources, forwarded_for, source_of


class Transport(asyncio.Transport):
    """A connection that ends when it is told to."""

    def __init__(self, sources: Sources, source: str) -> None:
        super().__init__()
        self.open = sources.enter(source, self, is_proxy=False)
        self.spoken = False
        self.source = source
        self._sources = sources

    def abort(self) -> None:
        if self.open:
            self.open = False
            self._sources.leave(self.source, self)

    def speak(self) -> None:
        self.spoken = True
        self._sources.spoke(self)


@given(st.lists(st.tuples(st.sampled_from(["come", "speak", "go"]), st.integers(0, 3), st.integers(0, 9)), max_size=80))
def test_nobody_takes_more_than_its_share_and_who_has_spoken_stays(events: list[tuple[str, int, int]]) -> None:
    sources = Sources(Limits(max_connections=5, max_connections_per_address=3))
    connections: list[Transport] = []
    for what, source, which in events:
        before = [connection for connection in connections if connection.open]
        if what == "come":
            newcomer = Transport(sources, f"203.0.113.{source}")
            connections.append(newcomer)
            own = sum(connection.source == newcomer.source for connection in before)
            silent = [connection for connection in before if not connection.spoken]
            assert newcomer.open == (own < 3 and (len(before) < 5 or bool(silent)))
            if newcomer.open and len(before) == 5:
                crowd = Counter(connection.source for connection in [*silent, newcomer])
                of_most = [connection for connection in silent if crowd[connection.source] == max(crowd.values())]
                assert [connection for connection in before if not connection.open] == of_most[:1], "the longest silent"
        elif before:
            chosen = before[which % len(before)]
            chosen.speak() if what == "speak" else chosen.abort()
        assert sum(connection.open for connection in connections) <= 5
    for connection in connections:
        connection.abort()
    assert not sources._open and not sources._silent, "nothing is kept of those that are gone"


def test_a_crowd_that_comes_anew_closes_nobodys_only_connection() -> None:
    sources = Sources(Limits(max_connections=20, max_connections_per_address=5))
    honest = Transport(sources, "203.0.113.1")
    addresses = [f"203.0.113.{number}" for number in range(10, 20)]
    crowd = [Transport(sources, address) for _ in range(100) for address in addresses]
    assert honest.open
    assert sum(connection.open for connection in crowd) == 19


def test_a_newcomer_counts_among_the_silent_of_its_source() -> None:
    """Where everybody has one connection, a second one closes its own source's first, and nobody else's."""
    sources = Sources(Limits(max_connections=3))
    honest, crowd, other = (Transport(sources, f"203.0.113.{number}") for number in range(3))
    assert Transport(sources, crowd.source).open
    assert [honest.open, crowd.open, other.open] == [True, False, True]
    assert Transport(sources, "203.0.113.9").open
    assert not honest.open, "of equals, the oldest"


def test_a_proxy_has_no_share_but_the_whole() -> None:
    sources = Sources(Limits(max_connections=5, max_connections_per_address=1), ["10.0.0.2", "::1"])
    assert all(sources.is_proxy(address) for address in ("10.0.0.2", "::ffff:10.0.0.2", "::1"))
    assert not any(sources.is_proxy(address) for address in ("10.0.0.3", "::2", ""))
    crowd = [Transport(sources, "203.0.113.7") for _ in range(2)]
    assert [connection.open for connection in crowd] == [True, False]
    assert all(sources.enter("10.0.0.2", asyncio.Transport(), is_proxy=True) for _ in range(4))


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ([], None),
        (["203.0.113.7"], "203.0.113.7"),
        (["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
        (["1.1.1.1", "2.2.2.2 ,203.0.113.7"], "203.0.113.7"),
        (["2001:db8::1"], "2001:db8::1"),
        (["203.0.113.7:80"], None),
        (["203.0.113.7, unknown"], None),
        (["203.0.113.7,"], None),
        ([""], None),
    ],
)
def test_the_last_word_of_a_proxy(values: list[str], address: str | None) -> None:
    headers = [(b"host", b"203.0.113.9"), *((b"X-Forwarded-For", value.encode()) for value in values)]
    assert forwarded_for(headers) == address


def test_sources_of_connections() -> None:
    assert source_of("203.0.113.7") == source_of("::ffff:203.0.113.7") == "203.0.113.7"
    assert source_of("2001:db8:1:2:3:4:5:6") == source_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert source_of("fe80::1%eth0") == "fe80::/64"
    assert source_of("") == ""
