"""The folder of a run: one run at a time, state that --fresh removes, and nothing of anybody else's touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from ig_subnet.localnet.run_folder import FolderUnusable, Memory, RunFolder

ROLES = ["pocket-20", "noise"]


def test_what_one_run_tells_the_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    with folder.claimed():
        memory = folder.recall(None, None, ROLES)
        assert memory == Memory(0, ROLES, [])
        memory.paid_epochs.append((40, {1: 0.75, 2: 0.25}))
        folder.remember(memory)
        assert RunFolder(tmp_path / "out").recall(0, ROLES, ["other"]) == memory
        with pytest.raises(FolderUnusable, match="begun with --seed 0"):
            folder.recall(1, None, ROLES)
        with pytest.raises(FolderUnusable, match="begun with --miners pocket-20 noise"):
            folder.recall(None, ["noise"], ROLES)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with RunFolder(tmp_path).claimed():
        with pytest.raises(FolderUnusable, match="another run is using"):
            with RunFolder(tmp_path).claimed():
                pass
    with RunFolder(tmp_path).claimed():
        pass


def test_fresh_keeps_caches_and_what_is_not_a_runs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.claimed():
        folder.recall(7, None, ROLES)
        for path in (folder.chain, folder.neurons, folder.cache):
            path.mkdir()
            (path / "file").write_text("state")
        (tmp_path / "mine.txt").write_text("not the run's")
        for file in (folder.report, folder.commitments):
            file.write_text("old")
        folder.remove_state()
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "cache", "mine.txt"}
        assert folder.recall(8, None, ROLES).seed == 8


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "wallets").mkdir()
    (tmp_path / "wallets" / "key").write_text("mine")
    folder = RunFolder(tmp_path)
    with folder.claimed():
        folder.remove_state()
        with pytest.raises(FolderUnusable, match="a wallets folder of something else"):
            folder.recall(None, None, ROLES)
    assert (tmp_path / "wallets" / "key").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seed": 0, "miners": [], "paid_epochs": [[1]]}'])
def test_a_damaged_memory_is_said(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.memory.write_text(text)
    with pytest.raises(FolderUnusable, match="is damaged"):
        folder.recall(None, None, ROLES)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnusable, match="cannot write to"):
        with RunFolder(tmp_path / "file" / "out").claimed():
            pass
