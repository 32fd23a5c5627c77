"""A round with the pocket model on both sides: who declares what it makes is paid, and who declares nothing in part."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from made_up_models import MadeUpPrompter

from ig_subnet.config.settings import MinerSettings, ValidatorSettings, parse_validator_settings
from ig_subnet.imaging import DecoderPool
from ig_subnet.mining.answering import Answerer
from ig_subnet.mining.generators import load_generator
from ig_subnet.mining.worker import DeviceWorker
from ig_subnet.rewards import load_mixture
from ig_subnet.validating.answers import RoundSettings
from ig_subnet.validating.commitments import Plan, PlannedPrompt, PrompterIdentity
from ig_subnet.validating.device import Device, Models
from ig_subnet.validating.errors import ProfileUnusable
from ig_subnet.validating.gate_settings import GateSettings
from ig_subnet.validating.memory import Memory
from ig_subnet.validating.records import NOT_REGENERATED, VALID
from ig_subnet.validating.round import run_round
from ig_subnet.validating.sampling import Miner
from neurons.validator import load_regenerator
from protocol import QueryResult, QueryStatus, Target, TextToImageSynapse

REWARDER = {"experts": {"pick_score": {"weights": "package:pocket/weights/clip", "weight": 1.0}}}
GATES = {
    "duplicates": {
        "hash_distance": 0,
        "laid_over": 2,
        "times_nearer": 9,
        "expert": "pick_score",
        "cosine": 1,
        "history": 10,
        "provenance": "made up",
    },
    "regeneration": {"models": {"pocket": {"cosine": 0.9995, "provenance": "made up"}}, "unproven": 0.5},
}
CAPTION = "a cartoon of a small red circle above a large blue square on a white background"
PLAN = Plan(
    hotkey="me",
    netuid=1,
    round=7,
    topic="alone",
    prompts=(PlannedPrompt(text=CAPTION, id="1", parents=("1",), source="pocket", row=1, similarity=0.5),),
    prompter=PrompterIdentity(database="ab" * 32, model="cd" * 32),
)


def settings_of(*flags: str) -> ValidatorSettings:
    return parse_validator_settings(
        [
            *("--subtensor.network", "local", "--neuron.device", "cpu", "--neuron.torch_threads", "1"),
            *("--neuron.verify_share", "1", "--neuron.verify_seconds", "300", *flags),
        ]
    )


def load() -> Models:
    return Models(MadeUpPrompter(), load_mixture(REWARDER, "cpu"), GateSettings.parse(GATES, "made up"))


@pytest.mark.timeout(600)
async def test_declarations_are_held_against_the_model(tmp_path: Path) -> None:
    settings = settings_of("--neuron.verify_models", "pocket")
    miner = MinerSettings.model_validate(
        {"subtensor": {"network": "local"}, "neuron": {"device": "cpu", "torch_threads": 1}, "miner": {"steps": 6}}
    )
    async with (
        Device(load) as device,
        Memory(tmp_path / "scores.sqlite") as memory,
        DecoderPool(1) as decoders,
        DeviceWorker(partial(load_generator, miner), steps=6, queue_size=9) as worker,
        DeviceWorker(partial(load_generator, miner), steps=2, queue_size=9) as cheap,
    ):

        async def ask(target: Target, synapse: TextToImageSynapse) -> QueryResult:
            asked = synapse if target.hotkey != "another seed" else synapse.model_copy(update={"seed": 99})
            hasty = target.hotkey.startswith("cheap")
            images = await Answerer(cheap if hasty else worker, lambda hotkey: 0.0)(asked, "me")
            declared = "pocket" if target.hotkey == "cheap, tells nothing" else worker.declaration
            answer = tuple(
                replace(image, model=declared, seed=synapse.seed_of(number)) for number, image in enumerate(images)
            )
            return QueryResult(target, QueryStatus.ANSWERED, answer, 1.0)

        names = ("honest", "cheap, tells nothing", "cheap, tells more steps", "another seed")
        result = await run_round(
            PLAN,
            100,
            [Miner(name, uid, Target(name, "192.0.2.1", 1)) for uid, name in enumerate(names)],
            secret=b"s" * 32,
            settings=RoundSettings(images=2, width=64, height=64, steps=None, timeout_seconds=300),
            device=device,
            ask=ask,
            decode=decoders.decode,
            verify=await load_regenerator(settings, device, memory),
        )
    verdicts = {name: {image.verdict for image in result.images if image.hotkey == name} for name in names}
    assert verdicts == {
        "honest": {VALID},
        "cheap, tells nothing": {VALID},
        "cheap, tells more steps": {NOT_REGENERATED},
        "another seed": {NOT_REGENERATED},
    }
    assert [result.observations[name] > 0 for name in names] == [True, True, False, False]
    evidence = {name: [image.evidence for image in result.images if image.hotkey == name] for name in names}
    (checked,) = [json.loads(text)["checked"] for text in evidence["honest"] if text]  # one image of an answer
    assert checked["matches"] and checked["cosine"] > 0.9999
    assert checked["model"] == worker.declaration
    assert [json.loads(text) for text in evidence["cheap, tells nothing"] if text] == [{"unproven": 0.5}] * 2
    untold = [row.incentive / row.trust for row in result.images if row.hotkey == "cheap, tells nothing" and row.trust]
    assert untold and max(untold) <= 0.5
    assert all(json.loads(text)["checked"]["cosine"] < 0.9995 for text in evidence["another seed"] if text)


@pytest.mark.timeout(600)
async def test_a_model_that_cannot_be_verified_ends_the_start(tmp_path: Path) -> None:
    async with Device(load) as device, Memory(tmp_path / "scores.sqlite") as memory:
        for flags, message in (
            (("--neuron.verify_models", "nowhere"), r"--neuron\.verify_models nowhere: the model nowhere is none of"),
            (("--neuron.verify_models", "noise"), "images of noise cannot be verified"),
            (
                ("--neuron.verify_models", "pocket", "--neuron.image_width", "128"),
                "verify_models pocket: pocket makes images of 64 x 64 pixels only, not 128 x 64",
            ),
        ):
            with pytest.raises(ProfileUnusable, match=message):
                await load_regenerator(settings_of(*flags), device, memory)
