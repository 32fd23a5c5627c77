"""The thread that owns the device: every expert and the prompts' embedder live in it and are used in it only."""

from __future__ import annotations

import gc
import math
import random
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from PIL import Image

from ig_subnet.prompts import Candidates, DrawnPrompt, Topic, Uses
from ig_subnet.validating.commitments import PrompterIdentity
from ig_subnet.validating.errors import ProfileUnusable, Uncalibrated
from ig_subnet.validating.gate_settings import GateSettings
from ig_subnet.validating.records import RewarderRow
from ig_subnet.validating.thread import OneThread

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

FEWEST_PROMPTS = 3  # in a database that decoys are drawn from


class Database(Protocol):
    """As `ig_subnet.prompts.PromptDatabase`."""

    def __len__(self) -> int: ...
    def texts(self, positions: Iterable[int]) -> list[str]: ...


class Prompter(Protocol):
    """As `ig_subnet.prompts.Prompter`; `digest` is of its database, `fingerprint` of its embedding model."""

    @property
    def topics(self) -> Sequence[Topic]: ...

    @property
    def database(self) -> Database: ...

    @property
    def digest(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def candidates(self, topic: Topic) -> Candidates: ...

    def wider(self, candidates: Candidates, uses: Mapping[str, Uses]) -> Candidates | None: ...

    def draw(self, candidates: Candidates, n: int, uses: Mapping[str, Uses], seed: bytes) -> list[DrawnPrompt]: ...


class Mixture(Protocol):
    """As `ig_subnet.rewards.Mixture`: `score_robustly` gives tensors [N], one figure an image, `embed` [N, D]."""

    @property
    def dtype(self) -> str: ...
    @property
    def resize(self) -> str: ...
    @property
    def image_size(self) -> int: ...
    @property
    def identities(self) -> Mapping[str, str]: ...

    def score_robustly(
        self, images: list[Image.Image], prompt: str, topic: str | None, seeds: Sequence[bytes]
    ) -> Any: ...

    def embed(self, images: list[Image.Image], expert: str) -> Any: ...


class Safety(Protocol):
    """As `ig_subnet.rewards.nsfw.Safety`: a tensor [N] of probabilities."""

    def unsafe(self, images: list[Image.Image]) -> Any: ...


class Alignment(Protocol):
    """As `ig_subnet.rewards.alignment.Alignment`: a tensor [N] of embeddings [N, D]."""

    def measure(self, embeddings: Any, prompt: str, decoys: Sequence[str]) -> Any: ...


@dataclass(frozen=True)
class Models:
    """Everything on the device: what draws prompts, what scores, and what gates look with, None where they are off."""

    prompter: Prompter
    mixture: Mixture
    gates: GateSettings = field(default_factory=GateSettings)
    safety: Safety | None = None
    alignment: Alignment | None = None


@dataclass(frozen=True)
class ExpertScore:
    """What one expert gave an image, in its own unit: for itself, and the lowest of it and its transformed copies.

    `truncated` says whether the prompt was too long for the expert.
    """

    score: float
    worst: float
    truncated: bool


@dataclass(frozen=True, eq=False)
class Findings:
    """All that the device finds out about an image.

    `total` is the seed's weighted sum, `incentive` and `trust` are in [0, 1], `disagreement` in [0, 0.5]; `experts` by
    name. For the gates, and None where the gate is off: `embedding` (float32 [D], of unit length), `alignment` (see
    `rewards.alignment`), `grain` (see `rewards.grain`) and `unsafe`, a probability.
    """

    total: float
    incentive: float
    disagreement: float
    trust: float
    experts: dict[str, ExpertScore]
    embedding: NDArray[np.float32] | None = None
    alignment: float | None = None
    unsafe: float | None = None
    grain: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether every figure that there is is a number: on no other can a gate decide."""
        gated = self.alignment, self.unsafe, self.grain
        figures = self.total, self.incentive, self.disagreement, self.trust, *gated
        return all(figure is None or math.isfinite(figure) for figure in figures) and (
            self.embedding is None or bool(np.isfinite(self.embedding).all())
        )


class Device:
    """The models on a thread of their own. `load` runs there first, so torch is imported there too.

    `rewarder` says what the scores are made with, `prompter` what prompts are drawn from, `gates` which gates are on.
    """

    rewarder: RewarderRow
    prompter: PrompterIdentity
    gates: GateSettings

    def __init__(self, load: Callable[[], Models]) -> None:
        self._thread = OneThread("device")
        self._load = load

    async def __aenter__(self) -> Device:
        try:
            self._models = await self._thread.run(self._load)
            self._prompter, self._mixture = self._models.prompter, self._models.mixture
            self.gates = self._models.gates
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

    async def run(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """What `function` returns or raises, run on the device's thread."""
        return await self._thread.run(function, *args, **kwargs)

    async def embed(self, images: Sequence[NDArray[np.uint8]], expert: str) -> NDArray[np.float32]:
        """float32 [N, D], of unit length, of images (uint8 [height, width, 3]) by the vision tower of `expert`."""
        pictures = [Image.fromarray(image) for image in images]
        return await self._thread.run(lambda: self._mixture.embed(pictures, expert).numpy())

    async def examine(
        self, images: Sequence[NDArray[np.uint8]], prompt: str, topic: str, seed: bytes
    ) -> list[Findings | None]:
        """What there is to say of each image (uint8 [height, width, 3]) of the prompt, all in one batch.

        The experts weigh what the profile gives them for the topic. How copies of the images are transformed, and which
        decoys the prompt is set beside, follows from `seed`, the same for all of them. None for an image on which an
        expert overflows: whoever made it earns nothing, and spoils nobody else's. Empty for no images.
        """
        return await self._thread.run(self._examine, images, prompt, topic, seed) if images else []

    def _examine(
        self, images: Sequence[NDArray[np.uint8]], prompt: str, topic: str, seed: bytes
    ) -> list[Findings | None]:
        from ig_subnet.rewards.errors import NonFiniteScore
        from ig_subnet.rewards.grain import grain

        pictures, gates = [Image.fromarray(image) for image in images], self.gates
        try:
            found = self._mixture.score_robustly(pictures, prompt, topic, [seed] * len(images))
        except NonFiniteScore:
            if len(images) == 1:
                return [None]
            half = len(images) // 2  # finds one among hundreds in a few passes, not in hundreds
            parts = images[:half], images[half:]
            return [found for part in parts for found in self._examine(part, prompt, topic, seed)]
        experts = {
            name: list(
                map(ExpertScore, values.tolist(), found.worst[name].tolist(), found.score.truncated[name].tolist())
            )
            for name, values in found.score.components.items()
        }
        nothing: list[Any] = [None] * len(images)
        embeddings = found.embeddings[gates.duplicates.expert].numpy() if gates.duplicates else nothing
        alignment = unsafe = roughness = nothing
        if self._models.alignment is not None and gates.alignment is not None:
            decoys = self._decoys(gates.alignment.decoys, prompt, seed)
            alignment = self._models.alignment.measure(
                found.embeddings[gates.alignment.expert], prompt, decoys
            ).tolist()
        if self._models.safety is not None:
            unsafe = self._models.safety.unsafe(pictures).tolist()
        if gates.grain is not None:
            roughness = grain(pictures, self._mixture.image_size)
        figures = zip(
            found.score.total.tolist(),
            found.incentive.tolist(),
            found.score.disagreement.tolist(),
            found.trust.tolist(),
            strict=True,
        )
        return [
            Findings(
                *of_image,
                {name: values[index] for name, values in experts.items()},
                embedding=embeddings[index],
                alignment=alignment[index],
                unsafe=unsafe[index],
                grain=roughness[index],
            )
            for index, of_image in enumerate(figures)
        ]

    def _decoys(self, number: int, prompt: str, seed: bytes) -> list[str]:
        """Other prompts of the database, the same for the same seed; fewer where it does not hold as many."""
        database = self._prompter.database
        chosen = random.Random(seed).sample(range(len(database)), min(number + 1, len(database)))
        return [text for text in database.texts(chosen) if text != prompt][:number]


def load_models(profile: str, device: str, torch_threads: int | None, *, pays_strangers: bool) -> Models:
    """The models of a profile, on `device` ("auto", "cpu", "cuda"). Takes seconds, imports torch.

    Raises ProfileError for one that does not exist; ProfileUnusable for one that lacks a section, names what cannot be
    loaded, or weighs experts for topics that its prompter does not have; Uncalibrated, with `pays_strangers`, for one
    with an expert whose reference distribution nobody has measured. Gates that are off are only a warning.
    """
    import torch

    from ig_subnet.config.profiles import load_profile
    from ig_subnet.prompts import PromptError, load_prompter
    from ig_subnet.rewards import RewardError, load_mixture
    from ig_subnet.rewards.alignment import Alignment
    from ig_subnet.rewards.nsfw import load_safety

    if torch_threads is not None:
        torch.set_num_threads(torch_threads)
    config = load_profile(profile)
    if missing := [section for section in ("rewarder", "prompter") if config[section] is None]:
        raise ProfileUnusable(f"profile {profile!r} has no {' and no '.join(missing)} section: a validator needs both")
    gates = GateSettings.parse(config["gates"], profile)
    try:
        mixture = load_mixture(config["rewarder"], device=device)
        if mixture.uncalibrated:
            message = _how_to_calibrate(profile, mixture.uncalibrated)
            if pays_strangers:
                raise Uncalibrated(message)
            logger.warning("{}", message)
        for gate in (gates.duplicates, gates.alignment):
            if gate is not None and gate.expert not in mixture.weights:  # the original project's names are no keys here
                raise ProfileUnusable(
                    f"profile {profile!r}: gates: no expert {gate.expert} in the mixture, which has "
                    f"{', '.join(mixture.weights)}"
                )
        alignment = Alignment(mixture, gates.alignment.expert) if gates.alignment else None
        if gates.duplicates:
            mixture.embed([], gates.duplicates.expert)  # raises for an expert that has no embedding
        safety = load_safety(gates.nsfw.check, device=device) if gates.nsfw else None
        prompter = load_prompter(config["prompter"], device=device)
    except (PromptError, RewardError) as error:
        raise ProfileUnusable(f"profile {profile!r}: {error}") from error
    if gates.alignment and len(prompter.database) < FEWEST_PROMPTS:
        raise ProfileUnusable(
            f"profile {profile!r}: gates: alignment sets a prompt beside at least two others, and the database has "
            f"{len(prompter.database)}"
        )
    topics = [topic.name for topic in prompter.topics]
    if unknown := [topic for topic in mixture.topics if topic not in topics]:
        raise ProfileUnusable(
            f"profile {profile!r}: rewarder.topics names {', '.join(unknown)}, which prompter.topics does not have "
            f"(it has {', '.join(topics)}): no image would ever be scored by those weights"
        )
    if pays_strangers and (off := gates.off):
        logger.warning("profile {!r} has no gates {}: what they would stop is paid (docs/gates.md)", profile, off)
    return Models(prompter, mixture, gates, safety, alignment)


def _how_to_calibrate(profile: str, experts: Sequence[str]) -> str:
    named, written = shlex.quote(profile), shlex.quote(f"{Path(profile).stem}-calibrated.yaml")
    return (
        f"profile {profile!r}: nobody has measured the scores of {' and '.join(experts)}, so what they pay is a guess "
        "and no weights may follow from it except on the local network; measure them on images with prompts, "
        f"python scripts/calibrate.py --profile {named} --images FOLDER --write {written}, "
        f"and start with --profile {written}"
    )
