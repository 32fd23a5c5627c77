"""What a validator asks and what a miner answers, as types. Images are opaque bytes here; nothing decodes them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["QUERY_PATH", "GeneratedImage", "ImageFormat", "TextToImageSynapse", "check_characters"]

QUERY_PATH = "/v1/text-to-image"
"""Where an axon takes a synapse. The number is the protocol's version."""

ImageFormat = Literal["png", "jpeg", "webp"]


def check_characters(text: str) -> str:
    """The same text. Raises ValueError for control characters: they would reach terminals and logs of both sides."""
    if any(unicodedata.category(character) == "Cc" and character not in "\n\t" for character in text):
        raise ValueError("must not contain control characters other than line feed and tab")
    return text


class TextToImageSynapse(BaseModel):
    """One request for images. Immutable, bounded, and without unknown fields; its JSON is the body of the HTTP request.

    Raises `pydantic.ValidationError` (a ValueError) for anything out of bounds; nothing is clipped or coerced.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    prompt: str = Field(min_length=1, max_length=1024)
    """What to draw. Unicode text without control characters (line feed and tab are allowed)."""
    negative_prompt: str = Field(default="", max_length=1024)
    """What not to draw; empty for none."""
    width: int = Field(ge=16, le=2048)
    """Pixels. Every image has exactly this size."""
    height: int = Field(ge=16, le=2048)
    num_images: int = Field(default=1, ge=1, le=16)
    """Images wanted. A miner may return fewer (at least one); the missing ones count as unanswered."""
    seed: int = Field(ge=0, le=2**32 - 1)
    """This miner's own seed for the first image; image i uses (seed + i) mod 2**32."""
    steps: int | None = Field(default=None, ge=1, le=200)
    """A hint for the number of denoising steps; None leaves it to the miner."""
    deadline_seconds: float = Field(gt=0, le=600)
    """How long the validator waits for the complete answer, from opening the connection."""

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _no_control_characters(cls, text: str) -> str:
        return check_characters(text)

    def seed_of(self, number: int) -> int:
        """The seed of image `number` (0-based) of this request, in [0, 2**32)."""
        return (self.seed + number) % 2**32


@dataclass(frozen=True)
class GeneratedImage:
    """One encoded image with what the miner declares about it. Until decoded, all of it is only a claim.

    `width` and `height` are pixels, `seed` is in [0, 2**32), `model` is a short ASCII name of what made it.
    """

    format: ImageFormat
    width: int
    height: int
    seed: int
    model: str
    data: bytes = field(repr=False)
