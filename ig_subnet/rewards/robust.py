"""Scores that a pattern of single pixels cannot buy: transformed copies of an image, and trust by disagreement.

The experts' weights are public, so anybody can climb along their gradients to pixels that mean nothing to a human and
everything to an expert. Such a pattern is tuned to the pixel; what an image shows is not. So the experts also see
copies of it that people would take for the same image, drawn from a seed that its maker could not know, and the lowest
score counts. And a pattern that fools one expert does not fool all: where they disagree more than they do about honest
images, they are trusted less.

Guo et al., Countering Adversarial Images using Input Transformations, https://arxiv.org/abs/1711.00117; that averaging
over transformations while climbing weakens the defence: Athalye et al., https://arxiv.org/abs/1707.07397.
"""

from __future__ import annotations

import io
import random

from PIL import Image, ImageFilter
from torch import Tensor

from ig_subnet.rewards.preprocessing import shortest_to

SMALLEST_CROP = 0.92  # of either side
SMALLEST_SCALE = 0.5  # of the experts' image size
JPEG_QUALITIES = (40, 80)
LARGEST_BLUR = 0.8  # pixels of the experts' image size


def transformed(image: Image.Image, seed: bytes, copies: int, size: int) -> list[Image.Image]:
    """Copies of an RGB image as the experts may see it: their shortest side is `size` pixels long, as the experts' own.

    Each is cut at random within a few percent of the edges, made smaller, encoded as JPEG, made larger again and
    blurred, all by amounts drawn from `seed` and measured in pixels of `size`: a photograph of 1,024 pixels loses as
    much of what the experts see as a drawing of 64. The same image, seed and sizes give the same copies.
    """
    draw = random.Random(seed)
    return [_copy(image, draw, size) for _ in range(copies)]


def _copy(image: Image.Image, draw: random.Random, size: int) -> Image.Image:
    width, height = image.size
    kept_width, kept_height = width * draw.uniform(SMALLEST_CROP, 1), height * draw.uniform(SMALLEST_CROP, 1)
    left, top = draw.uniform(0, width - kept_width), draw.uniform(0, height - kept_height)
    target = shortest_to(size, image.size)
    scale = draw.uniform(SMALLEST_SCALE, 1)
    small = image.resize(
        (max(1, round(target[0] * scale)), max(1, round(target[1] * scale))),
        Image.Resampling.BICUBIC,
        box=(left, top, left + kept_width, top + kept_height),
    )
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=draw.randint(*JPEG_QUALITIES))
    large = Image.open(encoded).resize(target, Image.Resampling.BICUBIC)
    return large.filter(ImageFilter.GaussianBlur(draw.uniform(0, LARGEST_BLUR)))


def trust(disagreement: Tensor, tolerated: float, distrusted: float) -> Tensor:
    """In [0, 1]: 1 up to a disagreement of `tolerated`, falling in a straight line to 0 at `distrusted`."""
    return ((distrusted - disagreement) / (distrusted - tolerated)).clamp(0, 1)
