"""scripts/benchmark_curation.py at a tiny size: its variants are what they are called, and its rows add up."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def benchmark(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_root / "scripts"))
    import benchmark_curation

    return benchmark_curation


PARTS = ["a tiny fox reading a book in space", "bokeh", "(fog:1.2)", "by wlop and loish", "8k"]


def changed_parts(benchmark: ModuleType, kind: str) -> set[int]:
    """Which of PARTS 20 variants of a kind ever touch."""
    change = (benchmark.SAME | benchmark.OTHER)[kind]
    variants = [change(PARTS, random.Random(seed)) for seed in range(20)]
    assert any(variants) and PARTS not in variants
    return {
        place
        for variant in filter(None, variants)
        for place, (before, after) in enumerate(zip(PARTS, variant, strict=False))
        if before != after
    }


def test_variants_change_what_they_are_called_after(benchmark: ModuleType) -> None:
    assert changed_parts(benchmark, "another modifier") == set()  # one more at the end
    assert changed_parts(benchmark, "another order") == {1, 2, 3, 4}
    assert changed_parts(benchmark, "another artist") == {3}
    assert changed_parts(benchmark, "another weight") == {2}
    for kind in benchmark.OTHER:
        assert changed_parts(benchmark, kind) == {0}
    thing = benchmark.change_thing(PARTS, random.Random(0))[0]
    scene = benchmark.change_scene(PARTS, random.Random(0))[0]
    assert thing.startswith("a tiny ") and thing.endswith(" reading a book in space") and "fox" not in thing
    assert scene.startswith("a tiny fox ") and scene.endswith(" in space") and "reading a book" not in scene


def test_what_a_prompt_lacks_cannot_be_changed(benchmark: ModuleType) -> None:
    for kind in ("another order", "another artist", "another weight", "another thing", "another scene"):
        assert (benchmark.SAME | benchmark.OTHER)[kind](["something"], random.Random(0)) is None


def test_the_corpus_is_the_same_every_time(benchmark: ModuleType) -> None:
    corpus = list(benchmark.make_corpus(600))
    assert corpus == list(benchmark.make_corpus(600)) != list(benchmark.make_corpus(600, seed=1))
    kinds = Counter(kind for _, kind in corpus)
    assert set(kinds) == set(benchmark.KINDS) and 380 < kinds[benchmark.ORIGINAL] < 460


def test_rows_of_a_tiny_run(project_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(project_root / "scripts" / "benchmark_curation.py"), "--prompts", "400"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "figures.json")], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    steps, kinds = report["rows"][:4], report["rows"][4:]
    assert [row["step"] for row in steps] == ["near_duplicates", "english", "gibberish", "curate"]
    for row in steps:
        assert row["prompts"] == 400 and row["seconds"] > 0 and row["prompts_per_second"] > 0 and row["rss_mib"] > 50
    assert all(0 < steps[3]["kept"] <= row["kept"] <= 400 for row in steps)
    assert steps[1]["kept"] >= 398 and steps[2]["kept"] == 400  # all are English
    assert sum(row["prompts"] for row in kinds) == 400 and sum(row["kept"] for row in kinds) == steps[0]["kept"]
    kept = {row["step"].removeprefix("near_duplicates of: "): row["kept"] / row["prompts"] for row in kinds}
    assert kept["original"] > 0.98 and kept["another order"] == kept["another weight"] == 0
    assert max(kept["another modifier"], kept["another artist"]) < 0.25
    assert min(kept["another thing"], kept["another scene"], kept["another subject"]) > 0.9


def test_no_prompts_are_refused(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["--prompts", "0"])
    assert stopped.value.code == 2 and "--prompts" in capsys.readouterr().err
