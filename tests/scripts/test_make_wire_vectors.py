"""scripts/make_wire_vectors.py: the table in the repository is what it makes, byte for byte."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def test_the_table_is_what_the_script_makes(project_root: Path, tmp_path: Path) -> None:
    """From the table as it is, whose signatures it keeps: sr25519 signs differently each time."""
    table = project_root / "tests" / "protocol" / "hostile.json"
    shutil.copy(table, tmp_path / "table.json")
    command = [sys.executable, str(project_root / "scripts" / "make_wire_vectors.py"), "--out", "table.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("cases in table.json\n")
    assert (tmp_path / "table.json").read_bytes() == table.read_bytes()
