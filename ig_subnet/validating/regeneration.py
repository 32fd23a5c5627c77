"""Verification by re-generation: is an image what the model that its miner declares makes from its seed?

Of a share of the answers that declare a model the validator has, drawn from the round's secret, one image is made again
as declared, and both are compared by the cosine of their embeddings: never by hash, since another machine, batch size
or number format adds up in another order. An answer that declares nothing, or too little, is not verified.
"""

from __future__ import annotations

import gc
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from PIL import Image

from ig_subnet.validating.device import Device
from ig_subnet.validating.errors import ProfileUnusable
from ig_subnet.validating.gates import Check, Declared
from ig_subnet.validating.records import PromptRow
from ig_subnet.validating.sampling import derived_seed
from protocol import Declaration

Verify = Callable[[PromptRow, Sequence[Declared], bytes], Awaitable[Mapping[str, Check]]]
"""Holds images declared for a prompt against their declarations, those that the round's secret draws: by hotkey."""

WARM_UP = "a red circle", 4  # prompt and steps
SMOOTHING = 0.3  # share of the newest measurement in a model's pace


class Model(Protocol):
    """As `ig_subnet.mining.generators.Generator`."""

    @property
    def name(self) -> str: ...

    def as_declared(self, declaration: Declaration) -> Self: ...

    def generate(
        self, prompt: str, negative_prompt: str, width: int, height: int, seeds: Sequence[int], steps: int
    ) -> list[Image.Image | None]: ...


@dataclass
class _Reference:
    """A model on the device: `cosine` is the least of honest images, as `expert` embeds them, `pace` seconds a step."""

    model: Model
    expert: str
    cosine: float
    pace: float


class Regenerator:
    """Makes images of `width` x `height` pixels again; it is a `Verify`.

    Each answer that can be verified is so with the chance `share`, as far as `seconds` of the device allow in a round:
    an image that would take more than is left of them is not made, and costs its miner nothing.
    """

    def __init__(
        self,
        device: Device,
        *,
        width: int,
        height: int,
        share: float,
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._device = device
        self._size = width, height
        self._share = share
        self._seconds = seconds
        self._clock = clock
        self._references: dict[str, _Reference] = {}
        self._round, self._left = 0, 0.0

    async def load(self, load: Callable[[], Model]) -> None:
        """Has `load` load a model in the device's thread, and learns its pace there.

        Raises what that raises, or the model where it cannot make images of this size; ProfileUnusable where the
        profile does not tell how like its images are to those made again.
        """
        gates = self._device.gates
        model = await self._device.run(load)
        measured = gates.regeneration.models if gates.regeneration is not None else {}
        if model.name not in measured or gates.duplicates is None:
            raise ProfileUnusable(
                f"images of {model.name} cannot be verified: the profile has no gates.regeneration for it, or no "
                "gates.duplicates, whose expert embeds images; measure it with scripts/calibrate_regeneration.py"
            )
        prompt, steps = WARM_UP
        for _ in range(2):  # the first one takes longer
            _, seconds = await self._device.run(self._generate, model, prompt, 0, steps)
        gc.collect()  # as `Device` does, and for its reason
        gc.freeze()
        self._references[model.name] = _Reference(
            model, gates.duplicates.expert, measured[model.name].cosine, seconds / steps
        )

    async def __call__(self, prompt: PromptRow, declared: Sequence[Declared], secret: bytes) -> Mapping[str, Check]:
        """The checks of the answers that were drawn, and could be verified in time; as `Verify`."""
        if prompt.round_id != self._round:
            self._round, self._left = prompt.round_id, self._seconds
        known = [image for image in declared if self._declaration(image) is not None]
        checks = {}
        for image in drawn(known, self._share, derived_seed(secret, f"verify {prompt.position}")):
            check = await self._check(image, prompt.text)
            if check is not None:
                checks[image.hotkey] = check
        return checks

    def _declaration(self, image: Declared) -> tuple[Declaration, int, _Reference] | None:
        """What is declared, in how many steps, and the model for it; None for what cannot be made again."""
        found = Declaration.parse(image.model)
        if found is None or found.steps is None or found.model not in self._references:
            return None
        return found, found.steps, self._references[found.model]

    async def _check(self, image: Declared, prompt: str) -> Check | None:
        """How like the image is to the one made again; None where that takes too long or cannot be done."""
        known = self._declaration(image)
        assert known is not None
        declaration, steps, reference = known
        if image.seed not in image.asked:
            return Check(image.number, image.model, None, reference.cosine, matches=False)
        expected = steps * reference.pace
        if expected > self._left:
            return None
        self._left -= expected
        again, seconds = await self._device.run(self._again, reference.model, declaration, prompt, image.seed, steps)
        self._left += expected - seconds
        if again is None:
            return None
        reference.pace += SMOOTHING * (seconds / steps - reference.pace)
        (embedding,) = await self._device.embed([again], reference.expert)
        cosine = min(1.0, float(embedding @ image.embedding))  # rounding
        return Check(image.number, image.model, cosine, reference.cosine, matches=cosine >= reference.cosine)

    def _again(
        self, model: Model, declaration: Declaration, prompt: str, seed: int, steps: int
    ) -> tuple[NDArray[np.uint8] | None, float]:
        """As `_generate`, with None for what cannot be made with the settings that a stranger declares."""
        started = self._clock()
        try:
            return self._generate(model.as_declared(declaration), prompt, seed, steps)
        except Exception as error:  # each scheduler has exceptions of its own
            logger.warning("cannot make an image as declared, {}: {}: {}", declaration, type(error).__name__, error)
            return None, self._clock() - started

    def _generate(self, model: Model, prompt: str, seed: int, steps: int) -> tuple[NDArray[np.uint8] | None, float]:
        """The image, None where the model withholds it, and the seconds it took. In the device's thread."""
        started = self._clock()
        image = model.generate(prompt, "", *self._size, [seed], steps)[0]
        return None if image is None else np.asarray(image), self._clock() - started


def drawn(declared: Sequence[Declared], share: float, seed: bytes) -> list[Declared]:
    """One image of each answer that is drawn, in an order that follows from `seed`; each has the chance `share`."""
    chance = random.Random(seed)
    answers: dict[str, list[Declared]] = defaultdict(list)
    for image in declared:
        answers[image.hotkey].append(image)
    chosen = [chance.choice(images) for _, images in sorted(answers.items()) if chance.random() < share]
    chance.shuffle(chosen)
    return chosen
