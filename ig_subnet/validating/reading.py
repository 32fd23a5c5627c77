"""What is in a score store, read as typed rows: any number of readers, beside the one writer or after it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

from ig_subnet.prompts import Uses
from ig_subnet.validating.commitments import FIRST_HEAD
from ig_subnet.validating.errors import StoreDamaged, StoreError, StoreFull, StoreLocked, StoreMissing, StoreTooNew
from ig_subnet.validating.records import (
    NOT_REGENERATED,
    VALID,
    AnswerRow,
    AverageRow,
    CommitmentRow,
    ExpertScoreRow,
    FingerprintRow,
    ImageRow,
    MinerRow,
    PromptRow,
    RewarderRow,
    RoundRow,
    WeightSettingRow,
)
from ig_subnet.validating.schema import SCHEMA_VERSION

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
    SELECT round_id, position, hotkey, number FROM fingerprints
    ORDER BY round_id DESC, position DESC, hotkey DESC, number DESC LIMIT 1 OFFSET ?"""
FINGERPRINTS = """
    SELECT image.round_id, image.position, hotkey, number, text, phash, embedding
    FROM fingerprints AS image CROSS JOIN prompts AS prompt USING (round_id, position)
    CROSS JOIN images AS judged USING (round_id, position, hotkey, number)
    WHERE (image.round_id, image.position, hotkey, number) >= (?, ?, ?, ?) AND judged.verdict = ?
    ORDER BY image.round_id, image.position, hotkey, number"""
LAST_FALSE = "SELECT hotkey, MAX(round_id) FROM images WHERE verdict = ? GROUP BY hotkey"
ROUNDS_SINCE = "SELECT COUNT(DISTINCT round_id) FROM images WHERE round_id > ? AND hotkey = ?"

# Point look-ups from the newest round down.
ASKED_ROUNDS = """
    SELECT round.round_id FROM rounds AS round CROSS JOIN averages AS average
        ON average.round_id = round.round_id AND average.hotkey = ?
    WHERE round.round_id < ? AND round.round_id >= ? ORDER BY round.round_id DESC LIMIT ?"""

Row = TypeVar("Row")


class StoreReader:
    """A score store opened for reading; closed by `with` or `close`.

    Rows come in the order of their keys. `after_round` skips every round up to it, so that a live view reads only what
    is new; `rounds` names the only ones that are wanted, `hotkey` the only miner. Every method raises a `StoreError`
    that says what to do.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

    @classmethod
    def open_read_only(cls, path: Path) -> Self:
        """The store at `path`, also while its validator runs. Raises StoreMissing where there is none."""
        if not path.is_file():
            raise StoreMissing(f"no score store at {path}: has this validator ever started?")
        with explained(path):
            uri = f"file:{quote(str(path.resolve()))}?mode=ro"
            store = cls(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None), path)
            try:
                if not store.version():
                    raise StoreMissing(f"{path} holds no scores yet: its validator is only starting")
            except BaseException:
                store.close()
                raise
            return store

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self) -> int:
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

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside it, all that is read is of one moment, whatever a running validator writes meanwhile."""
        with explained(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    def next_round_id(self) -> int:
        """The id of the round to run now: one above the last recorded one, so a round that was lost is run again."""
        with explained(self.path):
            return int(self._connection.execute("SELECT COALESCE(MAX(round_id), 0) + 1 FROM rounds").fetchone()[0])

    def unrevealed_commitment(self) -> CommitmentRow | None:
        """The plan of the next round with its secret and content, for the validator alone; None before it is made."""
        with explained(self.path):
            found = self._connection.execute("SELECT * FROM commitments WHERE revealed_at IS NULL").fetchone()
            return None if found is None else CommitmentRow(*found)

    def newest_head(self) -> tuple[int, str]:
        """The number of the newest commitment and its head; 0 and `FIRST_HEAD` where there is none."""
        with explained(self.path):
            query = "SELECT id, head FROM commitments ORDER BY id DESC LIMIT 1"
            return self._connection.execute(query).fetchone() or (0, FIRST_HEAD)

    def uses(self, prompt_ids: Iterable[str], hotkeys: Iterable[str]) -> dict[str, Uses]:
        """How often prompts were asked, and how many of these miners were asked them, by id; without those never asked.

        A miner that stayed silent has had the prompt too.
        """
        wanted = json.dumps(list(prompt_ids)), json.dumps(list(hotkeys))
        with explained(self.path):
            return {id: Uses(times, miners) for id, times, miners in self._connection.execute(USES, wanted)}

    def fingerprints(self, limit: int) -> Iterator[FingerprintRow]:
        """Of the newest `limit` images that have a perceptual hash those that no gate has stopped, oldest first."""
        with explained(self.path):
            if self.version() >= 4 and limit > 0:
                first = self._connection.execute(FIRST_FINGERPRINT, (limit - 1,)).fetchone() or (0, 0, "", 0)
                for row in self._connection.execute(FINGERPRINTS, (*first, VALID)):
                    yield FingerprintRow(*row)

    def false_declarations(self, rounds: int) -> dict[str, int]:
        """Who declared falsely in one of the last `rounds` rounds of its own, by hotkey: how many of those are left.

        Rounds of its own are those of which images of it are on record.
        """
        with explained(self.path):
            last = self._connection.execute(LAST_FALSE, (NOT_REGENERATED,)).fetchall()
            since = {
                hotkey: self._connection.execute(ROUNDS_SINCE, (round_id, hotkey)).fetchone()[0]
                for hotkey, round_id in last
            }
        return {hotkey: rounds - count for hotkey, count in since.items() if count < rounds}

    def asked_rounds(self, hotkey: str, before: int, limit: int, within: int) -> list[int]:
        """The ids of the newest `limit` rounds that this miner was asked in, newest first; of the `within` rounds below
        `before` only."""
        with explained(self.path):
            wanted = (hotkey, before, before - within, limit)
            return [round_id for (round_id,) in self._connection.execute(ASKED_ROUNDS, wanted)]

    def commitments(self) -> Iterator[CommitmentRow]:
        """All of them, oldest first, without secret and content of what is not revealed."""
        with explained(self.path):
            if self.version() >= 3:
                for row in self._connection.execute(
                    "SELECT id, round_id, committed_at, block, digest, head, iif(outcome IS NULL, NULL, secret), "
                    "iif(outcome IS NULL, NULL, content), revealed_at, outcome FROM commitments ORDER BY id"
                ):
                    yield CommitmentRow(*row)

    def rounds(self, after_round: int = 0, *, rounds: Sequence[int] | None = None) -> Iterator[RoundRow]:
        return self._rows(RoundRow, "rounds", "round_id", after_round, rounds)

    def prompts(self, after_round: int = 0, *, rounds: Sequence[int] | None = None) -> Iterator[PromptRow]:
        return self._rows(PromptRow, "prompts", "round_id, position", after_round, rounds)

    def answers(
        self, after_round: int = 0, *, hotkey: str | None = None, rounds: Sequence[int] | None = None
    ) -> Iterator[AnswerRow]:
        return self._rows(AnswerRow, "answers", "round_id, position, hotkey", after_round, rounds, hotkey)

    def images(
        self, after_round: int = 0, *, hotkey: str | None = None, rounds: Sequence[int] | None = None
    ) -> Iterator[ImageRow]:
        """Without their hashes and embeddings, which are among the `fingerprints`."""
        return self._rows(ImageRow, "images", "round_id, position, hotkey, number", after_round, rounds, hotkey)

    def expert_scores(
        self, after_round: int = 0, *, hotkey: str | None = None, rounds: Sequence[int] | None = None
    ) -> Iterator[ExpertScoreRow]:
        order = "round_id, position, hotkey, number, expert"
        return self._rows(ExpertScoreRow, "expert_scores", order, after_round, rounds, hotkey)

    def averages(
        self, after_round: int = 0, *, hotkey: str | None = None, rounds: Sequence[int] | None = None
    ) -> Iterator[AverageRow]:
        return self._rows(AverageRow, "averages", "round_id, hotkey", after_round, rounds, hotkey)

    def miners(self) -> Iterator[MinerRow]:
        """The moving averages as of the last round, one row a miner."""
        return self._rows(MinerRow, "miners", "hotkey")

    def rewarders(self) -> Iterator[RewarderRow]:
        """Everything that rounds were scored with, one row each, in no particular order."""
        with explained(self.path):
            if self.version() >= 2:
                for fingerprint, dtype, resize, identities in self._connection.execute(
                    "SELECT fingerprint, dtype, resize, identities FROM rewarders"
                ):
                    yield RewarderRow(fingerprint, dtype, resize, json.loads(identities))

    def weight_settings(self, newest: int = -1) -> Iterator[WeightSettingRow]:
        """Every attempt to set weights, or only so many of the newest; oldest first."""
        wanted = "(SELECT id FROM weight_settings ORDER BY id DESC LIMIT ?)"
        with explained(self.path):
            basis = "basis" if self.version() >= 4 else "NULL"
            for id, at, block, outcome, detail, weights, follows_from in self._connection.execute(
                f"SELECT id, at, block, outcome, detail, weights, {basis} FROM weight_settings WHERE id IN {wanted} "
                "ORDER BY id",
                (newest,),
            ):
                shares = {int(uid): share for uid, share in json.loads(weights).items()}
                yield WeightSettingRow(id, at, block, outcome, detail, shares, follows_from)

    def _rows(
        self,
        row: type[Row],
        table: str,
        order: str,
        after_round: int = 0,
        rounds: Sequence[int] | None = None,
        hotkey: str | None = None,
    ) -> Iterator[Row]:
        wanted: dict[str, Any] = {}
        if after_round:
            wanted["round_id > ?"] = after_round
        if rounds is not None:
            wanted["round_id IN (SELECT value FROM json_each(?))"] = json.dumps(list(rounds))
        if hotkey is not None:
            wanted["hotkey = ?"] = hotkey
        where = "WHERE " + " AND ".join(wanted) if wanted else ""
        with explained(self.path):
            # The last columns of a row may be newer than the file: they are left at their defaults then.
            present = {name for _, name, *_ in self._connection.execute(f"PRAGMA table_info({table})")}
            columns = ", ".join(field.name for field in fields(row) if field.name in present)  # type: ignore[arg-type]
            query = f"SELECT {columns} FROM {table} {where} ORDER BY {order}"
            for found in self._connection.execute(query, tuple(wanted.values())):
                yield row(*found)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns sqlite3's errors into this project's."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_FULL"):
            raise StoreFull(f"no space left to write {path}: free some and start again") from error
        if name.startswith("SQLITE_IOERR_WRITE"):  # how a quota, or a limit on files, shows
            raise StoreFull(f"{path} cannot be written: free space or raise the quota, and start again") from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreLocked(f"{path} is locked by another program: close it and start again") from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreDamaged(f"{path} is damaged or no score store ({error}): move it away or restore it") from error
        raise StoreError(f"{path}: {error}") from error
