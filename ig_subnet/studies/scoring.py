"""Items in, a table of scores out: decoded ahead of the device, saved as they come, and never scored twice."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_subnet.imaging.errors import ImageError
from ig_subnet.studies.ahead import Entry, decode_ahead
from ig_subnet.studies.errors import SourceError, StudyError
from ig_subnet.studies.pictures import thumbnail, thumbnail_of
from ig_subnet.studies.results import METADATA, Journal, canonical
from ig_subnet.studies.sources import Item, Items

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

    from ig_subnet.rewards import Mixture

BATCH = 16  # images handed to the mixture at a time, which divides them further as memory asks
THUMBNAILS = 240  # of the best images that came as bytes, which nobody could read again for a gallery
DECODE_SECONDS = 300.0  # the largest picture that is accepted takes about 3


@dataclass(frozen=True)
class Progress:
    """How far a run is: items seen, of these scored in this run, and beyond scoring. The rest were scored before."""

    seen: int = 0
    scored: int = 0
    broken: int = 0


@dataclass(frozen=True)
class Outcome:
    """A whole run: `table` is as `ig_subnet.studies.results` describes it, one row an item.

    Of the `seconds` that the run took, the device waited `waited_seconds` for images.
    """

    table: pa.Table
    progress: Progress
    seconds: float
    waited_seconds: float
    items: Sequence[Item]
    kept: pa.ChunkedArray

    def thumbnail(self, row: int) -> bytes | None:
        """A small copy of a row's image, as PNG or WebP: read again if it lies in a file, else if it was kept."""
        path = self.items[row].image
        return thumbnail_of(path) if isinstance(path, Path) else self.kept[row].as_py()


def score_items(
    items: Items,
    mixture: Mixture,
    *,
    topic: str | None = None,
    folder: Path | None = None,
    fresh: bool = False,
    save_seconds: float = 10.0,
    batch_size: int = BATCH,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Scores every item, or tells in its row why it could not be scored; `progress` is called after every batch.

    With a `folder`, rows are kept there as they come: a run that was cut, or is given more items, scores only what is
    missing or could not be scored. Raises `StudyError` when the items cannot be read, or the folder holds scores made
    with other settings (unless `fresh`, which drops them); `RewardError` when the mixture as a whole fails.
    """
    began = time.monotonic()
    waited = 0.0
    columns = mixture.score([], [], topic).to_table().schema
    settings = settings_of(mixture, topic)
    schema = _journal_schema(columns)
    if taken := [name for name in items.labels if name in ("image", "prompt", *schema.names)]:
        raise SourceError(f"column {taken[0]!r} cannot be kept, the results have one of that name: rename it")
    so_far = Progress()
    seen: list[Entry] = []
    with Journal(folder, schema, settings, fresh=fresh, save_seconds=save_seconds) as journal:
        best = Best(THUMBNAILS, journal.table()["incentive"].drop_null().to_pylist())
        with closing(decode_ahead(items, journal.scored(), batch_size)) as batches:
            while True:
                asked = time.monotonic()
                batch = next(batches, None)
                if batch is None:
                    break
                new = [entry for entry in batch if entry.error or entry.picture]
                pictures = [_decoded(entry) for entry in new]
                waited += time.monotonic() - asked
                rows = _score_entries(new, pictures, mixture, topic, columns, best)
                journal.add(rows)
                seen += [_without_pixels(entry) for entry in batch]
                broken = rows.num_rows - rows["error"].null_count
                so_far = Progress(len(seen), so_far.scored + len(new) - broken, so_far.broken + broken)
                progress(so_far)
        found = journal.rows([entry.key for entry in seen])
    return Outcome(
        table=_results([entry.item for entry in seen], found, items.labels, columns, settings),
        progress=so_far,
        seconds=time.monotonic() - began,
        waited_seconds=waited,
        items=[entry.item for entry in seen],
        kept=found["thumbnail"],
    )


def settings_of(mixture: Mixture, topic: str | None) -> dict[str, Any]:
    """All that scores depend on beside image and prompt: scores of other settings never share a table."""
    return {
        "dtype": mixture.dtype,
        "resize": mixture.resize,
        "topic": topic,
        "weights": dict(mixture.weights_for(topic)),
        "identities": dict(mixture.identities),
        "calibration": {
            member.expert.name: [member.calibration.mean, member.calibration.deviation] for member in mixture.members
        },
    }


class Best:
    """The best incentives so far, at most `most`; of M in any order, about most * (1 + ln(M / most)) are admitted."""

    def __init__(self, most: int, incentives: Sequence[float]) -> None:
        self._most = most
        self._heap = heapq.nlargest(most, incentives)
        heapq.heapify(self._heap)

    def admits(self, incentive: float) -> bool:
        """Whether it is among them; from now on it counts."""
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, incentive)
            return True
        return heapq.heappushpop(self._heap, incentive) < incentive


def _decoded(entry: Entry) -> Image.Image | str:
    """The picture, or what is wrong with it."""
    if entry.pixels is None:
        return entry.error or ""
    try:
        return entry.pixels.result(timeout=DECODE_SECONDS)
    except ImageError as error:
        return error.reason
    except TimeoutError:
        raise StudyError(f"{entry.item.name} was not decoded within {DECODE_SECONDS:.0f} s") from None


def _without_pixels(entry: Entry) -> Entry:
    """What is remembered of an entry: not its encoded bytes, and not its pixels."""
    item = entry.item if isinstance(entry.item.image, Path) else replace(entry.item, image=None)
    return Entry(item, entry.key)


def _score_entries(
    entries: Sequence[Entry],
    pictures: Sequence[Image.Image | str],
    mixture: Mixture,
    topic: str | None,
    columns: pa.Schema,
    best: Best,
) -> pa.Table:
    """A row of the journal for each entry."""
    import pyarrow as pa

    errors = [picture if isinstance(picture, str) else None for picture in pictures]
    images = {place: picture for place, picture in enumerate(pictures) if not isinstance(picture, str)}
    scores, failed = _score(
        mixture, list(images.values()), [entries[place].item.prompt for place in images], topic, columns
    )
    for place, error in zip(list(images), failed, strict=True):
        errors[place] = error
    scored = iter(range(scores.num_rows))
    rows = scores.take(pa.array([next(scored) if error is None else None for error in errors], pa.int64()))
    kept = [
        thumbnail(images[place])
        if incentive is not None and isinstance(entry.item.image, bytes) and best.admits(incentive)
        else None
        for place, (entry, incentive) in enumerate(zip(entries, rows["incentive"].to_pylist(), strict=True))
    ]
    opened = [entry.picture for entry in entries]
    values: dict[str, Any] = {
        "key": [entry.key for entry in entries],
        "sha256": [picture and picture.sha256 for picture in opened],
        "width": [picture and picture.image.width for picture in opened],
        "height": [picture and picture.image.height for picture in opened],
        **{name: rows[name] for name in columns.names},
        "error": errors,
        "thumbnail": kept,
    }
    return pa.table(values, schema=_journal_schema(columns))


def _score(
    mixture: Mixture, images: Sequence[Image.Image], prompts: Sequence[str], topic: str | None, columns: pa.Schema
) -> tuple[pa.Table, list[str | None]]:
    """A row for each image that could be scored, and for every image what is wrong with it."""
    import pyarrow as pa

    from ig_subnet.rewards import InputError, NonFiniteScore

    try:
        return mixture.score(images, prompts, topic).to_table(), [None] * len(images)
    except (InputError, NonFiniteScore) as error:  # of one image, and the others shall not suffer for it
        if len(images) == 1:
            return columns.empty_table(), [str(error)]
    alone = [_score(mixture, [image], [prompt], topic, columns) for image, prompt in zip(images, prompts, strict=True)]
    return pa.concat_tables([table for table, _ in alone]), [error for _, (error,) in alone]


def _journal_schema(columns: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [("key", pa.string()), ("sha256", pa.string()), ("width", pa.int32()), ("height", pa.int32())]
        + [(field.name, field.type) for field in columns]
        + [("error", pa.string()), ("thumbnail", pa.binary())]
    )


def _results(
    items: Sequence[Item], found: pa.Table, labels: Sequence[str], columns: pa.Schema, settings: dict[str, Any]
) -> pa.Table:
    import pyarrow as pa

    values: dict[str, Any] = {
        "image": pa.array([item.name for item in items], pa.string()),
        "prompt": pa.array([item.prompt for item in items], pa.string()),
    }
    for name in labels:
        values[name] = pa.array([item.labels[name] for item in items], pa.string())
    for name in ("sha256", "width", "height", *columns.names, "error"):
        values[name] = found[name]
    return pa.table(values).replace_schema_metadata({METADATA: canonical(settings)})
