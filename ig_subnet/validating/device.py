"""The thread that owns the device: every expert and the prompts' embedder live in it and are used in it only."""

from __future__ import annotations

import gc
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from PIL import Image

from ig_subnet.prompts import Candidates, DrawnPrompt, Topic, Uses
from ig_subnet.validating.commitments import PrompterIdentity
from ig_subnet.validating.errors import ProfileUnusable, Uncalibrated
from ig_subnet.validating.records import RewarderRow
from ig_subnet.validating.thread import OneThread


class Prompter(Protocol):
    """As `ig_subnet.prompts.Prompter`; `digest` is of its database, `fingerprint` of its embedding model."""

    @property
    def topics(self) -> Sequence[Topic]: ...

    @property
    def digest(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def candidates(self, topic: Topic) -> Candidates: ...

    def wider(self, candidates: Candidates, uses: Mapping[str, Uses]) -> Candidates | None: ...

    def draw(self, candidates: Candidates, n: int, uses: Mapping[str, Uses], seed: bytes) -> list[DrawnPrompt]: ...


class Mixture(Protocol):
    """As `ig_subnet.rewards.Mixture`: `score` gives tensors [N], one figure an image."""

    @property
    def dtype(self) -> str: ...
    @property
    def resize(self) -> str: ...
    @property
    def identities(self) -> Mapping[str, str]: ...

    def score(self, images: list[Image.Image], prompts: str, topic: str | None) -> Any: ...


@dataclass(frozen=True)
class ExpertScore:
    """What one expert gave an image, in its own unit, and whether the prompt was too long for it."""

    score: float
    truncated: bool


@dataclass(frozen=True)
class ImageScore:
    """`total` is the seed's weighted sum, `incentive` is in [0, 1], `disagreement` in [0, 0.5]; `experts` by name."""

    total: float
    incentive: float
    disagreement: float
    experts: dict[str, ExpertScore]


class Device:
    """Prompter and mixture on a thread of their own. `load` runs there first, so torch is imported there too.

    `rewarder` says what the scores are made with, `prompter` what prompts are drawn from.
    """

    rewarder: RewarderRow
    prompter: PrompterIdentity

    def __init__(self, load: Callable[[], tuple[Prompter, Mixture]]) -> None:
        self._thread = OneThread("device")
        self._load = load

    async def __aenter__(self) -> Device:
        try:
            self._prompter, self._mixture = await self._thread.run(self._load)
            self.rewarder = RewarderRow.of(self._mixture.dtype, self._mixture.resize, self._mixture.identities)
            self.prompter = PrompterIdentity(database=self._prompter.digest, model=self._prompter.fingerprint)
            # The half a million objects that torch brings stay for good. Left to the collector, each of its full rounds
            # walks them all and holds the event loop for 300 ms.
            gc.collect()
            gc.freeze()
        except BaseException:
            await self._thread.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._thread.close()

    async def topics(self) -> Sequence[Topic]:
        """The topics of the profile, at least one."""
        return await self._thread.run(lambda: self._prompter.topics)

    async def candidates(self, topic: Topic) -> Candidates:
        """The prompts nearest to the topic. Raises RetrievalError where no prompt passes its filters."""
        return await self._thread.run(self._prompter.candidates, topic)

    async def wider(self, candidates: Candidates, uses: Mapping[str, Uses]) -> Candidates | None:
        """More candidates, where too few of these are fresh by their `uses` and there are more; else None."""
        return await self._thread.run(self._prompter.wider, candidates, uses)

    async def draw(
        self, candidates: Candidates, n: int, uses: Mapping[str, Uses], seed: bytes
    ) -> Sequence[DrawnPrompt]:
        """`n` of the candidates to be asked, fresh ones first; fewer where there are no more."""
        return await self._thread.run(self._prompter.draw, candidates, n, uses, seed)

    async def score(self, images: Sequence[NDArray[np.uint8]], prompt: str, topic: str) -> list[ImageScore | None]:
        """One score for each image (uint8 [height, width, 3]) of the prompt, all in one batch; empty for no images.

        The experts weigh what the profile gives them for the topic. None for an image on which an expert overflows:
        whoever made it earns nothing, and spoils nobody else's.
        """
        return await self._thread.run(self._score, images, prompt, topic) if images else []

    def _score(self, images: Sequence[NDArray[np.uint8]], prompt: str, topic: str) -> list[ImageScore | None]:
        from ig_subnet.rewards.errors import NonFiniteScore

        try:
            scores = self._mixture.score([Image.fromarray(image) for image in images], prompt, topic)
        except NonFiniteScore:
            return [None] if len(images) == 1 else [self._score([image], prompt, topic)[0] for image in images]
        figures = zip(scores.total.tolist(), scores.incentive.tolist(), scores.disagreement.tolist(), strict=True)
        experts = {
            name: list(map(ExpertScore, values.tolist(), scores.truncated[name].tolist()))
            for name, values in scores.components.items()
        }
        return [
            ImageScore(*of_image, {name: values[index] for name, values in experts.items()})
            for index, of_image in enumerate(figures)
        ]


def load_models(
    profile: str, device: str, torch_threads: int | None, *, pays_strangers: bool
) -> tuple[Prompter, Mixture]:
    """The prompter and the mixture of a profile, on `device` ("auto", "cpu", "cuda"). Takes seconds, imports torch.

    Raises ProfileError for one that does not exist; ProfileUnusable for one that lacks a section, names what cannot be
    loaded, or weighs experts for topics that its prompter does not have; Uncalibrated, with `pays_strangers`, for one
    with an expert whose reference distribution nobody has measured.
    """
    import torch

    from ig_subnet.config.profiles import load_profile
    from ig_subnet.prompts import PromptError, load_prompter
    from ig_subnet.rewards import RewardError, load_mixture

    if torch_threads is not None:
        torch.set_num_threads(torch_threads)
    config = load_profile(profile)
    if missing := [section for section in ("rewarder", "prompter") if config[section] is None]:
        raise ProfileUnusable(f"profile {profile!r} has no {' and no '.join(missing)} section: a validator needs both")
    try:
        mixture = load_mixture(config["rewarder"], device=device)
        if mixture.uncalibrated:
            message = _how_to_calibrate(profile, mixture.uncalibrated)
            if pays_strangers:
                raise Uncalibrated(message)
            logger.warning("{}", message)
        prompter = load_prompter(config["prompter"], device=device)
    except (PromptError, RewardError) as error:
        raise ProfileUnusable(f"profile {profile!r}: {error}") from error
    topics = [topic.name for topic in prompter.topics]
    if unknown := [topic for topic in mixture.topics if topic not in topics]:
        raise ProfileUnusable(
            f"profile {profile!r}: rewarder.topics names {', '.join(unknown)}, which prompter.topics does not have "
            f"(it has {', '.join(topics)}): no image would ever be scored by those weights"
        )
    return prompter, mixture


def _how_to_calibrate(profile: str, experts: Sequence[str]) -> str:
    named, written = shlex.quote(profile), shlex.quote(f"{Path(profile).stem}-calibrated.yaml")
    return (
        f"profile {profile!r}: nobody has measured the scores of {' and '.join(experts)}, so what they pay is a guess "
        "and no weights may follow from it except on the local network; measure them on images with prompts, "
        f"python scripts/calibrate.py --profile {named} --images FOLDER --write {written}, "
        f"and start with --profile {written}"
    )
