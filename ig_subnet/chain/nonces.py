"""Which nonces were accepted: in memory for one process, or in a file that all processes of one hotkey share."""

from __future__ import annotations

import asyncio
import sqlite3
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loguru import logger

from ig_subnet.chain.errors import NonceStoreUnusable

__all__ = ["MAX_AGE_SECONDS", "MAX_SKEW_SECONDS", "NonceStore"]

MAX_AGE_SECONDS = 10.0
"""How old a request may be. With the skew, the window of btauth/1's own defaults."""
MAX_SKEW_SECONDS = 2.0
"""How far a caller's clock may be ahead of ours."""

_SECOND = 1_000_000_000  # nonces are nanoseconds since the epoch
_VERSION = 1
_EVERYONE = ""  # the row whose floor counts for callers that have none of their own
_LOCK_SECONDS = 5.0  # for another process to finish its write, which takes one wait for the disk
_RETRY_SECONDS = 0.01  # where SQLite itself does not wait for a lock
_FORGOTTEN_AT_ONCE = 16  # more than one, so that a store that has grown shrinks again; few, so that each call is short

_SCHEMA = f"""
CREATE TABLE caller (hotkey TEXT PRIMARY KEY, floor INTEGER NOT NULL, held INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE nonce (hotkey TEXT, nonce INTEGER, PRIMARY KEY (hotkey, nonce)) STRICT, WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""


class NonceStore:
    """Which nonces were accepted, bounded, and without a moment at which an accepted one could be accepted again.

    A nonce is refused if it is stored or not above its caller's floor. Whatever leaves the store raises a floor to
    itself, so forgetting never reopens anything, whichever way the clock is set. Floors start at the time at which the
    store was made: what was accepted before is older.

    Without a `file` it is in memory, for one process, and an acceptance takes 20 us. With one, every process that opens
    it knows what the others accepted; each acceptance is on the disk before it counts, so it survives a power cut
    (SQLite in WAL mode, on a local disk; 5 ms on the one measured). Raises `NonceStoreUnusable` for a file that cannot
    be opened or is something else. Close one with a file at the end.
    """

    retention = 2 * (MAX_AGE_SECONDS + MAX_SKEW_SECONDS)
    """Seconds a nonce is remembered; twice the window in which it is fresh."""

    def __init__(
        self,
        file: Path | None = None,
        *,
        max_callers: int = 1024,
        max_nonces_per_caller: int = 4096,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._max_callers = max_callers
        self._max_nonces = max_nonces_per_caller
        self._clock_ns = clock_ns
        self._told_of_clock = False
        # The disk and the other processes are waited for on a thread; memory is not worth one.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nonces") if file is not None else None
        try:
            self._database = sqlite3.connect(
                file or ":memory:", timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise
        except (sqlite3.Error, OverflowError) as error:
            raise NonceStoreUnusable(file or Path(":memory:"), str(error)) from None
        weakref.finalize(self, self._database.close)  # at the latest

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA synchronous = FULL")
        with database:
            database.execute("BEGIN IMMEDIATE")  # who starts at the same time sees all of it or nothing
            version = self._version()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError("it is another database")
            if not version:
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute("INSERT INTO caller VALUES (?, ?, 0)", (_EVERYONE, self._clock_ns()))
        self._write_ahead()

    def _write_ahead(self) -> None:
        """Choose WAL. SQLite does not wait for others here, where waiting could be for each other."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # The low byte is the error, what is above it only its circumstances.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_SECONDS)

    def _version(self) -> int:
        """0 for a new file, -1 for one that holds something without a version."""
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return -1 if tables and not version else int(version)

    def close(self) -> None:
        """Lets a write that has begun end, and closes the file."""
        if self._thread is not None:
            self._thread.shutdown()
        self._database.close()

    async def accept(self, hotkey: str, nonce: int) -> bool:
        """As `check_and_store`; a file is waited for off the event loop."""
        if self._thread is None:
            return self.check_and_store(hotkey, nonce)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.check_and_store, hotkey, nonce)

    def check_and_store(self, hotkey: str, nonce: int) -> bool:
        """True, and remembered, if this caller's nonce was never accepted; False otherwise or if there is no room.

        Raises sqlite3.Error where a file cannot be written: then nothing is accepted.
        """
        now = self._clock_ns()
        oldest = now - int(self.retention * _SECOND)
        with self._database:  # commits, or rolls back what raises
            self._database.execute("BEGIN IMMEDIATE")
            standing = self._standing(hotkey) or self._newcomer(hotkey, oldest)
            if standing is None:
                return False
            if nonce <= standing[0]:
                self._tell_of_clock(standing[0] - now)
                return False
            added = self._database.execute("INSERT OR IGNORE INTO nonce VALUES (?, ?)", (hotkey, nonce)).rowcount
            if not added:
                return False
            floor, held = self._forget_nonces(hotkey, standing[0], standing[1] + 1, oldest)
            self._database.execute("UPDATE caller SET floor = ?, held = ? WHERE hotkey = ?", (floor, held, hotkey))
            return True

    def _tell_of_clock(self, ahead: int) -> None:
        """Say once why everything is refused: after a clock was corrected, what is accepted now could be a replay."""
        if ahead > MAX_SKEW_SECONDS * _SECOND and not self._told_of_clock:
            self._told_of_clock = True
            logger.warning(
                "the clock was set back: requests are refused for another {:.0f} s, since some of that time may have "
                "been accepted before; restart with a right clock (and without the nonce store's file) to go on now",
                ahead / _SECOND,
            )

    def _standing(self, hotkey: str) -> tuple[int, int] | None:
        """A caller's floor, and how many of its nonces are held."""
        row: tuple[int, int] | None = self._database.execute(
            "SELECT floor, held FROM caller WHERE hotkey = ?", (hotkey,)
        ).fetchone()
        return row

    def _newcomer(self, hotkey: str, oldest: int) -> tuple[int, int] | None:
        """The standing of a caller that has none yet. None if there is no room: refusing is the safe way to be wrong
        where all that are stored are active."""
        if self._callers() >= self._max_callers:
            self._forget_callers(oldest)
            if self._callers() >= self._max_callers:
                return None
        self._database.execute(
            "INSERT INTO caller SELECT ?, floor, 0 FROM caller WHERE hotkey = ?", (hotkey, _EVERYONE)
        )
        return self._standing(hotkey)

    def _callers(self) -> int:
        (count,) = self._database.execute("SELECT count(*) - 1 FROM caller").fetchone()
        return int(count)

    def _forget_nonces(self, hotkey: str, floor: int, held: int, oldest: int) -> tuple[int, int]:
        """The caller's floor and how many it holds after the smallest, too old or too many, are forgotten."""
        smallest = [
            nonce
            for (nonce,) in self._database.execute(
                "SELECT nonce FROM nonce WHERE hotkey = ? ORDER BY nonce LIMIT ?", (hotkey, _FORGOTTEN_AT_ONCE)
            )
        ]
        leaving = [nonce for rank, nonce in enumerate(smallest) if nonce < oldest or held - rank > self._max_nonces]
        if leaving:
            self._database.execute("DELETE FROM nonce WHERE hotkey = ? AND nonce <= ?", (hotkey, leaving[-1]))
            floor = max(floor, leaving[-1])
        return floor, held - len(leaving)

    def _forget_callers(self, oldest: int) -> None:
        """Whoever has been silent goes; what anyone's newest nonce was, everyone's floor is at least."""
        silent = self._database.execute(
            "SELECT hotkey, max(floor, coalesce((SELECT max(nonce) FROM nonce WHERE nonce.hotkey = caller.hotkey), 0)) "
            "AS newest FROM caller WHERE hotkey <> ? AND newest < ?",
            (_EVERYONE, oldest),
        ).fetchall()
        for hotkey, newest in silent:
            self._database.execute("DELETE FROM nonce WHERE hotkey = ?", (hotkey,))
            self._database.execute("DELETE FROM caller WHERE hotkey = ?", (hotkey,))
            self._database.execute("UPDATE caller SET floor = max(floor, ?) WHERE hotkey = ?", (newest, _EVERYONE))
