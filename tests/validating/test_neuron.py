"""The validator's round from plan to plan, without a process, a chain or a wire: what it keeps to, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_up_images import DUPLICATES
from made_up_models import SIZE, BrightnessMixture, MadeUpPrompter
from made_up_rounds import HOTKEY
from PIL import Image

from ig_subnet.chain import (
    AxonEndpoint,
    ChainError,
    ChainUnavailable,
    MetagraphSnapshot,
    NeuronSnapshot,
    Presence,
)
from ig_subnet.chain.presence import MISSING_SECONDS
from ig_subnet.config.settings import parse_validator_settings
from ig_subnet.prompts import Candidates, Topic
from ig_subnet.reporting.wandb_log import WandbRun
from ig_subnet.validating.commitments import ASKED, VOID, verify
from ig_subnet.validating.device import Device, Models
from ig_subnet.validating.errors import NotRegistered, RoundError
from ig_subnet.validating.gate_settings import GateSettings
from ig_subnet.validating.memory import Memory
from ig_subnet.validating.records import COPY, OTHER_PROMPT, VALID, CommitmentRow
from ig_subnet.validating.store import ScoreStore
from ig_subnet.validating.weighting import Shaping
from neurons.validator import VOID_ROUNDS, ValidatorNeuron
from protocol import GeneratedImage, QueryResult, QueryStatus, Target, TextToImageSynapse


def metagraph() -> MetagraphSnapshot:
    neurons = [
        NeuronSnapshot(uid, hotkey, "cold", 0.0, False, True, 5, 5, axon, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        for uid, (hotkey, axon) in enumerate(
            {HOTKEY: None, "alice": AxonEndpoint("192.0.2.1", 1), "bob": AxonEndpoint("192.0.2.2", 1)}.items()
        )
    ]
    return MetagraphSnapshot(1, 100, tuple(neurons))


@dataclass
class MadeUpChain:
    shown: MetagraphSnapshot | ChainError = field(default_factory=metagraph)

    async def metagraph(self) -> MetagraphSnapshot:
        if isinstance(self.shown, ChainError):
            raise self.shown
        return self.shown


async def decode(data: bytes, **expected: object) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), 128, dtype=np.uint8)


@dataclass
class Miners:
    """They answer, and note what they are asked; with `hang` they never do."""

    hang: bool = False
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    both_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, target: Target, synapse: TextToImageSynapse) -> QueryResult:
        self.asked.append((target.hotkey, synapse.prompt, synapse.seed))
        if len(self.asked) == 2:
            self.both_asked.set()
        if self.hang:
            await asyncio.sleep(3600)
        image = GeneratedImage("png", SIZE, SIZE, synapse.seed, "made up", b"an image")
        return QueryResult(target, QueryStatus.ANSWERED, (image,), 0.1)


@asynccontextmanager
async def validator(
    folder: Path,
    miners: Miners,
    *,
    prompter: MadeUpPrompter | None = None,
    mixture: BrightnessMixture | None = None,
    gates: GateSettings | None = None,
) -> AsyncIterator[ValidatorNeuron]:
    settings = parse_validator_settings(
        ["--subtensor.network", "local", "--neuron.prompts_per_round", "2", "--neuron.images_per_prompt", "1"]
    )
    models = Models(prompter or MadeUpPrompter(), mixture or BrightnessMixture(), gates or GateSettings())
    async with Memory(folder / "scores.sqlite3") as memory, Device(lambda: models) as device:
        yield ValidatorNeuron(
            settings,
            HOTKEY,
            MadeUpChain(),  # type: ignore[arg-type]
            metagraph(),
            memory,
            device,
            decode,
            miners.ask,
            WandbRun(None),
        )


def commitments(folder: Path) -> list[CommitmentRow]:
    with ScoreStore.open_read_only(folder / "scores.sqlite3") as store:
        return list(store.commitments())


async def test_the_next_round_is_committed_to_as_soon_as_one_is_recorded(tmp_path: Path) -> None:
    miners = Miners()
    async with validator(tmp_path, miners) as neuron:
        for _ in range(3):
            assert await neuron.run_one_round()
            rows = commitments(tmp_path)
            assert [row.outcome for row in rows] == ["asked"] * (len(rows) - 1) + [None]
    assert [row.round_id for row in rows] == [1, 2, 3, 4]
    assert verify(rows) == [None] * 4
    assert len({(hotkey, prompt) for hotkey, prompt, _ in miners.asked}) == len(miners.asked) == 3 * 2 * 2


async def test_a_round_that_was_broken_off_is_asked_again_as_it_was(tmp_path: Path) -> None:
    before, after = Miners(hang=True), Miners()
    async with validator(tmp_path, before) as neuron:
        running = asyncio.create_task(neuron.run_one_round())
        async with asyncio.timeout(60):
            await before.both_asked.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    async with validator(tmp_path, after, prompter=MadeUpPrompter(database=("another",))) as neuron:
        assert await neuron.run_one_round()
    assert sorted(after.asked[:2]) == sorted(before.asked)  # the same prompt with the same seeds
    assert [row.outcome for row in commitments(tmp_path)] == ["asked", None]


async def test_a_round_that_failed_is_revealed_and_planned_anew(tmp_path: Path) -> None:
    failing = True

    def before(images: list[Image.Image]) -> None:
        if failing:
            raise MemoryError("the device is full")

    miners = Miners()
    async with validator(tmp_path, miners, mixture=BrightnessMixture(before)) as neuron:
        with pytest.raises(RoundError, match="round 1 is void"):
            await neuron.run_one_round()
        failing = False
        assert await neuron.run_one_round()
    rows = commitments(tmp_path)
    assert [(row.round_id, row.outcome) for row in rows] == [(1, "void"), (1, "asked"), (2, None)]
    assert rows[0].secret is not None and rows[0].secret != rows[1].secret
    assert verify(rows) == [None] * 3


async def test_a_round_counts_though_the_next_cannot_be_planned_yet(tmp_path: Path) -> None:
    class Weary(MadeUpPrompter):
        tired = False

        def candidates(self, topic: Topic) -> Candidates:
            if self.tired:
                raise MemoryError("the device is full")
            return super().candidates(topic)

    prompter = Weary()
    async with validator(tmp_path, Miners(), prompter=prompter) as neuron:
        await neuron.planner().next_plan(["alice", "bob"], 100)
        prompter.tired = True
        assert await neuron.run_one_round()
        assert [row.outcome for row in commitments(tmp_path)] == ["asked"]
        with pytest.raises(RoundError, match="round 2 cannot be planned"):
            await neuron.run_one_round()
        prompter.tired = False
        assert await neuron.run_one_round()
    assert verify(commitments(tmp_path)) == [None] * 3


async def test_a_chain_that_errs_stops_no_rounds_and_costs_nobody_its_average(tmp_path: Path) -> None:
    chain, now = MadeUpChain(), 0.0
    async with validator(tmp_path, Miners()) as neuron:
        neuron.chain, neuron.presence = chain, Presence(HOTKEY, clock=lambda: now)  # type: ignore[assignment]
        assert await neuron.run_one_round()
        for chain.shown in (
            ChainUnavailable("ws://nowhere", "connection refused"),
            MetagraphSnapshot(1, 0, ()),  # a node with an empty state
        ):
            assert await neuron.run_one_round()
            assert neuron.metagraph == metagraph()
        assert {hotkey: miner.observations for hotkey, miner in neuron.memory.miners.items()} == {"alice": 3, "bob": 3}

        chain.shown = replace(metagraph(), neurons=metagraph().neurons[:2])
        assert await neuron.run_one_round()
        bob = neuron.memory.miners["bob"]
        assert (bob.observations, bob.absent_since is None) == (3, False)
        assert neuron.weigh(chain.shown).shares == {1: 1.0}
        chain.shown = metagraph()
        assert neuron.weigh(chain.shown).shares.keys() == {1, 2}
        assert await neuron.run_one_round()
        assert neuron.memory.miners["bob"].absent_since is None

        chain.shown = MetagraphSnapshot(1, 200, ())
        assert await neuron.run_one_round()
        now += MISSING_SECONDS
        with pytest.raises(NotRegistered, match="is not registered on subnet 1"):
            await neuron.run_one_round()


async def test_flags_shape_the_weights_and_alarms_reach_wandb(tmp_path: Path) -> None:
    logged: list[object] = []
    flags = ["--neuron.weight_shaping=softmax", "--neuron.weight_temperature=0.2", "--neuron.weight_exponent=2"]
    flags += ["--neuron.weight_floor=0.3", "--neuron.weight_burn=0.1", "--neuron.moving_average_alpha=0.5"]
    async with validator(tmp_path, Miners()) as made:
        settings = parse_validator_settings(["--subtensor.network", "local", *flags])
        neuron = replace(made, settings=settings, wandb_run=WandbRun(SimpleNamespace(log=logged.append)))
        weighing = neuron.weigh(metagraph())
        assert (weighing.alpha, weighing.shaping) == (0.5, Shaping("softmax", 2, 0.2, 0.3, 0.1))
        await neuron.report_alarm("no weights were set for 3.0 tempos: the chain is away")
    assert logged == [{"weights_alarm": "no weights were set for 3.0 tempos: the chain is away"}]


async def test_an_outage_blames_nobody_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurons.validator.OUTAGE_SECONDS", 0.0)
    monkeypatch.setattr("neurons.validator.IDLE_SECONDS", 0.0)
    miners, rounds = Miners(), 2 * VOID_ROUNDS
    async with validator(tmp_path, miners) as neuron:
        assert await neuron.run_one_round()
        before = neuron.memory.miners

        async def unplugged(target: Target, synapse: TextToImageSynapse) -> QueryResult:
            miners.asked.append((target.hotkey, synapse.prompt, synapse.seed))
            if len(miners.asked) > 4 * rounds:
                neuron.ask = miners.ask
            return QueryResult(target, QueryStatus.UNREACHABLE, (), 0.1, "no route to host")

        neuron.ask = unplugged
        neuron.settings = neuron.settings.model_copy(
            update={"neuron": neuron.settings.neuron.model_copy(update={"rounds": 1, "round_seconds": 0.0})}
        )
        async with asyncio.timeout(60):
            await neuron.run_rounds()
        assert {hotkey: row.observations for hotkey, row in neuron.memory.miners.items()} == {"alice": 2, "bob": 2}
        assert before.keys() == neuron.memory.miners.keys()
    outcomes = [row.outcome for row in commitments(tmp_path) if row.outcome]
    assert outcomes[0] == outcomes[-1] == ASKED
    assert len(outcomes) > VOID_ROUNDS + 2 and set(outcomes[1:-1]) == {VOID}


async def test_images_are_known_again_after_a_restart_but_not_those_of_a_void_round(tmp_path: Path) -> None:
    """Every miner sends the same image all the time: it is paid once in its life."""
    failing = True

    def before(images: list[Image.Image]) -> None:
        if failing:
            raise MemoryError("the device is full")

    gates, mixture = GateSettings(duplicates=DUPLICATES), BrightnessMixture(before)
    async with validator(tmp_path, Miners(), mixture=mixture, gates=gates) as neuron:
        with pytest.raises(RoundError):
            await neuron.run_one_round()
        failing = False
        assert await neuron.run_one_round()
    async with validator(tmp_path, Miners(), gates=gates) as neuron:
        assert await neuron.run_one_round()
        history = await neuron.history()
        assert history is not None and len(history) == 1  # what gates have stopped is nobody's original
    with ScoreStore.open_read_only(tmp_path / "scores.sqlite3") as store:
        verdicts = [[row.verdict for row in store.images() if row.round_id == number] for number in (1, 2)]
    assert sorted(verdicts[0]) == sorted([VALID, COPY, OTHER_PROMPT, OTHER_PROMPT])
    assert verdicts[1] == [OTHER_PROMPT] * 4  # the prompts are new
