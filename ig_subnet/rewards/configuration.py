"""The `rewarder` section of a profile: which experts, with which weights, and how they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from ig_subnet.rewards.errors import ConfigurationError
from ig_subnet.rewards.registry import choose_row, expert_name


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CalibrationConfig(_Section):
    """A measured reference distribution."""

    mean: FiniteFloat
    deviation: PositiveFloat
    provenance: str = Field(min_length=1)


class ExpertConfig(_Section):
    """One expert; what is left out defaults to the published weights and their calibration."""

    weight: NonNegativeFloat
    weights: str | None = None
    revision: str | None = None
    version: str | None = None
    logit_scale: bool = False
    calibration: CalibrationConfig | None = None


class RobustConfig(_Section):
    """How scores stand up to tampering: `copies` of each image are scored beside it, and the lowest score counts.

    Experts are trusted fully up to a spread (deviation) of their standard scores of `tolerated_spread`, and not at all
    from `distrusted_spread` on. A spread is at most 4, since standard scores are clipped there.
    """

    copies: int = Field(ge=1, le=32)
    tolerated_spread: NonNegativeFloat
    distrusted_spread: PositiveFloat
    provenance: str = Field(min_length=1)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.tolerated_spread < self.distrusted_spread:
            raise ValueError("tolerated_spread must be less than distrusted_spread")
        return self


class FittedConfig(_Section):
    """Where the weights come from, when they were learnt from preferences (scripts/fit_mixture.py)."""

    provenance: str = Field(min_length=1)


class RewarderConfig(_Section):
    """The section. `topics` is a gate: for a topic named there, its weights replace those of the experts.

    `micro_batch` is how many images go through the experts at a time; "auto" follows the device's free memory.
    `resize` is where images are resized: by Pillow as the experts' authors did, or on the device. `compile` runs the
    towers through torch.compile. Without `robust`, robust scores are the plain ones. `fitted` is for people to read.
    """

    experts: dict[str, ExpertConfig] = Field(min_length=1)
    topics: dict[str, dict[str, NonNegativeFloat]] = Field(default_factory=dict)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    resize: Literal["pil", "device"] = "pil"
    micro_batch: int | Literal["auto"] = "auto"
    compile: bool = False
    robust: RobustConfig | None = None
    fitted: FittedConfig | None = None

    @model_validator(mode="after")
    def _check_names_and_weights(self) -> Self:
        if isinstance(self.micro_batch, int) and not 1 <= self.micro_batch <= 4096:
            raise ValueError(f"micro_batch is {self.micro_batch}; give 1 to 4096, or auto")
        names = _distinct(self.experts)
        for name, expert in zip(names, self.experts.values(), strict=True):
            choose_row(name, expert.version, expert.logit_scale)
        for topic, weights in self.topics.items():
            if unknown := [name for name in _distinct(weights) if name not in names]:
                raise ValueError(f"topic {topic!r} gives a weight to {unknown[0]!r}, which is not among the experts")
        check_weights({name: expert.weight for name, expert in self.experts.items()}, self.topics)
        return self


def check_weights(general: Mapping[str, float], topics: Mapping[str, Mapping[str, float]]) -> None:
    """Raise `ConfigurationError` unless an expert counts in general, and for every topic."""
    for place, weights in (("the experts", general), *((f"topic {topic!r}", topics[topic]) for topic in topics)):
        if not sum(weights.values()) > 0:
            raise ConfigurationError(f"the weights of {place} sum to 0; give at least one expert a positive weight")


def _distinct(names: Iterable[str]) -> list[str]:
    """The registry's names for them. Raises `ConfigurationError` for an unknown one, or one that stands there twice."""
    known = [expert_name(name) for name in names]
    if len(set(known)) < len(known):
        raise ConfigurationError(f"an expert is named twice among {', '.join(names)}")
    return known


def parse_rewarder(config: Mapping[str, Any]) -> RewarderConfig:
    """The section, checked as a whole. Raises `ConfigurationError` that names the place."""
    try:
        return RewarderConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the section"
        raise ConfigurationError(
            f"rewarder configuration: {place}: {first['msg'].removeprefix('Value error, ')}"
        ) from error
