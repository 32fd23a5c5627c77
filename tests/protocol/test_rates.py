"""How often somebody may ask, and how little is kept of who does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.rates import RateLimit


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 40)), max_size=60))
def test_the_rate_of_each_key_is_bounded(events: list[tuple[str, float]]) -> None:
    """In any stretch of time no more than what is allowed at once, and one for each period of it; others' keys do not
    count; who waits as long as it is told goes on."""
    clock = Clock()
    limit = RateLimit(10.0, 3, clock)
    taken: dict[str, list[float]] = {"a": [], "b": []}
    for key, pause in events:
        clock.now += pause
        wait = limit.take(key)
        if not wait:
            taken[key].append(clock.now)
        elif key == "a":
            clock.now += wait + 1e-9
            assert not limit.take(key)
            taken[key].append(clock.now)
    for times in taken.values():
        for first, begin in enumerate(times):
            for number, end in enumerate(times[first:], 1):
                assert number <= 3 + (end - begin) / 10.0 + 1e-6


def test_who_has_waited_is_forgotten() -> None:
    clock = Clock()
    limit = RateLimit(1.0, 2, clock)
    for number in range(100_000):
        clock.now += 0.01
        assert not limit.take(f"caller {number}")
        assert len(limit) <= 64 + 3 * 100  # 100 of them are in debt at any time
