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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote

from ig_subnet.prompts import Uses
from ig_subnet.validating.commitments import ASKED, FIRST_HEAD, VOID
from ig_subnet.validating.errors import (
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreTooNew,
)
from ig_subnet.validating.records import (
    AnswerRow,
    AverageRow,
    CommitmentRow,
    ExpertScoreRow,
    FingerprintRow,
    ImageRow,
    MinerRow,
    PromptRow,
    RewarderRow,
    RoundRecord,
    RoundRow,
    WeightSettingRow,
)
from ig_subnet.validating.schema import SCHEMA_VERSION, SCHEMAS

STORE_FILE = "scores.sqlite3"
"""The store's file name inside a validator's state directory."""

BUSY_SECONDS = 5.0

# For each of the prompts ?1 (JSON) that was ever asked: how often, and how many of the hotkeys ?2 have had it. A miner
# is looked up until it is found. Of 100 thousand recorded prompts, 100 that all of 192 miners have had take 12 ms of a
# core, asked once or fifty times; 100 that were never asked, 0.1 ms.
USES = """
    WITH miner (hotkey) AS MATERIALIZED (SELECT value FROM json_each(?2))
    SELECT wanted.value, (SELECT COUNT(*) FROM prompts WHERE prompt_id = wanted.value) AS times,
        (SELECT COUNT(*) FROM miner WHERE EXISTS (
            SELECT 1 FROM prompts AS asked CROSS JOIN answers AS answer
            WHERE asked.prompt_id = wanted.value AND answer.round_id = asked.round_id
                AND answer.position = asked.position AND answer.hotkey = miner.hotkey))
    FROM json_each(?1) AS wanted WHERE times > 0"""

# Where the newest ones begin is looked up first: sorting them would write all their embeddings to a temporary file.
FIRST_FINGERPRINT = """
    SELECT round_id, position, hotkey, number FROM images WHERE phash IS NOT NULL
    ORDER BY round_id DESC, position DESC, hotkey DESC, number DESC LIMIT 1 OFFSET ?"""
FINGERPRINTS = """
    SELECT image.round_id, image.position, hotkey, number, sha256, verdict, prompt_id, phash, embedding
    FROM images AS image LEFT JOIN prompts AS prompt
        ON prompt.round_id = image.round_id AND prompt.position = image.position
    WHERE phash IS NOT NULL AND (image.round_id, image.position, hotkey, number) >= (?, ?, ?, ?)
    ORDER BY image.round_id, image.position, hotkey, number"""

Row = TypeVar("Row")


class ScoreStore:
    """The store of one validator; made by `open` (the one writer) or `open_read_only`, and closed by `with` or `close`.

    The readers yield typed rows in the order of their keys. `after_round` skips every round up to it, so that a live
    view reads only what is new. Every method raises a `StoreError` that says what to do.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: IO[str] | None) -> None:
        self._connection = connection
        self._lock = lock
        self.path = path

    @classmethod
    def open(cls, path: Path) -> ScoreStore:
        """The store at `path` for writing, created (with its folders) where there is none.

        Raises StoreLocked while another process has it open for writing, StoreTooNew, StoreDamaged or StoreError.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _exclusive(path)
        store = None
        try:
            with _explained(path):
                store = cls(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None), path, lock)
                version = store._version()  # before anything is changed in a file that may not be ours
                store._connection.execute("PRAGMA journal_mode = WAL")
                store._connection.execute("PRAGMA synchronous = FULL")  # one fsync a round; a power cut loses nothing
                if version < SCHEMA_VERSION:
                    store._upgrade(version)
                return store
        except BaseException:
            store.close() if store is not None else lock.close()
            raise

    @classmethod
    def open_read_only(cls, path: Path) -> ScoreStore:
        """The store at `path` for reading, also while its validator runs. Raises StoreMissing where there is none."""
        if not path.is_file():
            raise StoreMissing(f"no score store at {path}: has this validator ever started?")
        with _explained(path):
            uri = f"file:{quote(str(path.resolve()))}?mode=ro"
            store = cls(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None), path, None)
            try:
                if not store._version():
                    raise StoreMissing(f"{path} holds no scores yet: its validator is only starting")
            except BaseException:
                store.close()
                raise
            return store

    def close(self) -> None:
        """Closes the file and, for the writer, lets the next one in."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> ScoreStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # writing

    def next_round_id(self) -> int:
        """The id of the round to run now: one above the last recorded one, so a round that was lost is run again."""
        with _explained(self.path):
            return int(self._connection.execute("SELECT COALESCE(MAX(round_id), 0) + 1 FROM rounds").fetchone()[0])

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
            self._insert("images", record.images)
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
        self, *, at: float, block: int, outcome: str, detail: str, weights: Mapping[int, float]
    ) -> None:
        """Writes one attempt to set weights and what the chain said to it."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO weight_settings (at, block, outcome, detail, weights) VALUES (?, ?, ?, ?, ?)",
                (at, block, outcome, detail, json.dumps({str(uid): share for uid, share in weights.items()})),
            )

    # reading

    def unrevealed_commitment(self) -> CommitmentRow | None:
        """The plan of the next round with its secret and content, for the validator alone; None before it is made."""
        with _explained(self.path):
            found = self._connection.execute("SELECT * FROM commitments WHERE revealed_at IS NULL").fetchone()
            return None if found is None else CommitmentRow(*found)

    def newest_head(self) -> tuple[int, str]:
        """The number of the newest commitment and its head; 0 and `FIRST_HEAD` where there is none."""
        with _explained(self.path):
            query = "SELECT id, head FROM commitments ORDER BY id DESC LIMIT 1"
            return self._connection.execute(query).fetchone() or (0, FIRST_HEAD)

    def uses(self, prompt_ids: Iterable[str], hotkeys: Iterable[str]) -> dict[str, Uses]:
        """How often prompts were asked, and how many of these miners were asked them, by id; without those never asked.

        A miner that stayed silent has had the prompt too.
        """
        wanted = json.dumps(list(prompt_ids)), json.dumps(list(hotkeys))
        with _explained(self.path):
            return {id: Uses(times, miners) for id, times, miners in self._connection.execute(USES, wanted)}

    def commitments(self) -> Iterator[CommitmentRow]:
        """All of them, oldest first, without secret and content of what is not revealed."""
        with _explained(self.path):
            if self._version() >= 3:
                for row in self._connection.execute(
                    "SELECT id, round_id, committed_at, block, digest, head, iif(outcome IS NULL, NULL, secret), "
                    "iif(outcome IS NULL, NULL, content), revealed_at, outcome FROM commitments ORDER BY id"
                ):
                    yield CommitmentRow(*row)

    def rounds(self, after_round: int = 0) -> Iterator[RoundRow]:
        return self._rows(RoundRow, "rounds", "round_id", after_round)

    def prompts(self, after_round: int = 0) -> Iterator[PromptRow]:
        return self._rows(PromptRow, "prompts", "round_id, position", after_round)

    def answers(self, after_round: int = 0) -> Iterator[AnswerRow]:
        return self._rows(AnswerRow, "answers", "round_id, position, hotkey", after_round)

    def images(self, after_round: int = 0, *, embeddings: bool = False) -> Iterator[ImageRow]:
        """Without their embeddings, which are most of a store, unless these are asked for."""
        without = () if embeddings else ("embedding",)
        return self._rows(ImageRow, "images", "round_id, position, hotkey, number", after_round, without)

    def fingerprints(self, limit: int) -> Iterator[FingerprintRow]:
        """The newest `limit` images that have a perceptual hash, the oldest of them first, whatever their verdict."""
        with _explained(self.path):
            if self._version() >= 4 and limit > 0:
                first = self._connection.execute(FIRST_FINGERPRINT, (limit - 1,)).fetchone() or (0, 0, "", 0)
                for row in self._connection.execute(FINGERPRINTS, first):
                    yield FingerprintRow(*row)

    def expert_scores(self, after_round: int = 0) -> Iterator[ExpertScoreRow]:
        return self._rows(ExpertScoreRow, "expert_scores", "round_id, position, hotkey, number, expert", after_round)

    def averages(self, after_round: int = 0) -> Iterator[AverageRow]:
        return self._rows(AverageRow, "averages", "round_id, hotkey", after_round)

    def miners(self) -> Iterator[MinerRow]:
        """The moving averages as of the last round, one row a miner that is still registered."""
        return self._rows(MinerRow, "miners", "hotkey")

    def rewarders(self) -> Iterator[RewarderRow]:
        """Everything that rounds were scored with, one row each, in no particular order."""
        with _explained(self.path):
            if self._version() >= 2:
                for fingerprint, dtype, resize, identities in self._connection.execute(
                    "SELECT fingerprint, dtype, resize, identities FROM rewarders"
                ):
                    yield RewarderRow(fingerprint, dtype, resize, json.loads(identities))

    def weight_settings(self) -> Iterator[WeightSettingRow]:
        """Every attempt to set weights, oldest first."""
        with _explained(self.path):
            for id, at, block, outcome, detail, weights in self._connection.execute(
                "SELECT id, at, block, outcome, detail, weights FROM weight_settings ORDER BY id"
            ):
                shares = {int(uid): share for uid, share in json.loads(weights).items()}
                yield WeightSettingRow(id, at, block, outcome, detail, shares)

    def _rows(
        self, row: type[Row], table: str, order: str, after_round: int | None = None, without: Sequence[str] = ()
    ) -> Iterator[Row]:
        later, values = ("", ()) if after_round is None else ("WHERE round_id > ?", (after_round,))
        with _explained(self.path):
            # The last columns of a row may be newer than the file: they are left at their defaults then.
            present = {column[1] for column in self._connection.execute(f"PRAGMA table_info({table})")}.difference(
                without
            )
            columns = ", ".join(field.name for field in fields(row) if field.name in present)  # type: ignore[arg-type]
            for found in self._connection.execute(f"SELECT {columns} FROM {table} {later} ORDER BY {order}", values):
                yield row(*found)

    def _insert(self, table: str, rows: Iterable[Any]) -> None:
        tuples = [tuple(vars(row).values()) for row in rows]  # dataclasses.astuple copies deeply, 20 times as slow
        if tuples:
            marks = ", ".join("?" * len(tuples[0]))
            self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", tuples)

    def _version(self) -> int:
        """The schema's version, 0 for an empty file. Raises StoreTooNew, or StoreDamaged for what is no score store."""
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return 0
        found = (
            "meta" in tables
            and self._connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        )
        version = int(found[0]) if found and found[0].isdigit() else 0
        if version > SCHEMA_VERSION:
            raise StoreTooNew(
                f"{self.path} has schema {version}, this program knows up to {SCHEMA_VERSION}: upgrade, or use "
                "another --neuron.name"
            )
        if version < 1:
            raise StoreDamaged(f"{self.path} names no schema version, so it is no score store: move it away")
        return version

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
        with _explained(self.path):
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


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns sqlite3's errors into this project's."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_FULL"):
            raise StoreFull(f"no space left to write {path}: free some and start again") from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreLocked(f"{path} is locked by another program: close it and start again") from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreDamaged(f"{path} is damaged or no score store ({error}): move it away or restore it") from error
        raise StoreError(f"{path}: {error}") from error
