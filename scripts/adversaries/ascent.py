"""Gradient ascent on the pixels, with the experts' own public weights."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from adversaries.answers import SECONDS_PER_STEP, Answer, Lab, declaration, encoded
from adversaries.experts import Climbable, load_climbable, mixture_objective
from ig_subnet.config.profiles import load_profile
from ig_subnet.rewards.robust import CORNER_SHIFT, JPEG_QUALITIES, SMALLEST_SCALE
from protocol import TextToImageSynapse

STEPS = 200
RATE = 0.02  # of Adam, in units of the pixel range: about 5 levels a step
MIXTURE = "mixture"
START_STEPS = 1
# Deviations of an expert's score that a level of roughness costs an ascent that hides its grain. It pays about as much
# with 0.3, 1, 3 and 10; from 1 on three images in four are not even suspected. Penalties on grain itself (0.1 to 6) or
# on total variation (0.01 to 0.3) pay up to 1.2 times as much, and leave what is suspected.
SMOOTHING = 1.0
SMOOTHER = 0.5  # share of an image that is kept smooth: the same as the gate looks at


@dataclass(frozen=True)
class Goal:
    """What is climbed: an expert by its name, or the whole `mixture`; `through` random transforms or plainly.

    Each level of deviation within squares of 3 x 3 pixels, where the image is smoothest, costs `smoothing`.
    """

    target: str
    through: bool = False
    steps: int = STEPS
    smoothing: float = 0.0


@dataclass
class Ascent:
    """Climbs from noise, or from an image of `START_STEPS` sampling steps, to what an expert or the mixture likes.

    With `declares`, it says that the model made the image, as who works honestly does.
    """

    lab: Lab
    goal: Goal
    from_noise: bool
    declares: bool = False

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        if self.from_noise:
            rng = np.random.default_rng(synapse.seed)
            shape = synapse.num_images, synapse.height, synapse.width, 3
            images = [Image.fromarray(pixels) for pixels in rng.integers(0, 256, shape, np.uint8)]
        else:
            images = await self.lab.generate(synapse, START_STEPS)
        climbed = await climb(self.lab, images, [synapse.prompt], self.goal, synapse.seed)
        declared = declaration(self.lab, self.declares)
        return Answer(encoded(synapse, climbed, declared), self.goal.steps * SECONDS_PER_STEP)


def start_climber(profile: str) -> Executor:
    """A process that ascends on the experts of a profile beside the lab's thread; Python runs one thread at a time."""
    return ProcessPoolExecutor(1, get_context("spawn"), _load_experts, (profile,))


_experts: dict[str, Climbable] = {}  # of the climber's process


def _load_experts(profile: str) -> None:
    torch.set_num_threads(1)
    _experts.update(load_climbable(load_profile(profile)["rewarder"]))


def _ascend_there(images: Sequence[Image.Image], prompts: Sequence[str], goal: Goal, seed: int) -> list[Image.Image]:
    return ascend(images, prompts, goal, _experts, seed)


async def climb(
    lab: Lab, images: Sequence[Image.Image], prompts: Sequence[str], goal: Goal, seed: int
) -> list[Image.Image]:
    """As `ascend`, by the lab's climber, or on its thread where it has none."""
    if lab.climber is None:
        return await lab.run(ascend, images, prompts, goal, lab.climbable, seed)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(lab.climber, _ascend_there, images, prompts, goal, seed)


def ascend(
    images: Sequence[Image.Image], prompts: Sequence[str], goal: Goal, experts: Mapping[str, Climbable], seed: int
) -> list[Image.Image]:
    """The images after the ascent, rounded to bytes; same size, RGB. Each step is for one of the prompts, in turn."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.stack([_to_floats(image) for image in images])
    logits = torch.logit(pixels.clamp(0.004, 0.996)).requires_grad_()  # a sigmoid keeps pixels in range
    optimizer = torch.optim.Adam([logits], lr=RATE * 4)  # the sigmoid's slope is at most 1/4
    for prompt in itertools.islice(itertools.cycle(prompts), goal.steps):
        shown = torch.sigmoid(logits)
        seen = transformed(shown, generator) if goal.through else shown
        value = (
            mixture_objective(experts, seen, prompt)
            if goal.target == MIXTURE
            else experts[goal.target].standard(seen, prompt)
        )
        if goal.smoothing:
            value = value - goal.smoothing * _roughness(shown)
        optimizer.zero_grad(set_to_none=True)
        (-value.sum()).backward()
        optimizer.step()
    return [_to_image(one) for one in torch.sigmoid(logits.detach())]


def _roughness(pixels: Tensor) -> Tensor:
    """[N], in levels: the mean deviation within squares of 3 x 3 pixels, of the smoother half of them.

    Smooth slopes have no grain, and become steps of it once they are rounded: so nothing may vary at all.
    """
    squares = pixels.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2)
    deviations = (squares.var(dim=-1, correction=0) + 1e-7).sqrt().mean(dim=1).flatten(1)
    smoothest = deviations.topk(round(SMOOTHER * deviations.shape[1]), largest=False).values
    return 255 * smoothest.mean(dim=1)


def transformed(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """The batch as `ig_subnet.rewards.robust` would show it to the experts, with a gradient: a draw for each image."""
    side = pixels.shape[-1]
    shown = []
    for warped in grid_sample(
        pixels, _quads(len(pixels), side, generator), mode="bicubic", padding_mode="border", align_corners=False
    ):
        scale, quality = torch.rand(2, generator=generator).tolist()
        size = round(side * (SMALLEST_SCALE + (1 - SMALLEST_SCALE) * scale))
        small = interpolate(warped[None], (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        low, high = JPEG_QUALITIES
        encoded = _to_floats(_as_jpeg(_to_image(small[0].detach()), round(low + (high - low) * quality)))
        small = small + (encoded - small).detach()  # straight through: forwards the encoding, backwards none of it
        shown.append(interpolate(small, (side, side), mode="bicubic", antialias=True)[0])
    return torch.stack(shown).clamp(0, 1)


def _quads(images: int, side: int, generator: torch.Generator) -> Tensor:
    """float32 [N, side, side, 2] for grid_sample: every corner moved by up to CORNER_SHIFT of the side, in or out."""
    moved = (2 * torch.rand(images, 4, 2, generator=generator) - 1) * 2 * CORNER_SHIFT
    corners = moved + torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    across = (torch.arange(side) + 0.5) / side
    right, down = across[None, :, None], across[:, None, None]
    shares = torch.cat([(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down], dim=-1)
    return torch.einsum("yxc,ncd->nyxd", shares, corners)


def _as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return Image.open(buffer).convert("RGB")


def _to_floats(image: Image.Image) -> Tensor:
    """float32 [3, H, W] from 0 to 1."""
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)


def _to_image(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
