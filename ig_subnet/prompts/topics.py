"""Topics: what a validator asks about, which prompts of the database suit each, and the sets that are shipped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
)

if TYPE_CHECKING:
    import pyarrow as pa

Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class TopicFilters(BaseModel):
    """What a prompt must be to be asked for a topic, besides near to it. A filter left out lets everything through.

    Words (or phrases) are whole words, upper or lower case: `cat` finds "Cat," and not "catalogue".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    any_of: tuple[Word, ...] = ()
    """Words of which it has at least one."""
    none_of: tuple[Word, ...] = ()
    """Words of which it has none."""
    sources: tuple[Word, ...] = ()
    """Names of the sources of which it comes from one."""
    max_clip_tokens: PositiveInt | None = None
    """How many CLIP tokens it may have, the two special ones included."""


class Topic(BaseModel):
    """What a validator asks about: `text` is embedded and searched for, `weight` is its share of the rounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    text: str = Field(min_length=1)
    weight: PositiveFloat = Field(default=1.0, allow_inf_nan=False)
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


def _named_set(topics: Any) -> Any:
    if not isinstance(topics, str):
        return topics
    if topics not in TOPIC_SETS:
        raise ValueError(f"no set of topics {topics!r}: use {', '.join(TOPIC_SETS)}, or a list of topics")
    return TOPIC_SETS[topics]


def _different(topics: tuple[Topic, ...]) -> tuple[Topic, ...]:
    if len({topic.name for topic in topics}) < len(topics):
        raise ValueError("two topics have the same name")
    return topics


Topics = Annotated[tuple[Topic, ...], Field(min_length=1), BeforeValidator(_named_set), AfterValidator(_different)]
"""At least one topic, each of another name; written as a list, or as the name of one of the `TOPIC_SETS`."""


def passing(table: pa.Table, filters: TopicFilters) -> NDArray[np.bool_]:
    """Which prompts of a database's table pass the filters: bool [N]. Words are searched for with RE2, in one pass."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mask = np.ones(len(table), dtype=np.bool_)
    if filters.any_of:
        mask &= _any_word(table["text"], filters.any_of)
    if filters.none_of:
        mask &= ~_any_word(table["text"], filters.none_of)
    if filters.sources:
        wanted = pa.array(filters.sources, pa.string())
        mask &= np.asarray(pc.is_in(table["source"].cast(pa.string()), wanted))
    if filters.max_clip_tokens is not None:
        mask &= np.asarray(pc.less_equal(table["clip_tokens"], filters.max_clip_tokens))
    return mask


def _any_word(texts: pa.ChunkedArray, words: Sequence[str]) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    letter = r"\pL\pM\pN_"  # RE2's own \b knows ASCII only
    pattern = f"(?:^|[^{letter}])(?:{'|'.join(map(re.escape, words))})(?:[^{letter}]|$)"
    return np.asarray(pc.match_substring_regex(texts, pattern, ignore_case=True))
