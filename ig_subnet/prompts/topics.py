"""Topics: what a validator asks about, which prompts of the database suit each, and the sets that are shipped."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class TopicFilters(BaseModel):
    """What a prompt must be to be asked for a topic, besides near to it. A filter left out lets everything through.

    Words (or phrases) are whole words, upper or lower case: `cat` finds "Cat," and not "catalogue".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    any_of: tuple[str, ...] = ()
    """Words of which it has at least one."""
    none_of: tuple[str, ...] = ()
    """Words of which it has none."""
    sources: tuple[str, ...] = ()
    """Names of the sources of which it comes from one."""
    max_clip_tokens: PositiveInt | None = None
    """How many CLIP tokens it may have, the two special ones included."""


class Topic(BaseModel):
    """What a validator asks about: `text` is embedded and searched for, `weight` is its share of the rounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    text: str = Field(min_length=1)
    weight: PositiveFloat = Field(1.0, allow_inf_nan=False)
    filters: TopicFilters = TopicFilters()


TOPIC_SETS: Mapping[str, tuple[Topic, ...]] = {
    # The two of the original project's configuration.
    "seed": (
        Topic(name="landscape", text="a image of landscape, detail, realistic, beautiful"),
        Topic(name="anime_character", text="a image of anime character, realistic, ultra hd"),
    ),
    # The five of its author's study of models by topic, with that study's query texts.
    "study": (
        Topic(name="animated_style", text="a animated image of"),
        Topic(name="artistic_style", text="a artistic, artstation image of"),
        Topic(name="landscape_style", text="a landscape image of"),
        Topic(name="portrait_style", text="a portrait image of"),
        Topic(name="realistic_photo_style", text="a realistic photo of"),
    ),
}
"""Sets of topics by the name that a profile may give in place of a list."""
