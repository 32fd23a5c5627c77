"""scripts/benchmark_store.py: small rounds, and that each step leaves less than the one before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("benchmark_store")


def test_what_is_measured(script: ModuleType, tmp_path: Path) -> None:
    few = ["--miners", "20", "--images", "2", "--rounds", "12", "--experts", "2", "--dimension", "256"]
    assert script.main([*few, "--out", str(tmp_path), "--json", str(tmp_path / "store.json")]) == 0
    (row,) = json.loads((tmp_path / "store.json").read_text())["rows"]
    assert row["kb_a_round"] > 40 * (4096 + 512) / 1000  # the fingerprints alone
    assert row["kb_a_round"] > 5 * row["kb_a_round_without_fingerprints"]
    assert row["kb_a_round_without_fingerprints"] > row["kb_a_round_without_details"] > 0
    assert all(row[name] > 0 for name in row if "_ms" in name)
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_too_few_rounds_are_refused(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["--rounds", str(script.KEPT)])
    assert "more than 5 rounds" in capsys.readouterr().err
