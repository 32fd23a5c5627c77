"""Verification by re-generation: is an image what the model that its miner declares makes from its seed?

An image that declares a model the validator has can be made again as declared, and both are compared by the cosine of
their embeddings and by their thumbnails, never by hash: another machine, batch size or number format adds up in another
order. When the images of a round are there, that is done with a share of the answers, drawn from the round's secret,
and with the images that look like somebody else's or have grain, since a match proves that they are honest.
"""

from __future__ import annotations

import gc
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol, Self

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from PIL import Image

from ig_subnet.imaging import fingerprint
from ig_subnet.validating.device import Device
from ig_subnet.validating.errors import ProfileUnusable
from ig_subnet.validating.gate_settings import VerifiedModel
from ig_subnet.validating.gates import Check, Declared, ImageKey, Proofs, Verdict
from ig_subnet.validating.likeness import levels_apart
from ig_subnet.validating.records import DISPROVABLE, VALID
from ig_subnet.validating.sampling import derived_seed
from protocol import Declaration

Judge = Callable[[Proofs, AbstractSet[ImageKey]], Awaitable[Mapping[ImageKey, Verdict]]]
"""The verdicts on a round by what is proven so far, with those images suspected (see `gates.judge`)."""

Verify = Callable[[int, Sequence[Declared], bytes, Judge], Awaitable[Proofs]]
"""Holds the images of a round, by its number and secret, against what is declared of them."""

WARM_UP, WARM_UP_STEPS = "a red circle", (1, 4)
WARM_UPS = 3  # of each; the first takes longer, and the quickest counts
EVALUATIONS = {"heun": 2}  # of the denoiser in a step, for schedulers that take more than one
LARGEST_SHARE = 0.25  # of a round's seconds for one image: what takes longer cannot be made again
DRAWN_SHARE = 0.5  # of a round's seconds for what is drawn: suspicion, which anybody can provoke, leaves them alone
PASSES = 8  # over the suspects of a round: what was made again may be the original of others
# Rounds of its own in which nothing is believed of who declared falsely. With a share of 0.1 of one prompt a round, a
# lie that nobody suspects lives 10 rounds; paid half in these, it has earned less than a fifth, cubed, of what the
# truth would.
DISTRUSTED_ROUNDS = 50


class Model(Protocol):
    """As `ig_subnet.mining.generators.Generator`."""

    @property
    def name(self) -> str: ...

    def as_declared(self, declaration: Declaration) -> Self: ...

    def generate(
        self, prompt: str, negative_prompt: str, width: int, height: int, seeds: Sequence[int], steps: int
    ) -> list[Image.Image | None]: ...


@dataclass(frozen=True)
class _Reference:
    """A model on the device, with what the profile says of its images, as `expert` embeds them.

    An image takes `fixed` seconds and `step` more for each evaluation of the denoiser, as measured when the model was
    loaded: what can be made again must not depend on how busy the device is, nor on what strangers have it make.
    """

    model: Model
    expert: str
    honest: VerifiedModel
    fixed: float
    step: float

    def seconds(self, declaration: Declaration) -> float:
        """What an image that is declared with its steps should take."""
        return self.fixed + (declaration.steps or 0) * EVALUATIONS.get(declaration.scheduler or "", 1) * self.step


class Regenerator:
    """Makes images of `width` x `height` pixels again; it is a `Verify`.

    In each round one image of each answer is drawn with the chance `share`, for which `DRAWN_SHARE` of the `seconds` of
    the device are kept; then come suspects, one of a miner at a time and in an order that nobody can foresee. Whoever
    is found out is believed nothing in the next `DISTRUSTED_ROUNDS` that it answers in: `distrusted` says of whom, by
    hotkey, and how many rounds are left.
    """

    def __init__(
        self,
        device: Device,
        *,
        width: int,
        height: int,
        share: float,
        seconds: float,
        distrusted: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._device = device
        self._size = width, height
        self._share = share
        self._seconds = seconds
        self._distrusted = dict(distrusted or {})
        self._clock = clock
        self._references: dict[str, _Reference] = {}
        self._left = 0.0  # of the seconds of the present round
        self._unmakeable: set[ImageKey] = set()  # of the present round: it was tried

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
        few, many = WARM_UP_STEPS
        quickest = {}
        for steps in WARM_UP_STEPS:
            made = [await self._device.run(self._generate, model, WARM_UP, 0, steps) for _ in range(WARM_UPS)]
            quickest[steps] = min(seconds for _, seconds in made)
        step = max(0.0, quickest[many] - quickest[few]) / (many - few)
        fixed = max(0.0, quickest[few] - few * step)
        gc.collect()  # as `Device` does, and for its reason
        gc.freeze()
        self._references[model.name] = _Reference(model, gates.duplicates.expert, measured[model.name], fixed, step)

    async def __call__(self, round_id: int, declared: Sequence[Declared], secret: bytes, judge: Judge) -> Proofs:
        """What could be proven of the images of a round in time; as `Verify`."""
        self._unmakeable = set()
        images = {image.key: image for image in declared}
        answered = {image.key.hotkey for image in declared}
        checks: dict[ImageKey, Check] = {}

        def proofs() -> Proofs:
            provable = checks.keys() | {image.key for image in declared if self._declaration(image)}
            return Proofs(dict(checks), images.keys() - provable)

        found = proofs()
        unclear = images.keys() - found.unproven
        verdicts = await judge(found, unclear)
        sound = [
            image for key, image in images.items() if key in unclear and verdicts[key].reason in (VALID, *DISPROVABLE)
        ]
        draw = drawn(sound, self._share, derived_seed(secret, f"verify {round_id}"))
        self._left = self._seconds * DRAWN_SHARE
        checks |= await self._check_all(draw)
        self._left += self._seconds * (1 - DRAWN_SHARE)
        looked_at = set(checks)
        for number in range(PASSES):
            if checks:
                found = proofs()
                unclear = images.keys() - looked_at - found.unproven
                verdicts = await judge(found, unclear)
            suspects = {key for key in unclear - looked_at if verdicts[key].reason in DISPROVABLE}
            if not suspects:
                break
            looked_at |= suspects
            order = by_turns([images[key] for key in suspects], derived_seed(secret, f"suspects {number}"))
            checks |= await self._check_all(order)
        checks |= await self._check_all(image for image in draw if image.key not in checks)
        result = proofs()
        for hotkey in answered & self._distrusted.keys():
            self._distrusted[hotkey] -= 1
            if not self._distrusted[hotkey]:
                del self._distrusted[hotkey]
        return result

    def _declaration(self, image: Declared) -> tuple[Declaration, int, _Reference] | None:
        """What is declared, in how many steps, and the model for it; None for what cannot be made again."""
        if image.key in self._unmakeable or image.key.hotkey in self._distrusted:
            return None
        found = Declaration.parse(image.model)
        if found is None or found.steps is None or found.model not in self._references:
            return None
        reference = self._references[found.model]
        if reference.seconds(found) > LARGEST_SHARE * self._seconds:
            return None
        return found, found.steps, reference

    async def _check_all(self, images: Iterable[Declared]) -> dict[ImageKey, Check]:
        """The checks of as many of the images as there is time for. Who fails one is not believed any more."""
        checks = {}
        for image in images:
            known = self._declaration(image)
            if known is not None and (check := await self._check(image, *known)) is not None:
                checks[image.key] = check
                if not check.matches:
                    self._distrusted[image.key.hotkey] = 1 + DISTRUSTED_ROUNDS  # this round is one of them
        return checks

    async def _check(
        self, image: Declared, declaration: Declaration, steps: int, reference: _Reference
    ) -> Check | None:
        """How like the image is to the one made again; None where that takes too long or cannot be done."""
        told, honest = (image.key.number, image.model), reference.honest
        if image.seed not in image.asked:
            return Check(*told, None, honest.cosine, matches=False)
        if reference.seconds(declaration) > self._left:
            return None
        again, seconds = await self._device.run(self._again, reference.model, declaration, image, steps)
        self._left -= seconds
        if again is None:
            self._unmakeable.add(image.key)
            return None
        (embedding,) = await self._device.embed([again], reference.expert)
        if not np.isfinite(embedding).all():
            return None  # the fault is here, and not the miner's
        cosine = min(1.0, float(embedding @ image.embedding))  # rounding
        levels = levels_apart(image.phash, fingerprint(again))
        return Check(*told, cosine, honest.cosine, cosine >= honest.cosine and levels <= honest.levels, levels)

    def _again(
        self, model: Model, declaration: Declaration, image: Declared, steps: int
    ) -> tuple[NDArray[np.uint8] | None, float]:
        """As `_generate`, with None for what cannot be made with the settings that a stranger declares. Raises what the
        model does where it makes nothing any more: that is no miner's fault."""
        started = self._clock()
        try:
            return self._generate(model.as_declared(declaration), image.prompt, image.seed, steps)
        except Exception as error:  # each scheduler has exceptions of its own
            self._generate(model, WARM_UP, 0, min(WARM_UP_STEPS))
            logger.warning("cannot make an image as declared, {}: {}: {}", declaration, type(error).__name__, error)
            return None, self._clock() - started

    def _generate(self, model: Model, prompt: str, seed: int, steps: int) -> tuple[NDArray[np.uint8] | None, float]:
        """The image, None where the model withholds it, and the seconds it took. In the device's thread."""
        started = self._clock()
        image = model.generate(prompt, "", *self._size, [seed], steps)[0]
        return None if image is None else np.asarray(image), self._clock() - started


def by_turns(images: Sequence[Declared], seed: bytes) -> list[Declared]:
    """All of them in an order that follows from `seed`: one of each miner, then the next one of each, and so on."""
    chance = random.Random(seed)
    miners: dict[str, list[Declared]] = defaultdict(list)
    for image in sorted(images, key=lambda image: image.key):
        miners[image.key.hotkey].append(image)
    queues = list(miners.values())
    chance.shuffle(queues)
    for queue in queues:
        chance.shuffle(queue)
    return [image for turn in zip_longest(*queues) for image in turn if image is not None]


def drawn(images: Sequence[Declared], share: float, seed: bytes) -> list[Declared]:
    """One image of each answer that is drawn, in an order that follows from `seed`; each has the chance `share`."""
    chance = random.Random(seed)
    answers: dict[tuple[int, str], list[Declared]] = defaultdict(list)
    for image in images:
        answers[image.key[:2]].append(image)
    chosen = [chance.choice(of_answer) for _, of_answer in sorted(answers.items()) if chance.random() < share]
    chance.shuffle(chosen)
    return chosen
