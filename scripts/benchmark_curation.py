"""How fast prompts are curated, and which variants of a prompt near-duplicate removal drops.

    python scripts/benchmark_curation.py [--quick] [--prompts N [N ...]] [--json FILE]

The prompts come from the grammar of made_up_prompts.py. Three in ten are variants of one among the thousand original
ones before them, each of a known kind. Four kinds show the same and are to be dropped: another modifier at the end,
modifiers in another order, another artist, another weight. Three show something else and are to be kept: another thing
or being in the same words, the same one doing something else or elsewhere, and another subject with the same modifiers.

Every step runs in a process of its own on all prompts: near_duplicates, english, gibberish, and curate, which is all
steps of a curation with its default settings, from a Parquet file to a written database. A row has step, prompts, kept,
seconds, cpu_seconds (of all its threads: what counts on a busy machine), prompts_per_second and rss_mib (the most that
the process held, interpreter and prompts included). Below them a row for each kind of variant says how many there were
and how many near_duplicates kept.

The prompts that are no variants are all English: what english or gibberish drops of them is wrong. How well these two
tell real prompts from others, tests/prompts/test_language.py says.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_up_prompts import (
    DOINGS,
    PAINTERS,
    SCENERY,
    STYLES,
    SUBJECTS,
    SURROUNDINGS,
    Vocabulary,
    made_up_prompt,
    made_up_prompts,
)
from numpy.typing import NDArray

from ig_subnet.prompts.curation import CurationConfig, curate
from ig_subnet.prompts.language import is_english, is_gibberish
from ig_subnet.prompts.near_duplicates import keep_first
from ig_subnet.prompts.sources import PromptFile
from ig_subnet.reporting.measurements import write_measurements

SIZES = (100_000, 2_000_000)
QUICK_SIZES = (20_000,)
VARIANTS = 0.3  # of the prompts
RECENT = 1000  # original prompts that a variant may be of
ORIGINAL = "original"

Change = Callable[[list[str], random.Random], list[str] | None]


def any_of(*vocabularies: Vocabulary) -> re.Pattern[str]:
    """Finds their words; of two that begin alike, the longer one."""
    words = sorted((word for vocabulary in vocabularies for word in vocabulary.words), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b")


NOUN, SCENE = any_of(*SUBJECTS, SCENERY), any_of(DOINGS, SURROUNDINGS)


def add_modifier(parts: list[str], rng: random.Random) -> list[str] | None:
    modifier = STYLES.draw(rng)
    return None if modifier in parts else [*parts, modifier]


def reorder_modifiers(parts: list[str], rng: random.Random) -> list[str] | None:
    modifiers = rng.sample(parts[1:], len(parts) - 1)
    return None if modifiers == parts[1:] else [parts[0], *modifiers]


def change_artist(parts: list[str], rng: random.Random) -> list[str] | None:
    """Of several the last."""
    for place, part in enumerate(parts):
        if part.startswith("by "):
            *others, last = part[3:].split(" and ")
            artist = PAINTERS.draw(rng)
            changed = [*parts[:place], "by " + " and ".join([*others, artist]), *parts[place + 1 :]]
            return None if artist in (*others, last) else changed
    return None


def change_weight(parts: list[str], rng: random.Random) -> list[str] | None:
    """Of the modifier that has one, or the last one gets one."""
    for place, part in enumerate(parts):
        if part.startswith("("):
            return [*parts[:place], f"{part.partition(':')[0]}:0.{rng.randint(1, 9)})", *parts[place + 1 :]]
    return [*parts[:-1], f"({parts[-1]}:1.{rng.randint(1, 5)})"] if len(parts) > 1 else None


def change_thing(parts: list[str], rng: random.Random) -> list[str] | None:
    return _replace_first(NOUN, parts, rng.choice(SUBJECTS).draw(rng))


def change_scene(parts: list[str], rng: random.Random) -> list[str] | None:
    return _replace_first(SCENE, parts, rng.choice((DOINGS, SURROUNDINGS)).draw(rng))


def change_subject(parts: list[str], rng: random.Random) -> list[str] | None:
    return [made_up_prompt(rng).split(", ")[0], *parts[1:]]


def _replace_first(words: re.Pattern[str], parts: list[str], new: str) -> list[str] | None:
    found = words.search(parts[0])
    if found is None or found[0] == new:
        return None
    return [parts[0][: found.start()] + new + parts[0][found.end() :], *parts[1:]]


SAME: dict[str, Change] = {
    "another modifier": add_modifier,
    "another order": reorder_modifiers,
    "another artist": change_artist,
    "another weight": change_weight,
}
OTHER: dict[str, Change] = {
    "another thing": change_thing,
    "another scene": change_scene,
    "another subject": change_subject,
}
KINDS = (ORIGINAL, *SAME, *OTHER)


def make_corpus(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """`count` pairs of a prompt and its kind, one of `KINDS`; the same ones on every machine."""
    rng = random.Random(f"variants {seed}")
    changes = SAME | OTHER
    recent: deque[str] = deque(maxlen=RECENT)
    originals = made_up_prompts(count, seed)
    for _ in range(count):
        if not recent or rng.random() >= VARIANTS:
            recent.append(next(originals))
            yield recent[-1], ORIGINAL
            continue
        changed = None
        while changed is None:
            kind = rng.choice(KINDS[1:])
            changed = changes[kind](rng.choice(recent).split(", "), rng)
        yield ", ".join(changed), kind


def run_curation(file: Path) -> NDArray[np.bool_]:
    """All steps; the rows that are in the database."""
    kept = np.zeros(pq.ParquetFile(file).metadata.num_rows, np.bool_)
    with tempfile.TemporaryDirectory() as directory:
        curate([PromptFile(path=str(file))], CurationConfig(), Path(directory))
        kept[pq.read_table(Path(directory) / "prompts.parquet", columns=["row"])["row"].to_numpy()] = True
    return kept


STEPS: dict[str, Callable[[pa.ChunkedArray], NDArray[np.bool_]]] = {
    "near_duplicates": keep_first,
    "english": is_english,
    "gibberish": lambda texts: ~is_gibberish(texts),
}


def measure(step: str, file: Path) -> tuple[NDArray[np.bool_], float, float, float]:
    """Which prompts of the file a step keeps, its seconds, its CPU seconds, and the most MiB this process held."""
    texts = pq.read_table(file, columns=["prompt"])["prompt"] if step in STEPS else None
    began, cpu_began = time.perf_counter(), time.process_time()
    kept = run_curation(file) if texts is None else STEPS[step](texts)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return kept, seconds, cpu_seconds, peak / (2**20 if sys.platform == "darwin" else 2**10)


def benchmark(count: int) -> Iterator[dict[str, Any]]:
    """The rows of a corpus of `count` prompts."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "made_up.parquet"
        prompts, kinds = zip(*make_corpus(count), strict=True)
        pq.write_table(pa.table({"prompt": pa.array(prompts)}), file)
        kind_of = np.array([KINDS.index(kind) for kind in kinds], np.int8)
        del prompts, kinds
        kept: dict[str, NDArray[np.bool_]] = {}
        for step in (*STEPS, "curate"):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                kept[step], seconds, cpu_seconds, peak = process.submit(measure, step, file).result()
            yield {
                "step": step,
                "prompts": count,
                "kept": int(kept[step].sum()),
                "seconds": round(seconds, 2),
                "cpu_seconds": round(cpu_seconds, 2),
                "prompts_per_second": round(count / seconds),
                "rss_mib": round(peak),
            }
    for number, kind in enumerate(KINDS):
        stays = kept["near_duplicates"][kind_of == number]
        yield {"step": f"near_duplicates of: {kind}", "prompts": len(stays), "kept": int(stays.sum())}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there as JSON")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SIZES[0]:,} prompts, under a minute")
    parser.add_argument("--prompts", type=int, nargs="+", metavar="N", help="sizes; by default 100,000 and 2 million")
    options = parser.parse_args(arguments)
    sizes = options.prompts or (QUICK_SIZES if options.quick else SIZES)
    if min(sizes) < 1:
        parser.error(f"--prompts must be at least 1, not {min(sizes)}")
    print(f"{'step':<36} {'prompts':>9} {'kept':>9} {'seconds':>8} {'cpu':>8} {'a second':>9} {'rss_mib':>8}")
    rows = []
    for size in sizes:
        for row in benchmark(size):
            rows.append(row)
            timing = (
                "{seconds:>8} {cpu_seconds:>8} {prompts_per_second:>9} {rss_mib:>8}".format(**row)
                if "seconds" in row
                else ""
            )
            print("{step:<36} {prompts:>9} {kept:>9} ".format(**row) + timing, flush=True)
    if options.json is not None:
        write_measurements(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
