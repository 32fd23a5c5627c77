"""Text-to-image pipelines of diffusers as a Generator. Importing this loads torch and diffusers (seconds)."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
import transformers
from PIL.Image import Image

from ig_subnet.config.settings import MinerSettings
from ig_subnet.mining.errors import ModelUnavailable, UnsupportedSize
from ig_subnet.pocket import GUIDANCE_SCALE, STABLE_DIFFUSION
from protocol import Declaration
from protocol.declaration import MAX_DECLARATION

SIDE_MULTIPLE = 8  # diffusers refuses other sizes
# In one call: 1 image of 1024 px, 4 of 512 px. Four pocket images together take 0.6 of the time of one by one.
MICRO_BATCH_PIXELS = 1024 * 1024

# --miner.scheduler -> the class and what is set besides the model's own configuration
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


class DiffusionGenerator:
    """A diffusers text-to-image pipeline that is loaded and on its device.

    `guidance_scale` and `scheduler`, a name of SCHEDULERS, are the model's own where they are None.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        name: str,
        guidance_scale: float | None,
        scheduler: str | None,
        max_side: int,
        only_native_size: bool = False,
    ) -> None:
        self.name = name
        self._guidance_scale = guidance_scale
        self._scheduler_name = scheduler
        self._scheduler = pipeline.scheduler if scheduler is None else _scheduler(scheduler, pipeline.scheduler)
        self.native_size = _native_size(pipeline, max_side)
        self._pipeline = pipeline
        self._max_side = max_side
        self._only_native_size = only_native_size
        self._takes_negative_prompt = "negative_prompt" in inspect.signature(pipeline.__call__).parameters

    def declaration(self, steps: int) -> Declaration:
        return Declaration(self.name, steps, self._guidance_scale, self._scheduler_name)

    def as_declared(self, declaration: Declaration) -> Self:
        other = copy.copy(self)
        if declaration.guidance is not None:
            other._guidance_scale = declaration.guidance
        if declaration.scheduler is not None:
            other._scheduler_name = declaration.scheduler
            other._scheduler = _scheduler(declaration.scheduler, self._scheduler)
        return other

    def check_size(self, width: int, height: int) -> None:
        if self._only_native_size and (width, height) != self.native_size:
            made = "{} x {}".format(*self.native_size)
            raise UnsupportedSize(f"{self.name} makes images of {made} pixels only, not {width} x {height}")
        if width % SIDE_MULTIPLE or height % SIDE_MULTIPLE or max(width, height) > self._max_side:
            raise UnsupportedSize(
                f"{self.name} makes images with sides that are multiples of {SIDE_MULTIPLE} and at most "
                f"{self._max_side} pixels, not {width} x {height}"
            )

    def batch_size(self, width: int, height: int) -> int:
        return max(1, MICRO_BATCH_PIXELS // (width * height))

    def generate(
        self, prompt: str, negative_prompt: str, width: int, height: int, seeds: Sequence[int], steps: int
    ) -> list[Image | None]:
        self.check_size(width, height)
        options: dict[str, Any] = {} if self._guidance_scale is None else {"guidance_scale": self._guidance_scale}
        if self._takes_negative_prompt and negative_prompt:
            options["negative_prompt"] = negative_prompt
        self._pipeline.scheduler = self._scheduler
        output = self._pipeline(
            prompt=prompt,
            width=width,
            height=height,
            num_inference_steps=steps,
            num_images_per_prompt=len(seeds),
            # Generators of the CPU: the initial noise of a seed is then the same on every device.
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            **options,
        )
        # Some pipelines round a size to what they can make instead of refusing it.
        if wrong := next((image.size for image in output.images if image.size != (width, height)), None):
            raise UnsupportedSize(f"{self.name} made {wrong[0]} x {wrong[1]} pixels when asked for {width} x {height}")
        withheld = getattr(output, "nsfw_content_detected", None) or [False] * len(seeds)
        return [None if flag else image for image, flag in zip(output.images, withheld, strict=True)]


def load_pocket(settings: MinerSettings) -> DiffusionGenerator:
    """The pocket model that comes with this package: 64 x 64 pixels. Raises ModelUnavailable."""
    if not STABLE_DIFFUSION.is_dir():
        raise ModelUnavailable(
            "the pocket weights are not installed; install the package again or train them (scripts/train_pocket.py)"
        )
    guidance = settings.miner.guidance_scale
    return DiffusionGenerator(
        _load_pipeline(str(STABLE_DIFFUSION), settings),
        name="pocket",
        guidance_scale=GUIDANCE_SCALE if guidance is None else guidance,
        scheduler=settings.miner.scheduler,
        max_side=settings.miner.max_side,
        only_native_size=True,
    )


def load_diffusion(settings: MinerSettings) -> DiffusionGenerator:
    """A pipeline from a directory or the hub. Raises ModelUnavailable."""
    model = settings.miner.model
    return DiffusionGenerator(
        _load_pipeline(model, settings),
        # No folder, whatever its name, may be taken for a model of the hub or of this package.
        name=_declared_name(f"./{Path(model).resolve().name}" if Path(model).is_dir() else model),
        guidance_scale=settings.miner.guidance_scale,
        scheduler=settings.miner.scheduler,
        max_side=settings.miner.max_side,
    )


def _load_pipeline(source: str, settings: MinerSettings) -> Any:
    """The pipeline in `source`, on its device, with the offloading of the settings."""
    device = _device(settings.neuron.device)
    if settings.miner.offload != "none" and device.type != "cuda":
        raise ModelUnavailable(f"--miner.offload {settings.miner.offload} needs a CUDA device, not {device}")
    if settings.neuron.torch_threads is not None:
        torch.set_num_threads(settings.neuron.torch_threads)
    _quiet_libraries()
    try:
        pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(
            source,
            dtype=_dtype(settings.miner.dtype, device),  # explicit: half-precision files do not run on a CPU
            use_safetensors=True,  # never a pickle
            local_files_only=Path(source).is_dir(),
        )
    except Exception as error:  # the libraries raise OSError, ValueError, KeyError, ImportError, ... for a bad model
        raise ModelUnavailable(f"the model {source} cannot be loaded: {' '.join(str(error).split())}") from error
    pipeline.set_progress_bar_config(disable=True)
    match settings.miner.offload:
        case "none":
            pipeline.to(device)
        case "model":
            pipeline.enable_model_cpu_offload(device=device)
        case "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
    return pipeline


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelUnavailable(
            f"--neuron.device {name}: there is no such device ({torch.cuda.device_count()} CUDA devices found)"
        )
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _scheduler(name: str, current: Any) -> Any:
    if name not in SCHEDULERS:
        raise ModelUnavailable(f"there is no scheduler {name}: use {', '.join(SCHEDULERS)}")
    class_name, options = SCHEDULERS[name]
    wanted = getattr(diffusers, class_name)
    if wanted not in current.compatibles:
        raise ModelUnavailable(f"the scheduler {name} does not fit this model, whose own is {type(current).__name__}")
    return wanted.from_config(current.config, **options)


def _native_size(pipeline: Any, max_side: int) -> tuple[int, int]:
    """The size that the model was trained for, as far as its configuration tells; at most `max_side`."""
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    latent_side = getattr(getattr(denoiser, "config", None), "sample_size", None)
    side = latent_side * pipeline.vae_scale_factor if isinstance(latent_side, int) else 512
    return (min(side, max_side),) * 2


def _declared_name(name: str) -> str:
    """`name` in the characters that a declaration allows for a model's name."""
    return re.sub(r"[^A-Za-z0-9._@/+-]", "_", name)[:MAX_DECLARATION]


def _quiet_libraries() -> None:
    """A miner's log has a line a query; progress bars and advice for developers would bury them."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
