"""Which nonces are accepted: once each, whatever the clock does, in memory and in a file that processes share."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Barrier, Timer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from wire_peers import PATIENCE_SECONDS, Keys, paint, running

from ig_subnet.chain import NonceStoreUnusable, nonces
from ig_subnet.chain.auth import BtAuthVerifier
from ig_subnet.chain.nonces import MAX_AGE_SECONDS, MAX_SKEW_SECONDS, NonceStore
from protocol import Axon, Dendrite, QueryStatus, Target, TextToImageSynapse

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ABCDEF"),
            st.integers(-30, 30),  # the nonce, in seconds from the clock
            st.integers(-100, 100),  # then the clock steps, forth or back
        ),
        max_size=200,
    )
)
def test_no_nonce_is_accepted_twice_whatever_the_clock_does(events: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    store = NonceStore(max_callers=3, max_nonces_per_caller=4, clock_ns=clock)
    accepted: set[tuple[str, int]] = set()
    for hotkey, offset, step in events:
        nonce = clock.now + offset * SECOND
        if store.check_and_store(hotkey, nonce):
            assert (hotkey, nonce) not in accepted
            accepted.add((hotkey, nonce))
        clock.now = max(0, clock.now + step * SECOND)


def test_growing_nonces_are_always_accepted() -> None:
    """Forgetting never refuses an honest caller, however many requests it makes."""
    clock = Clock()
    store = NonceStore(max_callers=2, max_nonces_per_caller=10, clock_ns=clock)
    for _ in range(1000):
        clock.now += SECOND // 100
        assert store.check_and_store("A", clock.now)
        assert store.check_and_store("B", clock.now)
    assert store.check_and_store("A", clock.now - 1)  # slightly out of order is fine as well


def test_a_flood_of_one_caller_costs_only_itself() -> None:
    clock = Clock()
    store = NonceStore(max_nonces_per_caller=10, clock_ns=clock)
    clock.now += SECOND
    ahead = clock.now + int(MAX_SKEW_SECONDS * SECOND)
    assert all(store.check_and_store("flood", ahead + i) for i in range(100))
    assert not store.check_and_store("flood", clock.now)  # its floor has risen past now
    assert store.check_and_store("honest", clock.now)


def test_a_full_store_makes_room_only_for_forgotten_callers() -> None:
    clock = Clock()
    store = NonceStore(max_callers=2, clock_ns=clock)
    clock.now += SECOND
    assert store.check_and_store("A", clock.now)
    assert store.check_and_store("B", clock.now)
    assert not store.check_and_store("C", clock.now)
    clock.now += int(store.retention * SECOND) + 1
    assert store.check_and_store("C", clock.now)
    assert not store.check_and_store("A", clock.now - int(store.retention * SECOND) - 1)  # the forgotten one's nonce


def test_retention_is_twice_the_window() -> None:
    assert NonceStore.retention >= 2 * (MAX_AGE_SECONDS + MAX_SKEW_SECONDS)


def test_a_clock_that_was_set_back_is_told_of_once() -> None:
    clock, said = Clock(), []
    sink = logger.add(said.append, format="{message}")
    store = NonceStore(clock_ns=clock)
    assert not store.check_and_store("A", clock.now)  # a replay from before the start is nothing to tell
    clock.now -= 3600 * SECOND
    assert not any(store.check_and_store("A", clock.now + number) for number in range(3))
    logger.remove(sink)
    assert len(said) == 1
    assert "refused for another 3600 s" in str(said[0])


# --- in a file -------------------------------------------------------------------------------------------------------


def test_a_file_is_shared_and_outlives_its_processes(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "nonces.sqlite3"
    with closing(NonceStore(file, clock_ns=clock)) as one:
        clock.now += SECOND
        with closing(NonceStore(file, clock_ns=clock)) as other:
            assert one.check_and_store("A", clock.now)
            assert not other.check_and_store("A", clock.now)
            assert other.check_and_store("B", clock.now)
            assert not one.check_and_store("B", clock.now)
    clock.now += SECOND
    with closing(NonceStore(file, clock_ns=clock)) as again:
        assert not again.check_and_store("A", clock.now - SECOND)
        assert again.check_and_store("A", clock.now - 1), "what nobody accepted before a restart is as good as ever"
        assert not again.check_and_store("A", clock.now - 3 * SECOND), "older than the file"


def test_of_many_that_share_a_file_one_accepts(tmp_path: Path) -> None:
    """All at once, on threads of their own; nobody fails because another writes."""
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(NonceStore(tmp_path / "nonces", clock_ns=lambda: 0))) for _ in range(4)]
        pool = stack.enter_context(ThreadPoolExecutor(len(stores)))
        accepted = list(
            pool.map(lambda store: [store.check_and_store("A", 1 + number) for number in range(20)], stores)
        )
    assert [sum(votes) for votes in zip(*accepted, strict=True)] == [1] * 20


def test_many_can_start_on_a_new_file_at_once(tmp_path: Path) -> None:
    together = Barrier(4)

    def start(file: Path) -> NonceStore:
        together.wait(PATIENCE_SECONDS)
        return NonceStore(file, clock_ns=lambda: 0)

    with ThreadPoolExecutor(4) as pool:
        for number in range(10):
            stores = list(pool.map(start, [tmp_path / str(number)] * 4))
            assert [store.check_and_store("A", 1) for store in stores] == [True, False, False, False]
            for store in stores:
                store.close()


def test_a_start_waits_for_who_writes_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between what a start writes and its choice of WAL another may begin; SQLite does not wait for that by itself."""
    file = tmp_path / "nonces"
    with (
        closing(NonceStore(file)) as store,
        closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as writer,
    ):
        store._database.execute("PRAGMA journal_mode = DELETE")
        writer.execute("BEGIN IMMEDIATE")
        with monkeypatch.context() as patch:
            patch.setattr(nonces, "_LOCK_SECONDS", 0.05)
            with pytest.raises(NonceStoreUnusable, match="database is locked"):
                NonceStore(file)
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                store._write_ahead()
        done = Timer(0.05, writer.execute, ["COMMIT"])
        done.start()
        store._write_ahead()
        done.join()
        assert store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_stays_small(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "nonces"
    with closing(NonceStore(file, max_callers=2, max_nonces_per_caller=3, clock_ns=clock)) as store:
        for number in range(30):
            clock.now += 2 * SECOND
            store.check_and_store(f"caller {number % 10}", clock.now)
            store.check_and_store("always", clock.now)
            rows = sqlite3.connect(file)
            with closing(rows):
                assert rows.execute("SELECT count(*) FROM nonce").fetchone()[0] <= 6
                assert rows.execute("SELECT count(*) FROM caller").fetchone()[0] <= 3


@pytest.mark.parametrize("content", ["text", "another database", "a later version"])
def test_a_file_that_is_something_else_is_refused_and_left_alone(content: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    if content == "text":
        file.write_text("not a database, and longer than the header of one: " * 9)
    else:
        with closing(sqlite3.connect(file)) as database:
            database.execute("CREATE TABLE mine (a)")
            database.execute(f"PRAGMA user_version = {0 if content == 'another database' else 2}")
    before = file.read_bytes()
    with pytest.raises(NonceStoreUnusable, match=r"the nonce store .*file cannot be used: .*--axon\.nonce_store"):
        NonceStore(file)
    assert file.read_bytes() == before
    with pytest.raises(NonceStoreUnusable, match="unable to open"):
        NonceStore(tmp_path / "no" / "folder")


async def test_a_store_that_cannot_be_written_lets_nobody_pass(
    tmp_path: Path, keys: Keys, dendrite: Dendrite, synapse: TextToImageSynapse
) -> None:
    with closing(NonceStore(tmp_path / "nonces")) as store:
        store._database.execute("PRAGMA query_only = ON")
        verifier = BtAuthVerifier(keys.miner.hotkey, nonces=store)
        async with running(Axon(paint, keys.miner, verifier, host="127.0.0.1", port=0, policy=lambda _: None)) as axon:
            target = Target(keys.miner.hotkey, "127.0.0.1", axon.port)
            result = await dendrite.query(target, synapse)
            assert (result.status, result.detail) == (QueryStatus.FAILED, "HTTP 500 internal_error, unsigned")
            store._database.execute("PRAGMA query_only = OFF")
            assert (await dendrite.query(target, synapse)).status is QueryStatus.ANSWERED
