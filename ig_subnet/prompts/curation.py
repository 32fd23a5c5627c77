"""From what sources hold to a database that can be asked about: each step drops prompts, and is counted.

The steps in their order; exact duplicates go early, since most rows of a large collection repeat a prompt:

normalise         one line of visible Unicode (NFC) with single spaces; a prompt of which nothing is left is dropped
exact_duplicates  all but the first of the prompts that differ at most in case
characters        longer than a synapse carries
clip_tokens       longer than CLIP, PickScore and HPSv2 read
bert_tokens       longer than ImageReward reads
english           another language
gibberish         no language
nsfw_score        judged unsafe by the source's own classifier, where it has one
word_list         an unsafe word, where there is no score
near_duplicates   all but the first of the prompts that say nearly the same in nearly the same words
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from tqdm import tqdm

from ig_subnet.prompts.database import SCHEMA, Manifest, SourceRecord, StepCount, file_digest, prompt_id, write_database
from ig_subnet.prompts.errors import DatabaseError, PromptConfigurationError
from ig_subnet.prompts.safety import has_unsafe_words, word_list_digest
from ig_subnet.prompts.sources import BATCH_ROWS, SourceConfig, read_source, source_files
from ig_subnet.prompts.tokens import count_tokens

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)

MAX_CHARACTERS = 1024  # the longest prompt that a synapse carries

INVISIBLE = r"[\x{00}-\x{08}\x{0e}-\x{1f}\x{7f}-\x{84}\x{86}-\x{9f}\p{Cf}]"  # control and format, white space apart
WHITE_SPACE = r"[\t-\r\x{85}\p{Z}]+"  # of every script


class CurationConfig(BaseModel):
    """Which steps a curation takes; null or false leaves one out. Exact duplicates always go: a prompt has one id.

    `max_nsfw` bounds the source's score where it has one; only DiffusionDB does: Detoxify's probability that a text is
    toxic or sexually explicit. A prompt is dropped from one in ten on, well before the classifier's even odds: among a
    million prompts many can be spared, and those that stay are sent to strangers' machines.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_characters: int = Field(MAX_CHARACTERS, ge=1, le=MAX_CHARACTERS)
    max_clip_tokens: int | None = Field(77, ge=3)
    max_bert_tokens: int | None = Field(35, ge=3)
    english: bool = True
    gibberish: bool = True
    max_nsfw: float | None = Field(0.1, ge=0, le=1)
    word_list: bool = True
    near_duplicates: float | None = Field(0.8, gt=0, le=1)


def curate(
    sources: Sequence[SourceConfig],
    config: CurationConfig,
    directory: Path,
    progress: bool = False,
    batch_rows: int = BATCH_ROWS,
) -> Manifest:
    """Read, filter and write a database into `directory`; `progress` shows a bar over the rows.

    The same sources and settings give the same files, byte for byte, whatever `batch_rows` is. Raises `DatabaseError`
    for a source that cannot be read or holds no prompts, and when no prompt is kept.
    """
    names = [source.name for source in sources]
    if not names or len(set(names)) < len(names):
        raise PromptConfigurationError(f"a database needs sources of different names, not {', '.join(names) or 'none'}")
    funnel = _Funnel(config)
    batches: list[pa.RecordBatch] = []
    read: list[tuple[int, dict[str, str]]] = []
    with tqdm(desc="curating prompts", unit=" rows", unit_scale=True, disable=not progress) as bar:
        for number, source in enumerate(sources):
            files = source_files(source)
            rows, before = 0, funnel.kept("normalise")
            for batch in read_source(source, files, batch_rows):
                rows += len(batch)
                batches.append(funnel.filter_batch(_number(batch, number)))
                bar.update(len(batch))
            if funnel.kept("normalise") == before:
                raise DatabaseError(f"{source.name} holds no prompts")
            read.append((rows, {name: file_digest(path) for name, path in files.items()}))
    table = funnel.filter_near_duplicates(pa.Table.from_batches(batches))
    if not len(table):
        counts = ", ".join(f"{count.step} dropped {count.dropped} of {count.entered}" for count in funnel.counts)
        raise DatabaseError(f"the curation kept no prompt: {counts}")
    kept = np.bincount(table["source"].to_numpy(), minlength=len(sources)).tolist()
    return write_database(
        directory,
        _finish(table, sources),
        sources=[
            SourceRecord(
                name=source.name,
                licence=source.licence,
                settings=source.model_dump(mode="json", exclude={"path", "name", "licence"}),
                files=digests,
                rows=rows,
                kept=count,
            )
            for source, (rows, digests), count in zip(sources, read, kept, strict=True)
        ],
        curation=_settings(config),
        steps=funnel.counts,
        versions=_versions(config),
    )


def normalise(texts: pa.Array) -> pa.Array:
    """NFC, without invisible characters, with single spaces for white space of any kind, and none at the ends."""
    visible = pc.utf8_normalize(pc.replace_substring_regex(texts, INVISIBLE, ""), "NFC")
    return pc.ascii_trim_whitespace(pc.replace_substring_regex(visible, WHITE_SPACE, " "))


class _Funnel:
    """The steps, one after another, and how many prompts each has seen and dropped."""

    def __init__(self, config: CurationConfig) -> None:
        self._config = config
        self._entered: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._seen: set[bytes] = set()

    @property
    def counts(self) -> list[StepCount]:
        return [
            StepCount(step=step, entered=entered, dropped=self._dropped[step], kept=self.kept(step))
            for step, entered in self._entered.items()
        ]

    def kept(self, step: str) -> int:
        return self._entered[step] - self._dropped[step]

    def filter_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """All steps that need no other prompts than those seen before; columns of token counts are added."""
        config = self._config
        batch = batch.set_column(0, "text", normalise(batch["text"]))
        batch = self._keep("normalise", batch, pc.greater(pc.binary_length(batch["text"]), 0))
        batch = self._keep("exact_duplicates", batch, self._unseen(batch["text"]))
        batch = self._keep("characters", batch, pc.less_equal(pc.utf8_length(batch["text"]), config.max_characters))
        clip, bert = count_tokens(batch["text"].to_pylist())
        batch = batch.append_column("clip_tokens", pa.array(clip)).append_column("bert_tokens", pa.array(bert))
        for name, limit in (("clip_tokens", config.max_clip_tokens), ("bert_tokens", config.max_bert_tokens)):
            if limit is not None:
                batch = self._keep(name, batch, pc.less_equal(batch[name], limit))
        if config.english:
            from ig_subnet.prompts.language import is_english

            batch = self._keep("english", batch, is_english(batch["text"]))
        if config.gibberish:
            from ig_subnet.prompts.language import is_gibberish

            batch = self._keep("gibberish", batch, ~is_gibberish(batch["text"]))
        if config.max_nsfw is not None:
            safe = pc.less(batch["nsfw"], config.max_nsfw)
            batch = self._keep("nsfw_score", batch, pc.fill_null(safe, True))
        if config.word_list:
            judged = pc.and_(pc.is_valid(batch["nsfw"]), config.max_nsfw is not None)
            batch = self._keep("word_list", batch, pc.or_(judged, pc.invert(has_unsafe_words(batch["text"]))))
        return batch

    def filter_near_duplicates(self, table: pa.Table) -> pa.Table:
        """The step that has to see all prompts at once."""
        if self._config.near_duplicates is None:
            return table
        from ig_subnet.prompts.near_duplicates import keep_first

        return self._keep("near_duplicates", table, keep_first(table["text"], self._config.near_duplicates))

    def _unseen(self, texts: pa.Array) -> NDArray[np.bool_]:
        """True for the first of the texts that are equal but for case, among all batches so far."""
        unseen = np.zeros(len(texts), bool)
        for position, text in enumerate(texts.to_pylist()):
            digest = hashlib.blake2b(text.casefold().encode("utf-8"), digest_size=16).digest()
            if digest not in self._seen:
                self._seen.add(digest)
                unseen[position] = True
        return unseen

    def _keep(self, step: str, prompts: Rows, mask: pa.Array | NDArray[np.bool_]) -> Rows:
        kept = prompts.filter(mask if isinstance(mask, pa.Array) else pa.array(mask))
        self._entered[step] += len(prompts)
        self._dropped[step] += len(prompts) - len(kept)
        return kept


def _number(batch: pa.RecordBatch, source: int) -> pa.RecordBatch:
    """The batch with a column `source`, int32: the place of its source among all."""
    return batch.append_column("source", pa.repeat(pa.scalar(source, pa.int32()), len(batch)))


def _finish(table: pa.Table, sources: Sequence[SourceConfig]) -> pa.Table:
    """The database's columns: ids, and the names and licences of the sources in place of their numbers."""
    names = pa.array([source.name for source in sources])
    licences = sorted({source.licence for source in sources})
    licence_of = pa.array([licences.index(source.licence) for source in sources], pa.int32())
    batches = []
    for batch in table.to_batches():
        columns = {name: batch[name] for name in batch.schema.names}
        columns["id"] = pa.array([prompt_id(text) for text in batch["text"].to_pylist()], pa.string())
        columns["licence"] = pa.DictionaryArray.from_arrays(licence_of.take(batch["source"]), pa.array(licences))
        columns["source"] = pa.DictionaryArray.from_arrays(batch["source"], names)
        batches.append(pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA)


def _settings(config: CurationConfig) -> Mapping[str, JsonValue]:
    """The configuration, and which word list it means."""
    settings = config.model_dump(mode="json")
    return settings | {"word_list": word_list_digest()} if config.word_list else settings


def _versions(config: CurationConfig) -> dict[str, str]:
    """Of what decides about a prompt: with others the same sources may give another database."""
    libraries = ["ig_subnet", "pyarrow", "tokenizers"]
    return {name: version(name) for name in libraries} | {"unicode": unicodedata.unidata_version}
