"""The `gates` section of a profile: which gates an image has to pass before it is paid, and where they are drawn.

Every gate can be left out, and is off then. Every threshold carries its provenance: what it was measured on, and how
many honest images it stops (`scripts/calibrate_gates.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ig_subnet.imaging.fingerprints import HASH_BITS
from ig_subnet.validating.errors import ProfileUnusable


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SafetyGate(_Section):
    """Stops an image that `check` holds for not safe for work with a probability of `threshold` or more."""

    check: Literal["opennsfw", "diffusers"]
    threshold: float = Field(gt=0, le=1)
    provenance: str = Field(min_length=1)


class Suspicion(_Section):
    """Limits of likeness, as `DuplicatesGate` has them, beyond which an image is not stopped yet: where a validator can
    make it again, it does, to see whose it is."""

    laid_over: float = Field(gt=0)
    times_nearer: float = Field(gt=0)
    provenance: str = Field(min_length=1)


class DuplicatesGate(_Section):
    """Stops an image that is like an earlier one: of the same answer, of another miner's, or of an earlier round.

    Two images are alike if their embeddings by the vision tower of `expert` have a cosine of `cosine` or more, and one
    of three things holds: their perceptual hashes differ in at most `hash_distance` bits; they are `laid_over` alike
    or more once one is laid over the other (see `imaging.fingerprints`); or one is `times_nearer` as near to the other
    as to the images that further miners made for the same prompt (see `likeness`). The newest `history` images of
    earlier rounds are remembered. `suspicion` has wider limits for what is to be looked at again; without it these are
    all there are.
    """

    hash_distance: int = Field(ge=0, lt=HASH_BITS // 2)
    laid_over: float = Field(ge=0, description="above 1, nothing is")
    times_nearer: float = Field(ge=1)
    expert: str = Field(min_length=1)
    cosine: float = Field(ge=-1, le=1)
    history: int = Field(ge=0, le=10_000_000)
    suspicion: Suspicion | None = None
    provenance: str = Field(min_length=1)

    def suspecting(self) -> Self:
        """The same gate with the limits of its suspicion."""
        if self.suspicion is None:
            return self
        return self.model_copy(
            update={"laid_over": self.suspicion.laid_over, "times_nearer": self.suspicion.times_nearer}
        )


class GrainGate(_Section):
    """Stops an image with more grain than `threshold` levels (see `rewards.grain`), which ascent on its pixels leaves.

    Above `suspicion` it is not stopped yet: where a validator can make the image again, it does.
    """

    threshold: float = Field(gt=0)
    suspicion: float | None = Field(default=None, ge=0)
    provenance: str = Field(min_length=1)


class AlignmentGate(_Section):
    """Stops an image that `expert` finds less like its own prompt than `threshold` says (see `rewards.alignment`),
    beside `decoys` other prompts of the database."""

    expert: str = Field(min_length=1)
    threshold: float
    decoys: int = Field(ge=2, le=1024)
    provenance: str = Field(min_length=1)


class VerifiedModel(_Section):
    """A model whose images can be made again: the embedding of an honest one has this cosine to its copy, or more, and
    its thumbnail is `levels` of brightness apart from that of its copy on average, or less. One without the other could
    be kept while the image is changed for the experts."""

    cosine: float = Field(ge=-1, le=1)
    levels: float = Field(default=255, gt=0, le=255)
    provenance: str = Field(min_length=1)


class RegenerationGate(_Section):
    """Stops the images of an answer of which one is not what the declared model makes from its seed; by model name.

    Where a validator verifies models, what it could not make again if it wanted to, since nothing is declared that it
    knows, is paid the share `unproven` of its incentive: whoever made it, and whatever was done to it since.
    """

    models: dict[str, VerifiedModel] = Field(min_length=1)
    unproven: float = Field(default=1, gt=0, le=1)


class GateSettings(_Section):
    """The section as a whole; a gate that is None is off."""

    nsfw: SafetyGate | None = None
    grain: GrainGate | None = None
    duplicates: DuplicatesGate | None = None
    alignment: AlignmentGate | None = None
    regeneration: RegenerationGate | None = None

    @property
    def off(self) -> str:
        """The names of the gates that are off, but for regeneration, which is a validator's own choice."""
        return ", ".join(name for name in ("nsfw", "grain", "duplicates", "alignment") if getattr(self, name) is None)

    @classmethod
    def parse(cls, section: Mapping[str, Any] | None, profile: str) -> Self:
        """The section of a profile, or no gates where it has none. Raises ProfileUnusable that names the place."""
        try:
            return cls.model_validate(section or {})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the section"
            raise ProfileUnusable(f"profile {profile!r}: gates: {place}: {first['msg']}") from error
