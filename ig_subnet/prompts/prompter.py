"""The prompter: topics in, the database's nearest prompts out, and a choice among them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ig_subnet.prompts.building import build_index, locked
from ig_subnet.prompts.choosing import DECIMALS, UNUSED, Candidates, RetrievedPrompt, Uses, choose
from ig_subnet.prompts.curation import CURATION_VERSION, CurationConfig, curate, fits
from ig_subnet.prompts.database import MANIFEST, PromptDatabase, file_digest
from ig_subnet.prompts.embedding import Dtype, Embedder, SentenceEmbedder
from ig_subnet.prompts.errors import DatabaseError, PromptConfigurationError, PromptIndexError, RetrievalError
from ig_subnet.prompts.expansion import DrawnPrompt, ExpansionSettings, expand
from ig_subnet.prompts.index import (
    BUILD,
    INDEX_MANIFEST,
    Kind,
    VectorIndex,
    default_cache_directory,
    read_index_manifest,
)
from ig_subnet.prompts.sources import PocketCaptions, SourceConfig
from ig_subnet.prompts.topics import Topic, TopicFilters, Topics, passing

OTHER_BUILDER_SECONDS = 3600.0  # what another process may take to make the same index; 2 million prompts on a GPU do


class IndexDirectory(BaseModel):
    """A directory that scripts/build_prompt_index.py wrote: database and index, opened as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["index"] = "index"
    path: str


class PrompterConfig(BaseModel):
    """The `prompter` section of a profile.

    `curation` (by default, `default_curation`) and `index` say how a source is prepared on its first use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str | None = None
    dtype: Dtype = "float32"
    database: Annotated[IndexDirectory | SourceConfig, Field(discriminator="source")]
    curation: CurationConfig | None = None
    index: Literal["auto", Kind] = "auto"
    topics: Topics
    candidates: int = Field(100, ge=1, le=10_000)
    """How many fresh prompts, the nearest to the topic, a draw is made among."""
    expand: ExpansionSettings | None = None


class Prompter:
    """Retrieval by meaning from one database. `topics` are the configuration's.

    `digest` is the SHA-256 of the database, `fingerprint` that of the embedding model, both hexadecimal. Raises
    `RetrievalError` for a topic whose filters let no prompt through.
    """

    def __init__(
        self, database: PromptDatabase, index: VectorIndex, embedder: Embedder, config: PrompterConfig
    ) -> None:
        self.database = database
        self.topics = list(config.topics)
        self.digest = database.digest
        self.fingerprint = embedder.identity.fingerprint
        self._index = index
        self._embedder = embedder
        self._config = config
        self._limits = _curation_of(database)
        self._passing: dict[TopicFilters, NDArray[np.bool_]] = {}
        self._queries: dict[str, NDArray[np.float32]] = {}
        for topic in self.topics:
            self._allowed(topic)

    def retrieve(self, topic: str, k: int) -> list[RetrievedPrompt]:
        """The `k` prompts nearest to the topic's text, nearest first.

        Raises `RetrievalError` when `k` is not between 1 and the size of the database, or the topic is blank.
        """
        if not 1 <= k <= len(self.database):
            raise RetrievalError(f"asked for {k} prompts; the database holds 1 to {len(self.database)}")
        if not topic.strip():
            raise RetrievalError("the topic is empty; say in words what prompts should be about")
        return self._search(self._embedder.embed([topic]), k, None)[0]

    def candidates(self, topic: Topic) -> Candidates:
        """The prompts nearest to the topic that pass its filters: as many as are configured, or all there are.

        Raises `RetrievalError` when none passes.
        """
        return self._nearest(topic, self._config.candidates)

    def wider(self, candidates: Candidates, uses: Mapping[str, Uses]) -> Candidates | None:
        """Twice as many candidates, if fewer than configured are fresh and the topic has more; None if these will do.

        So a draw is made among as many fresh prompts as are configured, the nearest ones, while they last.
        """
        fresh = sum(uses.get(found, UNUSED).fresh for found in candidates.ids)
        allowed = self._allowed(candidates.topic)
        available = len(self.database) if allowed is None else int(np.count_nonzero(allowed))
        if fresh >= self._config.candidates or candidates.searched >= available:
            return None
        return self._nearest(candidates.topic, 2 * candidates.searched)

    def draw(self, candidates: Candidates, n: int, uses: Mapping[str, Uses], seed: bytes) -> list[DrawnPrompt]:
        """`n` different prompts to be asked, or fewer where there are no more candidates: `choose`, then `expand`.

        A pure function of its arguments and the configuration.
        """
        chosen = choose(candidates, n, uses=uses, seed=seed, among=self._config.candidates)
        settings = self._config.expand
        if settings is None:
            return [DrawnPrompt.of(prompt, candidates.topic.name) for prompt in chosen]
        donors = candidates.first(self._config.candidates)  # however wide the search went
        return [expand(prompt, donors, settings, seed, lambda text: fits(text, self._limits)) for prompt in chosen]

    def _allowed(self, topic: Topic) -> NDArray[np.bool_] | None:
        """Which prompts pass the topic's filters, bool [N]; computed once. None for all."""
        filters = topic.filters
        if filters == TopicFilters():
            return None
        if filters not in self._passing:
            known = {source.name for source in self.database.manifest.sources}
            if unknown := set(filters.sources) - known:
                raise RetrievalError(
                    f"topic {topic.name!r}: the database has no source {', '.join(sorted(unknown))}, only "
                    f"{', '.join(sorted(known))}"
                )
            mask = passing(self.database.table, filters)
            if not mask.any():
                written = filters.model_dump(exclude_defaults=True)
                raise RetrievalError(
                    f"topic {topic.name!r}: none of {len(self.database)} prompts passes its filters {written}"
                )
            self._passing[filters] = mask
        return self._passing[filters]

    def _nearest(self, topic: Topic, k: int) -> Candidates:
        if topic.text not in self._queries:
            self._queries[topic.text] = self._embedder.embed([topic.text])
        prompts, vectors = self._search(self._queries[topic.text], k, self._allowed(topic))
        return Candidates(topic, k, tuple(prompts), vectors)

    def _search(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[list[RetrievedPrompt], NDArray[np.float32]]:
        """Up to `k` prompts, nearest first by their exact cosines, which the index may only estimate; and vectors."""
        positions = self._index.search(query, min(k, len(self.database)), allowed)[1][0]
        positions = np.sort(positions[positions >= 0])
        vectors = self._index.vectors(positions)
        similarities = np.round(np.clip(vectors.astype(np.float64) @ query[0].astype(np.float64), -1, 1), DECIMALS)
        order = np.argsort(-similarities, kind="stable")  # equal ones in database order
        found = zip(self.database.prompts(positions[order]), similarities[order].tolist(), strict=True)
        prompts = [
            RetrievedPrompt(prompt.id, prompt.text, similarity, prompt.row, prompt.source, prompt.licence)
            for prompt, similarity in found
        ]
        return prompts, vectors[order]


def load_prompter(config: Mapping[str, Any], device: str = "auto", cache_dir: str | Path | None = None) -> Prompter:
    """The prompter that a profile's `prompter` section describes.

    A source is curated, embedded and indexed on the first use and kept in `cache_dir`; a directory is opened as it is.
    Raises a `PromptError` that says what to do.
    """
    try:
        parsed = PrompterConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the section"
        message = first["msg"].removeprefix("Value error, ")
        raise PromptConfigurationError(f"prompter configuration: {place}: {message}") from error
    embedder = SentenceEmbedder(parsed.model, device, parsed.revision, parsed.dtype)
    return open_prompter(parsed, embedder, default_cache_directory() if cache_dir is None else Path(cache_dir))


def open_prompter(config: PrompterConfig, embedder: Embedder, cache: Path) -> Prompter:
    """`load_prompter` with an embedder that is there already."""
    if isinstance(config.database, IndexDirectory):
        return _open(Path(config.database.path).expanduser(), embedder, config)
    source = config.database
    curation = config.curation or default_curation([source])
    directory = cache / f"{source.source}-{_key(source, curation)}-{embedder.identity.fingerprint[:16]}"
    if (directory / INDEX_MANIFEST).is_file():  # it was finished
        try:
            if config.index in ("auto", read_index_manifest(directory).kind):
                return _open(directory, embedder, config)
        except (DatabaseError, PromptIndexError) as error:
            logger.warning("making the prompt index again: {}", error)
            shutil.rmtree(directory)
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache, OTHER_BUILDER_SECONDS):
        if not (directory / MANIFEST).is_file():
            curate([source], curation, directory, progress=True)
        build_index(directory, embedder, config.index, progress=True)  # goes on where it was cut
    return _open(directory, embedder, config)


def _open(directory: Path, embedder: Embedder, config: PrompterConfig) -> Prompter:
    database = PromptDatabase.open(directory)
    index = VectorIndex.open(directory, embedder.identity)
    indexed = index.manifest.embedding
    if indexed is None or indexed.database != database.digest:
        raise PromptIndexError(
            f"{directory}: the index is of another database than the prompts beside it; {BUILD} {directory} --fresh"
        )
    return Prompter(database, index, embedder, config)


def default_curation(sources: Sequence[SourceConfig]) -> CurationConfig:
    """Every step; but of captions of the pocket world, made clean and a word apart, only exact duplicates go."""
    if not all(isinstance(source, PocketCaptions) for source in sources):
        return CurationConfig()
    return CurationConfig(
        max_clip_tokens=None,
        max_bert_tokens=None,
        english=False,
        gibberish=False,
        word_list=False,
        near_duplicates=None,
    )


def _curation_of(database: PromptDatabase) -> CurationConfig:
    try:
        return CurationConfig.model_validate(database.manifest.curation)
    except ValidationError as error:
        raise DatabaseError(f"{MANIFEST} has a curation of another version: {error.errors()[0]['msg']}") from error


def _key(source: SourceConfig, curation: CurationConfig) -> str:
    """What a curated database follows from, as 16 hexadecimal digits: its own digest is known only once it is made."""
    decisive: dict[str, Any] = {
        "version": CURATION_VERSION,
        "source": source.model_dump(mode="json", exclude={"path"}),
        "curation": curation.model_dump(mode="json"),
        "content": _content(source),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _content(source: SourceConfig) -> Any:
    """A digest of what the source holds, where its settings and a pinned revision do not say it."""
    if isinstance(source, PocketCaptions):  # as the code has it, in a third of a second for 3,000
        from ig_subnet.pocket.captions import pocket_captions

        return hashlib.sha256("\n".join(pocket_captions(source.count, source.seed)).encode()).hexdigest()
    if source.path is None:
        return None
    from ig_subnet.prompts.reading import source_files

    return {name: file_digest(path) for name, path in source_files(source).items()}
