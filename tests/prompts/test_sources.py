from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from ig_subnet.prompts.errors import DatabaseError, PromptConfigurationError
from ig_subnet.prompts.reading import read_source, source_files
from ig_subnet.prompts.sources import (
    DiffusionDB,
    ImageRewardDB,
    PocketCaptions,
    PromptFile,
    SourceConfig,
    StableDiffusionPrompts,
)

LINES = ["a cat", "  a dog \t", "", "a cat", "un café à Zürich 🐈, close-up"]


def rows_of(config: SourceConfig, **options: Any) -> list[tuple[str | None, int, float | None]]:
    batches = list(read_source(config, **options))
    return [(row["text"], row["row"], row["nsfw"]) for batch in batches for row in batch.to_pylist()]


def write_prompts(directory: Path, suffix: str, column: str = "prompt") -> Path:
    path = directory / f"prompts{suffix}"
    if suffix == ".txt":
        path.write_text("\n".join(LINES), encoding="utf-8")
    elif suffix == ".csv":
        path.write_text(f"id,{column}\n" + "".join(f'{n},"{line}"\n' for n, line in enumerate(LINES)), encoding="utf-8")
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": 1, column: line}) + "\n" for line in LINES), encoding="utf-8")
    else:
        pq.write_table(pa.table({"id": range(len(LINES)), column: LINES}), path)
    return path


def write_image_reward_db(path: Path, prompts: list[str]) -> None:
    """A metadata table of the published schema; every prompt has several images."""
    rows = [
        {
            "image_path": f"images/{number}/{image}.webp",
            "prompt_id": f"{number:06d}-{image:04d}",
            "prompt": prompt,
            "classification": "Outdoor Scenes",
            "image_amount_in_total": 2,
            "rank": image + 1,
            "overall_rating": 5,
            "image_text_alignment_rating": 6,
            "fidelity_rating": 4,
        }
        for number, prompt in enumerate(prompts)
        for image in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_diffusion_db(path: Path, prompts: list[str], scores: list[float]) -> None:
    """A metadata table of the published schema."""
    count = len(prompts)
    columns = {
        "image_name": pa.array([f"{n:08x}.png" for n in range(count)]),
        "prompt": pa.array(prompts),
        "part_id": pa.array(range(count), pa.uint16()),
        "seed": pa.array(range(count), pa.uint32()),
        "step": pa.array([50] * count, pa.uint16()),
        "cfg": pa.array([7.0] * count, pa.float32()),
        "sampler": pa.array([8] * count, pa.uint8()),
        "width": pa.array([512] * count, pa.uint16()),
        "height": pa.array([512] * count, pa.uint16()),
        "user_name": pa.array(["0" * 64] * count),
        "timestamp": pa.array([1_660_000_000_000] * count, pa.timestamp("ms", tz="UTC")),
        "image_nsfw": pa.array([2.0] * count, pa.float32()),
        "prompt_nsfw": pa.array(scores, pa.float32()),
    }
    pq.write_table(pa.table(columns), path, row_group_size=2)


def test_pocket_captions_are_the_same_for_a_seed_and_a_longer_list_begins_with_the_shorter() -> None:
    short, long = PocketCaptions(count=30, seed=4), PocketCaptions(count=50, seed=4)
    assert rows_of(short) == rows_of(long)[:30] and short.name == long.name == "pocket_captions(seed=4)"
    assert rows_of(PocketCaptions(count=30, seed=5)) != rows_of(short)


def test_image_reward_db_is_read_split_by_split(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write_image_reward_db(tmp_path / f"metadata-{split}.parquet", [f"a {split} prompt", "a lake"])
    config = ImageRewardDB(splits=("validation", "test"), path=str(tmp_path))
    assert rows_of(config, batch_rows=3) == [
        ("a validation prompt", 0, None),
        ("a validation prompt", 1, None),
        ("a lake", 2, None),
        ("a lake", 3, None),
        ("a test prompt", 4, None),
        ("a test prompt", 5, None),
        ("a lake", 6, None),
        ("a lake", 7, None),
    ]
    assert config.name == "zai-org/ImageRewardDB/metadata-validation+metadata-test" and config.licence == "Apache-2.0"
    assert list(source_files(config)) == ["metadata-validation.parquet", "metadata-test.parquet"]


@pytest.mark.parametrize("as_folder", [True, False])
def test_diffusion_db_brings_the_score_of_the_prompt_not_of_the_image(tmp_path: Path, as_folder: bool) -> None:
    path = tmp_path / "metadata.parquet"
    write_diffusion_db(path, ["a lake", "a lake", "a storm"], [0.25, 0.25, float("nan")])
    config = DiffusionDB(path=str(tmp_path if as_folder else path))
    assert rows_of(config) == [("a lake", 0, 0.25), ("a lake", 1, 0.25), ("a storm", 2, None)]
    assert config.name == "poloclub/diffusiondb/metadata" and config.licence == "CC0-1.0"


def test_stable_diffusion_prompts_have_one_column(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"Prompt": ["a lake", "a storm"]}), tmp_path / "data" / "train.parquet")
    config = StableDiffusionPrompts(path=str(tmp_path))
    assert rows_of(config) == [("a lake", 0, None), ("a storm", 1, None)] and config.licence == "unknown"


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("batch_rows", [2, 8192])
def test_every_kind_of_file_gives_the_same_prompts_and_rows(tmp_path: Path, suffix: str, batch_rows: int) -> None:
    config = PromptFile(path=str(write_prompts(tmp_path, suffix)))
    read = rows_of(config, batch_rows=batch_rows)
    assert [(text and text.strip("\n"), row) for text, row, _ in read] == [(line, n) for n, line in enumerate(LINES)]
    assert config.name == f"prompts{suffix}" and config.licence == "unknown"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_may_bring_scores(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"prompts{suffix}"
    if suffix == ".csv":
        path.write_text("score,prompt\n0.5,a cat\n,a dog\n")
    elif suffix == ".jsonl":
        path.write_text('{"score": 0.5, "prompt": "a cat"}\n{"prompt": "a dog"}\n')
    else:
        pq.write_table(pa.table({"prompt": ["a cat", "a dog"], "score": [0.5, None]}), path)
    config = PromptFile(path=str(path), nsfw_column="score")
    assert rows_of(config) == [("a cat", 0, 0.5), ("a dog", 1, None)]
    with pytest.raises(DatabaseError, match="'toxicity'"):
        rows_of(PromptFile(path=str(path), nsfw_column="toxicity"))


def test_a_text_file_has_no_scores(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="a text file has no column 'score'"):
        rows_of(PromptFile(path=str(write_prompts(tmp_path, ".txt")), nsfw_column="score"))


def test_a_csv_field_may_span_lines_and_a_text_file_may_start_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt\n"a cat,\nsleeping"\nNA\n')
    (tmp_path / "a.txt").write_text("\ufeffa cat\na dog\n", encoding="utf-8")
    assert [text for text, _, _ in rows_of(PromptFile(path=str(tmp_path / "a.csv")))] == ["a cat,\nsleeping", "NA"]
    assert [text for text, _, _ in rows_of(PromptFile(path=str(tmp_path / "a.txt")))] == ["a cat\n", "a dog\n"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_text_may_be_stored_in_several_ways_and_be_missing(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"prompt": pa.array(["a cat", None, "a cat"]).cast(kind)}), tmp_path / "a.parquet")
    assert [text for text, _, _ in rows_of(PromptFile(path=str(tmp_path / "a.parquet")))] == ["a cat", None, "a cat"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_missing_column_is_named(tmp_path: Path, suffix: str) -> None:
    path = write_prompts(tmp_path, suffix, column="text")
    with pytest.raises(DatabaseError, match=rf"prompts\{suffix} cannot be read: .*'prompt'"):
        rows_of(PromptFile(path=str(path)))
    assert len(rows_of(PromptFile(path=str(path), column="text"))) == len(LINES)


def test_a_missing_score_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a lake"]}), tmp_path / "metadata.parquet")
    with pytest.raises(DatabaseError, match="no column 'prompt_nsfw', only prompt"):
        rows_of(DiffusionDB(path=str(tmp_path)))


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"prompts{suffix}"
    path.write_bytes(b"\xff\xfe\x00 not a table")
    with pytest.raises(DatabaseError, match=rf"prompts\{suffix} cannot be read"):
        rows_of(PromptFile(path=str(path)))


def test_a_column_that_is_no_text_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [1, 2]}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text('{"prompt": "a cat"}\n{"prompt": 3}\n')
    invalid = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")]
    )
    pq.write_table(pa.table({"prompt": invalid}), tmp_path / "b.parquet")
    for name, message in (("a.parquet", "holds int64, not text"), ("a.jsonl", "number"), ("b.parquet", "UTF8")):
        with pytest.raises(DatabaseError, match=message):
            rows_of(PromptFile(path=str(tmp_path / name)))


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"none\.txt does not exist"):
        rows_of(PromptFile(path=str(tmp_path / "none.txt")))
    with pytest.raises(DatabaseError, match=r"metadata-train\.parquet does not exist"):
        rows_of(ImageRewardDB(path=str(tmp_path)))
    (tmp_path / "prompts.xlsx").write_bytes(b"")
    with pytest.raises(PromptConfigurationError, match="of no known kind"):
        rows_of(PromptFile(path=str(tmp_path / "prompts.xlsx")))
    with pytest.raises(DatabaseError, match="is no folder; a local copy of zai-org/ImageRewardDB has metadata-train"):
        rows_of(ImageRewardDB(path=str(tmp_path / "prompts.xlsx")))


@pytest.mark.parametrize("config", [ImageRewardDB(), DiffusionDB(), StableDiffusionPrompts()])
def test_an_offline_hub_says_what_to_do(config: Any) -> None:
    assert config.revision[:12] in config.name
    with pytest.raises(DatabaseError, match=r"cannot get .*\.parquet of .*HF_HUB_OFFLINE, or give the source the path"):
        rows_of(config)


def test_a_configuration_is_chosen_by_its_source_and_pins_a_commit() -> None:
    parse = TypeAdapter(SourceConfig).validate_python
    assert parse({"source": "diffusion_db", "file": "metadata-large.parquet"}).name.endswith("/metadata-large")
    for wrong in (
        {"source": "no_such_source"},
        {"source": "diffusion_db", "revision": "main"},
        {"source": "diffusion_db", "file": "metadata.csv"},
        {"source": "image_reward_db", "splits": []},
        {"source": "pocket_captions", "count": 10_001},
        {"source": "file"},
    ):
        with pytest.raises(ValidationError):
            parse(wrong)
