"""Miners for scripts/soak.py: most of them honest, the others faulty in every way that a validator has to bear.

They share one model that costs nothing. What is wrong with a miner is its role; what it does is drawn from the seed
that it is asked with, so that a run can be repeated.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO

import numpy as np
from PIL import Image

from protocol import Declaration, GeneratedImage, QueryResult, QueryStatus, Target, TextToImageSynapse

CELLS = 8  # of a pattern, across and down
CONTRAST = 0.3
STEPS = 20
HONEST_SECONDS, COPYING_SECONDS = 1.0, 1.5

# What a miner does wrong. Those who do `NOTHING_EARNED` get nothing for any answer.
NOTHING_EARNED = ("silent", "late", "refuses", "breaks_our_side", "broken_images", "black_images")
FAULTS = (
    *NOTHING_EARNED,
    "flickers",  # answers every second query
    "half",  # of the images that were asked for
    "twins",  # one image, sent as often as images were asked for
    "replays",  # the answer to its first query, for ever
    "copies",  # what an honest miner has just sent
    "recodes",  # the same, a little brighter and as JPEG
    "wrong_seeds",  # and declares the right ones
    "re_registers",  # under the same hotkey; in between it is honest, as the following ones are
    "gives_way",  # its uid to a new hotkey
    "vanishes",  # from the metagraph, for shorter or longer
    "withdraws",  # its axon
)
HONEST = "honest"


@dataclass(frozen=True)
class Patterns:
    """A model as `ig_subnet.mining.generators.Generator`: random colours, as bright as the guidance scale says."""

    brightness: float = 0.5
    name: str = "patterns"

    def declaration(self, steps: int) -> Declaration:
        return Declaration(self.name, steps, self.brightness)

    def as_declared(self, declaration: Declaration) -> Patterns:
        return self if declaration.guidance is None else replace(self, brightness=declaration.guidance)

    def generate(
        self, prompt: str, negative_prompt: str, width: int, height: int, seeds: Sequence[int], steps: int
    ) -> list[Image.Image | None]:
        return [self._one(zlib.crc32(prompt.encode()), width, height, seed, steps) for seed in seeds]

    def _one(self, prompt: int, width: int, height: int, seed: int, steps: int) -> Image.Image:
        noise = np.random.default_rng([prompt, seed, steps]).uniform(-1, 1, (CELLS, CELLS, 3))
        cells = np.clip(self.brightness + CONTRAST * noise, 0, 1)
        picture = Image.fromarray(np.round(255 * cells).astype(np.uint8))
        return picture.resize((width, height), Image.Resampling.BICUBIC)


@dataclass
class SimulatedMiners:
    """Answers for all miners of a subnet as `Dendrite.query` would return them; `roles` and `brightness` by hotkey."""

    roles: dict[str, str] = field(default_factory=dict)
    brightness: dict[str, float] = field(default_factory=dict)
    _first_answers: dict[str, tuple[GeneratedImage, ...]] = field(default_factory=dict)
    _newest: tuple[GeneratedImage, ...] = ()  # of an honest miner
    _newest_prompt: str = ""

    async def ask(self, target: Target, synapse: TextToImageSynapse) -> QueryResult:
        """As `Dendrite.query`."""
        role = self.roles[target.hotkey]
        seconds = HONEST_SECONDS + synapse.seed / 2**32 / 4
        match role:
            case "silent":
                return QueryResult(target, QueryStatus.TIMEOUT, (), synapse.deadline_seconds, "no answer")
            case "late":
                return QueryResult(target, QueryStatus.TIMEOUT, (), synapse.deadline_seconds + 0.1, "too late")
            case "refuses":
                others = [status for status in QueryStatus if status is not QueryStatus.ANSWERED]
                return QueryResult(target, others[synapse.seed % len(others)], (), seconds, "made up")
            case "breaks_our_side":
                raise RuntimeError("a fault in the dendrite")
            case "flickers" if synapse.seed % 2:
                return QueryResult(target, QueryStatus.UNREACHABLE, (), 0.1, "no connection")
            case "copies" | "recodes":
                await asyncio.sleep(0)  # all others have been asked, and the honest have answered
                seconds = COPYING_SECONDS
        images = self._images(target.hotkey, role, synapse)
        if role == HONEST:
            self._newest, self._newest_prompt = images, synapse.prompt
        return QueryResult(target, QueryStatus.ANSWERED, images, seconds)

    def _images(self, hotkey: str, role: str, synapse: TextToImageSynapse) -> tuple[GeneratedImage, ...]:
        model = Patterns(self.brightness[hotkey])
        match role:
            case "broken_images":
                return tuple(_broken(synapse, number) for number in range(synapse.num_images))
            case "black_images":
                return (_encoded(Image.new("RGB", (synapse.width, synapse.height)), synapse.seed, "black"),)
            case "half":
                return _made(model, synapse)[: synapse.num_images // 2 or 1]
            case "twins":
                return _made(model, synapse)[:1] * synapse.num_images
            case "replays":
                return self._first_answers.setdefault(hotkey, _made(model, synapse))
            case "copies" if self._newest_prompt == synapse.prompt:
                return self._newest
            case "recodes" if self._newest_prompt == synapse.prompt:
                return tuple(_recoded(image) for image in self._newest)
            case "wrong_seeds":
                made = _made(model, synapse.model_copy(update={"seed": synapse.seed ^ 1 << 20}))
                return tuple(replace(image, seed=synapse.seed_of(number)) for number, image in enumerate(made))
        return _made(model, synapse)


def _made(model: Patterns, synapse: TextToImageSynapse) -> tuple[GeneratedImage, ...]:
    seeds = [synapse.seed_of(number) for number in range(synapse.num_images)]
    pictures = model.generate(synapse.prompt, "", synapse.width, synapse.height, seeds, STEPS)
    declared = str(model.declaration(STEPS))
    return tuple(_encoded(picture, seed, declared) for picture, seed in zip(pictures, seeds, strict=True) if picture)


def _encoded(picture: Image.Image, seed: int, model: str) -> GeneratedImage:
    file = BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return GeneratedImage("png", picture.width, picture.height, seed, model, file.getvalue())


def _recoded(image: GeneratedImage) -> GeneratedImage:
    file = BytesIO()
    brighter = Image.open(BytesIO(image.data)).point(lambda level: min(255, level + 2))
    brighter.save(file, "JPEG", quality=90)
    return replace(image, format="jpeg", model="", data=file.getvalue())


def _broken(synapse: TextToImageSynapse, number: int) -> GeneratedImage:
    """Something that declares to be an image of the size asked for, and is not."""
    made = _made(Patterns(), synapse)[0]
    small = _encoded(Image.new("RGB", (8, 8), "white"), 0, "").data
    broken = [
        replace(made, data=made.data[: len(made.data) // 2]),
        replace(made, data=bytes(number + 1) + made.data),
        replace(made, format="webp"),
        replace(made, data=small),
        replace(made, data=np.random.default_rng(synapse.seed).bytes(500), format="jpeg"),
    ]
    return broken[(synapse.seed + number) % len(broken)]
