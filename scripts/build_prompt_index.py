"""Builds, shows, asks and measures a prompt index: the directory that a validator's prompter opens.

    python scripts/build_prompt_index.py build --quick --out index              a thousand captions, nothing needed
    python scripts/build_prompt_index.py build --profile mixture --out index    what a profile says, made beforehand
    python scripts/build_prompt_index.py build --source prompts.csv --source stable_diffusion_prompts \\
        --model sentence-transformers/all-mpnet-base-v2 --dtype bfloat16 --out index
    python scripts/build_prompt_index.py inspect index --verify --map topics.png
    python scripts/build_prompt_index.py query index "a landscape image of" -k 10
    python scripts/build_prompt_index.py measure index

A build that was cut goes on where it was when the same command is given again. A source is a .txt, .csv, .jsonl or
.parquet file, the name of a collection (pocket_captions, image_reward_db, diffusion_db, stable_diffusion_prompts), or
what a profile says of one: '{source: file, path: a.csv, column: text, licence: CC0-1.0}'. A profile uses the directory
by `database: {source: index, path: DIR}`.

Exit status: 0 when it is done, 1 when something is damaged, missing or failed, 2 when the command is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prompt_index_settings import QUICK_CAPTIONS, read_settings
from pydantic import TypeAdapter

from ig_subnet.config.profiles import ProfileError, load_profile
from ig_subnet.prompts.curation import CurationConfig
from ig_subnet.prompts.database import MANIFEST, PARQUET, PromptDatabase, file_digest
from ig_subnet.prompts.embedding import PACKAGED, SentenceEmbedder
from ig_subnet.prompts.errors import PromptConfigurationError, PromptError
from ig_subnet.prompts.index import (
    EMBEDDINGS,
    INDEX_MANIFEST,
    STRUCTURE,
    IndexManifest,
    VectorIndex,
    read_index_manifest,
)
from ig_subnet.prompts.prompter import default_curation
from ig_subnet.prompts.sources import SourceConfig
from ig_subnet.prompts.topics import TOPIC_SETS, Topics
from ig_subnet.reporting.measurements import write_measurements

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAPPED = 3000  # prompts of a map
TURNS = {1: 400, 32: 25}  # queries a call: calls that are timed, the first of which warm up
WARM = 5
MIB = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        rows = options.run(options)
        if options.json is not None:
            write_measurements(options.json, rows)
    except (ProfileError, PromptConfigurationError) as error:
        return fail(error, 2)
    except (PromptError, OSError) as error:
        return fail(error, 1)
    except KeyboardInterrupt:
        return fail("interrupted; the same command, without --fresh, goes on from here", 130)
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build_prompt_index.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="curate sources, embed the prompts, build and measure the search")
    build.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the index; of its own prompts without sources"
    )
    build.add_argument("--profile", metavar="NAME", help="pocket, baseline, mixture or a YAML file: all but the topics")
    build.add_argument("--source", action="append", default=[], metavar="SOURCE", help="see above (repeatable)")
    build.add_argument("--curation", metavar="YAML", help="such as '{near_duplicates: null, english: false}'")
    build.add_argument("--model", help=f"packaged, a directory or a hub id (default: {next(iter(PACKAGED))})")
    build.add_argument("--revision", help="of a model on a hub")
    build.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the model (default: float32)")
    build.add_argument("--kind", choices=("auto", "flat", "hnsw", "ivf"), help="of search (default: auto, by size)")
    build.add_argument("--device", default="auto", help="of the model: auto, cpu or cuda (default: auto)")
    build.add_argument("--fresh", action="store_true", help="drop what another build has left in DIR")
    build.add_argument("--quick", action="store_true", help=f"{QUICK_CAPTIONS} captions of the pocket world")
    build.set_defaults(run=run_build)

    inspect = commands.add_parser("inspect", help="show what a directory holds")
    inspect.add_argument("directory", type=Path, metavar="DIR")
    inspect.add_argument("--verify", action="store_true", help="read every file and compare with what was written")
    inspect.add_argument("--map", type=Path, metavar="FILE.png", help="draw the prompts and the topics nearest to them")
    inspect.add_argument("--topics", default="study", help="of the map: seed, study or a profile (default: study)")
    inspect.add_argument("--device", default="cpu", help="to embed the map's topics on (default: cpu)")
    inspect.set_defaults(run=run_inspect)

    query = commands.add_parser("query", help="the prompts nearest to a text")
    query.add_argument("directory", type=Path, metavar="DIR")
    query.add_argument("text", metavar="TEXT")
    query.add_argument("-k", type=positive, default=10, help="how many (default: 10)")
    query.add_argument("--device", default="cpu", help="to embed the text on (default: cpu)")
    query.set_defaults(run=run_query)

    measure = commands.add_parser("measure", help="recall and latency of this index against exact search")
    measure.add_argument("directory", type=Path, metavar="DIR")
    measure.add_argument("-k", type=positive, default=100, help="how many neighbours (default: 100)")
    measure.add_argument("--threads", type=positive, help="of a search (default: all cores)")
    measure.add_argument("--quick", action="store_true", help="a fifth of the calls")
    measure.set_defaults(run=run_measure)

    for command in (build, inspect, query, measure):
        command.add_argument("--json", type=Path, metavar="FILE", help="what is shown, the machine and the versions")
    return parser


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def run_build(options: argparse.Namespace) -> list[dict[str, Any]]:
    settings = read_settings(options)
    rows = []
    if settings.sources:
        started = time.perf_counter()
        curation = settings.curation or default_curation(settings.sources)
        database = ensure_database(settings.sources, curation, options.out, fresh=options.fresh)
        rows.append(stage("database", started, database, options.out / PARQUET))
    else:
        database = PromptDatabase.open(options.out)

    from ig_subnet.prompts.building import build_index

    embedder = SentenceEmbedder(settings.model, options.device, settings.revision, settings.dtype)
    started = time.perf_counter()
    manifest = build_index(options.out, embedder, settings.kind, progress=True, fresh=options.fresh)
    rows.append(stage("index", started, database, options.out / EMBEDDINGS, options.out / STRUCTURE))
    show("built", rows)
    print(describe_index(manifest))
    return rows


def stage(name: str, started: float, database: PromptDatabase, *files: Path) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in files) / MIB
    seconds = round(time.perf_counter() - started, 3)
    return {"stage": name, "prompts": len(database), "seconds": seconds, "disk_mib": round(size, 3)}


def ensure_database(
    sources: Sequence[SourceConfig], curation: CurationConfig, directory: Path, *, fresh: bool
) -> PromptDatabase:
    """The database of these sources in the directory, curated unless it is there. Another one there is an error."""
    from ig_subnet.prompts.curation import curate

    if (directory / MANIFEST).is_file() and not fresh:
        database = PromptDatabase.open(directory)
        if not is_of(database, sources, curation):
            raise PromptConfigurationError(
                f"{directory} holds a database of other sources, files or settings (inspect {directory} shows them): "
                "name another --out, or replace it with --fresh"
            )
        print(f"{directory} holds the database already: {len(database)} prompts")
        return database
    directory.mkdir(parents=True, exist_ok=True)
    curate(sources, curation, directory, progress=True)
    return PromptDatabase.open(directory)


def is_of(database: PromptDatabase, sources: Sequence[SourceConfig], curation: CurationConfig) -> bool:
    """Whether a database was made of these sources with these settings, local files being the same byte for byte."""
    from ig_subnet.prompts.reading import source_files

    made_of = [(source.name, source.settings) for source in database.manifest.sources]
    wanted = [(source.name, source.model_dump(mode="json", exclude={"path", "name", "licence"})) for source in sources]
    if made_of != wanted or database.manifest.curation != curation.model_dump(mode="json"):
        return False
    return all(
        {name: file_digest(path) for name, path in source_files(source).items()} == record.files
        for source, record in zip(sources, database.manifest.sources, strict=True)
        if getattr(source, "path", None) is not None
    )


def run_inspect(options: argparse.Namespace) -> list[dict[str, Any]]:
    directory = options.directory
    database = PromptDatabase.open(directory) if (directory / MANIFEST).is_file() else None
    if database is not None:
        manifest = database.manifest
        show(
            "sources",
            [{"name": s.name, "licence": s.licence, "rows": s.rows, "kept": s.kept} for s in manifest.sources],
        )
        show("curation", [step.model_dump() for step in manifest.steps])
        print(f"{manifest.prompts} prompts, database {manifest.sha256[:12]}\n")
    elif not (directory / INDEX_MANIFEST).is_file():
        PromptDatabase.open(directory)  # says what is missing
    index = VectorIndex.open(directory)
    print(describe_index(index.manifest))
    files = sorted(file for file in directory.iterdir() if file.is_file() and file.stat().st_size)
    rows = [{"file": file.name, "mib": round(file.stat().st_size / MIB, 3)} for file in files]
    show("files", rows)
    if options.verify:
        verify(directory, database)
    if options.map is not None:
        draw_map(options, index)
    return rows


def describe_index(manifest: IndexManifest) -> str:
    parameters = ", ".join(f"{name} {value}" for name, value in manifest.parameters.items())
    recall = ", ".join(f"{share:.4f} of {name}" for name, share in manifest.recall.items())
    model = manifest.embedding.model if manifest.embedding else "bare vectors"
    return (
        f"{manifest.count} x {manifest.dimension} embeddings of {model}\n"
        f"{manifest.kind} search, width {manifest.width}{', ' * bool(parameters)}{parameters}; "
        f"recall@{manifest.recall_at} {recall} queries; {manifest.disk_bytes / MIB:.1f} MiB"
    )


def verify(directory: Path, database: PromptDatabase | None) -> None:
    """Reads everything. Raises `PromptError` at the first file that is not what was written."""
    manifest = read_index_manifest(directory)
    manifest.structure.check(directory / STRUCTURE, completely=True)
    manifest.embeddings.check(directory / EMBEDDINGS, completely=True)
    if database is not None:
        if file_digest(directory / PARQUET) != database.digest:
            raise PromptError(
                f"{directory / PARQUET} is damaged: fetch it again, or build the database again (--fresh)"
            )
        if manifest.embedding is not None and manifest.embedding.database != database.digest:
            raise PromptError(f"{directory}: the index is of another database; build it again (--fresh)")
    print("every file is what was written")


def draw_map(options: argparse.Namespace, index: VectorIndex) -> None:
    from ig_subnet.prompts.prompt_map import draw_prompt_map

    topics = TOPIC_SETS.get(options.topics)
    if topics is None:
        section = load_profile(options.topics)["prompter"] or {}
        topics = TypeAdapter(Topics).validate_python(section.get("topics"))
    vectors = open_embedder(index, options.device).embed([topic.text for topic in topics])
    shown = np.sort(np.random.default_rng(0).choice(len(index), min(MAPPED, len(index)), replace=False))
    title = f"{len(shown):,} of {len(index):,} prompts by meaning"
    draw_prompt_map(options.map, index.vectors(shown), [topic.name for topic in topics], vectors, title)
    print(options.map)


def open_embedder(index: VectorIndex, device: str) -> SentenceEmbedder:
    """The model that the index was embedded with. Raises `PromptError` where there is none, or it has changed."""
    if index.manifest.embedding is None:
        raise PromptConfigurationError("the index is of bare vectors: there is no model to embed a text with")
    model = index.manifest.embedding.model
    embedder = SentenceEmbedder(model.name, device, model.revision, model.dtype)
    if embedder.fingerprint != model.fingerprint:
        raise PromptError(f"the index was embedded with {model}, and {model.name} is {embedder.identity} now")
    return embedder


def run_query(options: argparse.Namespace) -> list[dict[str, Any]]:
    database, index = PromptDatabase.open(options.directory), VectorIndex.open(options.directory)
    if not options.text.strip():
        raise PromptConfigurationError("the text is empty; say in words what prompts should be about")
    embedder = open_embedder(index, options.device)
    similarities, positions = index.search(embedder.embed([options.text]), min(options.k, len(index)))
    rows = [
        {"similarity": round(float(similarity), 4), "text": prompt.text, "source": prompt.source, "row": prompt.row}
        for similarity, prompt in zip(similarities[0], database.prompts(positions[0]), strict=True)
    ]
    show(options.text, rows)
    return rows


def run_measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Latency of one query and of 32 a call, and recall with noisy copies of embeddings."""
    import faiss  # noqa: F401  which takes longer to load than an index to open
    import psutil

    from ig_subnet.prompts.building import noisy_queries, recall_of
    from ig_subnet.prompts.index import search_exactly

    started = time.perf_counter()
    index = VectorIndex.open(options.directory, threads=options.threads)
    open_seconds = time.perf_counter() - started
    everything: NDArray[np.float16] = np.load(options.directory / EMBEDDINGS, mmap_mode="r")
    queries = noisy_queries(everything)
    k = min(options.k, len(index))
    times = {together: time_calls(index, queries, k, together, options.quick) for together in TURNS}
    resident = psutil.Process().memory_info().rss / MIB  # before exact search reads everything
    recall = recall_of(index.search(queries, k)[1], search_exactly(everything, queries, k)[1])
    rows = [
        {
            "engine": index.manifest.kind,
            "prompts": len(index),
            "dimension": index.dimension,
            "k": k,
            "queries": together,
            "open_seconds": round(open_seconds, 4),
            "p50_ms": round(float(np.quantile(milliseconds, 0.5)), 3),
            "p99_ms": round(float(np.quantile(milliseconds, 0.99)), 3),
            "recall": round(recall, 4),
            "rss_mib": round(resident, 1),
            "disk_mib": round(index.manifest.disk_bytes / MIB, 3),
        }
        for together, milliseconds in times.items()
    ]
    show("measured", rows)
    return rows


def time_calls(index: VectorIndex, queries: NDArray[np.float32], k: int, together: int, quick: bool) -> list[float]:
    """Milliseconds of every call with `together` queries, after some that warm up."""
    milliseconds = []
    for turn in range(WARM + TURNS[together] // (5 if quick else 1)):
        rows = (turn * together + np.arange(together)) % len(queries)
        started = time.perf_counter()
        index.search(queries[rows], k)
        milliseconds.append(1000 * (time.perf_counter() - started))
    return milliseconds[WARM:]


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False).print(table)


def fail(error: object, status: int) -> int:
    print(f"build_prompt_index.py: error: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
