"""Gradient ascent on the pixels, with the experts' own public weights."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from adversaries.answers import SECONDS_PER_STEP, Answer, Lab, encoded
from adversaries.experts import Climbable, mixture_objective
from protocol import TextToImageSynapse

STEPS = 200
RATE = 0.02  # of Adam, in units of the pixel range: about 5 levels a step
MIXTURE = "mixture"
START_STEPS = 1


@dataclass(frozen=True)
class Goal:
    """What is climbed: an expert by its name, or the whole `mixture`; `through` random transforms or plainly."""

    target: str
    through: bool = False
    steps: int = STEPS


@dataclass
class Ascent:
    """Climbs from noise, or from an image of `START_STEPS` sampling steps, to what an expert or the mixture likes."""

    lab: Lab
    goal: Goal
    from_noise: bool

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        if self.from_noise:
            rng = np.random.default_rng(synapse.seed)
            shape = synapse.num_images, synapse.height, synapse.width, 3
            images = [Image.fromarray(pixels) for pixels in rng.integers(0, 256, shape, np.uint8)]
        else:
            images = await self.lab.generate(synapse, START_STEPS)
        climbed = await self.lab.run(ascend, images, [synapse.prompt], self.goal, self.lab.climbable, synapse.seed)
        return Answer(encoded(synapse, climbed), self.goal.steps * SECONDS_PER_STEP)


def ascend(
    images: Sequence[Image.Image], prompts: Sequence[str], goal: Goal, experts: Mapping[str, Climbable], seed: int
) -> list[Image.Image]:
    """The images after the ascent, rounded to bytes; same size, RGB. Each step is for one of the prompts, in turn."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.stack([_to_floats(image) for image in images])
    logits = torch.logit(pixels.clamp(0.004, 0.996)).requires_grad_()  # a sigmoid keeps pixels in range
    optimizer = torch.optim.Adam([logits], lr=RATE * 4)  # the sigmoid's slope is at most 1/4
    for prompt in itertools.islice(itertools.cycle(prompts), goal.steps):
        seen = torch.sigmoid(logits)
        if goal.through:
            seen = transformed(seen, generator)
        value = (
            mixture_objective(experts, seen, prompt)
            if goal.target == MIXTURE
            else experts[goal.target].standard(seen, prompt)
        )
        optimizer.zero_grad(set_to_none=True)
        (-value.sum()).backward()
        optimizer.step()
    return [_to_image(one) for one in torch.sigmoid(logits.detach())]


def transformed(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """The batch as a re-encoding, crop, resize or blur would show it, with a gradient; one of them at random."""
    side = pixels.shape[-1]

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    match int(torch.randint(4, (), generator=generator)):
        case 0:  # JPEG, straight through: forwards what it makes of the pixels, backwards nothing of it
            quality = int(uniform(50, 95))
            encoded = torch.stack([_to_floats(_as_jpeg(_to_image(one), quality)) for one in pixels.detach()])
            return pixels + (encoded - pixels).detach()
        case 1:
            size = round(side * uniform(0.85, 0.98))
            top, left = (int(uniform(0, side - size + 0.99)) for _ in range(2))
            return interpolate(
                pixels[..., top : top + size, left : left + size], (side, side), mode="bicubic", antialias=True
            )
        case 2:
            small = interpolate(pixels, (round(side * uniform(0.6, 0.9)),) * 2, mode="bicubic", antialias=True)
            return interpolate(small, (side, side), mode="bicubic", antialias=True)
        case _:
            blurred = avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
            return torch.lerp(pixels, blurred, uniform(0.2, 0.8))


def _as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _to_floats(image: Image.Image) -> Tensor:
    """float32 [3, H, W] from 0 to 1."""
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)


def _to_image(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
