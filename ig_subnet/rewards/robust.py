"""Scores that a pattern of single pixels cannot buy: transformed copies of an image, and trust in experts that agree.

The experts' weights are public, so anybody can climb along their gradients to pixels that mean nothing to a human and
everything to an expert. Such a pattern is tuned to the pixel; what an image shows is not. So the experts also see
copies of it that people would take for the same image, drawn from a seed that its maker could not know, and the lowest
score counts. And a pattern that fools one expert does not fool all, or not as much: where their standard scores lie
further apart than those of honest images, they are trusted less.

Guo et al., Countering Adversarial Images using Input Transformations, https://arxiv.org/abs/1711.00117; that averaging
over transformations while climbing weakens the defence: Athalye et al., https://arxiv.org/abs/1707.07397.
"""

from __future__ import annotations

import io
import math
import random

import numpy as np
from PIL import Image
from torch import Tensor

from ig_subnet.rewards.preprocessing import shortest_to

CORNER_SHIFT = 0.08  # of either side, inwards or outwards
SMALLEST_SCALE = 0.85  # of the experts' image size
JPEG_QUALITIES = (70, 95)


def transformed(image: Image.Image, seed: bytes, copies: int, size: int) -> list[Image.Image]:
    """Copies of an RGB image as the experts may see it: the shortest side is `size` pixels long, as the experts' own.

    Of each, every corner is moved by up to 8% of the side, which crops, turns, shears and stretches it a little; then
    it is made smaller, encoded as JPEG in full colour, and made larger again, all by amounts drawn from `seed` and in
    pixels of `size`: a photograph of 1,024 pixels loses as much of what the experts see as a drawing of 64. The same
    image, seed and sizes give the same copies.
    """
    draw = random.Random(seed)
    resized = image.resize(shortest_to(size, image.size), Image.Resampling.BICUBIC)
    margin = math.ceil(CORNER_SHIFT * max(resized.size))
    padded = Image.fromarray(np.pad(np.asarray(resized), ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
    return [_encoded(_warped(padded, margin, draw), draw) for _ in range(copies)]


def _warped(padded: Image.Image, margin: int, draw: random.Random) -> Image.Image:
    """What lies between four corners, each near one of the image inside the margin, as a rectangle of its size."""
    width, height = padded.width - 2 * margin, padded.height - 2 * margin
    corners = [
        margin + side * (end + draw.uniform(-CORNER_SHIFT, CORNER_SHIFT))
        for right, down in ((0, 0), (0, 1), (1, 1), (1, 0))
        for side, end in ((width, right), (height, down))
    ]
    return padded.transform((width, height), Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, draw: random.Random) -> Image.Image:
    """Made smaller, encoded as JPEG, and made larger again."""
    scale = draw.uniform(SMALLEST_SCALE, 1)
    small = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    file = io.BytesIO()
    # In full colour: with every second pixel's, a drawing of 64 pixels loses a third of what the experts see in it.
    image.resize(small, Image.Resampling.BICUBIC).save(
        file, "JPEG", quality=draw.randint(*JPEG_QUALITIES), subsampling=0
    )
    return Image.open(file).resize(image.size, Image.Resampling.BICUBIC)


def trust(spread: Tensor, tolerated: float, distrusted: float) -> Tensor:
    """In [0, 1]: 1 up to a spread of `tolerated`, falling in a straight line to 0 at `distrusted`."""
    return ((distrusted - spread) / (distrusted - tolerated)).clamp(0, 1)
