"""What is read of a store: of all miners, of one, and why it has its weight; beside the writer, and never more than
its own for a miner."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_rounds import make_round
from recorded_validator import (
    ALICE,
    ALPHA,
    BOB,
    CAROL,
    MINERS,
    NEXT_PROMPT,
    PRIVATE,
    SECRET,
    VALIDATOR,
    metagraph,
    record_rounds,
)

from ig_subnet.validating.explaining import alpha_of, explain, replayed
from ig_subnet.validating.inspection import find_miner, read_overview
from ig_subnet.validating.miner_record import read_record, told
from ig_subnet.validating.reading import StoreReader
from ig_subnet.validating.records import COPY, VALID, MinerRow
from ig_subnet.validating.store import STORE_FILE, ScoreStore
from ig_subnet.validating.weighting import Shaping, weigh
from protocol import MinerRecord

ROUNDS = 12


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / STORE_FILE
    record_rounds(path, ROUNDS, prompts=2)
    return path


def read(path: Path, hotkey: str, rounds: int = 8, before: int | None = None) -> MinerRecord:
    with StoreReader.open_read_only(path) as store:
        return read_record(store, hotkey, rounds=rounds, before=before)


def steps_of(record: MinerRecord) -> dict[str, bool | None]:
    return {step.name: step.agrees for step in explain(record)}


def test_the_overview(path: Path) -> None:
    with StoreReader.open_read_only(path) as store:
        overview = read_overview(store, 4)
    assert [view.round.round_id for view in overview.rounds] == [9, 10, 11, 12]
    assert [view.verdicts for view in overview.rounds[-2:]] == [{VALID: 8, COPY: 4}, {VALID: 4, COPY: 4}]
    assert [(miner.hotkey, miner.uid) for miner in overview.miners] == [(ALICE, 1), (BOB, 2), (CAROL, 3)]
    assert [(miner.queries, miner.answers, miner.images) for miner in overview.miners] == [
        (8, 8, 16),
        (4, 4, 8),
        (8, 8, 16),
    ]
    assert overview.miners[0].average == pytest.approx(0.75)
    assert overview.miners[2].verdicts == {COPY: 16}
    assert {(image.hotkey, image.verdict) for image in overview.stopped} == {(CAROL, COPY)}
    assert json.loads(overview.stopped[0].evidence or "")["like"]["hotkey"] == ALICE
    assert PRIVATE in (overview.stopped[0].evidence or ""), "the operator reads all of it"
    assert [(setting.outcome, setting.agrees) for setting in overview.weight_settings] == [
        ("set", True),
        ("too_early", True),
    ]
    assert sum(miner.share or 0.0 for miner in overview.miners) == pytest.approx(1.0)


def test_shares_that_do_not_follow_from_the_averages_are_told(tmp_path: Path) -> None:
    record_rounds(tmp_path / STORE_FILE, 3)
    with ScoreStore.open(tmp_path / STORE_FILE) as store:
        (*_, last) = store.weight_settings()
        shares = {1: 0.5, 2: 0.5}
        store.record_weight_setting(at=1.0, block=1, outcome="set", detail="", weights=shares, basis=last.basis)
    with StoreReader.open_read_only(tmp_path / STORE_FILE) as reader:
        assert [setting.agrees for setting in read_overview(reader, 1).weight_settings] == [True, True, False]


def test_a_record_holds_every_round_that_the_miner_was_asked_in(path: Path) -> None:
    record = read(path, BOB, rounds=4)
    assert [each.round_id for each in record.rounds] == [11, 9, 7, 5]
    assert record.older == 5
    older = read(path, BOB, rounds=4, before=record.older)
    assert [each.round_id for each in older.rounds] == [3, 1]
    assert older.older is None
    newest = record.rounds[0]
    assert [answer.prompt for answer in newest.answers] == ["prompt 0 of round 11", "prompt 1 of round 11"]
    assert [len(answer.images) for answer in newest.answers] == [2, 2]
    assert newest.answers[0].images[0].experts.keys() == {"clip_aesthetic", "pick_score"}
    assert newest.answers[0].images[0].experts["pick_score"].worst == 0.25
    assert record.standing is not None and record.standing.observations == 6
    assert record.standing.average == newest.average


def test_a_record_is_the_miners_own_alone(path: Path) -> None:
    """Neither secrets and the plan to come, nor other miners but in the evidence against this one."""
    for hotkey, others in ((ALICE, (BOB, CAROL, VALIDATOR)), (CAROL, (BOB, VALIDATOR))):
        record = read(path, hotkey, rounds=32).model_dump_json()
        assert "prompt 0 of round 12" in record and hotkey in record
        assert not [other for other in others if other in record]
        for private in (PRIVATE, SECRET.hex(), NEXT_PROMPT, hashlib.sha256(SECRET).hexdigest(), str(path)):
            assert private not in record
    image = read(path, CAROL).rounds[0].answers[0].images[0]
    like = {"round_id": ROUNDS, "hotkey": ALICE, "position": 0, "number": 0}
    assert (image.verdict, json.loads(image.evidence or "")) == (COPY, {"cosine": 0.99, "bits": 3, "like": like})


@pytest.mark.parametrize(
    ("evidence", "kept"),
    [
        ({"alignment": -0.5, "threshold": 0.25}, {"alignment": -0.5, "threshold": 0.25}),
        ({"unsafe": None, "path": "/var/lib", "list": [1], "other": {"hotkey": "x"}}, {"unsafe": None}),
        (
            {
                "checked": {
                    "number": 1,
                    "model": "pocket",
                    "cosine": 0.5,
                    "threshold": 0.75,
                    "matches": False,
                    "seed": 3,
                }
            },
            {"checked": {"number": 1, "model": "pocket", "cosine": 0.5, "threshold": 0.75, "matches": False}},
        ),
    ],
)
def test_evidence_as_it_is_told(evidence: dict[str, object], kept: dict[str, object]) -> None:
    assert json.loads(told(json.dumps(evidence))) == kept


def test_what_the_chain_says_is_told_on_one_line(path: Path) -> None:
    assert [weight.detail for weight in read(path, ALICE).weights] == [
        "the chain says too_early [2J",
        "the chain says set [2J",
    ]


def test_a_miner_of_whom_nothing_is_known(path: Path) -> None:
    record = read(path, VALIDATOR)
    assert (record.standing, record.rounds, record.older) == (None, (), None)
    assert [(weight.uid, weight.share) for weight in record.weights] == [(None, 0.0)] * 2
    assert [step.text for step in explain(record)] == [
        "never observed, or dropped after it was out of the metagraph for too long"
    ]


def test_a_store_of_an_earlier_version(project_root: Path, tmp_path: Path) -> None:
    """It kept neither basis nor evidence: what is missing is told as missing."""
    import sqlite3

    old = tmp_path / STORE_FILE
    connection = sqlite3.connect(old)
    connection.executescript((project_root / "tests" / "validating" / "store_v2.sql").read_text())
    connection.close()
    with StoreReader.open_read_only(old) as store:
        miners = [miner.hotkey for miner in store.miners()]
        records = [read_record(store, hotkey, rounds=32) for hotkey in miners]
        overview = read_overview(store, 32)
    assert miners and overview.rounds
    assert {record.weights[0].average for record in records if record.weights} <= {None}
    assert all(explain(record) for record in records)


def test_reading_beside_the_writer(tmp_path: Path) -> None:
    """A reader is in nobody's way, sees whole rounds only, and changes nothing in the file."""
    path = tmp_path / STORE_FILE
    with ScoreStore.open(path) as writer:
        writer.record_round(make_round(1))
        with StoreReader.open_read_only(path) as reader:
            with reader.snapshot():
                assert [row.round_id for row in reader.rounds()] == [1]
                writer.record_round(make_round(2))
                assert [row.round_id for row in reader.answers()] == [1, 1]
            before = path.read_bytes()
            assert [each.round_id for each in read_record(reader, "alice", rounds=8).rounds] == [2, 1]
            assert len(read_overview(reader, 8).rounds) == 2
            assert path.read_bytes() == before


def test_a_round_whose_details_are_forgotten_is_not_in_a_record(tmp_path: Path) -> None:
    path = tmp_path / STORE_FILE
    record_rounds(path, 5)
    with ScoreStore.open(path) as store:
        for table in ("images", "expert_scores", "averages"):
            store._connection.execute(f"DELETE FROM {table} WHERE round_id <= 2")
    record = read(path, ALICE)
    assert [each.round_id for each in record.rounds] == [5, 4, 3]
    assert steps_of(record)["moving average"] is True, "computed again from the oldest that is left"


@pytest.mark.parametrize(("name", "hotkey"), [(BOB, BOB), ("2", BOB), ("3", CAROL)])
def test_a_miner_is_found_by_hotkey_and_uid(name: str, hotkey: str, path: Path) -> None:
    with StoreReader.open_read_only(path) as store:
        assert find_miner(store, name) == hotkey
        with pytest.raises(LookupError, match="no miner '99' is on record"):
            find_miner(store, "99")


# --- why a miner has its weight --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hotkey", [ALICE, BOB])
@pytest.mark.parametrize("rounds", [1, 3, 32])
def test_every_step_can_be_computed_again(hotkey: str, rounds: int, path: Path) -> None:
    record = read(path, hotkey, rounds=rounds)
    agrees = steps_of(record)
    assert list(agrees) == ["observations", "moving average", "limit by uncertainty", "share", "chain"]
    assert [agrees[name] for name in list(agrees)[1:4]] == [True, True, True]
    texts = [step.text for step in explain(record)]
    assert any("too_early" in text for text in texts) and any("block 1000: set" in text for text in texts)
    assert f"alpha {ALPHA:g}" in texts[1]


def test_nothing_earned_is_explained_too(path: Path) -> None:
    agrees = steps_of(read(path, CAROL))
    assert agrees["share"] is True
    share = next(step for step in explain(read(path, CAROL)) if step.name == "share")
    assert share.text.startswith("0: 0 is not above the floor of 0")


def test_a_changed_average_does_not_agree(path: Path) -> None:
    record = read(path, BOB)
    assert record.standing is not None
    changed = record.standing.model_copy(update={"average": record.standing.average * 1.001})
    assert steps_of(record.model_copy(update={"standing": changed}))["moving average"] is False
    observed = record.rounds[0].model_copy(update={"observation": 1.0})
    assert steps_of(record.model_copy(update={"rounds": (observed, *record.rounds[1:])}))["moving average"] is False


@pytest.mark.parametrize("kind", ["power", "softmax"])
@pytest.mark.parametrize("burn", [0.0, 0.25])
def test_every_shaping_is_computed_again(kind: Literal["power", "softmax"], burn: float, tmp_path: Path) -> None:
    """Whoever owns the subnet: one that mines gets the burnt share on top, of which a record cannot tell."""
    path = tmp_path / STORE_FILE
    record_rounds(path, 5)
    shaping = Shaping(kind, exponent=1.5, temperature=0.25, floor=0.125, burn=burn)
    snapshot = metagraph(*MINERS)
    with ScoreStore.open(path) as store:
        remembered = {miner.hotkey: miner for miner in store.miners()}
        for owner in (VALIDATOR, ALICE):
            owned = replace(snapshot, owner_hotkey=owner)
            weighing = weigh(remembered, owned, VALIDATOR, alpha=ALPHA, shaping=shaping)
            store.record_weight_setting(
                at=2e9, block=1, outcome="set", detail="", weights=weighing.shares, basis=weighing.basis
            )
            found = {hotkey: steps_of(read(path, hotkey))["share"] for hotkey in MINERS}
            assert found == {ALICE: None if burn and owner == ALICE else True, BOB: True, CAROL: True}
    with StoreReader.open_read_only(path) as reader:
        assert {setting.agrees for setting in read_overview(reader, 1).weight_settings} == {True}


def test_what_has_come_since_the_weights_is_no_contradiction(tmp_path: Path) -> None:
    """Neither more observations, which make a steady miner surer, nor another alpha from some day on."""
    path = tmp_path / STORE_FILE
    record_rounds(path, 4)
    record = read(path, ALICE)
    assert steps_of(record)["limit by uncertainty"] is True
    earlier = tuple(weight.model_copy(update={"at": 1.0, "limited": 0.5}) for weight in record.weights)
    assert steps_of(record.model_copy(update={"weights": earlier}))["limit by uncertainty"] is None
    another = tuple(weight.model_copy(update={"alpha": 0.2}) for weight in record.weights)
    assert steps_of(record.model_copy(update={"weights": another}))["moving average"] is None
    (step,) = (
        step for step in explain(record.model_copy(update={"weights": another})) if step.name == "moving average"
    )
    assert step.text.endswith("alpha was another before")


def test_weights_that_the_chain_never_took(path: Path) -> None:
    record = read(path, ALICE)
    record = record.model_copy(update={"weights": record.weights[:1]})
    assert [step.name for step in explain(record)] == ["observations", "moving average", "share", "chain"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 1), st.integers(1, 40))
def test_a_replay_leads_to_the_average(observations: list[float], alpha: float, known: int) -> None:
    """However many of the observations are known, and whatever alpha is."""
    from ig_subnet.validating.moving_average import Registration, average_of, update

    miners: dict[str, MinerRow] = {}
    rounds = []
    for number, observation in enumerate(observations, 1):
        miners = update(
            miners, {"m": Registration(1, 1)}, {"m": observation}, alpha=alpha, round_id=number, now=float(number)
        )
        average = min(1.0, average_of(miners["m"]))
        row = {"round_id": number, "started_at": 0.0, "finished_at": 0.0, "block": 1, "observation": observation}
        rounds.append(row | {"average": average, "answers": ()})
    miner = miners["m"]
    standing = {
        **{name: getattr(miner, name) for name in ("uid", "registered_at", "observations", "last_round")},
        **{name: getattr(miner, name) for name in ("accumulator", "accumulated_weight", "squares", "observed_at")},
        **{"absent_since": None, "average": average},
    }
    record = MinerRecord.model_validate(
        {"hotkey": "m", "at": 1.0, "standing": standing, "older": None, "weights": ()}
        | {"rounds": tuple(reversed(rounds))[: min(known, 32)]}
    )
    assert record.standing is not None
    assert replayed(record.rounds, record.standing, alpha) == pytest.approx(average, abs=1e-9)
    found = alpha_of(record.standing)
    assert found is None or found == pytest.approx(alpha, rel=1e-6)


def test_a_record_from_elsewhere_is_explained_whatever_it_says(path: Path) -> None:
    """Its figures need not fit together, and its shaping may be another version's."""
    record = read(path, ALICE)
    weight = record.weights[1]
    shaping = dict(weight.shaping)
    for changes in (
        {"shaping": {}},
        {"shaping": {"kind": "cube"}},
        {"shaping": {"kind": "power", "exponent": "three"}},
        {"shaping": shaping | {"exponent": -1.0}},
        {"shaping": shaping | {"kind": "softmax", "temperature": 1e-300}},
        {"shaping": shaping | {"exponent": 1e300}},
        {"highest": 0.0},
        {"highest": None},
        {"limited": 1.0},
        {"average": None},
        {"uid": None, "average": None, "limited": None},
        {"alpha": 1.0},
        {"alpha": 1e-9},
    ):
        changed = record.model_copy(update={"weights": (weight.model_copy(update=changes),)})
        assert all(step.text for step in explain(changed))
    assert record.standing is not None
    for figures in ({"accumulated_weight": 1e-9}, {"accumulated_weight": 1.001}, {"accumulator": 1.001}):
        changed = record.model_copy(update={"standing": record.standing.model_copy(update=figures)})
        assert all(step.text for step in explain(changed))
