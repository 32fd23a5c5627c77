"""The prompter: topics in, the database's nearest prompts out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ig_subnet.prompts.choosing import UNUSED, Candidates, RetrievedPrompt, Uses, choose
from ig_subnet.prompts.embedding import SentenceEmbedder
from ig_subnet.prompts.errors import PromptConfigurationError, RetrievalError
from ig_subnet.prompts.expansion import DrawnPrompt, ExpansionSettings, expand
from ig_subnet.prompts.index import FlatIndex, cached_embeddings, default_cache_directory
from ig_subnet.prompts.old_database import MAX_CHARACTERS, DatabaseConfig, PromptDatabase, load_database
from ig_subnet.prompts.topics import Topic, Topics


class PrompterConfig(BaseModel):
    """The `prompter` section of a profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str | None = None
    database: DatabaseConfig
    topics: Topics
    candidates: int = Field(100, ge=1, le=10_000)
    expand: ExpansionSettings | None = None


class Prompter:
    """Retrieval by meaning from one database. `topics` are the configuration's."""

    def __init__(
        self,
        database: PromptDatabase,
        embedder: SentenceEmbedder,
        embeddings: NDArray[np.float32],
        config: PrompterConfig,
    ) -> None:
        self.database = database
        self.topics = list(config.topics)
        self.digest = database.digest
        self.fingerprint = embedder.fingerprint
        self._embedder = embedder
        self._embeddings = embeddings
        self._index = FlatIndex(embeddings)
        self._candidates = config.candidates
        self._expand = config.expand

    def retrieve(self, topic: str, k: int) -> list[RetrievedPrompt]:
        """The `k` prompts nearest to the topic's text, nearest first.

        Raises `RetrievalError` when `k` is not between 1 and the size of the database, or the topic is blank.
        """
        if not 1 <= k <= len(self.database):
            raise RetrievalError(f"asked for {k} prompts; {self.database.source} holds 1 to {len(self.database)}")
        if not topic.strip():
            raise RetrievalError("the topic is empty; say in words what prompts should be about")
        return self._search(topic, k)[0]

    def candidates(self, topic: Topic) -> Candidates:
        """The prompts nearest to the topic that pass its filters: as many as are configured, or all there are."""
        return self._nearest(topic, self._candidates)

    def wider(self, candidates: Candidates, uses: Mapping[str, Uses]) -> Candidates | None:
        """Twice as many candidates, where too few of these are fresh and there are more of the topic; else None.

        Too few are fewer than configured: a draw is always made among so many fresh prompts while these last.
        """
        fresh = sum(uses.get(found, UNUSED).fresh for found in candidates.ids)
        if fresh >= self._candidates or candidates.searched >= len(self.database):
            return None
        return self._nearest(candidates.topic, 2 * candidates.searched)

    def draw(self, candidates: Candidates, n: int, uses: Mapping[str, Uses], seed: bytes) -> list[DrawnPrompt]:
        """`n` prompts to be asked, all different, or fewer where there are no more candidates: `choose`, then `expand`.

        A pure function of its arguments and the configuration.
        """
        chosen = choose(candidates, n, uses=uses, seed=seed, among=self._candidates)
        if self._expand is None:
            return [DrawnPrompt.of(prompt, candidates.topic.name) for prompt in chosen]
        return [expand(prompt, candidates, self._expand, seed, _is_short) for prompt in chosen]

    def _nearest(self, topic: Topic, k: int) -> Candidates:
        prompts, positions = self._search(topic.text, min(k, len(self.database)))
        return Candidates(topic, k, tuple(prompts), self._embeddings[positions])

    def _search(self, text: str, k: int) -> tuple[list[RetrievedPrompt], list[int]]:
        database = self.database
        found = self._index.search(self._embedder.embed([text])[0], k)
        prompts = [
            RetrievedPrompt(
                hashlib.sha256(database.texts[position].encode()).hexdigest()[:16],
                database.texts[position],
                similarity,
                database.rows[position],
                database.source,
                "",
            )
            for position, similarity in found
        ]
        return prompts, [position for position, _ in found]


def _is_short(text: str) -> bool:
    return len(text) <= MAX_CHARACTERS


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
    database = load_database(parsed.database)
    embedder = SentenceEmbedder(parsed.model, device, parsed.revision)
    directory = default_cache_directory() if cache_dir is None else Path(cache_dir)
    embeddings = cached_embeddings(database, embedder, directory)
    return Prompter(database, embedder, embeddings, parsed)
