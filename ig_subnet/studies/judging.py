"""The scores of a study: every image of its finished models through the mixture, with the weights of its topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ig_subnet.studies.configuration import StudySettings
from ig_subnet.studies.errors import SourceError
from ig_subnet.studies.folder import Shot, StudyFolder, StudyPrompt, shots
from ig_subnet.studies.results import METADATA, canonical, scored_with, write_results
from ig_subnet.studies.scoring import Progress, score_items
from ig_subnet.studies.series import Series
from ig_subnet.studies.sources import Item, Items

if TYPE_CHECKING:
    import pyarrow as pa

    from ig_subnet.rewards import Mixture

LABELS = ("model", "topic", "number", "sample")
COUNTS = ("number", "sample")


def finished_series(folder: StudyFolder, settings: StudySettings, prompts: Sequence[StudyPrompt]) -> list[Series]:
    """The images of each model that lacks none, but for those that did not come out."""
    found = [
        Series(folder, model.name, shots(model, prompts, settings.images_per_prompt, settings.seed))
        for model in settings.models
    ]
    return [images for images in found if images.rows and not images.missing()]


def score_images(
    folder: StudyFolder,
    series: Sequence[Series],
    mixture: Mixture,
    *,
    batch_size: int,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> pa.Table:
    """Scores what was not scored before, and writes scores.parquet; an image that did not come out has its error there.

    `progress` is of the whole. Raises `StudyError` for scores made with other settings, and where there is no image.
    """

    if not series:
        raise SourceError(f"no model has all its images in {folder.path}: run --stage images, and see what it says")
    failed = {name: reason for images in series for name, reason in images.failed.items()}
    wanted = [shot for images in series for shot in images.wanted]
    before = Progress()
    tables = []
    for topic in dict.fromkeys(shot.prompt.topic for shot in wanted):
        of_topic = [shot for shot in wanted if shot.prompt.topic == topic]
        outcome = score_items(
            Items(topic, len(of_topic), _reader(folder, of_topic, failed), LABELS),
            mixture,
            topic=topic if topic in mixture.topics else None,
            folder=folder.score_parts / topic,
            batch_size=batch_size,
            progress=lambda now, before=before: progress(_sum(before, now)),  # type: ignore[misc]
        )
        before = _sum(before, outcome.progress)
        tables.append(outcome.table)
    table = _one_table(tables, failed)
    write_results(folder.scores, table)
    return table


def _reader(folder: StudyFolder, wanted: Sequence[Shot], failed: dict[str, str]) -> Callable[[], Iterator[Item]]:
    def read() -> Iterator[Item]:
        for shot in wanted:
            values = (shot.model, shot.prompt.topic, str(shot.prompt.number), str(shot.sample))
            path = None if shot.file_name in failed else folder.images / shot.file_name
            yield Item(shot.file_name, shot.prompt.prompt, path, dict(zip(LABELS, values, strict=True)))

    return read


def _one_table(tables: Sequence[pa.Table], failed: dict[str, str]) -> pa.Table:
    """The topics' tables as one, with the reasons for which images failed, and what each topic was scored with."""
    import pyarrow as pa

    table = pa.concat_tables([each.replace_schema_metadata(None) for each in tables])
    rows = zip(table["image"].to_pylist(), table["error"].to_pylist(), strict=True)
    errors = [failed.get(name, error) for name, error in rows]
    table = table.set_column(table.column_names.index("error"), "error", pa.array(errors, pa.string()))
    for name in COUNTS:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.int32()))
    return table.replace_schema_metadata({METADATA: canonical(_scored_with(tables))})


def _scored_with(tables: Sequence[pa.Table]) -> dict[str, Any]:
    """As of one table, but that `topic` and `weights` are by topic where those differ."""
    settings = [scored_with(table) for table in tables]
    weights = {table["topic"][0].as_py(): found.pop("weights") for table, found in zip(tables, settings, strict=True)}
    same = all(found == next(iter(weights.values())) for found in weights.values())
    return {**settings[0], "topic": None, "weights": next(iter(weights.values())) if same else weights}


def _sum(one: Progress, other: Progress) -> Progress:
    return Progress(one.seen + other.seen, one.scored + other.scored, one.broken + other.broken)
