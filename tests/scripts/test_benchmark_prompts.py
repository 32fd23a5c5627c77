"""scripts/benchmark_prompts.py at tiny sizes: its rows, its recall, and what it searches."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

COLUMNS = {
    *("engine", "prompts", "dimension", "k", "queries", "build_seconds", "open_seconds", "p50_ms", "p99_ms"),
    *("recall", "rss_mib", "disk_mib"),
}


@pytest.fixture
def benchmark(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_root / "scripts"))
    import benchmark_prompts

    return benchmark_prompts


@pytest.fixture(scope="module")
def report(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run over 600 synthetic vectors."""
    folder = tmp_path_factory.mktemp("benchmark")
    command = [sys.executable, str(project_root / "scripts" / "benchmark_prompts.py"), "--threads", "1"]
    command += [
        "--sizes",
        "600",
        "--dimensions",
        "24",
        "--embedded",
        "0",
        "--k",
        "20",
        "--turns",
        "2",
        "--topics",
        "40",
    ]
    command += ["--engines", "exact", "chromadb", "auto"]
    command += ["--json", str(folder / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr
    assert "chromadb at 600 x 24: no --chroma-python" in done.stderr
    return json.loads((folder / "figures.json").read_text(encoding="utf-8"))


def test_every_engine_has_a_complete_row_for_one_and_for_32_topics(report: dict[str, Any]) -> None:
    rows = report["rows"]
    assert [(row["engine"], row["queries"]) for row in rows] == [
        (engine, queries) for engine in ("auto", "exact") for queries in (1, 32)
    ]
    for row in rows:
        assert set(row) >= COLUMNS and row["calls"] >= 10
        assert (row["prompts"], row["dimension"], row["k"]) == (600, 24, 20)
        assert all(math.isfinite(value) and value >= 0 for value in row.values() if isinstance(value, float))
        assert row["p99_ms"] >= row["p50_ms"] > 0 and row["rss_mib"] > 10 and row["disk_mib"] > 0


def test_exact_search_finds_everything_and_so_does_ours_at_this_size(report: dict[str, Any]) -> None:
    assert {row["recall"] for row in report["rows"]} == {1.0}


def test_what_was_left_out_and_what_was_searched_is_in_the_report(report: dict[str, Any]) -> None:
    machine = report["machine"]
    assert machine["left_out"] == ["chromadb at 600 x 24: no --chroma-python"]
    assert machine["threads"] == 1 and "numpy" in report["versions"]
    (likeness,) = machine["likeness"]
    assert 0 < likeness["kth_cosine"] < likeness["nearest_cosine"] <= 1
    assert 1 < likeness["local_dimension"] < 60 and 1 < likeness["components_90"] <= 24


def test_recall_counts_what_is_as_near_as_the_last_and_nothing_twice(benchmark: ModuleType, tmp_path: Path) -> None:
    angles = np.deg2rad([0, 10, 20, 20, 90])
    stored = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    topics = np.array([[1, 0]], dtype=np.float32)
    np.save(tmp_path / "vectors.npy", stored)
    np.save(tmp_path / "topics.npy", topics)
    farthest = (stored.astype(np.float32) @ topics[0])[[2]]
    vectors = benchmark.Vectors(
        "made up", tmp_path / "vectors.npy", tmp_path / "topics.npy", Path("none"), 5, 2, farthest
    )

    def recall(*positions: int) -> float:
        return benchmark.recall(np.array([positions]), vectors)

    assert recall(0, 1, 2) == recall(0, 1, 3) == 1  # two are equally far
    assert recall(0, 1, 4) == recall(0, 1, 1) == recall(0, 1, -1) == pytest.approx(2 / 3)


def test_synthetic_vectors_are_of_unit_length_and_the_same_every_time(benchmark: ModuleType, tmp_path: Path) -> None:
    from prompts_benchmark.vectors import BLOCK, local_dimension, write_synthetic

    topics = [write_synthetic(tmp_path / name, BLOCK + 100, 8, 5) for name in ("a.npy", "b.npy")]
    vectors = [np.load(tmp_path / name) for name in ("a.npy", "b.npy")]
    assert np.array_equal(*topics) and np.array_equal(*vectors) and vectors[0].dtype == np.float16
    assert np.linalg.norm(vectors[0].astype(np.float32), axis=1) == pytest.approx(1, abs=2e-3)
    assert np.linalg.norm(topics[0], axis=1) == pytest.approx(1, abs=1e-5)
    plane = np.random.default_rng(0).uniform(-0.1, 0.1, (20_000, 2))  # seen from its middle
    nearest = np.sort(np.linalg.norm(plane, axis=1))[1:101]
    assert local_dimension(1 - nearest[None] ** 2 / 2) == pytest.approx(2, rel=0.3)


def test_embeddings_are_computed_once_for_the_same_texts(benchmark: ModuleType, tmp_path: Path) -> None:
    from prompts_benchmark.vectors import write_embedded

    asked: list[int] = []

    def embed(texts: Sequence[str], model: str) -> np.ndarray:
        asked.append(len(texts))
        return np.arange(len(texts), dtype=np.float32)[:, None] * np.ones(3, np.float32)

    for count in (30, 30, 31):
        topics = write_embedded(tmp_path / "v.npy", count, 5, "some-model", tmp_path / "cache", embed)
        assert topics[:, 0].tolist() == list(range(count, count + 5)) and topics.dtype == np.float32
        stored = np.load(tmp_path / "v.npy")
        assert stored.shape == (count, 3) and stored.dtype == np.float16 and stored[-1, 0] == count - 1
    assert asked == [35, 36] and len(list((tmp_path / "cache").iterdir())) == 2


def test_made_up_prompts_are_distinct_short_enough_and_the_first_of_more(benchmark: ModuleType) -> None:
    from made_up_prompts import made_up_prompts, made_up_topics

    prompts = list(made_up_prompts(3000))
    assert len(set(prompts)) == 3000 and prompts[:100] == list(made_up_prompts(100))
    assert prompts != list(made_up_prompts(3000, seed=1))
    assert all(10 < len(prompt) <= 1024 and prompt.isascii() and prompt == prompt.strip() for prompt in prompts)
    assert any("(" in prompt and ":1." in prompt for prompt in prompts)
    assert len(set(made_up_topics(200))) > 150


@pytest.mark.parametrize(
    "arguments", [["--k", "0"], ["--sizes", "50"], ["--sizes", "--embedded", "0"], ["--engines", "nobody"]]
)
def test_flags_that_make_no_sense_are_refused(
    benchmark: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.parse_arguments(arguments)
    assert stopped.value.code == 2 and arguments[0] in capsys.readouterr().err


def test_a_set_too_large_for_memory_is_left_out_with_the_reason(benchmark: ModuleType) -> None:
    vectors = benchmark.Vectors("synthetic", Path("v"), Path("t"), Path("e"), 10**12, 768, np.zeros(1, np.float32))
    options = benchmark.parse_arguments(["--quick"])
    assert "do not fit" in benchmark.reason_to_leave_out("exact", vectors, [], options)
    assert benchmark.reason_to_leave_out("hnsw", vectors, [], options) == "only up to 100000 vectors"
    assert benchmark.reason_to_leave_out("auto", vectors, [], options) is None
