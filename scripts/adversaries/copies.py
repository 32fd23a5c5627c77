"""Adversaries that live on the answers of others."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adversaries.answers import COPY_SECONDS, Answer, Honest, Lab, declaration, encoded
from ig_subnet.imaging import fingerprint
from ig_subnet.validating.gate_settings import DuplicatesGate
from ig_subnet.validating.likeness import Prints, candidates, is_alike
from protocol import TextToImageSynapse

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

DRAWS = 6  # changes of an image that compete
EVASIONS = 24  # distortions of an image, of which those that the gate does not know compete
RIVALS, RIVAL_STEPS = 8, 2  # images of its own that show how like each other those of a prompt are


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Up to a tenth cut away at each side, and the rest enlarged again."""
    left, top, right, bottom = rng.uniform(0.02, 0.1, 4)
    box = left * image.width, top * image.height, (1 - right) * image.width, (1 - bottom) * image.height
    return image.resize(image.size, Image.Resampling.BICUBIC, box)


def flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Mirrored, left to right or upside down."""
    return image.transpose(rng.choice([Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM]))


def noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Gaussian noise of 6 levels."""
    return _from_floats(np.asarray(image, np.float32) + rng.normal(0, 6, (image.height, image.width, 3)))


def drift(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Each channel up to a tenth brighter or darker, and up to 8 levels off."""
    return _from_floats(np.asarray(image, np.float32) * rng.uniform(0.9, 1.1, 3) + rng.uniform(-8, 8, 3))


def reencode(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Through a JPEG of a quality from 75 to 95, its colours at full size."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(75, 96)), subsampling=0)
    return Image.open(file).convert("RGB")


def everything(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """All of these, one after the other; mirrored every second time."""
    for change in (crop, drift, noise, reencode):
        image = change(image, rng)
    return flip(image, rng) if rng.random() < 0.5 else image


def _from_floats(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


CHANGES: dict[str, Change] = {change.__name__: change for change in (crop, flip, noise, drift, reencode, everything)}


async def changed(
    lab: Lab, images: Sequence[Image.Image], synapse: TextToImageSynapse, change: Change | None
) -> list[Image.Image]:
    """The images, each with the one of `DRAWS` changes that the experts like best for the prompt; or as they are."""
    if change is None:
        return list(images)
    rng = np.random.default_rng(synapse.seed)
    # On the lab's thread, as all that takes long: an axon's loop that is held up loses its connections.
    draws = await lab.run(lambda: [[change(image, rng) for image in images] for _ in range(DRAWS)])
    return await lab.best(synapse.prompt, draws)


@dataclass
class Copy:
    """Another hotkey's answer to the same prompt, as it is or with a change; it comes a moment later.

    With `declares`, it says that the model made it, as who works honestly does.
    """

    lab: Lab
    change: Change | None = None
    declares: bool = False

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        images = await self.lab.board.answer_to(synapse.prompt)
        images = await changed(self.lab, images, synapse, self.change)
        return Answer(encoded(synapse, images, declaration(self.lab, self.declares)), COPY_SECONDS)


def distort(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned by up to 15 degrees, scaled by up to a quarter, moved, mirrored or not, with other colours."""
    margin = image.width // 2
    padded = Image.fromarray(np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
    turned = padded.rotate(float(rng.uniform(-15, 15)), Image.Resampling.BICUBIC)
    side = image.width / float(rng.uniform(0.8, 1.25))
    left, top = (turned.width - side) / 2 + rng.uniform(-0.15, 0.15, 2) * image.width
    cut = turned.resize(image.size, Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    mirrored = flip(cut, rng) if rng.random() < 0.5 else cut
    return drift(mirrored, rng)  # noise would lose more with the experts than it hides


@dataclass
class EvadingCopy:
    """Another hotkey's answer, distorted until the validator's own public gate does not know it any more.

    Of the distortions that pass, each image is sent with the one that the experts like best; where none passes, with
    the one they like best of all. With `declares`, it says that the model made it, and what it hides from is the gate's
    suspicion.
    """

    lab: Lab
    gate: DuplicatesGate
    declares: bool = False

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        originals = await self.lab.board.answer_to(synapse.prompt)
        more = synapse.model_copy(update={"num_images": RIVALS})
        rivals = await self.lab.generate(more, RIVAL_STEPS)  # as other miners' answers look
        rng = np.random.default_rng(synapse.seed)
        draws = await self.lab.run(lambda: [[distort(image, rng) for _ in range(EVASIONS)] for image in originals])
        images = await self.lab.run(self._choose, synapse.prompt, originals, rivals, draws)
        return Answer(encoded(synapse, images, declaration(self.lab, self.declares)), COPY_SECONDS)

    def _choose(
        self,
        prompt: str,
        originals: Sequence[Image.Image],
        rivals: Sequence[Image.Image],
        draws: Sequence[Sequence[Image.Image]],
    ) -> list[Image.Image]:
        """Of each image's draws the best one that is like no original."""
        known, flat = len(originals) + len(rivals), [*originals, *rivals, *(image for draw in draws for image in draw)]
        marks = self.lab.mixture.score(flat, prompt).incentive.numpy()
        embeddings = self.lab.mixture.embed(flat, self.gate.expert).numpy()
        prints = Prints.of([fingerprint(np.asarray(image)) for image in flat], list(embeddings))
        limits = self.gate.suspecting() if self.declares else self.gate

        def passes(number: int) -> bool:
            found = candidates((prints, number), prints, np.arange(len(originals)), self.gate)
            others = candidates((prints, number), prints, np.arange(len(originals), known), self.gate)
            return not (found and is_alike(found[0], others, limits))

        chosen = []
        for start in range(known, len(flat), EVASIONS):
            own = range(start, start + EVASIONS)
            chosen.append(flat[max(list(filter(passes, own)) or own, key=marks.__getitem__)])
        return chosen


@dataclass
class Replay:
    """Of all images that its owner's hotkeys made for earlier prompts, those that the experts like best for this one.

    Honest work before there are any.
    """

    lab: Lab
    honest: Honest
    change: Change | None = None

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        await self.lab.board.answer_to(synapse.prompt)  # so that all answers before this one are there
        old = [image for prompt, made in self.lab.board.made.items() if prompt != synapse.prompt for image in made]
        if len(old) < synapse.num_images:
            return await self.honest.answer(synapse)
        marks = (await self.lab.run(self.lab.mixture.score, old, synapse.prompt)).incentive
        best = [old[number] for number in marks.topk(synapse.num_images).indices.tolist()]
        return Answer(encoded(synapse, await changed(self.lab, best, synapse, self.change)), COPY_SECONDS)


class Middleman:
    """Passes its queries on to an honest miner, in its own name, and that miner's answers back.

    How the miner is reached, and whether it answers, is a matter of where it is played: `answer` is never called.
    """

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        raise NotImplementedError
