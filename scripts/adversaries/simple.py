"""Adversaries that need nobody else's answers: cheap images, withheld answers, malformed files."""

from __future__ import annotations

import asyncio
import io
import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from adversaries.answers import COPY_SECONDS, SECONDS_PER_STEP, SILENT, Answer, Honest, Lab, encoded
from adversaries.ascent import MIXTURE, Goal, ascend
from adversaries.copies import Change, changed
from ig_subnet.pocket import COLOURS, pocket_captions
from protocol import GeneratedImage, TextToImageSynapse

CANDIDATES = 12  # captions whose images compete to be the one for every prompt, and prompts that judge them
CANDIDATE_STEPS = 8
UNIVERSAL_STEPS = 200  # of the ascent on all of these prompts in turn
DRAWINGS = 48  # ways of writing a prompt that compete
FILLERS = {"a", "an", "and", "of", "to"}
SHARE_OF_DEADLINE = 0.9  # when slow answers arrive
HARD = re.compile(r"\b(from|two|three|four|five)\b")  # captions of more than two shapes
TRUNCATED_SHARE = 0.97  # of the file: a naive decoder shows a few black rows


@dataclass
class Noise:
    """Random pixels."""

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        rng = np.random.default_rng(synapse.seed)
        shape = synapse.height, synapse.width, 3
        images = [Image.fromarray(rng.integers(0, 256, shape, np.uint8)) for _ in range(synapse.num_images)]
        return Answer(encoded(synapse, images), SECONDS_PER_STEP)


@dataclass
class FixedImage:
    """One image for every prompt: the honest one that scores best over many prompts, made to score better still.

    With a `change` every copy of it is distorted in another way.
    """

    lab: Lab
    change: Change | None = None
    _chosen: asyncio.Task[Image.Image] | None = None

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        if self._chosen is None:
            size = synapse.width, synapse.height
            self._chosen = asyncio.ensure_future(self.lab.run(image_for_every_prompt, self.lab, size))
        images = [await asyncio.shield(self._chosen)] * synapse.num_images
        return Answer(encoded(synapse, await changed(self.lab, images, synapse, self.change)), SECONDS_PER_STEP)


def image_for_every_prompt(lab: Lab, size: tuple[int, int]) -> Image.Image:
    """Of a few honest images the one that the mixture likes best over `CANDIDATES` prompts, after an ascent on it."""
    prompts = pocket_captions(CANDIDATES, seed=1)
    made = [lab.generator.generate(prompt, "", *size, [0], CANDIDATE_STEPS)[0] for prompt in prompts]
    images = [image for image in made if image is not None]
    means = torch.stack([lab.mixture.score(images, prompt).incentive for prompt in prompts]).mean(0)
    return ascend([images[int(means.argmax())]], prompts, Goal(MIXTURE, steps=UNIVERSAL_STEPS), lab.climbable, 0)[0]


@dataclass
class DrawnText:
    """The prompt drawn as text: of many ways to write it, the one that the experts like best."""

    lab: Lab

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        draws = await self.lab.run(self._draw, synapse)
        return Answer(encoded(synapse, await self.lab.best(synapse.prompt, draws)), SECONDS_PER_STEP)

    def _draw(self, synapse: TextToImageSynapse) -> list[list[Image.Image]]:
        rng = np.random.default_rng(synapse.seed)
        size = synapse.width, synapse.height
        return [[draw_words(synapse.prompt, size, rng) for _ in range(synapse.num_images)] for _ in range(DRAWINGS)]


def draw_words(prompt: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """What stands before "on a ... background", written on that background, in lines of a few words.

    Each line in the last colour that it names; letters, places and the thickness of strokes are up to `rng`.
    """
    said, _, ground = prompt.rpartition(" on ")
    background = next((COLOURS[word] for word in ground.split() if word in COLOURS), (255, 255, 255))
    words = [word.strip(",") for word in said.split()]
    shown = [word for word in words if word not in FILLERS] if rng.random() < 0.5 else words
    lines = np.array_split(np.array(shown), min(len(shown), int(rng.integers(1, 5))))
    image = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(image)
    height = size[1] / len(lines)
    for number, line in enumerate(lines):
        text = " ".join(line)
        colour = next((COLOURS[word] for word in reversed(line) if word in COLOURS), (0, 0, 0))
        font = ImageFont.load_default(size=float(rng.uniform(0.4, 1.0)) * height)
        x = (size[0] - draw.textlength(text, font)) * float(rng.uniform(0.2, 0.8))
        draw.text((x, number * height), text, colour, font, stroke_width=int(rng.integers(0, 4)))
    return image


@dataclass
class EasyTopics:
    """Honest work for prompts of one or two shapes; silent on all others."""

    honest: Honest

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        return SILENT if HARD.search(synapse.prompt) else await self.honest.answer(synapse)


@dataclass
class Missing:
    """Honest work for every second query."""

    honest: Honest
    _asked: int = 0

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        self._asked += 1
        return await self.honest.answer(synapse) if self._asked % 2 else SILENT


@dataclass
class Slow:
    """Honest work that arrives just before the deadline."""

    honest: Honest

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        answer = await self.honest.answer(synapse)
        return replace(answer, seconds=SHARE_OF_DEADLINE * synapse.deadline_seconds)


Fault = Literal["oversized", "truncated", "bomb", "mislabelled"]


@dataclass
class Malformed:
    """An accomplice's images in files that are not what was asked for."""

    lab: Lab
    fault: Fault

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        source = await self.lab.board.answer_to(synapse.prompt)
        whole = encoded(synapse, source)
        files = [await self.lab.run(spoilt, *pair, self.fault) for pair in zip(whole, source, strict=True)]
        images = tuple(replace(image, data=file) for image, file in zip(whole, files, strict=True))
        return Answer(images, COPY_SECONDS)


def spoilt(whole: GeneratedImage, image: Image.Image, fault: Fault) -> bytes:
    """The file of an image, declared as `whole` is, with one fault; a decoder that trusts it still sees the image."""
    match fault:
        case "oversized":
            return _png(image, 4)
        case "truncated":
            return whole.data[: int(TRUNCATED_SHARE * len(whole.data))]
        case "bomb":  # 12 MB of pixels from a file of a few KB
            return _png(image, 32)
        case "mislabelled":
            file = io.BytesIO()
            image.save(file, "JPEG", quality=95, subsampling=0)
            return file.getvalue()


def _png(image: Image.Image, factor: int) -> bytes:
    file = io.BytesIO()
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()
