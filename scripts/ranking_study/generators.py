"""Generators whose quality is known: the pocket model made worse in four ways, each by degrees.

None of their pictures was in the experts' training, which saw earlier states of the generator. All make the same
prompts from the same noise.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from calibrate_regeneration import disturbed

from ig_subnet.pocket import GUIDANCE_SCALE
from ig_subnet.studies.configuration import POCKET, ModelSettings
from ig_subnet.studies.making import LoadedModel

if TYPE_CHECKING:
    from PIL.Image import Image

BEST_STEPS = 20

Drawn = tuple[str, int]
"""A prompt and a seed."""


@dataclass(frozen=True)
class Generator:
    """The pocket model in so many steps and with this guidance; `disturbance` is the deviation of the noise in its
    denoiser's weights, as a share of theirs, and `ignored` the share of prompts for which it draws another one.
    """

    name: str
    steps: int = BEST_STEPS
    guidance: float = GUIDANCE_SCALE
    disturbance: float = 0.0
    ignored: float = 0.0

    @property
    def settings(self) -> ModelSettings:
        return ModelSettings(source=POCKET, name=self.name, steps=self.steps, guidance=self.guidance)


GENERATORS = (
    Generator("steps-20"),
    Generator("steps-8", steps=8),
    Generator("steps-4", steps=4),
    Generator("steps-2", steps=2),
    Generator("steps-1", steps=1),
    Generator("guidance-1", guidance=1.0),
    Generator("guidance-7.5", guidance=7.5),
    Generator("ignores-1-in-4", ignored=0.25),
    Generator("ignores-1-in-2", ignored=0.5),
    Generator("ignores-all", ignored=1.0),
    Generator("disturbed-0.2", disturbance=0.2),
    Generator("disturbed-0.3", disturbance=0.3),
)


def load_generator(generator: Generator, best: Mapping[Drawn, Path], folder: Path, device: str) -> LoadedModel:
    """The generator as a study's model.

    One that ignores prompts answers with pictures of the `best` generator, the first of GENERATORS, which must have
    made them before: for a prompt that it ignores, with one of another prompt. A disturbed copy of the weights is left
    in `folder`, which must not hold one yet.
    """
    from ig_subnet.studies.pipelines import load_model

    settings = generator.settings
    if generator.disturbance:
        copy = disturbed(POCKET, folder / generator.name, generator.disturbance)
        settings = settings.model_copy(update={"source": copy})
    loaded = load_model(settings, "", device)
    loaded = replace(loaded, facts=replace(loaded.facts, source=f"{POCKET}, {generator.name}"))
    if not generator.ignored:
        return loaded
    return replace(
        loaded,
        make=lambda prompts, seeds: [
            _read(best[_answered(generator, drawn, best)]) for drawn in zip(prompts, seeds, strict=True)
        ],
    )


def _answered(generator: Generator, asked: Drawn, best: Mapping[Drawn, Path]) -> Drawn:
    """What is asked, or, where the generator ignores it, something else; the same for the same seed."""
    chance = random.Random(asked[1])
    if chance.random() >= generator.ignored:
        return asked
    return chance.choice([drawn for drawn in best if drawn[0] != asked[0]])


def _read(path: Path) -> Image:
    from ig_subnet.studies.pictures import load_picture, open_picture

    return load_picture(open_picture(path))
