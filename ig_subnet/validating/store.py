"""The validator's memory: one SQLite file (WAL), keyed by hotkey, written in one transaction a round.

One process writes, any number read. A kill at any instant loses at most the round in flight: a round is there with its
answers, images, scores and the moving averages after it, or not at all, so no observation is ever counted twice. A file
of an earlier version can be read as it is, and is brought up to date once it is opened for writing. A `ScoreStore`
belongs to the thread that opened it (sqlite3 enforces that).
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from ig_subnet.validating.commitments import ASKED, VOID
from ig_subnet.validating.errors import StoreError, StoreLocked
from ig_subnet.validating.reading import BUSY_SECONDS, StoreReader, explained
from ig_subnet.validating.records import CommitmentRow, ImageRow, RoundRecord, RoundRow
from ig_subnet.validating.schema import SCHEMA_VERSION, SCHEMAS

STORE_FILE = "scores.sqlite3"
"""The store's file name inside a validator's state directory."""

# Most of a store, and nothing that later rounds are made from.
DETAILS = ("images", "fingerprints", "expert_scores", "averages")
ALL_OF_A_ROUND = (*DETAILS, "answers", "prompts", "rounds")

IMAGE_COLUMNS = [f":{field.name}" for field in fields(ImageRow)][:-2]  # without hash and embedding
INSERT_IMAGE = f"INSERT INTO images VALUES ({', '.join(IMAGE_COLUMNS)})"
INSERT_FINGERPRINT = "INSERT INTO fingerprints VALUES (:round_id, :position, :hotkey, :number, :phash, :embedding)"
SUPERSEDED_WEIGHTS = """
    DELETE FROM weight_settings WHERE at <= (SELECT finished_at FROM rounds WHERE round_id = ?)
        AND id < (SELECT MAX(id) FROM weight_settings)"""
OLDEST_OF_NEWEST = """
    SELECT round_id FROM fingerprints ORDER BY round_id DESC, position DESC, hotkey DESC, number DESC LIMIT 1
    OFFSET ? - 1"""
THIN = "DELETE FROM fingerprints WHERE round_id = (SELECT MIN(round_id) FROM fingerprints) AND round_id < ?"
INCREMENTAL = 2  # of PRAGMA auto_vacuum: pages that nothing is in any more can be given back
SHRINK_PAGES = 1000  # in one transaction
LOG_BYTES = 16 * 2**20  # to which the WAL is cut once it is in the file


class ScoreStore(StoreReader):
    """The store of one validator, opened by `open` for its one writer; what is read from it is in `StoreReader`."""

    _lock: IO[str] | None = None

    @classmethod
    def open(cls, path: Path) -> ScoreStore:
        """The store at `path` for writing, created (with its folders) where there is none.

        Raises StoreLocked while another process has it open for writing, StoreTooNew, StoreDamaged or StoreError.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _exclusive(path)
        store = None
        try:
            with explained(path):
                store = cls(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None), path)
                store._lock = lock
                version = store.version()  # before anything is changed in a file that may not be ours
                store._connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")  # of a new file only
                store._connection.execute("PRAGMA journal_mode = WAL")
                store._connection.execute("PRAGMA synchronous = FULL")  # one fsync a round; a power cut loses nothing
                store._connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
                if version < SCHEMA_VERSION:
                    store._upgrade(version)
                if store._pragma("auto_vacuum") != INCREMENTAL:  # a file of schema 1, 2 or 3 is written anew, once
                    store._connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
                    store._connection.execute("VACUUM")
                return store
        except BaseException:
            store.close() if store is not None else lock.close()
            raise

    def close(self) -> None:
        """Closes the file and lets the next writer in."""
        super().close()
        if self._lock is not None:
            self._lock.close()

    def record_round(self, record: RoundRecord) -> None:
        """Writes the whole round and the moving averages after it, or nothing. Raises StoreError for an id taken."""
        with self._transaction():
            if record.rewarder is not None:
                made_with = record.rewarder
                self._connection.execute(
                    "INSERT OR IGNORE INTO rewarders VALUES (?, ?, ?, ?)",
                    (made_with.fingerprint, made_with.dtype, made_with.resize, json.dumps(made_with.identities)),
                )
            self._insert("rounds", [record.round])
            if record.commitment is not None:
                self._reveal(record.commitment, record.round.finished_at, ASKED)
            self._insert("prompts", record.prompts)
            self._insert("answers", record.answers)
            self._connection.executemany(INSERT_IMAGE, (vars(image) for image in record.images))
            printed = (vars(image) for image in record.images if image.phash is not None)
            self._connection.executemany(INSERT_FINGERPRINT, printed)
            self._insert("expert_scores", record.expert_scores)
            self._insert("averages", record.averages)
            self._connection.execute("DELETE FROM miners")
            self._insert("miners", record.miners)

    def commit(self, commitment: CommitmentRow) -> None:
        """Writes a plan, with its secret and content. Raises StoreError while another one is not revealed."""
        with self._transaction():
            self._insert("commitments", [commitment])

    def void_commitment(self, number: int, at: float) -> None:
        """Reveals a plan that is given up."""
        with self._transaction():
            self._reveal(number, at, VOID)

    def _reveal(self, number: int, at: float, outcome: str) -> None:
        revealed = self._connection.execute(
            "UPDATE commitments SET revealed_at = ?, outcome = ? WHERE id = ? AND revealed_at IS NULL",
            (at, outcome, number),
        )
        if revealed.rowcount != 1:
            raise StoreError(f"{self.path} has no commitment {number} that is not revealed yet")

    def record_weight_setting(
        self,
        *,
        at: float,
        block: int,
        outcome: str,
        detail: str,
        weights: Mapping[int, float],
        basis: str | None = None,
    ) -> None:
        """Writes one attempt to set weights, what the chain said to it, and what the weights followed from (JSON)."""
        shares = json.dumps({str(uid): share for uid, share in weights.items()})
        with self._transaction():
            self._connection.execute(
                "INSERT INTO weight_settings (at, block, outcome, detail, weights, basis) VALUES (?, ?, ?, ?, ?, ?)",
                (at, block, outcome, detail, shares, basis),
            )

    def oldest_round(self, *, detailed: bool) -> RoundRow | None:
        """The oldest round on record, or of those that still have their details; None where there is none."""
        oldest = "SELECT MIN(round_id) FROM " + ("averages" if detailed else "rounds")
        with explained(self.path):
            found = self._connection.execute(f"SELECT * FROM rounds WHERE round_id = ({oldest})").fetchone()
            return None if found is None else RoundRow(*found)

    def forget(self, round_id: int, *, wholly: bool) -> None:
        """Removes the details of a round (its images, their scores, what was observed), or all that is kept of it.

        Attempts to set weights from before its end go too, but for the newest. The moving averages stay as they are;
        prompts of a round that is gone count as never asked.
        """
        with self._transaction():
            self._connection.execute(SUPERSEDED_WEIGHTS, (round_id,))
            for table in ALL_OF_A_ROUND if wholly else DETAILS:
                self._connection.execute(f"DELETE FROM {table} WHERE round_id = ?", (round_id,))

    def thin(self, keep: int) -> bool:
        """Removes the fingerprints of the oldest round that has any, where the newest `keep` are all of later rounds;
        whether it did."""
        with self._transaction():
            needed = self._connection.execute(OLDEST_OF_NEWEST, (keep,)).fetchone() or (0,)
            return self._connection.execute(THIN, needed).rowcount > 0

    def answer_count(self) -> int:
        """How many answers are on record; they are numbered in their order, so none of them has to be counted."""
        with explained(self.path):
            query = "SELECT (SELECT MAX(rowid) FROM answers) - (SELECT MIN(rowid) FROM answers) + 1"
            return self._connection.execute(query).fetchone()[0] or 0

    def size(self) -> int:
        """The bytes of the file that something is in."""
        with explained(self.path):
            used = self._pragma("page_count") - self._pragma("freelist_count")
            return used * self._pragma("page_size")

    def shrink(self) -> bool:
        """Gives at most 4 MB of what was forgotten back to the disk; False when there is nothing left to give."""
        with explained(self.path):
            self._connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")  # execute() ends after a page
            left = self._pragma("freelist_count") > 0
            if not left:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # only then is the file cut
            return left

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _insert(self, table: str, rows: Iterable[Any]) -> None:
        tuples = [tuple(vars(row).values()) for row in rows]  # dataclasses.astuple copies deeply, 20 times as slow
        if tuples:
            marks = ", ".join("?" * len(tuples[0]))
            self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", tuples)

    def _upgrade(self, version: int) -> None:
        from ig_subnet.prompts.database import prompt_id

        self._connection.create_function("prompt_id", 1, prompt_id, deterministic=True)
        with self._transaction():
            for newer in range(version + 1, SCHEMA_VERSION + 1):
                for statement in SCHEMAS[newer]:
                    self._connection.execute(statement)
            self._connection.execute("REPLACE INTO meta VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def _exclusive(path: Path) -> IO[str]:
    """An open lock file beside the store; the kernel lets it go when its process ends, however it ends."""
    lock = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StoreLocked(f"another validator writes to {path}: stop it, or use another --neuron.name") from error
    return lock
