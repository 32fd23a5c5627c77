"""The store: what is written is read back, whole or not at all, and every way it can fail says what to do."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from made_up_rounds import PROMPT_ID, make_commitments, make_round

from ig_subnet.prompts import Uses
from ig_subnet.validating import records
from ig_subnet.validating.commitments import FIRST_HEAD
from ig_subnet.validating.errors import (
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreTooNew,
)
from ig_subnet.validating.reading import USES
from ig_subnet.validating.records import ImageRow, WeightSettingRow
from ig_subnet.validating.schema import SCHEMA_VERSION, SCHEMAS
from ig_subnet.validating.store import STORE_FILE, ScoreStore

OLD_VERSIONS = (1, 2, 3)  # store_v<N>.sql: two made-up rounds, dumped by the last program that wrote this schema
TABLES = {
    "rewarders": records.RewarderRow,
    "rounds": records.RoundRow,
    "prompts": records.PromptRow,
    "answers": records.AnswerRow,
    "expert_scores": records.ExpertScoreRow,
    "averages": records.AverageRow,
    "miners": records.MinerRow,
    "weight_settings": records.WeightSettingRow,
    "commitments": records.CommitmentRow,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a folder?" / "netuid1" / STORE_FILE  # made by the store; a ? has a meaning in SQLite's URIs


def test_everything_written_is_read_back(path: Path) -> None:
    with ScoreStore.open(path) as store:
        assert store.next_round_id() == 1
        for round_id in (1, 2):
            store.record_round(make_round(round_id))
        assert store.next_round_id() == 3
        store.record_weight_setting(
            at=5.5, block=9, outcome="set", detail="in block 9", weights={3: 0.75, 10: 0.25}, basis="{}"
        )
        with ScoreStore.open_read_only(path) as reader:  # while the validator runs
            check_two_rounds(reader)
    with ScoreStore.open_read_only(path) as reader:  # and after it
        check_two_rounds(reader)
    with ScoreStore.open(path) as store:  # a restart
        check_two_rounds(store)
        assert store.next_round_id() == 3


def without_fingerprints(images: Iterable[ImageRow]) -> list[ImageRow]:
    """As images are read: hash and embedding are apart from them."""
    return [replace(row, phash=None, embedding=None) for row in images]


def check_two_rounds(store: ScoreStore) -> None:
    first, second = make_round(1), make_round(2)
    assert list(store.rewarders()) == [first.rewarder]
    assert list(store.rounds()) == [first.round, second.round]
    assert tuple(store.prompts()) == first.prompts + second.prompts
    assert tuple(store.answers()) == first.answers + second.answers
    assert list(store.images()) == without_fingerprints(first.images + second.images)
    assert tuple(store.expert_scores()) == first.expert_scores + second.expert_scores
    assert tuple(store.averages()) == first.averages + second.averages
    assert tuple(store.miners()) == second.miners
    setting = WeightSettingRow(1, 5.5, 9, "set", "in block 9", {3: 0.75, 10: 0.25}, "{}")
    assert list(store.weight_settings()) == [setting]
    assert tuple(store.answers(after_round=1)) == second.answers
    assert list(store.images(after_round=2)) == []


def test_the_rows_are_the_tables(path: Path) -> None:
    with ScoreStore.open(path):
        connection = sqlite3.connect(path)
        columns = {
            table: [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
            for table in ("images", "fingerprints", *TABLES)
        }
        for table, row in TABLES.items():
            assert columns[table] == [field.name for field in fields(row)]
        assert columns["fingerprints"][:4] == columns["images"][:4]  # the key
        assert columns["images"] + columns["fingerprints"][4:] == [field.name for field in fields(ImageRow)]
        assert dict(connection.execute("SELECT key, value FROM meta")) == {"schema_version": str(SCHEMA_VERSION)}
        connection.close()


def test_miners_who_are_gone_leave_the_table(path: Path) -> None:
    with ScoreStore.open(path) as store:
        store.record_round(make_round(1))
        later = make_round(2)
        store.record_round(replace(later, miners=later.miners[:1]))
        assert [miner.hotkey for miner in store.miners()] == ["alice"]


def test_a_round_that_cannot_be_written_whole_leaves_nothing(path: Path) -> None:
    with ScoreStore.open(path) as store:
        store.record_round(make_round(1))
        twice = make_round(2)
        with pytest.raises(StoreError, match="UNIQUE"):
            store.record_round(replace(twice, answers=twice.answers * 2))
        with pytest.raises(StoreError, match="UNIQUE"):
            store.record_round(make_round(1))
        assert [row.round_id for row in store.rounds()] == [1]
        assert tuple(store.miners()) == make_round(1).miners
        store.record_round(make_round(2))  # and it goes on


def test_a_second_writer_is_kept_out_until_the_first_is_gone(path: Path) -> None:
    with ScoreStore.open(path):
        with pytest.raises(StoreLocked, match="another validator writes to"):
            ScoreStore.open(path)
    ScoreStore.open(path).close()


def test_another_program_that_holds_the_file_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ig_subnet.validating.store.BUSY_SECONDS", 0.05)
    with ScoreStore.open(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked, match="locked by another program"):
            store.record_round(make_round(1))
        other.execute("ROLLBACK")
        other.close()
        store.record_round(make_round(1))


def test_a_disk_that_is_full_loses_the_round_and_nothing_else(path: Path) -> None:
    with ScoreStore.open(path) as store:
        store.record_round(make_round(1))
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        bulky = make_round(2)
        with pytest.raises(StoreFull, match="no space left to write"):
            store.record_round(replace(bulky, prompts=(replace(bulky.prompts[0], text="x" * 100_000),)))
    with ScoreStore.open(path) as store:
        assert [row.round_id for row in store.rounds()] == [1]


FILLING = """
import resource, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from made_up_rounds import make_round
from ig_subnet.validating.errors import StoreFull
from ig_subnet.validating.store import ScoreStore

resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))  # as a quota: a write beyond it fails
try:
    with ScoreStore.open(Path(sys.argv[2])) as store:
        while True:
            made_up = make_round(store.next_round_id())
            store.record_round(replace(made_up, prompts=(replace(made_up.prompts[0], text="x" * 20_000),)))
            print(made_up.round.round_id)
except StoreFull as error:
    print(error)
"""


def test_a_quota_that_is_used_up_is_a_clear_stop_and_nothing_is_lost(path: Path) -> None:
    recorded: list[str] = []
    for _ in range(3):  # each start goes on where the last one stopped; the file itself is too large in the end
        command = [sys.executable, "-c", FILLING, str(Path(__file__).parent.parent), str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert said[-1] == f"{path} cannot be written: free space or raise the quota, and start again"
        recorded += said[:-1]
    with ScoreStore.open(path) as store:  # there is space again
        count = len(list(store.rounds()))
        assert recorded == [str(number) for number in range(1, count + 1)] and count > 5
        assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store.record_round(make_round(count + 1))


@pytest.fixture(params=OLD_VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def old(tmp_path: Path, version: int) -> Path:
    """A store of an earlier schema, as a validator that was killed leaves it."""
    path = tmp_path / STORE_FILE
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(Path(__file__).with_name(f"store_v{version}.sql").read_text())
    connection.close()
    return path


def old_commitments() -> list[records.CommitmentRow]:
    """Those of store_v3.sql, as a reader sees them."""
    void, first, second, planned = make_commitments("void", "asked", "asked", None)
    return [void, replace(first, revealed_at=13.0), replace(second, revealed_at=23.0), planned]


def check_two_old_rounds(store: ScoreStore, version: int) -> None:
    """As `check_two_rounds`, without what the schema did not keep; what can be told of prompts comes with schema 3."""
    rounds, prompts, images, scores = (
        [row for made_up in (make_round(1), make_round(2)) for row in rows(made_up)]
        for rows in (lambda r: [r.round], lambda r: r.prompts, lambda r: r.images, lambda r: r.expert_scores)
    )
    gates = dict.fromkeys(("alignment", "unsafe", "trust", "evidence", "model"))
    images = [replace(row, **gates) for row in without_fingerprints(images)]
    scores = [replace(row, worst=None) for row in scores]
    migrated = store.version() == SCHEMA_VERSION
    # Squares were not added up: they are taken to be as large as they can be.
    miners = [
        replace(row, squares=row.accumulator, absent_since=None)
        if migrated
        else replace(row, squares=0.0, observed_at=0.0, absent_since=None)
        for row in make_round(2).miners
    ]
    if version == 1:
        rounds = [replace(row, rewarder=None) for row in rounds]
        images = [replace(row, disagreement=None) for row in images]
        scores = [replace(row, truncated=None) for row in scores]
    if store.version() < 3:
        prompts = [replace(row, prompt_id=None, parents=None) for row in prompts]
    first, second = make_round(1), make_round(2)
    assert list(store.rewarders()) == ([] if version == 1 else [first.rewarder])
    assert list(store.rounds()) == rounds
    assert list(store.prompts()) == prompts
    assert list(store.images()) == images
    assert list(store.fingerprints(10)) == []
    assert list(store.expert_scores()) == scores
    assert tuple(store.answers()) == first.answers + second.answers
    assert tuple(store.averages()) == first.averages + second.averages
    assert list(store.miners()) == miners
    assert list(store.weight_settings()) == [WeightSettingRow(1, 5.5, 9, "set", "in block 9", {3: 0.75, 10: 0.25})]
    assert list(store.commitments()) == (old_commitments() if version == 3 else [])


def test_a_store_of_an_earlier_schema_is_read_as_it_is(old: Path, version: int) -> None:
    before = old.read_bytes()
    with ScoreStore.open_read_only(old) as reader:
        check_two_old_rounds(reader, version)
    assert old.read_bytes() == before


def test_a_store_of_an_earlier_schema_is_brought_up_to_date_and_goes_on(old: Path, version: int) -> None:
    third = make_round(3)
    with ScoreStore.open(old) as store:
        check_two_old_rounds(store, version)
        assert store.uses([PROMPT_ID], ["alice", "carol"]) == {PROMPT_ID: Uses(2, 1)}  # what was asked is not forgotten
        assert store._pragma("auto_vacuum") == 2  # from now on it can shrink
        store.record_round(third)
    with ScoreStore.open(old) as store:  # the second start has nothing left to do
        assert list(store.rewarders()) == [third.rewarder]
        before = None if version == 1 else third.round.rewarder
        assert [row.rewarder for row in store.rounds()] == [before, before, third.round.rewarder]
        assert list(store.images(after_round=2)) == without_fingerprints(third.images)
        assert tuple(store.expert_scores(after_round=2)) == third.expert_scores


def test_a_store_brought_up_to_date_is_as_a_new_one(old: Path, path: Path) -> None:
    def tables(file: Path) -> dict[str, list[tuple[str, str]]]:
        with ScoreStore.open(file) as store:
            names = [name for (name,) in store._connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
            return {
                name: [column[1:3] for column in store._connection.execute(f"PRAGMA table_info({name})")]
                for name in names
            }

    assert tables(old) == tables(path)
    assert tables(old).keys() >= {"meta", "images", "fingerprints", *TABLES}


def test_an_upgrade_that_is_cut_short_leaves_the_old_store(
    old: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(StoreError, match="syntax error"):
        patched.setitem(SCHEMAS, 4, (*SCHEMAS[4][:1], "no SQL at all"))
        ScoreStore.open(old)
    with ScoreStore.open_read_only(old) as reader:
        assert reader.version() == version
        check_two_old_rounds(reader, version)


def test_a_plan_is_kept_until_its_round_is_recorded(path: Path) -> None:
    void, first, second = make_commitments("void", "asked", "asked")
    hidden = [replace(row, secret=None, content=None, revealed_at=None, outcome=None) for row in (void, first, second)]
    with ScoreStore.open(path) as store:
        assert (store.unrevealed_commitment(), store.newest_head()) == (None, (0, FIRST_HEAD))
        store.commit(replace(void, revealed_at=None, outcome=None))
        with pytest.raises(StoreError, match="UNIQUE"):  # one at a time
            store.commit(replace(first, revealed_at=None, outcome=None))
        store.void_commitment(1, void.revealed_at)
        store.commit(replace(first, revealed_at=None, outcome=None))
        assert store.newest_head() == (2, first.head)
    with ScoreStore.open(path) as store:  # a restart
        assert store.unrevealed_commitment() == replace(first, revealed_at=None, outcome=None)
        with ScoreStore.open_read_only(path) as reader:
            assert list(reader.commitments()) == [void, hidden[1]]  # and nobody else learns what it says
        store.record_round(replace(make_round(1), commitment=2))
        assert store.unrevealed_commitment() is None
        assert list(store.commitments()) == [void, replace(first, revealed_at=13.0)]
        store.commit(replace(second, revealed_at=None, outcome=None))
        with pytest.raises(StoreError, match="UNIQUE"):  # a round that cannot be recorded reveals nothing
            store.record_round(replace(make_round(2), answers=make_round(2).answers * 2, commitment=3))
        assert list(store.commitments())[-1] == hidden[2]
        with pytest.raises(StoreError, match="no commitment 2 that is not revealed"):
            store.record_round(replace(make_round(2), commitment=2))
        assert [row.round_id for row in store.rounds()] == [1]


def test_fingerprints_are_the_newest_images(path: Path) -> None:
    with ScoreStore.open(path) as store:
        for round_id in (1, 2, 3):
            store.record_round(make_round(round_id))
        assert [row.round_id for row in store.fingerprints(10)] == [1, 2, 3]
        assert [row.round_id for row in store.fingerprints(3)] == [1, 2, 3]
        assert list(store.fingerprints(0)) == []
        kept = make_round(3).images[0]
        key = (3, 0, "alice", 0, "a red circle", kept.phash, kept.embedding)
        assert list(store.fingerprints(2))[1:] == [records.FingerprintRow(*key)]  # not of the image that has no hash
        assert [row.round_id for row in store.fingerprints(2)] == [2, 3]


def test_what_a_gate_has_stopped_is_not_among_the_fingerprints_and_lies_are_told(path: Path) -> None:
    lie = records.NOT_REGENERATED
    with ScoreStore.open(path) as store:
        for round_id, verdict in ((1, records.VALID), (2, records.COPY), (3, lie), (4, lie), (5, records.VALID)):
            made = make_round(round_id)
            first, *others = made.images
            store.record_round(replace(made, images=(replace(first, verdict=verdict), *others)))
        assert [row.round_id for row in store.fingerprints(9)] == [1, 5]
        assert store.false_declarations(9) == {made.images[0].hotkey: 8}  # one round of its own has passed
        assert store.false_declarations(2) == {made.images[0].hotkey: 1}
        assert store.false_declarations(1) == {}


def test_fingerprints_that_nobody_needs_are_let_go(path: Path) -> None:
    with ScoreStore.open(path) as store:
        assert not store.thin(2)
        for round_id in (1, 2, 3, 4):
            store.record_round(make_round(round_id))
        assert store.thin(2)
        assert [row.round_id for row in store.fingerprints(9)] == [2, 3, 4]
        assert store.thin(2)
        assert not store.thin(2)
        assert [row.round_id for row in store.fingerprints(9)] == [3, 4]
        assert len(list(store.images())) == 8


def test_one_miner_is_read_in_the_rounds_that_are_asked_for(path: Path) -> None:
    with ScoreStore.open(path) as store:
        for round_id in range(1, 6):
            store.record_round(make_round(round_id))
        wanted = {"hotkey": "alice", "rounds": [2, 4]}
        assert [row.round_id for row in store.images(**wanted)] == [2, 2, 4, 4]
        assert [row.round_id for row in store.images(3, **wanted)] == [4, 4]
        for read in (store.answers, store.averages):
            assert [(row.round_id, row.hotkey) for row in read(**wanted)] == [(2, "alice"), (4, "alice")]
        assert [row.round_id for row in store.expert_scores(**wanted)] == [2, 2, 4, 4]
        assert [row.round_id for row in store.rounds(rounds=[5, 1, 9])] == [1, 5]
        assert [row.round_id for row in store.prompts(rounds=[])] == []
        assert store.asked_rounds("alice", 6, 2, 10) == [5, 4]
        assert store.asked_rounds("alice", 4, 9, 2) == [3, 2]
        assert store.asked_rounds("carol", 6, 9, 10) == []


def test_a_snapshot_is_of_one_moment(path: Path) -> None:
    with ScoreStore.open(path) as store:
        store.record_round(make_round(1))
        with ScoreStore.open_read_only(path) as reader:
            with reader.snapshot():
                assert len(list(reader.rounds())) == 1
                store.record_round(make_round(2))
                assert len(list(reader.answers())) == 2
            assert len(list(reader.rounds())) == 2


def test_uses_are_counted_from_what_was_asked(path: Path) -> None:
    """By hand: `twice` went to alice and bob, then to alice and carol; `once` to alice; `never` to nobody."""
    asked = [("twice", ["alice", "bob"]), ("twice", ["alice", "carol"]), ("once", ["alice"])]
    with ScoreStore.open(path) as store:
        for round_id, (prompt, hotkeys) in enumerate(asked, 1):
            made_up = make_round(round_id)
            store.record_round(
                replace(
                    made_up,
                    prompts=(replace(made_up.prompts[0], prompt_id=prompt),),
                    answers=tuple(replace(made_up.answers[0], hotkey=hotkey) for hotkey in hotkeys),
                    images=(),
                    expert_scores=(),
                )
            )
        prompts = ["twice", "once", "never"]
        assert store.uses(prompts, ["alice", "bob", "carol"]) == {"twice": Uses(2, 3), "once": Uses(1, 1)}
        assert store.uses(prompts, ["carol", "dave"]) == {"twice": Uses(2, 1), "once": Uses(1, 0)}
        assert store.uses(prompts, []) == {"twice": Uses(2, 0), "once": Uses(1, 0)}
        assert store.uses([], ["alice"]) == {}


def test_uses_are_looked_up_in_indexes(path: Path) -> None:
    """Not one scan of a table, however many rounds are recorded."""
    with ScoreStore.open(path) as store:
        steps = [row[3] for row in store._connection.execute(f"EXPLAIN QUERY PLAN {USES}", ("[]", "[]"))]
        looked_up = {step for step in steps if step.startswith("SEARCH")}
        assert looked_up == {
            "SEARCH prompts USING COVERING INDEX prompts_by_id (prompt_id=?)",
            "SEARCH asked USING COVERING INDEX prompts_by_id (prompt_id=?)",
            "SEARCH answer USING COVERING INDEX sqlite_autoindex_answers_1 (round_id=? AND position=? AND hotkey=?)",
        }, steps
        scanned = {step.split()[1] for step in steps if step.startswith("SCAN")}
        assert scanned == {"wanted", "json_each", "miner"}, steps


def test_a_store_from_the_future_is_left_alone(path: Path) -> None:
    with ScoreStore.open(path) as store:
        store._connection.execute("UPDATE meta SET value = ?", (str(SCHEMA_VERSION + 1),))
    for opening in (ScoreStore.open, ScoreStore.open_read_only):
        with pytest.raises(StoreTooNew, match=rf"has schema {SCHEMA_VERSION + 1}, .* up to {SCHEMA_VERSION}: upgrade"):
            opening(path)


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"not a database at all" * 100)
    other = tmp_path / "other"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE things (name TEXT)")
    connection.close()
    before = other.read_bytes()
    for opening in (ScoreStore.open, ScoreStore.open_read_only):
        with pytest.raises(StoreDamaged, match="move it away"):
            opening(nonsense)
        with pytest.raises(StoreDamaged, match="names no schema version"):
            opening(other)
    assert nonsense.read_bytes().startswith(b"not a database")
    assert other.read_bytes() == before


def test_reading_where_no_validator_has_been(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="has this validator ever started"):
        ScoreStore.open_read_only(tmp_path / STORE_FILE)
    (tmp_path / STORE_FILE).touch()
    with pytest.raises(StoreMissing, match="only starting"):
        ScoreStore.open_read_only(tmp_path / STORE_FILE)


def test_a_reader_cannot_write(path: Path) -> None:
    ScoreStore.open(path).close()
    with ScoreStore.open_read_only(path) as reader, pytest.raises(StoreError, match="readonly"):
        reader.record_round(make_round(1))


def test_the_store_belongs_to_one_thread(path: Path) -> None:
    raised: list[Exception] = []

    def elsewhere() -> None:
        try:
            store.record_round(make_round(1))
        except Exception as error:
            raised.append(error)

    with ScoreStore.open(path) as store:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert isinstance(raised[0], StoreError)
