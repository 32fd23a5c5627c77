"""Where images and their prompts come from: files and folders, tables, folders with metadata, datasets.

Nothing is decoded here, and paths are not looked at: what is wrong with a single image shows in its row of the results.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from ig_subnet.studies.errors import SourceError
from ig_subnet.studies.tables import IMAGE_COLUMNS, PROMPT_COLUMNS, Table, choose_column, open_table

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")  # looked for in folders
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@dataclass(frozen=True)
class Item:
    """An image to be scored, and the prompt it is held against.

    `name` is what results call it. `image` is a file or the bytes of one, None where a row holds neither. `labels` are
    further columns that results carry along, as text.
    """

    name: str
    prompt: str
    image: Path | bytes | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Items:
    """Items in a fixed order, read anew each time they are iterated over; `count` is None where only the end tells."""

    source: str
    count: int | None
    read: Callable[[], Iterator[Item]]
    labels: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Item]:
        return self.read()

    def first(self, limit: int) -> Items:
        """The first `limit` of them, or all if there are fewer."""
        return replace(
            self,
            count=None if self.count is None else min(self.count, limit),
            read=lambda: itertools.islice(self.read(), limit),
        )


def items_from_paths(paths: Sequence[Path], prompt: str) -> Items:
    """Images in files, and all in folders, however deep, in the order of their names; one prompt for all of them."""
    files = [file for path in paths for file in (_images_below(path) if path.is_dir() else [path])]
    if not files:
        raise SourceError(
            f"no images in {', '.join(map(str, paths)) or 'nothing'}; looked for {', '.join(IMAGE_SUFFIXES)}"
        )
    return Items(
        ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else ""),
        len(files),
        lambda: (Item(_encodable(str(file)), prompt, file) for file in files),
    )


def items_from_table(
    path: Path, image_column: str | None = None, prompt_column: str | None = None, keep: Sequence[str] = ()
) -> Items:
    """Rows of a .csv, .jsonl or .parquet file. Relative image paths start where the table lies.

    A Parquet column may also hold encoded images, as bytes or as `datasets` stores them. Columns that are not named are
    found by their usual names; those in `keep` are carried along as text. Raises `SourceError`.
    """
    table = open_table(path)
    image = choose_column(table.columns, image_column, IMAGE_COLUMNS, "image", f"table {path}")
    prompt = choose_column(table.columns, prompt_column, PROMPT_COLUMNS, "prompt", f"table {path}")
    _check_kept(table.columns, keep, f"table {path}")
    return Items(str(path), table.count, lambda: _items_of(table, image, prompt, keep), tuple(keep))


def items_from_folders(
    folders: Sequence[Path], image_column: str | None = None, prompt_column: str | None = None, keep: Sequence[str] = ()
) -> Items:
    """Folders of images in the layout that `datasets` calls imagefolder.

    In each, or in folders inside it, lie metadata.csv, .jsonl or .parquet files with `file_name` (relative to their own
    folder) and a prompt, text or caption column. Raises `SourceError`.
    """
    found = [path for folder in folders for path in _metadata_below(folder)]
    parts = [items_from_table(path, image_column, prompt_column, keep) for path in found]
    return Items(
        ", ".join(map(str, folders)),
        sum(part.count or 0 for part in parts),
        lambda: itertools.chain.from_iterable(parts),
        tuple(keep),
    )


def items_from_set(path: Path) -> Items:
    """A folder, as of `items_from_folders`, or a table, as of `items_from_table`. Raises `SourceError`."""
    return items_from_folders([path]) if path.is_dir() else items_from_table(path)


def items_from_pocket(count: int, seed: int = 0) -> Items:
    """Pictures of the pocket world, made here: of each scene a right one, one of another scene, and two spoilt ones."""
    import numpy as np

    from ig_subnet.pocket import caption, corrupt, render, sample_scene

    def read() -> Iterator[Item]:
        rng = np.random.default_rng(seed)
        for number in range(1, 1 + -(-count // 4)):
            scene, other = sample_scene(rng), sample_scene(rng)
            right = render(scene, rng)
            pictures = {
                "right": right,
                "other scene": render(other, rng),
                "noisy": corrupt(right, "noise", 0.6, rng),
                "blurred": corrupt(right, "blur", 0.6, rng),
            }
            for kind, picture in pictures.items():
                file = BytesIO()
                picture.save(file, "PNG")
                yield Item(f"scene {number}, {kind}", caption(scene), file.getvalue())

    return Items("the pocket world", 4 * -(-count // 4), read).first(count)


def items_from_dataset(
    dataset: str,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    prompt_column: str | None = None,
    keep: Sequence[str] = (),
) -> Items:
    """Rows of a split of a dataset, by hub id or local directory, streamed through `datasets`.

    Raises `SourceError` when it cannot be had: offline, no such dataset, configuration, split, revision or column.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        stream = datasets.load_dataset(dataset, name=config, split=split, revision=revision, streaming=True)
        columns = stream.column_names or list(next(iter(stream)))
        image = choose_column(columns, image_column, IMAGE_COLUMNS, "image", f"dataset {dataset}")
        prompt = choose_column(columns, prompt_column, PROMPT_COLUMNS, "prompt", f"dataset {dataset}")
        _check_kept(columns, keep, f"dataset {dataset}")
        if isinstance((stream.features or {}).get(image), datasets.Image):
            stream = stream.cast_column(image, datasets.Image(decode=False))
    except SourceError:
        raise
    except Exception as error:  # datasets lets through whatever hub, file systems and parsers raise
        raise SourceError(f"{_cannot_stream(dataset, config, split, revision)}: {_first_line(error)}") from error
    stream = stream.select_columns(list(dict.fromkeys([image, prompt, *keep])))

    def read() -> Iterator[Item]:
        try:
            for number, row in enumerate(stream):
                found = row[image]["bytes"] if isinstance(row[image], dict) else row[image]
                content = (
                    found if isinstance(found, bytes) else None
                )  # a stranger's table names no file of this machine
                yield Item(f"{dataset}/{split}/{number}", _text(row[prompt]), content, _labels(row, keep))
        except Exception as error:
            raise SourceError(f"dataset {dataset} broke off: {_first_line(error)}; run again to go on") from error

    known = (stream.info.splits or {}).get(split)
    return Items(f"{dataset} ({split})", known.num_examples if known else None, read, tuple(keep))


def _metadata_below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder")
    found = sorted(path for name in METADATA_FILES for path in folder.rglob(name))
    if not found:
        raise SourceError(
            f"folder {folder} has no {', '.join(METADATA_FILES)}: add one with the columns file_name and prompt, or "
            "give one --prompt for all images"
        )
    for first, second in itertools.pairwise(found):
        if first.parent == second.parent:
            raise SourceError(f"folder {first.parent} has both {first.name} and {second.name}; keep one of them")
    return found


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _items_of(table: Table, image: str, prompt: str, keep: Sequence[str]) -> Iterator[Item]:
    folder = table.path.parent
    for number, row in enumerate(table.rows(list(dict.fromkeys([image, prompt, *keep]))), start=1):
        found, name = row[image], f"{table.path} row {number}"
        if isinstance(found, dict):  # as `datasets` stores an image
            found = found.get("bytes") or found.get("path")
        if isinstance(found, str) and found.strip():
            found = folder / found
            name = _encodable(str(found))
        content = found if isinstance(found, bytes | Path) else None
        yield Item(name, _text(row[prompt]), content, _labels(row, keep))


def _check_kept(columns: Sequence[str], keep: Sequence[str], where: str) -> None:
    if missing := [name for name in keep if name not in columns]:
        raise SourceError(f"{where} has no column {missing[0]!r} to keep; its columns are {', '.join(columns)}")


def _labels(row: Mapping[str, Any], keep: Sequence[str]) -> dict[str, str]:
    return {name: "" if row[name] is None else _encodable(str(row[name])) for name in keep}


def _text(value: object) -> str:
    return _encodable(value.strip()) if isinstance(value, str) else ""


def _encodable(text: str) -> str:
    """Half of a surrogate pair, as JSON and file names can hold one, is no text: it becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _cannot_stream(dataset: str, config: str | None, split: str, revision: str | None) -> str:
    parts = [
        f"split {split}",
        *([f"configuration {config}"] if config else []),
        *([f"revision {revision}"] if revision else []),
    ]
    return (
        f"dataset {dataset} ({', '.join(parts)}) cannot be read; check its name, the network and HF_HUB_OFFLINE, or "
        "use --table with local files"
    )
