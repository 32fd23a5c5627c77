"""What is asked next: decided before anybody is asked, kept through a restart, and new to those who are asked."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_models import BrightnessMixture, MadeUpPrompter
from made_up_rounds import HOTKEY, make_round

from ig_subnet.chain import MetagraphSnapshot
from ig_subnet.prompts import Topic
from ig_subnet.validating.commitments import PrompterIdentity, digest_of, verify
from ig_subnet.validating.device import Device, Models
from ig_subnet.validating.errors import RoundError, StoreDamaged, StoreForeign
from ig_subnet.validating.memory import CommittedPlan, Memory
from ig_subnet.validating.plans import Planner
from ig_subnet.validating.records import CommitmentRow
from ig_subnet.validating.round import RoundResult, is_askable
from ig_subnet.validating.store import ScoreStore

MINERS = [f"miner {number}" for number in range(4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scores.sqlite3"


@asynccontextmanager
async def validator(
    path: Path,
    prompter: MadeUpPrompter | None = None,
    *,
    hotkey: str = HOTKEY,
    netuid: int = 1,
    prompts: int = 2,
    sample_size: int | None = None,
    askable: Callable[[str], bool] = is_askable,
    seed: int | None = 7,
) -> AsyncIterator[tuple[Planner, Memory]]:
    async with (
        Memory(path) as memory,
        Device(lambda: Models(prompter or MadeUpPrompter(), BrightnessMixture())) as device,
    ):
        flags = {"hotkey": hotkey, "netuid": netuid, "prompts": prompts, "sample_size": sample_size}
        yield Planner(device, memory, **flags, askable=askable, seed=seed), memory  # type: ignore[arg-type]


async def ask(memory: Memory, committed: CommittedPlan, miners: Collection[str] = MINERS) -> None:
    """Records the round as if these miners had been asked."""
    made_up = make_round(committed.plan.round)
    prompts = committed.plan.rows()
    asked = [replace(made_up.answers[0], position=row.position, hotkey=hotkey) for row in prompts for hotkey in miners]
    assert made_up.rewarder is not None
    result = RoundResult(made_up.round, prompts, tuple(asked), (), (), {}, made_up.rewarder)
    await memory.remember(result, MetagraphSnapshot(1, 100, ()), alpha=0.1, commitment=committed.number)


def commitments(path: Path) -> list[CommitmentRow]:
    with ScoreStore.open_read_only(path) as store:
        return list(store.commitments())


async def rounds(path: Path, count: int, **settings: object) -> list[CommittedPlan]:
    """So many rounds in a row, each planned and asked."""
    played = []
    async with validator(path, **settings) as (planner, memory):  # type: ignore[arg-type]
        for _ in range(count):
            played.append(await planner.next_plan(MINERS, 100))
            await ask(memory, played[-1])
    return played


async def test_a_plan_is_committed_to_before_anything_is_asked(path: Path) -> None:
    async with validator(path) as (planner, _):
        committed = await planner.next_plan(MINERS, 100)
    (row,) = commitments(path)
    assert (row.id, row.round_id, row.block, row.secret, row.content) == (1, 1, 100, None, None)
    assert row.digest == digest_of(committed.secret, committed.plan.canonical())
    plan = committed.plan
    assert (plan.hotkey, plan.netuid, plan.round, plan.topic) == (HOTKEY, 1, 1, "brightness")
    assert plan.prompter == PrompterIdentity(database="ab" * 32, model="cd" * 32)
    first, second = plan.prompts
    assert first.text != second.text
    assert first.text == f"prompt {first.row}" and first.parents == (first.id,) and first.source == "made up"


async def test_a_restart_asks_what_was_committed_whatever_has_changed_since(path: Path) -> None:
    async with validator(path) as (planner, _):
        committed = await planner.next_plan(MINERS, 100)
        assert await planner.next_plan(MINERS[:1], 101) == committed
    other = MadeUpPrompter(topics=(Topic(name="other", text="something else"),), database=("else",), digest="ef" * 32)
    async with validator(path, other, prompts=1, seed=8) as (planner, memory):
        assert await planner.next_plan(["a newcomer"], 200) == committed
        await ask(memory, committed)
        following = await planner.next_plan(MINERS, 201)
    assert (following.plan.round, following.plan.topic, following.plan.prompter.database) == (2, "other", "ef" * 32)
    rows = commitments(path)
    assert verify(rows) == [None, None]
    assert [(row.outcome, row.content) for row in rows] == [("asked", committed.plan.canonical()), (None, None)]


async def test_a_seed_repeats_a_run_and_none_does_not(tmp_path: Path) -> None:
    first = await rounds(tmp_path / "first", 4, prompts=1)
    again = await rounds(tmp_path / "again", 2, prompts=1)
    again += await rounds(tmp_path / "again", 2, prompts=1)  # with a restart in between
    assert again == first
    other, fresh, fresher = [
        await rounds(tmp_path / name, 4, prompts=1, seed=seed)
        for name, seed in (("other", 8), ("fresh", None), ("fresher", None))
    ]
    assert len({tuple(plan.secret for plan in run) for run in (first, other, fresh, fresher)}) == 4
    assert [plan.plan.prompts for plan in other] != [plan.plan.prompts for plan in first]


async def test_no_miner_gets_a_prompt_again_while_there_are_others(path: Path) -> None:
    """Fifteen rounds of two prompts use the thirty up, ever further from the topic; the next repeats two."""
    prompter = MadeUpPrompter()
    played = await rounds(path, 16, prompter=prompter)
    asked = [prompt.text for committed in played for prompt in committed.plan.prompts]
    assert sorted(asked[:30]) == sorted(prompter.database)
    assert set(asked[30:]) <= set(prompter.database)
    assert prompter.searched[:2] == [10, 10]  # none beyond the nearest while these are fresh
    assert max(prompter.searched) == 40


async def test_a_prompt_that_others_have_had_is_fresh_to_those_who_have_not(path: Path) -> None:
    async with validator(path, MadeUpPrompter(database=("one", "two")), prompts=1) as (planner, memory):
        first = await planner.next_plan(["alice"], 100)
        await ask(memory, first, ["alice"])
        second = await planner.next_plan(["alice"], 100)
        await ask(memory, second, ["alice"])
        assert {first.plan.prompts[0].text, second.plan.prompts[0].text} == {"one", "two"}
        assert await memory.uses([second.plan.prompts[0].id], ["bob"]) != {}
        third = await planner.next_plan(["alice", "bob"], 100)
        await ask(memory, third, ["bob"])
        fourth = await planner.next_plan(["bob"], 100)
        assert fourth.plan.prompts != third.plan.prompts


async def test_topics_are_drawn_by_their_weight(path: Path) -> None:
    topics = (Topic(name="often", text="often", weight=3.0), Topic(name="seldom", text="seldom", weight=1.0))
    played = await rounds(path, 100, prompter=MadeUpPrompter(topics=topics), prompts=1)
    often = sum(committed.plan.topic == "often" for committed in played)
    assert 53 <= often <= 97  # 75 expected, five standard deviations are 22


async def test_prompts_that_the_wire_does_not_carry_are_passed_over(tmp_path: Path) -> None:
    prompter = MadeUpPrompter(database=("a bell\a", "x" * 2000, "", "a red circle"))
    async with validator(tmp_path / "some", prompter) as (planner, _):
        committed = await planner.next_plan(MINERS, 100)
        assert [prompt.text for prompt in committed.plan.prompts] == ["a red circle"]
    async with validator(tmp_path / "none", MadeUpPrompter(database=("\a",))) as (planner, _):
        with pytest.raises(RoundError, match=r"round 1 cannot be planned: .*'brightness' has no prompt that can be"):
            await planner.next_plan(MINERS, 100)
    assert commitments(tmp_path / "none") == []


async def test_a_plan_that_cannot_be_asked_any_more_is_given_up_and_revealed(path: Path) -> None:
    async with validator(path) as (planner, _):
        first = await planner.next_plan(MINERS, 100)
    async with validator(path, askable=lambda text: text != first.plan.prompts[1].text) as (planner, memory):
        second = await planner.next_plan(MINERS, 101)
        assert (second.number, second.plan.round) == (2, 1)
        assert second.secret != first.secret  # which everybody can read now
        await ask(memory, second)
    rows = commitments(path)
    assert [(row.outcome, row.content) for row in rows] == [
        ("void", first.plan.canonical()),
        ("asked", second.plan.canonical()),
    ]
    assert verify(rows) == [None, None]


async def test_a_plan_of_a_round_that_failed_is_not_asked_again(path: Path) -> None:
    async with validator(path) as (planner, memory):
        first = await planner.next_plan(MINERS, 100)
        await memory.give_up(first)
        second = await planner.next_plan(MINERS, 100)
    assert second.plan.round == 1
    assert second.plan.prompts != first.plan.prompts
    assert verify(commitments(path)) == [None, None]


async def test_a_prompter_that_fails_voids_the_round(path: Path) -> None:
    class Broken(MadeUpPrompter):
        def candidates(self, topic: Topic) -> None:  # type: ignore[override]
            raise MemoryError("the device is full")

    async with validator(path, Broken()) as (planner, _):
        with pytest.raises(RoundError, match="round 1 cannot be planned: MemoryError: the device is full"):
            await planner.next_plan(MINERS, 100)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("content = replace(content, 'prompt', 'promise')", "digest is not that of its secret and content"),
        ("secret = 'no hash'", "secret is not 32 bytes"),
        ("digest = ''", "digest is not that"),
    ],
)
async def test_a_damaged_plan_is_one_clear_error(path: Path, change: str, reason: str) -> None:
    async with validator(path) as (planner, _):
        await planner.next_plan(MINERS, 100)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"UPDATE commitments SET {change}")
    connection.close()
    async with validator(path) as (planner, _):
        with pytest.raises(StoreDamaged, match=f"commitment 1, to round 1, is damaged: .*{reason}.*restore the file"):
            await planner.next_plan(MINERS, 100)


@pytest.mark.parametrize("other", [{"hotkey": "5G" + "b" * 46}, {"netuid": 2}])
async def test_a_plan_of_another_validator_is_not_asked(path: Path, other: dict[str, object]) -> None:
    async with validator(path) as (planner, _):
        await planner.next_plan(MINERS, 100)
    async with validator(path, **other) as (planner, _):  # type: ignore[arg-type]
        with pytest.raises(StoreForeign, match=f"{HOTKEY} on subnet 1 has committed to its round 1, .* --neuron.name"):
            await planner.next_plan(MINERS, 100)
