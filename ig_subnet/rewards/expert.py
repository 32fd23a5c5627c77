"""What an expert is, and the one way to run experts over any number of images with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from ig_subnet.rewards.errors import InputError, NonFiniteScore, OutOfMemory
from ig_subnet.rewards.preprocessing import ImageBatch, Resize, View
from ig_subnet.rewards.runtime import free_bytes, inference

# Images at a time. On a CPU three layers of ViT-H/14 take 150 to 160 ms an image by 4, 8 or 16 and 204 ms by 32.
LARGEST = {"cuda": 64, "cpu": 16}
SHARE_OF_FREE = 0.5  # of the device's free memory that one micro-batch may be expected to take

T = TypeVar("T")


class Expert(Protocol):
    """A human-preference model that scores images of a prompt.

    `name` is its name in the registry, `identity` says which weights it runs, `image_bytes` how much memory one image
    takes on `device` while it is scored, and `image_size` the side of the square that it looks at, in pixels.
    """

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def image_bytes(self) -> int: ...
    @property
    def image_size(self) -> int: ...

    def score(self, images: Sequence[Image.Image], prompts: str | Sequence[str]) -> Tensor:
        """float32 [N] on the CPU, in the expert's own unit; one prompt for all images, or one an image."""
        ...

    def score_batch(self, batch: ImageBatch, prompts: Sequence[str]) -> Tensor:
        """[N] on the device, for a batch that fits there; prompts are one an image."""
        ...

    def view(self, batch: ImageBatch) -> View:
        """The pixels it looks at, computed once for all experts that look at the same."""
        ...

    def truncated(self, prompts: Sequence[str]) -> list[bool]:
        """Which of the prompts are longer than the expert can read, and were cut."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """An expert that scores by the embedding of a vision tower, `dimension` numbers an image."""

    @property
    def dimension(self) -> int: ...

    def embed(self, batch: ImageBatch) -> Tensor:
        """float32 [N, D] of unit length on the device, computed once for a batch whoever asks for it."""
        ...


@dataclass(frozen=True)
class ExpertScores:
    """An expert's float32 [N] scores, and bool [N] whether it read only the beginning of the prompt; on the CPU.

    `embeddings` are those it scored by, float32 [N, D] of unit length; None if it is no `Embedder`.
    """

    scores: Tensor
    truncated: Tensor
    embeddings: Tensor | None


def score_in_batches(
    experts: Sequence[Expert],
    images: Sequence[Image.Image],
    prompts: str | Sequence[str],
    micro_batch: int | Literal["auto"] = "auto",
    resize: Resize = "pil",
) -> list[ExpertScores]:
    """Scores of each expert, in the order of the images, over micro-batches that all experts share.

    Images of one prompt are scored side by side, so that it is encoded once however many prompts there are.
    Raises `InputError`, `OutOfMemory`, or `NonFiniteScore` rather than let a NaN into somebody's reward.
    """
    matched = match_prompts(images, prompts)
    first = {prompt: number for number, prompt in reversed(list(enumerate(matched)))}
    order = sorted(range(len(images)), key=lambda number: first[matched[number]])

    def score(batch: ImageBatch, numbers: Sequence[int]) -> list[ExpertScores]:
        chosen = [matched[number] for number in numbers]
        return [
            ExpertScores(
                expert.score_batch(batch, chosen).float(),
                torch.tensor(expert.truncated(chosen)),
                expert.embed(batch) if isinstance(expert, Embedder) else None,
            )
            for expert in experts
        ]

    image_bytes = max(expert.image_bytes for expert in experts)
    parts = in_micro_batches(images, order, score, experts[0].device, image_bytes, micro_batch, resize)
    back = torch.tensor(order, dtype=torch.long).argsort()
    results = []
    for position, expert in enumerate(experts):
        # Only here does the CPU wait for a GPU: it has prepared each batch while the one before was computed.
        scores = torch.cat([torch.empty(0), *(part[position].scores.cpu() for part in parts)])[back]
        truncated = torch.cat([torch.empty(0, dtype=torch.bool), *(part[position].truncated for part in parts)])[back]
        if not bool(scores.isfinite().all()):
            number = int((~scores.isfinite()).nonzero()[0])
            raise NonFiniteScore(f"{expert.name} gave {scores[number]} for image {number}; use float32")
        embeddings = None
        if isinstance(expert, Embedder):
            found = (part[position].embeddings for part in parts)
            rows = [rows.cpu() for rows in found if rows is not None]
            embeddings = torch.cat([torch.empty(0, expert.dimension), *rows])[back]
        results.append(ExpertScores(scores, truncated, embeddings))
    return results


def in_micro_batches(
    images: Sequence[Image.Image],
    order: Sequence[int],
    run: Callable[[ImageBatch, Sequence[int]], T],
    device: torch.device,
    image_bytes: int,
    micro_batch: int | Literal["auto"] = "auto",
    resize: Resize = "pil",
) -> list[T]:
    """What `run` makes of each micro-batch of `images` in `order`, and of the numbers of its images.

    "auto" takes as many at a time as the device has memory for, at `image_bytes` each, and no more than is worth while.
    When the device runs out of memory all the same, the micro-batch is halved and tried again.
    """
    if micro_batch == "auto":
        fitting = int(SHARE_OF_FREE * free_bytes(device) / image_bytes)
        size = max(1, min(LARGEST.get(device.type, LARGEST["cpu"]), fitting))
    else:
        size = micro_batch
    results: list[T] = []
    start = 0
    with inference():
        while start < len(order):
            numbers = order[start : start + size]
            try:
                results.append(run(ImageBatch([images[n] for n in numbers], numbers, resize, device), numbers))
            except torch.OutOfMemoryError as error:
                if len(numbers) == 1:
                    raise OutOfMemory(f"{device} has no memory left for one image; use a smaller dtype") from error
                size = len(numbers) // 2
            else:
                start += len(numbers)
    return results


def match_prompts(images: Sequence[Image.Image], prompts: str | Sequence[str]) -> list[str]:
    """One prompt an image. Raises `InputError` when their numbers differ."""
    matched = [prompts] * len(images) if isinstance(prompts, str) else list(prompts)
    if len(matched) != len(images):
        raise InputError(f"{len(images)} images but {len(matched)} prompts; give one prompt, or one an image")
    for prompt in matched:
        if not isinstance(prompt, str):
            raise InputError(f"a prompt is a {type(prompt).__name__}; prompts are text")
    return matched
