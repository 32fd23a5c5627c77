"""The prompter: topics in, the database's nearest prompts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from ig_subnet.prompts.embedding import SentenceEmbedder
from ig_subnet.prompts.errors import PromptConfigurationError, RetrievalError
from ig_subnet.prompts.index import FlatIndex, cached_embeddings, default_cache_directory
from ig_subnet.prompts.old_database import DatabaseConfig, PromptDatabase, load_database


class Topic(BaseModel):
    """What a validator asks about: `text` is embedded and searched for, `weight` is its share of the rounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    text: str = Field(min_length=1)
    weight: PositiveFloat = Field(1.0, allow_inf_nan=False)


class PrompterConfig(BaseModel):
    """The `prompter` section of a profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str | None = None
    database: DatabaseConfig
    topics: tuple[Topic, ...] = Field(min_length=1)


@dataclass(frozen=True)
class RetrievedPrompt:
    """A prompt with where it came from. `similarity` is the cosine to the topic, in [-1, 1]."""

    text: str
    similarity: float
    row: int
    source: str


class Prompter:
    """Retrieval by meaning from one database. `topics` are the configuration's."""

    def __init__(
        self, database: PromptDatabase, embedder: SentenceEmbedder, index: FlatIndex, topics: Sequence[Topic]
    ) -> None:
        self.database = database
        self.topics = list(topics)
        self._embedder = embedder
        self._index = index

    def retrieve(self, topic: str, k: int) -> list[RetrievedPrompt]:
        """The `k` prompts nearest to the topic's text, nearest first.

        Raises `RetrievalError` when `k` is not between 1 and the size of the database, or the topic is blank.
        """
        if not 1 <= k <= len(self.database):
            raise RetrievalError(f"asked for {k} prompts; {self.database.source} holds 1 to {len(self.database)}")
        if not topic.strip():
            raise RetrievalError("the topic is empty; say in words what prompts should be about")
        found = self._index.search(self._embedder.embed([topic])[0], k)
        return [
            RetrievedPrompt(
                self.database.texts[position], similarity, self.database.rows[position], self.database.source
            )
            for position, similarity in found
        ]


def load_prompter(config: Mapping[str, Any], device: str = "auto", cache_dir: str | Path | None = None) -> Prompter:
    """The prompter that a profile's `prompter` section describes.

    Embeds the database on the first use and keeps the embeddings in `cache_dir`. Raises a `PromptError` that says what
    to do.
    """
    try:
        parsed = PrompterConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the section"
        raise PromptConfigurationError(f"prompter configuration: {place}: {first['msg']}") from error
    names = [topic.name for topic in parsed.topics]
    if len(set(names)) < len(names):
        raise PromptConfigurationError("prompter configuration: two topics have the same name")
    database = load_database(parsed.database)
    embedder = SentenceEmbedder(parsed.model, device, parsed.revision)
    directory = default_cache_directory() if cache_dir is None else Path(cache_dir)
    embeddings = cached_embeddings(database, embedder, directory)
    return Prompter(database, embedder, FlatIndex(embeddings), parsed.topics)
