from __future__ import annotations

import hashlib
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ig_subnet.prompts.curation import DECIDING, CurationConfig, curate, fits
from ig_subnet.prompts.database import Manifest, Prompt, PromptDatabase
from ig_subnet.prompts.errors import DatabaseError, PromptConfigurationError
from ig_subnet.prompts.funnel import Funnel, normalise
from ig_subnet.prompts.reading import SCHEMA
from ig_subnet.prompts.sources import DiffusionDB, PocketCaptions, PromptFile

OFF: dict[str, Any] = {
    "max_clip_tokens": None,
    "max_bert_tokens": None,
    "english": False,
    "gibberish": False,
    "max_nsfw": None,
    "word_list": False,
    "near_duplicates": None,
}
LONG = "a lighthouse on a cliff above a stormy sea at night, seen from a small boat, " * 6


def text_file(directory: Path, *lines: str, name: str = "prompts.txt") -> PromptFile:
    path = directory / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return PromptFile(path=str(path))


def scored(directory: Path, **scores: float | None) -> DiffusionDB:
    table = {"prompt": list(scores), "prompt_nsfw": pa.array(list(scores.values()), pa.float32())}
    pq.write_table(pa.table(table), directory / "metadata.parquet")
    return DiffusionDB(path=str(directory))


def kept_texts(directory: Path) -> list[str]:
    database = PromptDatabase.open(directory)
    return database.texts(range(len(database)))


def dropped(manifest: Manifest) -> dict[str, int]:
    return {step.step: step.dropped for step in manifest.steps if step.dropped}


@pytest.mark.parametrize(
    ("step", "configuration", "lines", "kept"),
    [
        ("normalise", {}, ["a cat", "", " \u200b\t ", "a  cat\u00a0sat "], ["a cat", "a cat sat"]),
        ("exact_duplicates", {}, ["A cat", "a  CAT", "a dog", "STRASSE", "Straße"], ["A cat", "a dog", "STRASSE"]),
        ("characters", {"max_characters": 5}, ["a cat", "a bird", "a dog"], ["a cat", "a dog"]),
        ("characters", {}, ["a" * 1025, "a" * 1024], ["a" * 1024]),
        ("clip_tokens", {"max_clip_tokens": 77}, [LONG, "a cat"], ["a cat"]),
        ("clip_tokens", {"max_clip_tokens": 4}, ["a cat", "a big cat"], ["a cat"]),
        ("bert_tokens", {"max_bert_tokens": 35}, [LONG[: len(LONG) // 3], "a cat"], ["a cat"]),
        ("english", {"english": True}, ["ein Haus am See mit einem roten Dach und einem Boot", "a cat"], ["a cat"]),
        ("gibberish", {"gibberish": True}, ["asdkjh qwlekj zxmcnb qpwoei", "a cat on a sofa"], ["a cat on a sofa"]),
        ("word_list", {"word_list": True}, ["a Naked man", "a man"], ["a man"]),
        (
            "near_duplicates",
            {"near_duplicates": 0.8},
            [
                "an old lighthouse, oil painting, highly detailed, artstation, 8k",
                "an old lighthouse, oil painting, highly detailed, artstation, 4k, 8k",
                "a fox in the snow",
            ],
            ["an old lighthouse, oil painting, highly detailed, artstation, 8k", "a fox in the snow"],
        ),
    ],
)
def test_a_step_drops_what_it_is_for_and_counts_it(
    tmp_path: Path, step: str, configuration: dict[str, Any], lines: list[str], kept: list[str]
) -> None:
    manifest = curate([text_file(tmp_path, *lines)], CurationConfig(**OFF | configuration), tmp_path / "out")
    assert kept_texts(tmp_path / "out") == kept
    assert dropped(manifest) == {step: len(lines) - len(kept)}
    assert manifest.prompts == manifest.sources[0].kept == len(kept) and manifest.sources[0].rows == len(lines)


def test_the_steps_follow_one_another_and_everything_is_accounted_for(tmp_path: Path) -> None:
    sources = [text_file(tmp_path, "a cat", "A CAT", "", "an orgy", LONG), scored(tmp_path, a_cat=0.0, b=0.9, c=None)]
    manifest = curate(
        sources, CurationConfig(**OFF | {"max_clip_tokens": 77, "max_nsfw": 0.1, "word_list": True}), tmp_path
    )
    names = [step.step for step in manifest.steps]
    assert names == ["normalise", "exact_duplicates", "characters", "clip_tokens", "nsfw_score", "word_list"]
    assert manifest.steps[0].entered == sum(source.rows for source in manifest.sources) == 8
    for before, after in pairwise(manifest.steps):
        assert before.entered - before.dropped == before.kept == after.entered
    assert manifest.steps[-1].kept == manifest.prompts == sum(source.kept for source in manifest.sources)
    assert [source.kept for source in manifest.sources] == [1, 2]


def test_a_score_counts_more_than_the_word_list(tmp_path: Path) -> None:
    source = scored(tmp_path, nude=0.1, statue=0.11, naked=None, cat=None)
    curate([source], CurationConfig(**OFF | {"max_nsfw": 0.1, "word_list": True}), tmp_path / "both")
    assert kept_texts(tmp_path / "both") == ["nude", "cat"]
    curate([source], CurationConfig(**OFF | {"word_list": True}), tmp_path / "words")
    assert kept_texts(tmp_path / "words") == ["statue", "cat"]
    curate([source], CurationConfig(**OFF | {"max_nsfw": 0.1}), tmp_path / "scores")
    assert kept_texts(tmp_path / "scores") == ["nude", "naked", "cat"]
    scores = PromptDatabase.open(tmp_path / "both").table["nsfw"].to_pylist()
    assert scores == [pytest.approx(0.1), None]


def test_every_prompt_knows_where_it_first_stood_under_which_licence(tmp_path: Path) -> None:
    first = text_file(tmp_path, "", "a cat", "a dog", name="first.txt")
    second = PromptFile(
        path=text_file(tmp_path, "A dog", "a fox", name="second.txt").path, name="foxes", licence="CC-BY-4.0"
    )
    curate([first, second], CurationConfig(**OFF), tmp_path / "out")
    database = PromptDatabase.open(tmp_path / "out")
    assert database.prompts([2, 0]) == [
        Prompt("5ebbe2a2650a5e15", "a fox", "foxes", 1, "CC-BY-4.0"),
        Prompt("51e4674156077982", "a cat", "first.txt", 1, "unknown"),
    ]


def test_the_same_sources_give_the_same_bytes_however_they_are_read(tmp_path: Path) -> None:
    lines = [
        f"a {colour} {animal}\u3000 no. {n}"
        for n in range(40)
        for colour in ("red", "Blue")
        for animal in ("cat", "fox")
    ]
    sources = [PocketCaptions(count=300), text_file(tmp_path, *lines, *lines)]
    for batch_rows in (7, 64, 8192):
        curate(
            sources, CurationConfig(english=False, gibberish=False), tmp_path / str(batch_rows), batch_rows=batch_rows
        )
    for name in ("prompts.parquet", "manifest.json"):
        assert len({(tmp_path / str(rows) / name).read_bytes() for rows in (7, 64, 8192)}) == 1
    manifest = PromptDatabase.open(tmp_path / "7").manifest
    assert manifest.sha256 == hashlib.sha256((tmp_path / "7" / "prompts.parquet").read_bytes()).hexdigest()
    assert list(manifest.sources[1].files) == ["prompts.txt"]
    assert str(tmp_path) not in (tmp_path / "7" / "manifest.json").read_text()


def test_a_manifest_tells_apart_what_was_read_and_how(tmp_path: Path) -> None:
    variants = [
        ([text_file(tmp_path, "a cat")], CurationConfig(**OFF)),
        ([text_file(tmp_path, "a cat", "", name="other.txt")], CurationConfig(**OFF)),
        ([text_file(tmp_path, "a cat")], CurationConfig(**OFF | {"max_characters": 9})),
    ]
    manifests = [curate(sources, config, tmp_path / "out") for sources, config in variants]
    assert len({manifest.model_dump_json() for manifest in manifests}) == 3
    assert set(manifests[0].versions) == {*DECIDING, "curation", "unicode", "word_list"}


def test_a_source_without_prompts_is_named(tmp_path: Path) -> None:
    for content in ("", "\n \n\t\n"):
        (tmp_path / "empty.txt").write_text(content)
        with pytest.raises(DatabaseError, match=r"empty\.txt holds no prompts"):
            curate(
                [PocketCaptions(count=3), PromptFile(path=str(tmp_path / "empty.txt"))], CurationConfig(**OFF), tmp_path
            )


def test_a_curation_that_keeps_nothing_says_which_step_dropped_how_many(tmp_path: Path) -> None:
    config = CurationConfig(**OFF | {"max_clip_tokens": 4, "word_list": True})
    with pytest.raises(DatabaseError, match=r"clip_tokens dropped 2 of 3, word_list dropped 1 of 1"):
        curate([text_file(tmp_path, "a cat and a dog", "nude man", "a big fox")], config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sources_have_different_names(tmp_path: Path) -> None:
    with pytest.raises(PromptConfigurationError, match=r"different names, not prompts\.txt, prompts\.txt"):
        curate([text_file(tmp_path, "a cat")] * 2, CurationConfig(**OFF), tmp_path)
    with pytest.raises(PromptConfigurationError, match="not none"):
        curate([], CurationConfig(**OFF), tmp_path)


def test_a_build_that_fails_leaves_the_old_database_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    curate([PocketCaptions(count=20)], CurationConfig(**OFF), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DatabaseError, match=r"damaged\.parquet cannot be read"):
        curate(
            [PocketCaptions(count=30), PromptFile(path=str(tmp_path / "damaged.parquet"))], CurationConfig(**OFF), out
        )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before and len(kept_texts(out)) == 20


@pytest.mark.parametrize(
    "wrong", [{"max_characters": 1025}, {"max_nsfw": 1.5}, {"near_duplicates": 0}, {"near_duplicate": 0.8}]
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CurationConfig(**wrong)


def test_a_text_fits_within_each_limit() -> None:
    assert fits("a cat", CurationConfig(max_characters=5, max_clip_tokens=4, max_bert_tokens=4))
    for limit in ({"max_characters": 4}, {"max_clip_tokens": 3}, {"max_bert_tokens": 3}):
        assert not fits("a cat", CurationConfig(**limit))
    assert fits("a cat", CurationConfig(**OFF)) and fits(LONG, CurationConfig(**OFF))
    assert not fits(LONG, CurationConfig(max_clip_tokens=None)) and not fits(LONG, CurationConfig(max_bert_tokens=None))


# Code points that the Unicode of both Python and pyarrow knows, so that they agree on composition.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=30)


@given(TEXT)
def test_what_is_normalised_is_one_line_of_visible_text(text: str) -> None:
    (once,) = normalise(pa.array([text])).to_pylist()
    assert normalise(pa.array([once])).to_pylist() == [once]
    assert unicodedata.is_normalized("NFC", once)
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp") for character in once)
    assert once == " ".join(once.split(" ")).strip() and "  " not in once


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["a cat", "A Cat", "nude", "a dog", " ", None, "ǅ", "ǆ"]), max_size=12), st.data())
def test_batches_do_not_matter(texts: list[str | None], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(texts)), max_size=3)))
    outcomes = []
    for edges in ([0, len(texts)], [0, *cuts, len(texts)]):
        funnel = Funnel(CurationConfig(**OFF | {"word_list": True}))
        for start, end in pairwise(edges):
            text = pa.array(texts[start:end], pa.string())
            columns = [text, np.arange(start, end), pa.nulls(end - start, pa.float32())]
            funnel.pour(pa.record_batch(columns, schema=SCHEMA), 0)
        outcomes.append((funnel.finish().to_pylist(), funnel.counts))
    assert outcomes[0] == outcomes[1]
