"""The steps of a curation, batch by batch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ig_subnet.prompts.curation import CurationConfig
from ig_subnet.prompts.database import StepCount, prompt_id
from ig_subnet.prompts.language import is_english, is_gibberish
from ig_subnet.prompts.near_duplicates import keep_first
from ig_subnet.prompts.safety import has_unsafe_words
from ig_subnet.prompts.sources import SourceConfig
from ig_subnet.prompts.storing import SCHEMA
from ig_subnet.prompts.tokens import count_bert_tokens, count_clip_tokens

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)

INVISIBLE = r"[\x{00}-\x{08}\x{0e}-\x{1f}\x{7f}-\x{84}\x{86}-\x{9f}\p{Cf}]"  # control and format, white space apart
WHITE_SPACE = r"[\t-\r\x{85}\p{Z}]+"  # of every script


def normalise(texts: pa.Array) -> pa.Array:
    """NFC, without invisible characters, with single spaces for white space of any kind, and none at the ends."""
    visible = pc.utf8_normalize(pc.replace_substring_regex(texts, INVISIBLE, ""), "NFC")
    return pc.ascii_trim_whitespace(pc.replace_substring_regex(visible, WHITE_SPACE, " "))


class Funnel:
    """What a configuration lets through, and how many prompts each step has seen and dropped."""

    def __init__(self, config: CurationConfig) -> None:
        self._config = config
        self._entered: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._seen: set[bytes] = set()
        self._passed: list[pa.RecordBatch] = []

    @property
    def counts(self) -> list[StepCount]:
        """Of the steps that were taken, in their order."""
        return [
            StepCount(step=step, entered=entered, dropped=self._dropped[step], kept=self.kept(step))
            for step, entered in self._entered.items()
        ]

    def kept(self, step: str) -> int:
        return self._entered[step] - self._dropped[step]

    def pour(self, batch: pa.RecordBatch, source: int) -> None:
        """Take a batch of `text`, `row` and `nsfw` from the source of that number through every step but the last."""
        config = self._config
        batch = batch.set_column(0, "text", normalise(batch["text"]))
        batch = self._keep("normalise", batch, pc.greater(pc.binary_length(batch["text"]), 0))
        batch = self._keep("exact_duplicates", batch, self._unseen(batch["text"]))
        batch = self._keep("characters", batch, pc.less_equal(pc.utf8_length(batch["text"]), config.max_characters))
        # BERT's first: its limit is the lower one, and CLIP's tokens take half as long again to count.
        for column, count, limit in (
            ("bert_tokens", count_bert_tokens, config.max_bert_tokens),
            ("clip_tokens", count_clip_tokens, config.max_clip_tokens),
        ):
            batch = batch.append_column(column, pa.array(count(batch["text"].to_pylist())))
            if limit is not None:
                batch = self._keep(column, batch, pc.less_equal(batch[column], limit))
        if config.english:
            batch = self._keep("english", batch, is_english(batch["text"]))
        if config.gibberish:
            batch = self._keep("gibberish", batch, ~is_gibberish(batch["text"]))
        if config.max_nsfw is not None:
            limit = pa.scalar(config.max_nsfw, pa.float32())  # as the scores are: 0.1 is not above 0.1
            batch = self._keep("nsfw_score", batch, pc.fill_null(pc.less_equal(batch["nsfw"], limit), True))
        if config.word_list:
            safe = pc.invert(has_unsafe_words(batch["text"]))
            judged = pc.is_valid(batch["nsfw"]) if config.max_nsfw is not None else False
            batch = self._keep("word_list", batch, pc.or_(safe, judged))
        self._passed.append(batch.append_column("source", pa.repeat(pa.scalar(source, pa.int32()), len(batch))))

    def finish(self, progress: bool = False) -> pa.Table:
        """What has passed all steps; near-duplicates are found among all prompts at once."""
        table = pa.Table.from_batches(self._passed)
        if self._config.near_duplicates is None:
            return table
        return self._keep("near_duplicates", table, keep_first(table["text"], self._config.near_duplicates, progress))

    def _unseen(self, texts: pa.Array) -> NDArray[np.bool_]:
        """True for the first of the texts that are equal but for case, among all that were poured."""
        unseen = np.zeros(len(texts), np.bool_)
        for position, text in enumerate(texts.to_pylist()):
            digest = hashlib.blake2b(text.casefold().encode(), digest_size=16).digest()
            if digest not in self._seen:
                self._seen.add(digest)
                unseen[position] = True
        return unseen

    def _keep(self, step: str, prompts: Rows, mask: pa.Array | NDArray[np.bool_]) -> Rows:
        kept = prompts.filter(mask if isinstance(mask, pa.Array) else pa.array(mask))
        self._entered[step] += len(prompts)
        self._dropped[step] += len(prompts) - len(kept)
        return kept


def name_sources(prompts: pa.Table, sources: Sequence[SourceConfig]) -> pa.Table:
    """The table of a database: with ids, and the names and licences of the sources in place of their numbers."""
    names = pa.array([source.name for source in sources])
    licences = sorted({source.licence for source in sources})
    licence_of = pa.array([licences.index(source.licence) for source in sources], pa.int32())
    batches = []
    for batch in prompts.to_batches():
        columns = {name: batch[name] for name in batch.schema.names}
        columns["id"] = pa.array([prompt_id(text) for text in batch["text"].to_pylist()], pa.string())
        columns["licence"] = pa.DictionaryArray.from_arrays(licence_of.take(batch["source"]), pa.array(licences))
        columns["source"] = pa.DictionaryArray.from_arrays(batch["source"], names)
        batches.append(pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA)
