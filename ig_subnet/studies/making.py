"""The images of a study: one model in memory at a time, and every model gets its chance."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ig_subnet.studies.configuration import ModelSettings, StudySettings
from ig_subnet.studies.errors import ModelFailed, ResultsError
from ig_subnet.studies.folder import Shot, StudyFolder, StudyPrompt, shots, write_json
from ig_subnet.studies.results import differences
from ig_subnet.studies.series import ModelFacts, Series, write_metadata

if TYPE_CHECKING:
    from PIL import Image

WRITERS = 2
SAVE_SECONDS = 300.0  # of an image; the largest takes about 2
WITHHELD = "withheld by the model's safety checker"
BLACK = "entirely black: what a safety checker leaves, or NaN in half precision (then try dtype=bfloat16 or float32)"
SMALLER = "try dtype=float16, offload=model or a smaller size"


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device.

    `make(prompts, seeds)` gives an RGB image for each prompt and its seed, or None where the model withholds it, and
    raises MemoryError where they are too many at once; `batch` is how many it is given.
    """

    facts: ModelFacts
    batch: int
    make: Callable[[Sequence[str], Sequence[int]], Sequence[Image.Image | None]]


Load = Callable[[ModelSettings, str], LoadedModel]
"""Loads a model that is to be used with a negative prompt. Raises `ModelFailed`, and MemoryError."""


@dataclass(frozen=True)
class Outcome:
    """What became of a model: images that are there, and those that were withheld or black; `seconds` is what making
    them took, in this run and before. With an `error` some are missing, and the model is not ranked."""

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
    progress: Callable[[str, int, float], None] = lambda model, images, seconds: None,
    ended: Callable[[str, Outcome], None] = lambda model, outcome: None,
) -> dict[str, Outcome]:
    """Makes what is missing of every model's images; what became of each, by name, is left in models.json too.

    A model that fails does not keep the others from being tried. `progress` is told of a model, how many more of its
    images are settled, and the seconds that took, 0 for those settled before; `ended` of each model's end. Raises
    `ResultsError` when images cannot be written.
    """
    series = {
        model.name: Series(folder, model.name, shots(model, prompts, settings.images_per_prompt, settings.seed))
        for model in settings.models
    }
    for name, images in series.items():
        progress(name, len(images.rows) + len(images.failed), 0.0)
    outcomes: dict[str, Outcome] = {}
    for model in settings.models:
        images = series[model.name]
        error = None
        if missing := images.missing():
            try:
                _make(missing, images, model, settings, load, progress)
            except ModelFailed as failure:
                error = str(failure)
            gc.collect()  # a pipeline holds itself in cycles; the next model needs its memory
        outcomes[model.name] = Outcome(
            error=error or images.hopeless() or None,
            made=len(images.rows),
            withheld=len(images.failed),
            seconds=round(images.seconds(), 3),
            facts=images.facts(),
        )
        write_metadata(folder, [row for images in series.values() for row in images.in_order()])
        write_json(folder.models, {name: asdict(outcome) for name, outcome in outcomes.items()})
        ended(model.name, outcomes[model.name])
    return outcomes


def _make(
    missing: list[Shot],
    images: Series,
    model: ModelSettings,
    settings: StudySettings,
    load: Load,
    progress: Callable[[str, int, float], None],
) -> None:
    """Raises `ModelFailed` where it cannot."""
    if reason := images.hopeless():
        raise ModelFailed(reason)
    negative = settings.negative_prompt if model.negative_prompt is None else model.negative_prompt
    loaded = _load(load, model, negative)
    if (before := images.facts()) and (different := differences(asdict(loaded.facts), asdict(before))):
        raise ModelFailed(
            f"its images so far are of another {different}: go on as they were made, or give it a new name"
        )
    batch = loaded.batch
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="writer") as pool:  # the device goes on meanwhile
        saving: list[Future[None]] = []
        while missing:
            chosen = missing[:batch]
            began = time.monotonic()
            try:
                made = loaded.make([shot.prompt.prompt for shot in chosen], [shot.seed for shot in chosen])
            except MemoryError as error:
                if batch == 1:
                    raise ModelFailed(f"out of memory with one image at a time: {error}; {SMALLER}") from error
                batch = max(1, min(batch, len(chosen)) // 2)
                continue
            except Exception as error:  # whatever a pipeline raises
                raise ModelFailed(f"it makes no images: {_first_line(error)}") from error
            seconds = time.monotonic() - began
            _settle(saving)
            saving = []
            for shot, image in zip(chosen, made, strict=True):
                if image is None or image.getbbox() is None:
                    images.fail(shot, WITHHELD if image is None else BLACK)
                else:
                    saving.append(pool.submit(images.save, shot, image, loaded.facts, seconds / len(chosen)))
            missing = missing[len(chosen) :]
            progress(model.name, len(chosen), seconds)
            if not saving and (reason := images.hopeless()):
                raise ModelFailed(reason)
        _settle(saving)


def _load(load: Load, model: ModelSettings, negative_prompt: str) -> LoadedModel:
    try:
        return load(model, negative_prompt)
    except ModelFailed:
        raise
    except MemoryError as error:
        raise ModelFailed(f"it does not fit into memory: {error}; {SMALLER}") from error
    except Exception as error:  # whatever a library raises
        raise ModelFailed(f"it cannot be loaded: {_first_line(error)}") from error


def _settle(saving: Sequence[Future[None]]) -> None:
    for saved in saving:
        try:
            saved.result(timeout=SAVE_SECONDS)
        except (OSError, TimeoutError) as error:
            raise ResultsError(f"an image cannot be written: {error}; make room, and run again to go on") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
