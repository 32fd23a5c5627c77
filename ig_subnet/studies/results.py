"""Tables of scores on disk: finished ones as Parquet, CSV or JSON, and the rows of one that is still growing.

A finished table has one row an image, in the order of the input:

    image, prompt                   what it is called, and what it was held against
    <kept columns>                  carried along from the input table, as text
    sha256, width, height           of the file; null where it could not be read
    total, incentive, disagreement  of the mixture; null where the image was not scored
    <expert>, <expert>_calibrated, <expert>_truncated
    error                           why the image was not scored; null where it was

Parquet and JSON also say what it was scored with; CSV and JSON Lines hold the rows alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from ig_subnet.studies.errors import ResultsError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".csv", ".json", ".jsonl")
TEXT_COLUMNS = ("image", "prompt", "sha256", "error")
METADATA = b"scored_with"
SAVE_ROWS = 1024  # a part holds about this many rows at most, however fast they come

Settings = Mapping[str, Any]


def write_results(
    path: Path, table: pa.Table, report: Mapping[str, Any] | None = None, *, suffix: str | None = None
) -> None:
    """Writes the table in the format of its `suffix`, the path's own by default; a reader never sees half of it.

    JSON gets the further sections in `report` too. Raises `ResultsError` for another suffix, OSError for a full disk.
    """
    import pyarrow.csv
    import pyarrow.parquet

    writers: dict[str, Callable[[Path], object]] = {
        ".parquet": lambda partial: pyarrow.parquet.write_table(table, partial, compression="zstd"),
        ".csv": lambda partial: pyarrow.csv.write_csv(table, partial),
        ".json": lambda partial: _write_json(partial, table, {**(report or {}), "scored_with": scored_with(table)}),
        ".jsonl": lambda partial: _write_json_lines(partial, table),
    }
    if suffix is None:
        check_suffix(path)
    with replacing(path) as partial:
        writers[suffix or path.suffix.lower()](partial)


def read_results(path: Path) -> pa.Table:
    """A table that `write_results` wrote, scores as float32. Raises `ResultsError` for anything else."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    text = {name: pa.string() for name in TEXT_COLUMNS}
    csv_options = pyarrow.csv.ConvertOptions(
        column_types=text, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    csv_parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    readers: dict[str, Callable[[], pa.Table]] = {
        ".parquet": lambda: pyarrow.parquet.read_table(path),
        ".csv": lambda: pyarrow.csv.read_csv(path, convert_options=csv_options, parse_options=csv_parsing),
        ".json": lambda: _read_json(path),
        ".jsonl": lambda: _read_json_lines(path),
    }
    check_suffix(path)
    try:
        table = readers[path.suffix.lower()]()
    except (OSError, ValueError, KeyError, TypeError) as error:  # Arrow's and JSON's errors are ValueErrors
        raise ResultsError(f"results {path} cannot be read: {error}") from error
    if missing := {"image", "prompt", "incentive", "error"} - set(table.column_names):
        raise ResultsError(f"{path} is no table of results: it has no column {', '.join(sorted(missing))}")
    fields = [
        field.with_type(text.get(field.name, pa.float32() if pa.types.is_float64(field.type) else field.type))
        for field in table.schema
    ]
    return table.cast(pa.schema(fields, table.schema.metadata))


def check_suffix(path: Path) -> None:
    """Raises `ResultsError` for a file name that says no known format."""
    if path.suffix.lower() not in SUFFIXES:
        raise ResultsError(f"results {path} are of no known kind: use {', '.join(SUFFIXES)}")


def scored_with(table: pa.Table) -> dict[str, Any]:
    """What a table was scored with: dtype, resize, identities, weights, ...; empty where its format cannot say."""
    stored = (table.schema.metadata or {}).get(METADATA)
    return json.loads(stored) if stored else {}


def experts_of(table: pa.Table) -> list[str]:
    """Names of the experts that a table has scores of."""
    ending = "_calibrated"
    return [name.removesuffix(ending) for name in table.column_names if name.endswith(ending)]


def best_first(results: pa.Table) -> list[int]:
    """Rows that were scored, best incentive first; equal ones in the order of the table."""
    scored = [(place, value) for place, value in enumerate(results["incentive"].to_pylist()) if value is not None]
    return [place for place, _ in sorted(scored, key=lambda pair: -pair[1])]


class Journal:
    """Rows by key as they come, saved in parts, so that a run that was cut goes on where it was.

    Each part is a Parquet file, complete or not there at all; a kill loses what came since the last one, at most
    `save_seconds` of work and what is in flight. Without a folder the rows live in memory only. To be used with `with`:
    it keeps other runs out of the folder, and saves what is left on the way out, whatever ended the run.
    """

    def __init__(
        self,
        folder: Path | None,
        schema: pa.Schema,
        settings: Settings,
        *,
        fresh: bool = False,
        save_seconds: float = 10,
    ) -> None:
        self._folder = folder
        self._schema = schema.with_metadata({METADATA: canonical(settings)})
        self._settings = json.loads(canonical(settings))
        self._fresh = fresh
        self._save_seconds = save_seconds
        self._parts: list[pa.Table] = []
        self._pending: list[pa.Table] = []
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        """Raises `ResultsError` where the folder is in use, or holds rows made with other settings."""
        self._saved_at = time.monotonic()
        self._next = 0
        if self._folder is not None:
            self._lock = lock_folder(self._folder)
            try:
                self._open(self._folder)
            except BaseException:
                self._lock.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.save()
        finally:
            if self._lock is not None:
                self._lock.close()

    def scored(self) -> set[str]:
        """Keys of the rows without an error: what need not be scored again."""
        return {
            key
            for part in [*self._parts, *self._pending]
            for key, error in zip(part["key"].to_pylist(), part["error"].to_pylist(), strict=True)
            if error is None
        }

    def add(self, rows: pa.Table) -> None:
        """Takes rows of the schema, and saves what has come when it is time."""
        self._pending.append(rows.select(self._schema.names).cast(self._schema))
        waiting = sum(part.num_rows for part in self._pending)
        if waiting >= SAVE_ROWS or time.monotonic() - self._saved_at >= self._save_seconds:
            self.save()

    def save(self) -> None:
        """Writes what has come since the last part as a part of its own."""
        import pyarrow as pa
        import pyarrow.parquet

        if self._pending:
            part = pa.concat_tables(self._pending)
            if self._folder is not None:
                with replacing(self._folder / f"part-{self._next:06d}.parquet") as partial:
                    pyarrow.parquet.write_table(part, partial, compression="zstd")
            self._next += 1
            self._parts.append(part)
            self._pending = []
        self._saved_at = time.monotonic()

    def table(self) -> pa.Table:
        """All rows in the order they came."""
        import pyarrow as pa

        return pa.concat_tables([self._schema.empty_table(), *self._parts, *self._pending])

    def rows(self, keys: Sequence[str]) -> pa.Table:
        """The row of each key; of several the last one without an error, else the last. KeyError for an unknown key."""
        import pyarrow as pa

        table = self.table()
        at: dict[str, int] = {}
        scored: set[str] = set()
        for number, (key, error) in enumerate(zip(table["key"].to_pylist(), table["error"].to_pylist(), strict=True)):
            if error is None or key not in scored:
                at[key] = number
            if error is None:
                scored.add(key)
        return table.take(pa.array([at[key] for key in keys], pa.int64()))

    def _open(self, folder: Path) -> None:
        import pyarrow.parquet

        for stale in folder.glob("*.partial"):
            stale.unlink()
        found = sorted(folder.glob("part-*.parquet"))
        if self._fresh:
            for path in found:
                path.unlink()
            return
        for path in found:
            try:
                part = pyarrow.parquet.read_table(path)
            except (OSError, ValueError) as error:
                raise ResultsError(f"{path} cannot be read ({error}): delete it, or score anew with --fresh") from error
            if different := differences(self._settings, scored_with(part)):
                raise ResultsError(
                    f"{folder} holds scores made with another {different}: name another output, or score anew "
                    "with --fresh"
                )
            self._parts.append(part.cast(self._schema))
            self._next = int(path.stem.removeprefix("part-")) + 1


def canonical(settings: Settings) -> str:
    """The settings as JSON, the same text for the same settings."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=False)


def differences(wanted: Settings, found: Settings) -> str:
    """The settings that are not the same, in words, short texts with both values; empty where all are."""
    names = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
    return " and ".join(
        f"{name} ({found.get(name)!r}, now {wanted.get(name)!r})"
        if isinstance(wanted.get(name), str) and isinstance(found.get(name), str)
        else name
        for name in names
    )


def lock_folder(folder: Path) -> IO[bytes]:
    """Makes the folder and keeps other runs out of it until the file is closed, by this process or by its end.

    Raises `ResultsError` where another run is in it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("wb")
    except OSError as error:
        raise ResultsError(f"{folder} cannot be written ({error.strerror}): name another output") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ResultsError(f"another run is writing to {folder}: wait for it, or name another output") from None
    return lock


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """With `with`: a path to write to that becomes `path` at the end, on disk before it does."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_json(path: Path, table: pa.Table, report: Mapping[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write('{"rows": [')
        for number, row in enumerate(_rows(table)):
            file.write(("," if number else "") + "\n  " + json.dumps(row, ensure_ascii=False))
        file.write("\n]")
        for name, section in report.items():
            file.write(f",\n{json.dumps(name)}: {json.dumps(section, ensure_ascii=False, indent=1)}")
        file.write("}\n")


def _write_json_lines(path: Path, table: pa.Table) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(table))


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def _read_json_lines(path: Path) -> pa.Table:
    import pyarrow as pa

    with path.open(encoding="utf-8") as file:
        return pa.Table.from_pylist([json.loads(line) for line in file])


def _read_json(path: Path) -> pa.Table:
    import pyarrow as pa

    content = json.loads(path.read_text(encoding="utf-8"))
    table = pa.Table.from_pylist(content["rows"])
    return table.replace_schema_metadata({METADATA: canonical(content.get("scored_with", {}))})
