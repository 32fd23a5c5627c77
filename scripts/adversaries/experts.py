"""The public experts as an attacker runs them: the validator's own code and weights, with gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, logsigmoid

from ig_subnet.rewards.clip import VisionTower
from ig_subnet.rewards.clip_aesthetic import ClipAesthetic
from ig_subnet.rewards.configuration import parse_rewarder
from ig_subnet.rewards.cosine import CosineExpert
from ig_subnet.rewards.expert import Expert
from ig_subnet.rewards.image_reward import ImageReward
from ig_subnet.rewards.loading import locate
from ig_subnet.rewards.preprocessing import Crop, View
from ig_subnet.rewards.published import published
from ig_subnet.rewards.registry import EXPERTS, expert_name
from ig_subnet.rewards.runtime import Runtime

LOGISTIC = 1.702  # sigmoid(1.702 z) is within 0.01 of the normal CDF of z

T = TypeVar("T")


class _Unpacked(Runtime):
    """Linear layers as they are: those that scoring packs for a CPU have no gradient."""

    def place(self, module: nn.Module) -> nn.Module:
        return module.to(self.device, self.dtype)


@dataclass(frozen=True)
class Climbable:
    """An expert of a profile whose score has a gradient to the pixels."""

    expert: Expert
    weight: float
    mean: float
    deviation: float

    def score(self, pixels: Tensor, prompt: str) -> Tensor:
        """[N] in the expert's own unit, of float32 [N, 3, H, W] from 0 to 1 (square images)."""
        match self.expert:
            case CosineExpert(vision=vision, text=text, factor=factor):
                return (_embed(vision, pixels) * text.embed([prompt]).clone()).sum(-1) * factor
            case ClipAesthetic(vision=vision, weight=weight, bias=bias):
                return _embed(vision, pixels) @ weight + bias
            case ImageReward() as expert:
                batch: Any = _FloatBatch(pixels)
                return inspect.unwrap(ImageReward.score_batch)(expert, batch, [prompt] * len(pixels))
        raise ValueError(f"no gradient is known of {self.expert.name}")

    def standard(self, pixels: Tensor, prompt: str) -> Tensor:
        """[N] deviations above the mean of honest images."""
        return (self.score(pixels, prompt) - self.mean) / self.deviation


def load_climbable(config: Mapping[str, Any]) -> dict[str, Climbable]:
    """Every calibrated expert of a profile's `rewarder` section, by name, in float32 on the CPU."""
    runtime = _Unpacked(torch.device("cpu"), torch.float32)
    found = {}
    for name, section in parse_rewarder(config).experts.items():
        known, calibration = expert_name(name), section.calibration
        if calibration is None:
            raise ValueError(f"the profile's {name} is not calibrated: run scripts/calibrate.py first")
        files = locate(published(known, section.version), section.weights, section.revision)
        found[known] = Climbable(
            EXPERTS[known](files, runtime), section.weight, calibration.mean, calibration.deviation
        )
    return found


def mixture_objective(experts: Mapping[str, Climbable], pixels: Tensor, prompt: str) -> Tensor:
    """[N], to be climbed for the whole mixture: the weighted log of about what each expert's CDF gives.

    The log keeps a slope where a CDF is flat at 0; where it is flat at 1 there is nothing left to gain.
    """
    terms = [e.weight * logsigmoid(LOGISTIC * e.standard(pixels, prompt)) for e in experts.values()]
    return torch.stack(terms).sum(0)


def _embed(vision: VisionTower, pixels: Tensor) -> Tensor:
    """Normalised embeddings by the tower's own pass, without its `inference`."""
    return inspect.unwrap(VisionTower._forward)(vision, _resized(pixels, vision.image_size))


def _resized(pixels: Tensor, size: int) -> Tensor:
    if pixels.shape[-2:] == (size, size):
        return pixels
    return interpolate(pixels, (size, size), mode="bicubic", antialias=True)


class _FloatBatch:
    """Square images as float pixels, where an expert expects an `ImageBatch`."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels

    def cropped(self, size: int, crop: Crop) -> View:
        return View("cropped", _resized(self._pixels, size))

    def padded(self, size: int) -> View:
        return View("padded", _resized(self._pixels, size))

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        return compute()
