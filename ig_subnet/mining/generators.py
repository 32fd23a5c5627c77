"""What makes the images: the Generator protocol, and the names that --miner.model takes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from ig_subnet.config.settings import GeneratorSettings, MinerSettings, NeuronSettings
from ig_subnet.mining.errors import ModelUnavailable, UnsupportedSize
from protocol import Declaration

if TYPE_CHECKING:
    from PIL.Image import Image

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
NOISE_SIDES = (16, 2048)  # what the protocol allows


class Generator(Protocol):
    """A model on a device. `generate` is called by one thread, one call at a time."""

    @property
    def name(self) -> str:
        """What answers declare as their model; ASCII without spaces."""
        ...

    @property
    def native_size(self) -> tuple[int, int]:
        """A width and height, in pixels, that the model is sure to make."""
        ...

    def declaration(self, steps: int) -> Declaration:
        """What answers made in so many steps declare: all that it takes to make them again."""
        ...

    def as_declared(self, declaration: Declaration) -> Self:
        """The same model with the settings that a declaration tells, but for the steps, which `generate` takes.

        The two share the weights and must not run at once. Raises ModelUnavailable for settings that do not fit.
        """
        ...

    def check_size(self, width: int, height: int) -> None:
        """Raises UnsupportedSize where `generate` could not make this size."""
        ...

    def batch_size(self, width: int, height: int) -> int:
        """How many images of this size one call of `generate` should make, at least 1."""
        ...

    def generate(
        self, prompt: str, negative_prompt: str, width: int, height: int, seeds: Sequence[int], steps: int
    ) -> list[Image | None]:
        """One RGB image of `width` x `height` for each seed, in their order. The same seed gives the same image, but
        for rounding: other batch sizes and devices add up in another order.

        None stands for an image that the model's own safety checker withholds.
        """
        ...


class NoiseGenerator:
    """Uniformly random pixels: the floor that every model must beat. Needs neither weights nor torch."""

    name = "noise"
    native_size = (64, 64)

    def declaration(self, steps: int) -> Declaration:
        return Declaration(self.name)  # there are no steps, and who would verify noise?

    def as_declared(self, declaration: Declaration) -> Self:
        return self

    def check_size(self, width: int, height: int) -> None:
        smallest, largest = NOISE_SIDES
        if not (smallest <= width <= largest and smallest <= height <= largest):
            raise UnsupportedSize(f"noise is made with sides of {smallest} to {largest} pixels, not {width} x {height}")

    def batch_size(self, width: int, height: int) -> int:
        return 1

    def generate(
        self, prompt: str, negative_prompt: str, width: int, height: int, seeds: Sequence[int], steps: int
    ) -> list[Image | None]:
        from PIL import Image

        return [Image.frombytes("RGB", (width, height), random.Random(s).randbytes(3 * width * height)) for s in seeds]


def load_generator(settings: MinerSettings) -> Generator:
    """The generator that --miner.model names, loaded on its device. Raises ModelUnavailable.

    A name of the registry, else a directory in the diffusers layout, else the id of a model on the hub, which is
    downloaded unless HF_HUB_OFFLINE is set.
    """
    return REGISTRY.get(settings.miner.model, _load_diffusion)(settings)


def load_reference(miner: GeneratorSettings, neuron: NeuronSettings) -> Generator:
    """As `load_generator`, for whoever holds miners' declarations against a model and serves nobody with it."""
    # So there is no address and no chain that the settings had to fit.
    return load_generator(MinerSettings.model_construct(neuron=neuron, miner=miner))


def _load_noise(settings: MinerSettings) -> Generator:
    return NoiseGenerator()


def _load_pocket(settings: MinerSettings) -> Generator:
    from ig_subnet.mining.diffusion import load_pocket

    return load_pocket(settings)


def _load_diffusion(settings: MinerSettings) -> Generator:
    model = settings.miner.model
    if not Path(model).is_dir() and not HUB_ID.fullmatch(model):
        raise ModelUnavailable(
            f"the model {model} is none of {', '.join(REGISTRY)}, nor an existing directory, nor a hub id (owner/name)"
        )
    from ig_subnet.mining.diffusion import load_diffusion

    return load_diffusion(settings)


REGISTRY: dict[str, Callable[[MinerSettings], Generator]] = {"pocket": _load_pocket, "noise": _load_noise}
