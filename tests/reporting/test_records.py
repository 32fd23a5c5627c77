"""The tables of a validator's record: every column has its heading and what belongs under it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from recorded_validator import ALICE, BOB, CAROL, record_rounds
from rich.console import Console
from rich.table import Table

from ig_subnet.reporting.records import overview_tables, record_tables, show
from ig_subnet.validating.explaining import explain
from ig_subnet.validating.inspection import read_overview
from ig_subnet.validating.miner_record import read_record
from ig_subnet.validating.reading import StoreReader
from ig_subnet.validating.store import STORE_FILE


@pytest.fixture
def tables(tmp_path: Path) -> list[Table]:
    record_rounds(tmp_path / STORE_FILE, 5)
    with StoreReader.open_read_only(tmp_path / STORE_FILE) as store:
        records = [read_record(store, hotkey, rounds=3) for hotkey in (ALICE, CAROL)]
        overview = read_overview(store, 3)
    of_miners = [table for record in records for table in record_tables(record, explain(record))]
    return [*overview_tables(overview), *of_miners]


def test_every_column_has_a_heading_and_cells(tables: list[Table]) -> None:
    assert [len(table.columns) for table in tables] == [9, 10, 4, 6, 3, 7, 10, 8, 3, 7, 10, 8]
    for table in tables:
        assert table.row_count
        for column in table.columns:
            assert column.header and all(column.cells), f"{table.title}: {column.header}"


def test_a_hotkey_can_be_copied_from_a_narrow_terminal(tables: list[Table]) -> None:
    """It is never folded."""
    printed = io.StringIO()
    Console(width=100, file=printed).print(tables[0])
    assert all(hotkey in printed.getvalue() for hotkey in (ALICE, BOB, CAROL))


def test_markup_in_texts_is_shown_and_not_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_rounds(tmp_path / STORE_FILE, 1)
    with StoreReader.open_read_only(tmp_path / STORE_FILE) as store:
        record = read_record(store, ALICE, rounds=1)
    (asked,) = record.rounds
    answer = asked.answers[0].model_copy(update={"prompt": "[bold]a [red]circle[/]"})
    record = record.model_copy(update={"rounds": (asked.model_copy(update={"answers": (answer,)}),)})
    show({}, record_tables(record, ()), None)
    assert "[bold]a [red]circle[/]" in capsys.readouterr().out


def test_json_goes_to_a_file_or_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show({"a": 1}, [], tmp_path / "out.json")
    show({"a": 2}, [], Path("-"))
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": 1}
    assert json.loads(capsys.readouterr().out) == {"a": 2}
