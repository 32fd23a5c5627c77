"""Real pipelines of tiny sizes as a study's models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import tiny_sdxl, tiny_stable_diffusion

from ig_subnet.studies.configuration import ModelSettings
from ig_subnet.studies.errors import ModelFailed
from ig_subnet.studies.making import LoadedModel
from ig_subnet.studies.pipelines import load_model

# diffusers 0.42 hands tensors to numpy 2 in its sigma-based schedulers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MAKERS = {"StableDiffusionPipeline": tiny_stable_diffusion, "StableDiffusionXLPipeline": tiny_sdxl}
PROMPTS = ["a cat", "a cat", "a dog"]


@pytest.fixture(scope="module", params=MAKERS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp("models") / str(request.param))


def load(source: str | Path, negative_prompt: str = "", **settings: Any) -> LoadedModel:
    return load_model(ModelSettings.model_validate({"source": str(source), **settings}), negative_prompt, "cpu")


def pixels(image: Image.Image | None) -> np.ndarray:
    assert image is not None
    return np.asarray(image, np.int16)


def test_a_batch_is_what_the_plain_pipeline_makes_one_by_one(directory: Path) -> None:
    from diffusers import AutoPipelineForText2Image

    loaded = load(directory, "ugly", steps=2, guidance=4)
    assert (loaded.facts.pipeline, loaded.facts.width, loaded.facts.dtype) == (directory.name, 32, "float32")
    images = loaded.make(PROMPTS, [1, 2, 3])
    plain = AutoPipelineForText2Image.from_pretrained(directory, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    for prompt, seed, image in zip(PROMPTS, (1, 2, 3), images, strict=True):
        generator = torch.Generator("cpu").manual_seed(seed)
        options = {"negative_prompt": "ugly", "num_inference_steps": 2, "guidance_scale": 4.0}
        expected = plain(prompt, generator=generator, width=32, height=32, **options).images[0]
        assert np.abs(pixels(image) - pixels(expected)).max() <= 1


def test_a_text_is_encoded_once(directory: Path) -> None:
    encoded = []
    loaded = load(directory, steps=1)

    def watch(module: torch.nn.Module, *arguments: object) -> None:
        if type(module).__name__ == "CLIPTextModel":
            encoded.append(module)

    with torch.nn.modules.module.register_module_forward_hook(watch):
        for batch in ([0, 1], [2], [3, 4]):
            loaded.make([["a cat", "a cat", "a cat", "a dog", "a dog"][place] for place in batch], batch)
    # Two prompts, each with the negative one; or by two encoders, for SDXL takes zeros for an empty negative prompt.
    assert len(encoded) == 4


def test_settings_reach_the_pipeline(directory: Path) -> None:
    kinds = {
        "more steps": load(directory, steps=3),
        "other guidance": load(directory, steps=2, guidance=2),
        "a negative prompt": load(directory, "a dog", steps=2),
        "a scheduler": load(directory, steps=2, scheduler="unipc"),
        "half the range": load(directory, steps=2, dtype="bfloat16"),
        "none": load(directory, steps=2),
    }
    made = {kind: pixels(model.make(["a cat"], [5])[0]).tobytes() for kind, model in kinds.items()}
    assert len(set(made.values())) == len(kinds)
    facts = kinds["a scheduler"].facts
    assert (facts.scheduler, facts.steps) == ("unipc", 2)
    assert kinds["half the range"].facts.dtype == "bfloat16"
    wide = load(directory, steps=1, size="64x32")
    assert [image.size for image in wide.make(["a cat"], [1]) if image] == [(64, 32)]


def test_what_is_unset_is_the_models_own(directory: Path) -> None:
    facts = load(directory).facts
    xl = directory.name == "StableDiffusionXLPipeline"
    assert (facts.steps, facts.guidance) == (50, 5.0 if xl else 7.5)
    assert facts.scheduler == ("EulerDiscreteScheduler" if xl else "DDIMScheduler")
    pocket = load("pocket").facts
    assert (pocket.steps, pocket.guidance, pocket.width) == (20, 3.0, 64)


def test_nan_is_black(directory: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(directory, tmp_path / "broken")
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: torch.full_like(tensor, float("nan")) for name, tensor in load_file(weights).items()}, weights)
    (image,) = load(broken, steps=1).make(["a cat"], [1])
    assert image is not None and image.getbbox() is None


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("./nowhere", {}, "there is no directory nowhere, and it is no hub id"),
        ("nobody/nothing", {}, r"nobody/nothing cannot be loaded from the hub: .*HF_HUB_OFFLINE, or name a local dir"),
        ("pocket", {"offload": "model"}, "offload model needs a CUDA device"),
        ("pocket", {"size": 128}, "pocket makes images of 64 x 64 pixels only"),
        ("pocket", {"variant": "fp8"}, "cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_clear_error(source: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFailed, match=message) as told:
        load(source, **settings)
    assert "\n" not in str(told.value)


def test_memory_that_runs_out_is_told_as_such(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(directory, steps=1)
    with torch.nn.modules.module.register_module_forward_pre_hook(_no_memory), pytest.raises(MemoryError, match="no"):
        loaded.make(["a cat"], [1])
    with torch.nn.modules.module.register_module_forward_pre_hook(_other), pytest.raises(RuntimeError, match="other"):
        loaded.make(["a cat"], [1])


def _no_memory(module: torch.nn.Module, inputs: object) -> None:
    raise torch.OutOfMemoryError("no room for 3 GiB\nand much more")


def _other(module: torch.nn.Module, inputs: object) -> None:
    raise RuntimeError("something other")
