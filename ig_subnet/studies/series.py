"""The images of one model on the disk.

An image file carries its own row of metadata, so an image is finished exactly when its file is there, and a kill loses
none; metadata.parquet is read from the files.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ig_subnet.studies.folder import Shot, StudyFolder
from ig_subnet.studies.results import replacing

METADATA_KEY = "study"  # of the text in an image file
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
HOPELESS = 8  # images, the first of a model, of which none came out: the rest would not either


@dataclass(frozen=True)
class ModelFacts:
    """Which model it is and how it makes images; the same for all images of a model."""

    source: str
    revision: str | None
    variant: str | None
    pipeline: str
    steps: int
    guidance: float | None
    scheduler: str
    negative_prompt: str
    width: int
    height: int
    dtype: str


class Series:
    """The images of one model: `rows` of those that are there, by file name, and why others `failed`."""

    def __init__(self, folder: StudyFolder, model: str, wanted: Sequence[Shot]) -> None:
        self.wanted = wanted
        self.rows: dict[str, dict[str, Any]] = {}
        self._images = folder.images
        self._failed_file = folder.failed / f"{model}.jsonl"
        for shot in wanted:
            if row := _read_row(folder.images, shot):
                self.rows[shot.file_name] = row
        without = {shot.file_name for shot in wanted} - set(self.rows)
        self.failed = {name: reason for name, reason in _read_failed(self._failed_file) if name in without}

    def missing(self) -> list[Shot]:
        """What is still to be made."""
        return [shot for shot in self.wanted if shot.file_name not in self.rows and shot.file_name not in self.failed]

    def in_order(self) -> Iterator[dict[str, Any]]:
        """The rows that there are."""
        return (self.rows[shot.file_name] for shot in self.wanted if shot.file_name in self.rows)

    def facts(self) -> ModelFacts | None:
        """How its images were made; None while there is none."""
        row = next(self.in_order(), None)
        return None if row is None else ModelFacts(**{field.name: row[field.name] for field in fields(ModelFacts)})

    def hopeless(self) -> str:
        """Why no image is to be expected any more, where there is none; else empty."""
        if self.rows or not self.failed or (len(self.failed) < HOPELESS and self.missing()):
            return ""
        reason = next(iter(self.failed.values()))
        return f"none of its first {len(self.failed)} images came out: {reason}"

    def save(self, shot: Shot, image: Image.Image, facts: ModelFacts, seconds: float) -> None:
        """Puts the image on the disk with its row of metadata. OSError where the disk does not take it."""
        row = {
            "file_name": shot.file_name,
            "model": shot.model,
            "topic": shot.prompt.topic,
            "number": shot.prompt.number,
            "sample": shot.sample,
            "prompt": shot.prompt.prompt,
            "seed": shot.seed,
            **asdict(facts),
            "seconds": round(seconds, 4),
        }
        text = PngInfo()
        text.add_itxt(METADATA_KEY, json.dumps(row, ensure_ascii=False))
        path = self._images / shot.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            image.save(partial, "PNG", pnginfo=text)
        self.rows[shot.file_name] = row

    def fail(self, shot: Shot, reason: str) -> None:
        """Notes that an image did not come out, so that it is not tried again."""
        self._failed_file.parent.mkdir(exist_ok=True)
        with self._failed_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"file_name": shot.file_name, "error": reason}) + "\n")
        self.failed[shot.file_name] = reason

    def seconds(self) -> float:
        """What making them took."""
        return math.fsum(row["seconds"] for row in self.rows.values())


def write_metadata(folder: StudyFolder, rows: Sequence[dict[str, Any]]) -> None:
    """Writes the metadata of all images, which makes them an image folder of `datasets`."""
    import pyarrow as pa
    import pyarrow.parquet

    if rows:
        with replacing(folder.metadata) as partial:
            pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows)), partial)


def _read_row(images: Path, shot: Shot) -> dict[str, Any] | None:
    """The metadata in an image's file; None where there is no such image of this prompt and seed."""
    try:
        with (images / shot.file_name).open("rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            if file.read() != PNG_END:  # it was cut on its way from another machine
                return None
            with Image.open(file, formats=["PNG"]) as image:
                row = json.loads(image.info[METADATA_KEY])
    except (OSError, KeyError, ValueError):
        return None
    return row if (row["prompt"], row["seed"]) == (shot.prompt.prompt, shot.seed) else None


def _read_failed(path: Path) -> Iterator[tuple[str, str]]:
    """File names and reasons; half a line, which a kill may leave at the end, counts for nothing."""
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            yield row["file_name"], row["error"]
