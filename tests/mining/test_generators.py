"""Generators: what they make, what they refuse, and how a model that cannot be loaded is reported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ig_subnet.config.settings import GeneratorSettings, MinerSettings, NeuronSettings
from ig_subnet.mining.errors import ModelUnavailable, UnsupportedSize
from ig_subnet.mining.generators import Generator, NoiseGenerator, load_generator, load_reference
from ig_subnet.pocket import GUIDANCE_SCALE
from protocol import Declaration

MakeSettings = Callable[..., MinerSettings]


def generate(
    generator: Generator, *seeds: int, prompt: str = "a red circle", size: int = 64, steps: int = 2
) -> list[bytes]:
    images = generator.generate(prompt, "", size, size, seeds, steps)
    assert all(image is not None and image.mode == "RGB" and image.size == (size, size) for image in images)
    return [image.tobytes() for image in images if image is not None]


def same(one: bytes, other: bytes) -> bool:
    """Equal but for rounding: between batch sizes pocket images differ by one level in a pixel of 10,000."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 1


# --- noise


@settings(max_examples=25, deadline=None)
@given(width=st.integers(16, 200), height=st.integers(16, 200), seeds=st.lists(st.integers(0, 2**32 - 1), max_size=4))
def test_noise_is_its_seed_and_nothing_else(width: int, height: int, seeds: list[int]) -> None:
    noise = NoiseGenerator()
    images = noise.generate("anything", "", width, height, seeds, 20)
    assert [image.size for image in images if image] == [(width, height)] * len(seeds)
    alone = [noise.generate("other words", "", width, height, [seed], 1)[0] for seed in seeds]
    assert images == alone


def test_noise_refuses_what_the_protocol_does_not_know() -> None:
    for width, height in ((15, 64), (64, 2049)):
        with pytest.raises(UnsupportedSize, match=f"{width} x {height}"):
            NoiseGenerator().check_size(width, height)


def test_noise_needs_no_torch() -> None:
    code = """
import sys
from ig_subnet.config.settings import parse_miner_settings
from ig_subnet.mining.generators import load_generator
generator = load_generator(parse_miner_settings(["--subtensor.network", "local", "--miner.model", "noise"]))
assert generator.generate("a", "", 64, 64, [1], 20)[0].size == (64, 64)
print([m for m in ("torch", "numpy", "diffusers", "bittensor") if m in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


# --- a directory


@pytest.fixture(scope="session")
def tiny(tiny_pipeline: Path) -> Generator:
    chosen = {"model": str(tiny_pipeline), "guidance_scale": 3.0, "max_side": 128}
    return load_generator(
        MinerSettings.model_validate(
            {"subtensor": {"network": "local"}, "neuron": {"device": "cpu", "torch_threads": 1}, "miner": chosen}
        )
    )


def test_a_directory_is_loaded_in_float32_on_the_cpu(tiny: Generator) -> None:
    assert tiny.name == "./tiny_model"
    assert tiny.native_size == (32, 32)
    first, second, again = generate(tiny, 7, 8, 7, size=32)
    assert same(first, again)
    assert not same(first, second)


def test_a_seed_gives_its_image_in_any_batch(tiny: Generator) -> None:
    together = generate(tiny, 3, 4, 5, size=32)
    assert all(same(generate(tiny, seed, size=32)[0], image) for seed, image in zip((3, 4, 5), together, strict=True))


def test_prompt_negative_prompt_and_steps_matter(tiny: Generator) -> None:
    def one(prompt: str, negative: str, steps: int) -> bytes:
        image = tiny.generate(prompt, negative, 32, 32, [1], steps)[0]
        assert image is not None
        return image.tobytes()

    assert len({one("a", "", 2), one("b", "", 2), one("a", "b", 2), one("a", "", 3)}) == 4


@pytest.mark.parametrize("size", [(33, 32), (32, 136), (8, 4)])
def test_sizes_that_the_model_cannot_make_are_refused(tiny: Generator, size: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedSize, match=f"{size[0]} x {size[1]}"):
        tiny.check_size(*size)
    tiny.check_size(64, 128)


def test_large_images_are_made_in_smaller_batches(tiny: Generator) -> None:
    assert (tiny.batch_size(1024, 1024), tiny.batch_size(2048, 2048), tiny.batch_size(512, 512)) == (1, 1, 4)


# diffusers 0.42 hands tensors to numpy 2 in its sigma-based schedulers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("scheduler", get_args(get_args(GeneratorSettings.model_fields["scheduler"].annotation)[0]))
def test_every_scheduler_of_the_settings_makes_images(
    scheduler: str, tiny_pipeline: Path, miner_settings: MakeSettings
) -> None:
    generator = load_generator(miner_settings(model=str(tiny_pipeline), scheduler=scheduler))
    first, again = generate(generator, 1, 1, size=32, steps=4)
    assert same(first, again)


def test_a_scheduler_that_does_not_fit_the_model_is_named(tiny_pipeline: Path, miner_settings: MakeSettings) -> None:
    import json
    import shutil

    copy = shutil.copytree(tiny_pipeline, tiny_pipeline.parent / "flow")
    index = json.loads((copy / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (copy / "model_index.json").write_text(json.dumps(index))
    (copy / "scheduler" / "scheduler_config.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match=r"ddim does not fit this model, whose own is FlowMatchEuler"):
        load_generator(miner_settings(model=str(copy), scheduler="ddim"))


def test_images_that_the_safety_checker_flags_are_withheld(tiny_pipeline: Path, miner_settings: MakeSettings) -> None:
    from ig_subnet.mining.diffusion import DiffusionGenerator

    class Output:
        images = (Image.new("RGB", (32, 32)), Image.new("RGB", (32, 32), "red"))
        nsfw_content_detected = (True, False)

    class Pipeline:
        vae_scale_factor = 8
        scheduler = None

        def __call__(self, **options: object) -> Output:
            assert "negative_prompt" not in options, "this pipeline does not take one"
            return Output()

    generator = DiffusionGenerator(Pipeline(), name="checked", guidance_scale=None, scheduler=None, max_side=64)
    assert generator.generate("a", "b", 32, 32, [1, 2], 1) == [None, Output.images[1]]
    with pytest.raises(UnsupportedSize, match="made 32 x 32 pixels when asked for 64 x 64"):
        generator.generate("a", "", 64, 64, [1, 2], 1)


# --- what is declared, and making it again


def test_what_is_declared_is_enough_to_make_it_again(tiny_pipeline: Path, miner_settings: MakeSettings) -> None:
    miner = load_generator(miner_settings(model=str(tiny_pipeline), guidance_scale=2.5, scheduler="ddpm"))
    declared = str(miner.declaration(4))
    assert declared == "./tiny_model steps:4 guidance:2.5 scheduler:ddpm"
    declaration = Declaration.parse(declared)
    assert declaration is not None and declaration.steps is not None
    validator = load_reference(
        GeneratorSettings(model=str(tiny_pipeline)), NeuronSettings(device="cpu", torch_threads=1)
    )
    assert validator.name == declaration.model
    made = generate(miner, 7, size=32, steps=4)[0]
    again = generate(validator.as_declared(declaration), 7, size=32, steps=declaration.steps)[0]
    assert same(made, again)
    assert not same(made, generate(validator, 7, size=32, steps=4)[0]), "its own settings are left as they were"
    assert same(again, generate(validator.as_declared(declaration), 7, size=32, steps=4)[0])


def test_what_is_the_models_own_is_not_declared(tiny_pipeline: Path, miner_settings: MakeSettings) -> None:
    assert str(load_generator(miner_settings(model=str(tiny_pipeline))).declaration(20)) == "./tiny_model steps:20"
    assert str(NoiseGenerator().declaration(20)) == "noise"
    with pytest.raises(ModelUnavailable, match="there is no scheduler magic: use ddim, "):
        load_generator(miner_settings(model=str(tiny_pipeline))).as_declared(Declaration("x", 4, None, "magic"))


# --- the pocket model


def test_the_pocket_model_makes_64_pixels_by_seed(miner_settings: MakeSettings) -> None:
    pocket = load_generator(miner_settings(model="pocket"))
    assert (pocket.name, pocket.native_size) == ("pocket", (64, 64))
    assert str(pocket.declaration(6)) == f"pocket steps:6 guidance:{GUIDANCE_SCALE:g}"
    prompt = "a small red circle above a large blue square on a white background"
    first, second, again = generate(pocket, 1, 2, 1, prompt=prompt, steps=6)
    assert same(first, again)
    assert same(first, generate(pocket, 1, prompt=prompt, steps=6)[0])
    assert not same(first, second)
    with pytest.raises(UnsupportedSize, match="64 x 64 pixels only, not 512 x 512"):
        pocket.check_size(512, 512)


# --- a model that cannot be loaded is one clear error


@pytest.mark.parametrize(
    ("miner", "named"),
    [
        ({"model": "no-such-thing"}, "none of pocket, noise, nor an existing directory, nor a hub id"),
        ({"model": "./nowhere"}, "none of pocket"),
        ({"model": "organisation/name"}, "organisation/name cannot be loaded"),  # the hub is not reached in tests
        ({"offload": "model"}, "offload model needs a CUDA device"),
        ({"offload": "sequential"}, "offload sequential needs a CUDA device"),
    ],
)
def test_a_missing_model_is_named(
    miner: dict[str, str], named: str, tiny_pipeline: Path, miner_settings: MakeSettings
) -> None:
    with pytest.raises(ModelUnavailable, match=named) as failed:
        load_generator(miner_settings(**{"model": str(tiny_pipeline), **miner}))
    assert "\n" not in str(failed.value)


def test_an_empty_directory_is_named(tmp_path: Path, miner_settings: MakeSettings) -> None:
    with pytest.raises(ModelUnavailable, match=r"cannot be loaded: .*model_index\.json"):
        load_generator(miner_settings(model=str(tmp_path)))


def test_pickled_weights_are_not_loaded(tiny_pipeline: Path, tmp_path: Path, miner_settings: MakeSettings) -> None:
    import shutil

    import torch

    copy = shutil.copytree(tiny_pipeline, tmp_path / "pickled")
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, copy / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_generator(miner_settings(model=str(copy)))


def test_a_device_that_is_not_there_is_named(tiny_pipeline: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    asked = {"subtensor": {"network": "local"}, "neuron": {"device": "cuda"}, "miner": {"model": str(tiny_pipeline)}}
    with pytest.raises(ModelUnavailable, match=r"device cuda: there is no such device"):
        load_generator(MinerSettings.model_validate(asked))


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["none", "model", "sequential"])
def test_a_seed_gives_its_image_on_a_gpu(offload: str, tiny_pipeline: Path) -> None:
    asked = {"neuron": {"device": "cuda"}, "miner": {"model": str(tiny_pipeline), "offload": offload}}
    generator = load_generator(MinerSettings.model_validate({"subtensor": {"network": "local"}, **asked}))
    first, second, again = generate(generator, 7, 8, 7, size=32)
    assert same(first, again)
    assert not same(first, second)
