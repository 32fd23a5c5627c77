"""A study's models as diffusers pipelines. Importing this loads torch and diffusers (seconds)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL.Image import Image

from ig_subnet.mining.diffusion import DiffusionGenerator, PipelineSettings, diffusion_generator, pocket_generator
from ig_subnet.mining.errors import MiningError, ModelUnavailable
from ig_subnet.mining.generators import HUB_ID
from ig_subnet.pocket import STABLE_DIFFUSION
from ig_subnet.studies.configuration import POCKET, ModelSettings
from ig_subnet.studies.errors import ModelFailed
from ig_subnet.studies.making import LoadedModel
from ig_subnet.studies.series import ModelFacts

LARGEST_SIDE = 8192  # pixels
LARGEST_BATCH = 16  # small images cost the least then (scripts/benchmark_images.py), and a kill loses no more

T = TypeVar("T")


def load_model(settings: ModelSettings, negative_prompt: str, device: str = "auto") -> LoadedModel:
    """A model of a study, on its device. Raises `ModelFailed`, and MemoryError where it does not fit."""

    def load() -> DiffusionGenerator:
        source = str(STABLE_DIFFUSION) if settings.source == POCKET else str(Path(settings.source).expanduser())
        held = PipelineSettings(
            source=source,
            device=device,
            dtype=settings.dtype,
            offload=settings.offload,
            revision=settings.revision,
            variant=settings.variant,
            safetensors_only=settings.safetensors,
            compile=settings.compile,
        )
        if settings.source == POCKET:
            return pocket_generator(held, settings.guidance, settings.scheduler)
        if not Path(source).is_dir() and not HUB_ID.fullmatch(source):
            raise ModelUnavailable(f"there is no directory {source}, and it is no hub id (owner/name) either")
        return diffusion_generator(held, settings.guidance, settings.scheduler, LARGEST_SIDE)

    def make(prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Image | None]:
        with np.errstate(invalid="ignore"):  # NaN becomes black, which is told
            return generator.generate_each(prompts, negative_prompt, width, height, seeds, steps)

    try:
        generator = _with_memory_errors(load)
        width, height = settings.size or generator.native_size
        generator.check_size(width, height)
    except MiningError as error:
        raise ModelFailed(str(error)) from error
    own_steps = None if settings.source == POCKET else generator.own_steps
    steps = settings.steps or own_steps or settings.usual_steps
    return LoadedModel(
        facts=ModelFacts(
            source=settings.source,
            revision=settings.revision,
            variant=settings.variant,
            pipeline=generator.pipeline_name,
            steps=steps,
            guidance=generator.guidance_scale,
            scheduler=generator.scheduler_name,
            negative_prompt=negative_prompt,
            dtype=generator.dtype,
            width=width,
            height=height,
        ),
        batch=settings.batch or min(generator.batch_size(width, height), LARGEST_BATCH),
        make=lambda prompts, seeds: _with_memory_errors(lambda: make(prompts, seeds)),
    )


def _with_memory_errors(function: Callable[[], T]) -> T:
    """What the function returns; that memory ran out, of a GPU or not, is a MemoryError, and nothing of it is kept."""
    try:
        return function()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in reason:
            raise
    gc.collect()
    torch.cuda.empty_cache()
    raise MemoryError(reason)
