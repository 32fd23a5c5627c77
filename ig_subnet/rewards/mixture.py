"""The mixture of experts: the seed's weighted sum of their scores, and the incentive that a subnet pays by.

With experts e, weights w, scores s and reference distributions (m, d):

    total     = sum of w[e] * s[e]                                            any real number, as the original project
    incentive = sum of w[e] * normal CDF((s[e] - m[e]) / d[e]) / sum of w[e]  always in (0, 1)

The sum is reported; the incentive is what is averaged into weights, in a validator that of the robust scores.
docs/rewards.md tells why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from ig_subnet.rewards.calibration import Calibration
from ig_subnet.rewards.configuration import RobustConfig, check_weights, parse_rewarder
from ig_subnet.rewards.cosine import CosineExpert
from ig_subnet.rewards.errors import ConfigurationError, InputError
from ig_subnet.rewards.expert import Embedder, Expert, ExpertScores, in_micro_batches, match_prompts, score_in_batches
from ig_subnet.rewards.preprocessing import Resize, in_parallel, to_rgb
from ig_subnet.rewards.published import published
from ig_subnet.rewards.registry import expert_name, load_expert
from ig_subnet.rewards.results import MixtureScore, RobustScore
from ig_subnet.rewards.robust import transformed, trust
from ig_subnet.rewards.runtime import Towers

IMAGES_COPIED = 64  # at a time: their transformed copies are in memory together


@dataclass(frozen=True)
class Member:
    """An expert in a mixture."""

    expert: Expert
    weight: float
    calibration: Calibration


class Mixture:
    """Several experts that score together, in one pass over the images.

    `topics` holds the weights that replace the members' own for a topic; an expert left out there counts nothing.
    """

    def __init__(
        self,
        members: Sequence[Member],
        topics: Mapping[str, Mapping[str, float]] | None = None,
        dtype: str = "float32",
        resize: Resize = "pil",
        micro_batch: int | Literal["auto"] = "auto",
        robust: RobustConfig | None = None,
    ) -> None:
        self.members = tuple(members)
        self.topics = dict(topics or {})
        check_weights(self.weights, self.topics)
        self.dtype = dtype
        self.resize = resize
        self.micro_batch = micro_batch
        self.robust = robust

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each expert, by name, where no topic says otherwise."""
        return {member.expert.name: member.weight for member in self.members}

    @property
    def image_size(self) -> int:
        """The pixels of the shortest side as the experts see it; that of the one who sees most."""
        return max(member.expert.image_size for member in self.members)

    @property
    def identities(self) -> dict[str, str]:
        """Which weights each expert runs, by name: hub id and revision, or a directory and its digest."""
        return {member.expert.name: member.expert.identity for member in self.members}

    @property
    def uncalibrated(self) -> tuple[str, ...]:
        """Names of experts that count, but whose reference distribution nobody has measured."""
        return tuple(
            member.expert.name
            for member in self.members
            if not member.calibration.measured
            and any(weights.get(member.expert.name, 0) > 0 for weights in (self.weights, *self.topics.values()))
        )

    def weights_for(self, topic: str | None) -> dict[str, float]:
        """The weight of each expert for a topic: the topic's own, or the general ones where it has none."""
        if topic is None or topic not in self.topics:
            return self.weights
        return {name: self.topics[topic].get(name, 0.0) for name in self.weights}

    def score(
        self, images: Sequence[Image.Image], prompts: str | Sequence[str], topic: str | None = None
    ) -> MixtureScore:
        """Scores of images against one prompt, or one an image; no images give empty tensors.

        Raises `InputError` for images or prompts that cannot be scored, `NonFiniteScore` when an expert overflows,
        `OutOfMemory` when the device cannot hold a single image's pass.
        """
        return self._mix(self._run(images, prompts), topic)

    def score_robustly(
        self,
        images: Sequence[Image.Image],
        prompts: str | Sequence[str],
        topic: str | None,
        seeds: Sequence[bytes],
    ) -> RobustScore:
        """Scores that a pattern tuned to single pixels cannot buy, by what the configuration says of `robust`.

        The transformed copies of an image follow from its seed in `seeds`, which whoever made it must not have known;
        images of one prompt may share one. Without `robust` there are no copies and all trust. Raises as `score`.
        """
        if len(seeds) != len(images):
            raise InputError(f"{len(images)} images but {len(seeds)} seeds; give one seed an image")
        results = self._run(images, prompts)
        score = self._mix(results, topic)
        names = [member.expert.name for member in self.members]
        embeddings = {n: r.embeddings for n, r in zip(names, results, strict=True) if r.embeddings is not None}
        if self.robust is None:
            return RobustScore(score, score.components, torch.ones_like(score.incentive), score.incentive, embeddings)
        lowest = self._lowest_of_copies(images, match_prompts(images, prompts), seeds, self.robust.copies)
        worst = {name: torch.minimum(score.components[name], lowest[name]) for name in names}
        incentive, _ = weighted(
            {m.expert.name: m.calibration.apply(worst[m.expert.name]) for m in self.members}, score.weights
        )
        trusted = trust(self.spread(score), self.robust.tolerated_spread, self.robust.distrusted_spread)
        return RobustScore(score, worst, trusted, incentive * trusted, embeddings)

    def spread(self, score: MixtureScore) -> Tensor:
        """How far apart the experts are: float32 [N] in [0, 4], the weighted deviation of their standard scores.

        Unlike `disagreement` it also tells of scores better than any honest image has, which a CDF hides.
        """
        standard = {m.expert.name: m.calibration.standard(score.components[m.expert.name]) for m in self.members}
        return weighted(standard, score.weights)[1]

    def embed(self, images: Sequence[Image.Image], expert: str) -> Tensor:
        """Embeddings of images by the vision tower of an expert, alone: float32 [N, D] on the CPU, of unit length.

        Raises `ConfigurationError` for an expert that the mixture does not have, or that has no vision tower.
        """
        chosen = self.expert(expert)
        if not isinstance(chosen, Embedder):
            raise ConfigurationError(f"{expert} scores by no embedding of a vision tower; name a CLIP-like expert")
        parts = in_micro_batches(
            images,
            range(len(images)),
            lambda batch, _: chosen.embed(batch),
            chosen.device,
            chosen.image_bytes,
            self.micro_batch,
            self.resize,
        )
        return torch.cat([torch.empty(0, chosen.dimension), *(part.cpu() for part in parts)])

    def expert(self, name: str) -> Expert:
        """The expert of that name. Raises `ConfigurationError` where the mixture has none."""
        for member in self.members:
            if member.expert.name == expert_name(name):
                return member.expert
        raise ConfigurationError(f"no expert {name} in the mixture, which has {', '.join(self.weights)}")

    def _lowest_of_copies(
        self, images: Sequence[Image.Image], prompts: Sequence[str], seeds: Sequence[bytes], copies: int
    ) -> dict[str, Tensor]:
        """Each expert's lowest score [N] of the transformed copies of each image; one prompt an image."""
        experts = [member.expert for member in self.members]
        lowest: dict[str, list[Tensor]] = {expert.name: [] for expert in experts}
        for start in range(0, len(images), IMAGES_COPIED):
            chosen = range(start, min(start + IMAGES_COPIED, len(images)))
            made = in_parallel(lambda n: transformed(to_rgb(images[n], n), seeds[n], copies, self.image_size), chosen)
            results = self._run(
                [copy for of_image in made for copy in of_image], [prompts[n] for n in chosen for _ in range(copies)]
            )
            for expert, result in zip(experts, results, strict=True):
                lowest[expert.name].append(result.scores.view(-1, copies).amin(dim=1))
        return {name: torch.cat([torch.empty(0), *parts]) for name, parts in lowest.items()}

    def _run(self, images: Sequence[Image.Image], prompts: str | Sequence[str]) -> list[ExpertScores]:
        experts = [member.expert for member in self.members]
        return score_in_batches(experts, images, prompts, self.micro_batch, self.resize)

    def _mix(self, scores: Sequence[ExpertScores], topic: str | None) -> MixtureScore:
        names = [member.expert.name for member in self.members]
        raw = dict(zip(names, (result.scores for result in scores), strict=True))
        calibrated = {m.expert.name: m.calibration.apply(raw[m.expert.name]) for m in self.members}
        weights = self.weights_for(topic)
        vector = torch.tensor([weights[name] for name in names], dtype=torch.float64)
        incentive, disagreement = weighted(calibrated, weights)
        return MixtureScore(
            total=(vector @ torch.stack(list(raw.values())).double()).float(),
            incentive=incentive,
            disagreement=disagreement,
            components=raw,
            calibrated=calibrated,
            truncated=dict(zip(names, (result.truncated for result in scores), strict=True)),
            weights=weights,
            dtype=self.dtype,
            resize=self.resize,
            identities=self.identities,
        )


def weighted(marks: Mapping[str, Tensor], weights: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """Mean and deviation, float32 [N], of what each expert says [N] by its name, weighted."""
    vector = torch.tensor([weights[name] for name in marks], dtype=torch.float64)
    shares = vector / vector.sum()
    stacked = torch.stack(list(marks.values())).double()
    mean = shares @ stacked
    deviation = (shares @ (stacked - mean).square()).sqrt()
    return mean.float(), deviation.float()


def load_mixture(
    config: Mapping[str, Any],
    device: str | torch.device = "auto",
    dtype: str | None = None,
    towers: Towers | None = None,
) -> Mixture:
    """The mixture that a profile's `rewarder` section describes; `dtype` overrides the section's own.

    The section is checked as a whole before any weights are read. Experts with equal vision towers share them, also
    with whatever else is loaded with the same `towers`. Raises a `RewardError` that says what to do.
    """
    section = parse_rewarder(config)
    chosen_dtype = dtype or section.dtype
    towers = {} if towers is None else towers
    members = []
    for name, chosen in section.experts.items():
        known = expert_name(name)
        expert = load_expert(
            known,
            chosen.weights,
            device,
            chosen_dtype,
            chosen.revision,
            version=chosen.version,
            logit_scale=chosen.logit_scale,
            compile=section.compile,
            towers=towers,
        )
        if chosen.calibration is not None:
            calibration = Calibration(**chosen.calibration.model_dump())
        else:
            factor = expert.factor if isinstance(expert, CosineExpert) else 1.0
            calibration = published(known, chosen.version).calibration.times(factor)
        members.append(Member(expert, chosen.weight, calibration))
    topics = {
        topic: {expert_name(name): weight for name, weight in weights.items()}
        for topic, weights in section.topics.items()
    }
    return Mixture(members, topics, chosen_dtype, section.resize, section.micro_batch, section.robust)
