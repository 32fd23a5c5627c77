"""What an adversary is, and what the hotkeys of one owner share."""

from __future__ import annotations

import asyncio
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from PIL import Image

from protocol import GeneratedImage, TextToImageSynapse

if TYPE_CHECKING:
    from adversaries.experts import Climbable
    from ig_subnet.mining.generators import Generator
    from ig_subnet.rewards.mixture import Mixture
    from ig_subnet.validating.gate_settings import GateSettings

SECONDS_PER_STEP = 0.02  # of the injected clock, for one sampling step of an answer
ACCOMPLICE_STEPS = 20
COPY_SECONDS = 1.5 * ACCOMPLICE_STEPS * SECONDS_PER_STEP  # an answer that had to wait for the accomplice's

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """The images of one answer, and how many seconds after the query they arrive. No images: it stays silent."""

    images: tuple[GeneratedImage, ...]
    seconds: float


SILENT = Answer((), 0.0)


class Adversary(Protocol):
    """A hotkey's way to answer; `synapse` is the query that this hotkey got. Also that of honest miners."""

    async def answer(self, synapse: TextToImageSynapse) -> Answer: ...


@dataclass
class Lab:
    """What all hotkeys of one owner share: a model, the public experts, one thread for both, and a board of answers.

    `climber` is a process for what climbs along gradients (see `ascent.start_climber`); without it the thread does it.

    `mixture` scores as the validator does, `climbable` are the same experts with gradients, by name,
    `gates` those of the validator's profile: all of it is public.
    """

    generator: Generator
    mixture: Mixture
    climbable: Mapping[str, Climbable]
    gates: GateSettings
    climber: Executor | None = None
    board: Board = field(default_factory=lambda: Board())
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "lab"))

    async def run(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `function` returns, run on the lab's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **named))

    async def generate(self, synapse: TextToImageSynapse, steps: int) -> list[Image.Image]:
        """Honest work: an image for each seed that was asked for."""
        seeds = [synapse.seed_of(number) for number in range(synapse.num_images)]
        size = synapse.width, synapse.height
        images = await self.run(self.generator.generate, synapse.prompt, "", *size, seeds, steps)
        return [image for image in images if image is not None]

    async def best(self, prompt: str, draws: Sequence[Sequence[Image.Image]]) -> list[Image.Image]:
        """Of each image of an answer the draw that the public experts like best; `draws` are whole answers."""
        flat = [image for draw in draws for image in draw]
        marks = (await self.run(self.mixture.score, flat, prompt)).incentive.view(len(draws), -1)
        return [draws[int(marks[:, number].argmax())][number] for number in range(marks.shape[1])]

    def close(self) -> None:
        for executor in filter(None, (self._thread, self.climber)):
            executor.shutdown(wait=False, cancel_futures=True)


class Board:
    """What hotkeys leave for the others of their owner: answers to this very prompt, and every image they ever made."""

    def __init__(self) -> None:
        self.made: dict[str, list[Image.Image]] = defaultdict(list)
        self._answers: dict[str, list[Image.Image]] = {}
        self._posted: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def post(self, prompt: str, images: Sequence[Image.Image]) -> None:
        """Leaves the images that a hotkey answers `prompt` with, to be copied."""
        self._answers[prompt] = list(images)
        self._posted[prompt].set()

    async def answer_to(self, prompt: str) -> list[Image.Image]:
        """The images for the prompt, as soon as they are there."""
        await self._posted[prompt].wait()
        return self._answers[prompt]


def encoded(synapse: TextToImageSynapse, images: Sequence[Image.Image], model: str = "") -> tuple[GeneratedImage, ...]:
    """The images, as PNG, as an answer to the synapse with its seeds."""
    answer = []
    for number, image in enumerate(images):
        file = io.BytesIO()
        image.save(file, "PNG")
        answer.append(
            GeneratedImage("png", synapse.width, synapse.height, synapse.seed_of(number), model, file.getvalue())
        )
    return tuple(answer)


def declaration(lab: Lab, declares: bool) -> str:
    """What honest work of the best quality declares, or nothing."""
    return str(lab.generator.declaration(ACCOMPLICE_STEPS)) if declares else ""


@dataclass
class Honest:
    """Honest work with `steps` sampling steps. With `posts`, its owner's other hotkeys may copy every answer; unless it
    `declares`, it does not say what made its images."""

    lab: Lab
    steps: int
    posts: bool = False
    declares: bool = True

    async def answer(self, synapse: TextToImageSynapse) -> Answer:
        images = await self.lab.generate(synapse, self.steps)
        self.lab.board.made[synapse.prompt] += images
        if self.posts:
            self.lab.board.post(synapse.prompt, images)
        declared = str(self.lab.generator.declaration(self.steps)) if self.declares else ""
        return Answer(encoded(synapse, images, declared), self.steps * SECONDS_PER_STEP)
