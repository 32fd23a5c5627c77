"""What CLIP-like experts have in common: a score that is the cosine of an image's and a prompt's embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ig_subnet.rewards.clip import TextTower, VisionTower
from ig_subnet.rewards.expert import score_in_batches
from ig_subnet.rewards.preprocessing import ImageBatch, View


@dataclass(frozen=True)
class CosineExpert:
    """Cosine of image and prompt, in [-1, 1], times `factor`.

    `prepare` makes a batch's pixels for the vision tower's image size. `logit_scale` is the number that the model was
    trained to multiply cosines with (100 in the published ones); `factor` is that number where it was asked for.
    """

    name: str
    identity: str
    vision: VisionTower
    text: TextTower
    prepare: Callable[[ImageBatch, int], View]
    logit_scale: float
    factor: float = 1.0

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

    def score(self, images: Sequence[Image.Image], prompts: str | Sequence[str]) -> Tensor:
        """float32 [N] on the CPU: the cosine of each image with its prompt, times `factor`."""
        return score_in_batches([self], images, prompts)[0].scores

    def score_batch(self, batch: ImageBatch, prompts: Sequence[str]) -> Tensor:
        """float32 [N] on the expert's device, for one batch."""
        return (self.embed(batch) * self.text.embed(prompts)).sum(dim=-1) * self.factor

    def embed(self, batch: ImageBatch) -> Tensor:
        """float32 [N, D] on the expert's device, of unit length: what the prompt is compared with."""
        return self.vision.embed(batch, self.view(batch))

    def view(self, batch: ImageBatch) -> View:
        """The pixels it looks at."""
        return self.prepare(batch, self.image_size)

    def truncated(self, prompts: Sequence[str]) -> list[bool]:
        """Which prompts exceed the context length (77 tokens in the published models)."""
        return self.text.truncated(prompts)
