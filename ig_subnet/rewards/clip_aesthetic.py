"""CLIP Aesthetic: how much people like the look of an image, whatever its prompt.

A linear head on the image embedding of CLIP ViT-L/14, trained on the SAC, Logos and AVA ratings:
https://github.com/christophschuhmann/improved-aesthetic-predictor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from ig_subnet.rewards.clip import VisionTower
from ig_subnet.rewards.errors import WeightsMismatch
from ig_subnet.rewards.expert import score_in_batches
from ig_subnet.rewards.head import fold_head
from ig_subnet.rewards.loading import WeightFiles, read_tensors
from ig_subnet.rewards.preprocessing import ImageBatch, View, round_crop
from ig_subnet.rewards.published import AESTHETIC_HEAD
from ig_subnet.rewards.runtime import Runtime


class ClipAesthetic:
    """The head's output, about 1 to 10 with the published weights. Prompts are ignored."""

    name = "clip_aesthetic"

    def __init__(self, vision: VisionTower, weight: Tensor, bias: float, identity: str) -> None:
        self.vision = vision
        self.weight = weight.to(vision.device)
        self.bias = bias
        self.identity = identity

    @classmethod
    def load(cls, files: WeightFiles, runtime: Runtime) -> ClipAesthetic:
        """The expert of the files: a Hugging Face CLIPModel, and the head as .pth or .safetensors."""
        head = files.tensors(AESTHETIC_HEAD)
        vision = VisionTower.load(files, runtime)
        weight, bias = fold_head(read_tensors(head), str(head))
        if weight.shape[0] != vision.dimension:
            raise WeightsMismatch(
                f"{head} reads embeddings of {weight.shape[0]} numbers, but the CLIP model makes {vision.dimension}"
            )
        return cls(vision, weight, bias, files.identity)

    @property
    def device(self) -> torch.device:
        return self.vision.device

    @property
    def image_bytes(self) -> int:
        return self.vision.image_bytes

    @property
    def image_size(self) -> int:
        return self.vision.image_size

    @property
    def dimension(self) -> int:
        return self.vision.dimension

    def score(self, images: Sequence[Image.Image], prompts: str | Sequence[str] = "") -> Tensor:
        """float32 [N] on the CPU: the aesthetic mark of each image."""
        return score_in_batches([self], images, prompts)[0].scores

    def score_batch(self, batch: ImageBatch, prompts: Sequence[str]) -> Tensor:
        """float32 [N] on the expert's device, for one batch."""
        return self.embed(batch) @ self.weight + self.bias

    def embed(self, batch: ImageBatch) -> Tensor:
        """float32 [N, D] on the expert's device, of unit length: what the head reads."""
        return self.vision.embed(batch, self.view(batch))

    def view(self, batch: ImageBatch) -> View:
        """The pixels it looks at."""
        return batch.cropped(self.image_size, round_crop)

    def truncated(self, prompts: Sequence[str]) -> list[bool]:
        """All False: this expert does not read prompts."""
        return [False] * len(prompts)
