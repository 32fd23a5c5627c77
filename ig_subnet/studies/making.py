"""The images of a study: one model in memory at a time, each image once on disk, whatever ends the run.

An image file carries its own row of metadata, so it is finished exactly when it is there. metadata.parquet is read from
the files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ig_subnet.studies.configuration import ModelSettings, StudySettings
from ig_subnet.studies.folder import StudyFolder, StudyPrompt

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class ModelFacts:
    """How a loaded model makes images; the same for all images of a model."""

    pipeline: str
    steps: int
    guidance: float | None
    scheduler: str
    dtype: str
    width: int
    height: int


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device. `make(prompts, seeds)` gives an RGB image for each prompt and its seed, or None where the
    model withholds it, and raises MemoryError where they are too many at once; `batch` is how many it is given."""

    facts: ModelFacts
    batch: int
    make: Callable[[Sequence[str], Sequence[int]], Sequence[Image.Image | None]]


Load = Callable[[ModelSettings, str], LoadedModel]
"""Loads a model, with its negative prompt."""


@dataclass(frozen=True)
class Outcome:
    """What became of a model: images made and withheld, in this run and before, and the seconds that took."""

    error: str | None = None
    made: int = 0
    withheld: int = 0
    seconds: float = 0.0
    facts: ModelFacts | None = None


def make_images(
    folder: StudyFolder,
    settings: StudySettings,
    prompts: Sequence[StudyPrompt],
    *,
    load: Load,
    progress: Callable[[str, int], None] = lambda model, made: None,
) -> dict[str, Outcome]:
    """Makes what is missing of every model's images; what became of each model, by name, is in models.json too.

    A model that fails does not keep the others from being tried; its error is in its outcome. `progress` is called with
    a model and how many more of its images are there.
    """
    raise NotImplementedError
