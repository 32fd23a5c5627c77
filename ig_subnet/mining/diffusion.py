"""Text-to-image pipelines of diffusers as a Generator. Importing this loads torch and diffusers (seconds)."""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
import transformers
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from PIL.Image import Image

from ig_subnet.config.groups import Dtype, Offload
from ig_subnet.config.settings import MinerSettings
from ig_subnet.mining.errors import ModelUnavailable, UnsupportedSize
from ig_subnet.pocket import GUIDANCE_SCALE, IMAGE_SIZE, STABLE_DIFFUSION
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


# Pipelines that take encoded texts back, and the names of what their `encode_prompt` returns, in its order.
TEXT_EMBEDDINGS = {
    "StableDiffusionPipeline": ("prompt_embeds", "negative_prompt_embeds"),
    "StableDiffusionXLPipeline": (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ),
}


@dataclass(frozen=True)
class PipelineSettings:
    """Where a pipeline comes from, and how its weights are held: a directory or hub id, with a `revision` (commit,
    branch or tag) and `variant` of the files; device, dtype and offload as the miner's settings have them.

    Without `safetensors_only`, .bin files are read too, as tensors and nothing else.
    """

    source: str
    device: str = "auto"
    dtype: Dtype = "auto"
    offload: Offload = "none"
    revision: str | None = None
    variant: str | None = None
    safetensors_only: bool = True
    compile: bool = False


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
        self._parameters = inspect.signature(pipeline.__call__).parameters
        self._encoded: dict[tuple[str, str], Sequence[torch.Tensor]] = {}

    @property
    def pipeline_name(self) -> str:
        """The class of the pipeline."""
        return type(self._pipeline).__name__

    @property
    def own_steps(self) -> int | None:
        """How many steps the pipeline takes where nobody says; None for one that does not tell."""
        return self._own("num_inference_steps")

    @property
    def guidance_scale(self) -> float | None:
        """The guidance scale in use; None for a pipeline without one of its own."""
        return self._own("guidance_scale") if self._guidance_scale is None else self._guidance_scale

    @property
    def scheduler_name(self) -> str:
        """The scheduler in use: the name that was asked for, else the class of the model's own."""
        return self._scheduler_name or type(self._scheduler).__name__

    @property
    def dtype(self) -> str:
        """What the denoiser computes in, as `float16`."""
        return str(_denoiser(self._pipeline).dtype).removeprefix("torch.")

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
        return self.generate_each([prompt] * len(seeds), negative_prompt, width, height, seeds, steps)

    def generate_each(
        self, prompts: Sequence[str], negative_prompt: str, width: int, height: int, seeds: Sequence[int], steps: int
    ) -> list[Image | None]:
        """As `generate`, with a prompt for each seed."""
        self.check_size(width, height)
        options: dict[str, Any] = {} if self._guidance_scale is None else {"guidance_scale": self._guidance_scale}
        self._pipeline.scheduler = self._scheduler
        output = self._pipeline(
            **self._texts(prompts, negative_prompt),
            width=width,
            height=height,
            num_inference_steps=steps,
            # Generators of the CPU: the initial noise of a seed is then the same on every device.
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            **options,
        )
        # Some pipelines round a size to what they can make instead of refusing it.
        if wrong := next((image.size for image in output.images if image.size != (width, height)), None):
            raise UnsupportedSize(f"{self.name} made {wrong[0]} x {wrong[1]} pixels when asked for {width} x {height}")
        withheld = getattr(output, "nsfw_content_detected", None) or [False] * len(seeds)
        return [None if flag else image for image, flag in zip(output.images, withheld, strict=True)]

    def _texts(self, prompts: Sequence[str], negative_prompt: str) -> dict[str, Any]:
        """The pipeline's arguments for an image of each prompt. Where it can be, a prompt is encoded once, on its own:
        for all its images, in this call and the next."""
        negative = negative_prompt if "negative_prompt" in self._parameters else ""
        if names := TEXT_EMBEDDINGS.get(self.pipeline_name):
            known = self._encoded
            self._encoded = {
                (prompt, negative): known.get((prompt, negative)) or self._encode(prompt, negative)
                for prompt in dict.fromkeys(prompts)
            }
            rows = [self._encoded[prompt, negative] for prompt in prompts]
            return {name: torch.cat(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        if len(set(prompts)) == 1:
            texts: dict[str, Any] = {"prompt": prompts[0], "num_images_per_prompt": len(prompts)}
            return texts | ({"negative_prompt": negative} if negative else {})
        return {"prompt": list(prompts)} | ({"negative_prompt": [negative] * len(prompts)} if negative else {})

    @torch.no_grad()
    def _encode(self, prompt: str, negative_prompt: str) -> Sequence[torch.Tensor]:
        found: Sequence[torch.Tensor] = self._pipeline.encode_prompt(
            prompt=prompt,
            device=self._pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=negative_prompt or None,  # of an empty text some pipelines make zeros, if it is None
        )
        return found

    def _own(self, parameter: str) -> Any:
        default = self._parameters[parameter].default if parameter in self._parameters else None
        return None if default is inspect.Parameter.empty else default


def load_pocket(settings: MinerSettings) -> DiffusionGenerator:
    """The pocket model that comes with this package: 64 x 64 pixels. Raises ModelUnavailable."""
    return pocket_generator(
        _settings_of(settings, str(STABLE_DIFFUSION)), settings.miner.guidance_scale, settings.miner.scheduler
    )


def load_diffusion(settings: MinerSettings) -> DiffusionGenerator:
    """A pipeline from a directory or the hub. Raises ModelUnavailable."""
    miner = settings.miner
    return diffusion_generator(
        _settings_of(settings, miner.model), miner.guidance_scale, miner.scheduler, miner.max_side
    )


def pocket_generator(
    settings: PipelineSettings, guidance_scale: float | None, scheduler: str | None
) -> DiffusionGenerator:
    """The pocket model, whose directory is the settings' source. Raises ModelUnavailable."""
    if not STABLE_DIFFUSION.is_dir():
        raise ModelUnavailable(
            "the pocket weights are not installed; install the package again or train them (scripts/train_pocket.py)"
        )
    return DiffusionGenerator(
        load_pipeline(settings),
        name="pocket",
        guidance_scale=GUIDANCE_SCALE if guidance_scale is None else guidance_scale,
        scheduler=scheduler,
        max_side=IMAGE_SIZE,
        only_native_size=True,
    )


def diffusion_generator(
    settings: PipelineSettings, guidance_scale: float | None, scheduler: str | None, max_side: int
) -> DiffusionGenerator:
    """A pipeline from a directory or the hub. Raises ModelUnavailable."""
    source = settings.source
    return DiffusionGenerator(
        load_pipeline(settings),
        # No folder, whatever its name, may be taken for a model of the hub or of this package.
        name=_declared_name(f"./{Path(source).resolve().name}" if Path(source).is_dir() else source),
        guidance_scale=guidance_scale,
        scheduler=scheduler,
        max_side=max_side,
    )


def load_pipeline(settings: PipelineSettings) -> Any:
    """The pipeline on its device, with its offloading. Raises ModelUnavailable."""
    source, device = settings.source, _device(settings.device)
    if settings.offload != "none" and device.type != "cuda":
        raise ModelUnavailable(f"offload {settings.offload} needs a CUDA device, not {device}")
    _quiet_libraries()
    if not Path(source).is_dir():
        _find_on_hub(source, settings.revision)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The `local_dir_use_symlinks`")  # what diffusers 0.42 tells the hub
            pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(
                source,
                dtype=_dtype(settings.dtype, device),  # explicit: half-precision files do not run on a CPU
                revision=settings.revision,
                variant=settings.variant,
                use_safetensors=True if settings.safetensors_only else None,  # never a pickle, unless asked for
                local_files_only=Path(source).is_dir(),
            )
    except Exception as error:  # the libraries raise OSError, ValueError, KeyError, ImportError, ... for a bad model
        raise ModelUnavailable(f"the model {source} cannot be loaded: {' '.join(str(error).split())}") from error
    pipeline.set_progress_bar_config(disable=True)
    match settings.offload:
        case "none":
            pipeline.to(device)
        case "model":
            pipeline.enable_model_cpu_offload(device=device)
        case "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
    if settings.compile:
        _denoiser(pipeline).compile()
    return pipeline


def _settings_of(settings: MinerSettings, source: str) -> PipelineSettings:
    if settings.neuron.torch_threads is not None:
        torch.set_num_threads(settings.neuron.torch_threads)
    return PipelineSettings(source, settings.neuron.device, settings.miner.dtype, settings.miner.offload)


def _find_on_hub(model: str, revision: str | None) -> None:
    """Asks the hub, or its cache, for a file that every pipeline has: diffusers does not tell why it is not there."""
    try:
        hf_hub_download(model, "model_index.json", revision=revision)
    except (OSError, HfHubHTTPError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, LocalEntryNotFoundError):
            reason = "it is not in the cache, and the hub is not reached"
        raise ModelUnavailable(
            f"the model {model} cannot be loaded from the hub: {reason} (check its name and revision, the network and "
            "HF_HUB_OFFLINE, or name a local directory)"
        ) from error


def _denoiser(pipeline: Any) -> Any:
    return getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelUnavailable(
            f"device {name}: there is no such device ({torch.cuda.device_count()} CUDA devices found)"
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
    latent_side = getattr(getattr(_denoiser(pipeline), "config", None), "sample_size", None)
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
