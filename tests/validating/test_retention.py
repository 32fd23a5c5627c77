"""What is forgotten: the oldest first, no more than it takes, never what averages are made of; and the file shrinks."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from loguru import logger
from made_up_rounds import PROMPT_ID, make_commitments, make_round

from ig_subnet.prompts import Uses
from ig_subnet.validating.memory import Memory
from ig_subnet.validating.records import RoundRecord
from ig_subnet.validating.retention import ANSWER_BYTES, DAY, MEGABYTE, Forgotten, Retention
from ig_subnet.validating.store import STORE_FILE, ScoreStore

ROUNDS = 10  # round N begins at 10 N and ends at 10 N + 3
IMAGE = "{:064x}.png"


def bulky(round_id: int) -> RoundRecord:
    """A round with 200 KB of details."""
    made_up = make_round(round_id)
    first, *_ = made_up.images
    images = tuple(replace(first, number=number, embedding=bytes(50_000)) for number in range(4))
    return replace(made_up, images=images)


@asynccontextmanager
async def store(folder: Path) -> AsyncIterator[Memory]:
    """Ten rounds, and an attempt to set weights after each."""
    async with Memory(folder / STORE_FILE) as memory:
        for round_id in range(1, ROUNDS + 1):
            await memory.with_store(partial(ScoreStore.record_round, record=bulky(round_id)))
            await memory.record_weight_setting(
                at=10.0 * round_id + 3, block=round_id, outcome="set", detail="", weights={3: 1.0}
            )
        yield memory


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    yield lines
    logger.remove(sink)


async def detailed(memory: Memory) -> list[int]:
    """The rounds that have their details."""

    def read(store: ScoreStore) -> list[int]:
        of_images, of_scores, observed = (
            {row.round_id for row in rows} for rows in (store.images(), store.expert_scores(), store.averages())
        )
        printed = {row.round_id for row in store.fingerprints(10**6)}
        assert of_images == printed == of_scores == observed
        return sorted(of_images)

    return await memory.with_store(read)


async def test_details_of_rounds_that_are_too_old_go_and_nothing_else_does(tmp_path: Path) -> None:
    async with store(tmp_path) as memory:
        before = await memory.with_store(ScoreStore.size)
        retention = Retention(memory, days=1, megabytes=None, images=None, clock=lambda: DAY + 44)
        assert await retention.step() == Forgotten(details=4)  # round 5 ended at 53
        assert await detailed(memory) == [5, 6, 7, 8, 9, 10]
        assert await retention.step() == Forgotten()
        assert await memory.with_store(ScoreStore.size) < 0.7 * before

        def left(store: ScoreStore) -> None:
            assert len(list(store.rounds())) == len(list(store.prompts())) == ROUNDS
            assert len(list(store.answers())) == 2 * ROUNDS
            assert store.uses([PROMPT_ID], ["alice"]) == {PROMPT_ID: Uses(ROUNDS, 1)}
            assert tuple(store.miners()) == make_round(ROUNDS).miners
            assert [setting.block for setting in store.weight_settings()] == [5, 6, 7, 8, 9, 10]

        await memory.with_store(left)


async def test_the_newest_round_stays_however_old_it_is(tmp_path: Path) -> None:
    async with store(tmp_path) as memory:
        retention = Retention(memory, days=1, megabytes=None, images=None, clock=lambda: 1000 * DAY)
        assert await retention.step() == Forgotten(details=ROUNDS - 1)
        assert await detailed(memory) == [ROUNDS]
        assert [row.block for row in await memory.with_store(lambda store: list(store.weight_settings()))] == [ROUNDS]
        assert await memory.next_round_id() == ROUNDS + 1


async def test_the_oldest_go_until_the_store_is_small_enough_and_its_file_shrinks(tmp_path: Path) -> None:
    async with store(tmp_path) as memory:
        retention = Retention(memory, days=None, megabytes=1.0, images=None)
        forgotten = await retention.step()
        kept = await detailed(memory)
        assert kept == list(range(forgotten.details + 1, ROUNDS + 1))
        assert 0 < forgotten.details < ROUNDS - 1
        assert 0.8 * MEGABYTE < await memory.with_store(ScoreStore.size) <= MEGABYTE  # no more than it takes
        assert (tmp_path / STORE_FILE).stat().st_size <= MEGABYTE
        assert await retention.step() == Forgotten()


async def test_saved_images_count_and_go_with_their_rounds(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "notes.txt").write_bytes(bytes(MEGABYTE))
    (folder / (IMAGE.format(99) + ".bak")).touch()
    for number in range(ROUNDS + 1):  # the first of a round that was void, then one of each round, 1 s after it began
        (folder / IMAGE.format(number)).write_bytes(bytes(100_000))
        os.utime(folder / IMAGE.format(number), (10 * number + 1,) * 2)
    async with store(tmp_path) as memory:
        size = await memory.with_store(ScoreStore.size)
        limit = (size + 9.5 * 100_000) / MEGABYTE  # with two images less it is small enough: of no round, of round 1
        retention = Retention(memory, days=None, megabytes=limit, images=folder)
        assert await retention.step() == Forgotten(details=1, images=2)
        assert await detailed(memory) == list(range(2, ROUNDS + 1))
        assert not (folder / IMAGE.format(1)).exists() and (folder / IMAGE.format(2)).exists()
        assert await retention.step() == Forgotten()

        aged = Retention(memory, days=1, megabytes=None, images=folder, clock=lambda: DAY + 34)
        assert await aged.step() == Forgotten(details=2, images=2)  # round 3 ended at 33; its image is of 31
        assert len(list(folder.iterdir())) == 2 + ROUNDS - 3


async def test_an_image_whose_round_is_forgotten_already_goes_before_others_lose_theirs(tmp_path: Path) -> None:
    """As when the validator is killed between the two."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / IMAGE.format(1)).write_bytes(bytes(MEGABYTE))
    os.utime(folder / IMAGE.format(1), (11, 11))
    async with store(tmp_path) as memory:
        await memory.with_store(lambda store: store.forget(1, wholly=False))
        size = await memory.with_store(ScoreStore.size)
        retention = Retention(memory, days=None, megabytes=(size + 1000) / MEGABYTE, images=folder)
        assert await retention.step() == Forgotten(images=1)
        assert await detailed(memory) == list(range(2, ROUNDS + 1))


async def test_whole_rounds_go_where_answers_alone_take_half_and_that_is_said(
    tmp_path: Path, log_lines: list[str]
) -> None:
    async with store(tmp_path) as memory:
        answers = 2 * ROUNDS * ANSWER_BYTES
        retention = Retention(memory, days=None, megabytes=answers / MEGABYTE, images=None)
        forgotten = await retention.step()
        assert forgotten.rounds == ROUNDS / 2
        assert await detailed(memory) == [ROUNDS]  # and still the limit is too small
        assert any("who was asked what in the 5 oldest rounds" in line for line in log_lines)
        assert any("takes more than --neuron.keep_megabytes" in line for line in log_lines)

        def left(store: ScoreStore) -> None:
            assert [row.round_id for row in store.rounds()] == list(range(6, ROUNDS + 1))
            assert len(list(store.answers())) == ROUNDS
            assert store.uses([PROMPT_ID], ["alice"]) == {PROMPT_ID: Uses(ROUNDS // 2, 1)}
            assert tuple(store.miners()) == make_round(ROUNDS).miners

        await memory.with_store(left)


async def test_fingerprints_that_no_gate_remembers_go_first(tmp_path: Path) -> None:
    async with store(tmp_path) as memory:
        size = await memory.with_store(ScoreStore.size)
        retention = Retention(memory, days=None, megabytes=size / 2 / MEGABYTE, images=None, fingerprints=10)
        assert await retention.step() == Forgotten()  # it is small enough without them

        def left(store: ScoreStore) -> None:
            assert [row.round_id for row in store.fingerprints(99)] == [8] * 4 + [9] * 4 + [10] * 4
            assert {row.round_id for row in store.images()} == set(range(1, ROUNDS + 1))

        await memory.with_store(left)


async def test_commitments_stay_whole(tmp_path: Path) -> None:
    async with store(tmp_path) as memory:
        rows = make_commitments("void", "asked", "asked")

        def commit(store: ScoreStore) -> None:
            for row in rows:
                store.commit(replace(row, revealed_at=None, outcome=None))
                store.void_commitment(row.id, 5.0)

        await memory.with_store(commit)
        await Retention(memory, days=1, megabytes=0.001, images=None, clock=lambda: 1000 * DAY).step()
        assert [row.id for row in await memory.with_store(lambda store: list(store.commitments()))] == [1, 2, 3]


async def test_nothing_is_forgotten_without_limits_or_rounds(tmp_path: Path) -> None:
    async with Memory(tmp_path / STORE_FILE) as memory:
        assert await Retention(memory, days=1e-6, megabytes=1e-6, images=tmp_path).step() == Forgotten()
    async with store(tmp_path) as memory:
        assert await Retention(memory, days=None, megabytes=None, images=tmp_path).step() == Forgotten()
        assert await detailed(memory) == list(range(1, ROUNDS + 1))
