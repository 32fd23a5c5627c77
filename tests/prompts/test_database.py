from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ig_subnet.pocket.captions import pocket_captions
from ig_subnet.prompts.curation import CurationConfig, curate
from ig_subnet.prompts.database import Prompt, PromptDatabase, prompt_id
from ig_subnet.prompts.errors import DatabaseError
from ig_subnet.prompts.sources import PocketCaptions
from ig_subnet.prompts.storing import CHUNK_ROWS, SCHEMA, write_database

CAPTIONS = pocket_captions(50)
FACTS = {"sources": (), "curation": {}, "steps": (), "versions": {}}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    config = CurationConfig(english=False, gibberish=False, near_duplicates=None)
    curate([PocketCaptions(count=50)], config, tmp_path)
    return tmp_path


def made_up_table(rows: int, chunk: int) -> pa.Table:
    texts = [f"prompt {row}" for row in range(rows)]
    columns = {
        "id": [prompt_id(text) for text in texts],
        "text": texts,
        "source": pa.array(["made up"] * rows).dictionary_encode(),
        "row": range(rows),
        "licence": pa.array(["MIT"] * rows).dictionary_encode(),
        "clip_tokens": pa.array([4] * rows, pa.int16()),
        "bert_tokens": pa.array([4] * rows, pa.int16()),
        "nsfw": pa.nulls(rows, pa.float32()),
    }
    table = pa.table(columns, SCHEMA)
    return pa.concat_tables(table.slice(start, chunk) for start in range(0, rows, chunk))


def test_an_id_is_the_beginning_of_the_texts_sha256() -> None:
    assert prompt_id("a cat") == "51e4674156077982"
    assert prompt_id("un café") == hashlib.sha256("un café".encode()).hexdigest()[:16]


def test_prompts_are_found_by_position(directory: Path) -> None:
    database = PromptDatabase.open(directory)
    assert len(database) == 50 and database.digest == database.manifest.sha256
    assert database.texts([49, 0, 7, 7]) == [CAPTIONS[49], CAPTIONS[0], CAPTIONS[7], CAPTIONS[7]]
    assert database.texts([]) == database.prompts([]) == []
    assert database.prompts([3]) == [Prompt(prompt_id(CAPTIONS[3]), CAPTIONS[3], "pocket_captions(seed=0)", 3, "MIT")]
    with pytest.raises(IndexError):
        database.texts([50])


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_batches_hold_all_prompts_in_order(directory: Path, size: int) -> None:
    batches = list(PromptDatabase.open(directory).batches(size))
    assert [text for batch in batches for text in batch] == CAPTIONS
    assert all(len(batch) == size for batch in batches[:-1])


def test_parquet_and_arrow_hold_the_same_rows(directory: Path) -> None:
    table = pq.read_table(directory / "prompts.parquet")
    assert table.schema.equals(SCHEMA) and table.equals(PromptDatabase.open(directory).table)
    assert table["clip_tokens"].to_pylist()[0] > 2 and table["nsfw"].null_count == 50


def test_opening_takes_no_memory(directory: Path) -> None:
    before = pa.total_allocated_bytes()
    database = PromptDatabase.open(directory)
    size = (directory / "prompts.arrow").stat().st_size
    assert pa.total_allocated_bytes() - before < size / 4 and len(database.table) == 50


def test_arrow_is_made_again_from_the_published_two_files(directory: Path) -> None:
    whole = (directory / "prompts.arrow").read_bytes()
    (directory / "prompts.arrow").unlink()
    assert PromptDatabase.open(directory).texts([5]) == [CAPTIONS[5]]
    assert (directory / "prompts.arrow").read_bytes() == whole
    assert sorted(path.name for path in directory.iterdir()) == ["manifest.json", "prompts.arrow", "prompts.parquet"]


def test_a_damaged_or_missing_parquet_is_not_unpacked(directory: Path) -> None:
    (directory / "prompts.arrow").unlink()
    content = bytearray((directory / "prompts.parquet").read_bytes())
    content[100] ^= 1
    (directory / "prompts.parquet").write_bytes(content)
    with pytest.raises(
        DatabaseError, match=r"prompts\.parquet is damaged: its SHA-256 is not the one in manifest\.json"
    ):
        PromptDatabase.open(directory)
    (directory / "prompts.parquet").unlink()
    with pytest.raises(DatabaseError, match=r"prompts\.parquet is missing; fetch it again"):
        PromptDatabase.open(directory)


def test_a_cut_arrow_file_is_named(directory: Path) -> None:
    path = directory / "prompts.arrow"
    for content in (path.read_bytes()[:-20], b"", b"ARROW1"):
        path.write_bytes(content)
        with pytest.raises(DatabaseError, match=r"prompts\.arrow is damaged .*; remove it, it is made again"):
            PromptDatabase.open(directory)


def test_a_prompt_that_has_changed_on_disk_is_not_asked(directory: Path) -> None:
    path = directory / "prompts.arrow"
    path.write_bytes(path.read_bytes().replace(CAPTIONS[7].encode(), CAPTIONS[7].upper().encode()))
    database = PromptDatabase.open(directory)
    assert len(database.prompts([6, 8])) == 2
    with pytest.raises(
        DatabaseError, match=rf"prompts\.arrow is damaged at prompt {prompt_id(CAPTIONS[7])}; remove it"
    ):
        database.prompts([6, 7])


def test_an_arrow_file_of_another_database_is_named(directory: Path, tmp_path: Path) -> None:
    write_database(tmp_path / "other", made_up_table(50, 50), **FACTS)
    (tmp_path / "other" / "prompts.arrow").replace(directory / "prompts.arrow")
    with pytest.raises(DatabaseError, match=r"is not of the database that manifest\.json describes"):
        PromptDatabase.open(directory)


def test_a_directory_without_a_whole_manifest_is_no_database(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"holds no prompt database: manifest\.json is missing"):
        PromptDatabase.open(tmp_path / "nowhere")
    text = (directory / "manifest.json").read_text()
    for wrong in (text[:100], "[]", json.dumps({**json.loads(text), "format": 2})):
        (directory / "manifest.json").write_text(wrong)
        with pytest.raises(DatabaseError, match=r"manifest\.json is no manifest of a prompt database"):
            PromptDatabase.open(directory)


@pytest.mark.parametrize("rows", [1, CHUNK_ROWS, CHUNK_ROWS + 1])
def test_chunks_do_not_change_the_files(tmp_path: Path, rows: int) -> None:
    for chunk in (1000, rows):
        write_database(tmp_path / str(chunk), made_up_table(rows, chunk), **FACTS)
    for name in ("prompts.parquet", "manifest.json"):
        assert (tmp_path / "1000" / name).read_bytes() == (tmp_path / str(rows) / name).read_bytes()
    assert PromptDatabase.open(tmp_path / "1000").texts([rows - 1]) == [f"prompt {rows - 1}"]


def test_a_write_that_fails_leaves_the_old_database(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(ValueError, match="schema"):
        write_database(directory, made_up_table(10, 10).drop_columns(["nsfw"]), **FACTS)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
