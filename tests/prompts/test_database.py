from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from ig_subnet.prompts import DatabaseError, PromptConfigurationError, load_database
from ig_subnet.prompts.old_database import ImageRewardDB, PromptFile, collect

LINES = ["a cat", "  a dog \t", "", "a cat", "un café à Zürich 🐈"]


def write(directory: Path, suffix: str, column: str = "prompt") -> Path:
    path = directory / f"prompts{suffix}"
    if suffix == ".txt":
        path.write_text("\n".join(LINES), encoding="utf-8")
    elif suffix == ".csv":
        path.write_text(f"id,{column}\n" + "".join(f'{n},"{line}"\n' for n, line in enumerate(LINES)), encoding="utf-8")
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({column: line}) + "\n" for line in [*LINES[:4], LINES[4]]), encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pyarrow.table({"id": range(len(LINES)), column: LINES}), path)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_every_kind_of_file_gives_the_same_prompts_and_rows(tmp_path: Path, suffix: str) -> None:
    database = load_database(PromptFile(source="file", path=str(write(tmp_path, suffix))))
    assert database.texts == ("a cat", "a dog", "un café à Zürich 🐈")
    assert database.rows == (0, 1, 4)
    assert database.source == f"prompts{suffix}" and len(database) == 3


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_missing_column_is_named(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix, column="text")
    with pytest.raises(DatabaseError, match="'prompt'"):
        load_database(PromptFile(source="file", path=str(path)))
    assert len(load_database(PromptFile(source="file", path=str(path), column="text"))) == 3


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"prompts{suffix}"
    path.write_bytes(b"\xff\xfe\x00 not a table")
    with pytest.raises(DatabaseError, match=f"prompts{suffix} cannot be read"):
        load_database(PromptFile(source="file", path=str(path)))


@pytest.mark.parametrize("content", ["", "\n \n\t\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(content)
    with pytest.raises(DatabaseError, match=r"prompts\.txt holds no prompts"):
        load_database(PromptFile(source="file", path=str(path)))


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="does not exist"):
        load_database(PromptFile(source="file", path=str(tmp_path / "none.txt")))
    (tmp_path / "prompts.xlsx").write_bytes(b"")
    with pytest.raises(PromptConfigurationError, match="of no known kind"):
        load_database(PromptFile(source="file", path=str(tmp_path / "prompts.xlsx")))


def test_what_is_no_text_or_longer_than_a_synapse_carries_is_dropped() -> None:
    database = collect("a test", [None, "a" * 1025, 3, "a" * 1024, float("nan"), "b"])
    assert database.rows == (3, 5)


def test_the_digest_changes_with_any_prompt_and_their_order() -> None:
    digests = {collect("a test", texts).digest for texts in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", "c"])}
    assert len(digests) == 4
    assert collect("another source", ["a", "b"]).digest in digests


def test_an_offline_hub_says_what_to_do() -> None:
    with pytest.raises(DatabaseError, match=r"metadata-train\.parquet .*HF_HUB_OFFLINE, or use a local file"):
        load_database(ImageRewardDB(source="image_reward_db"))
