"""The report of a study that ranks models: one page, the figures as pictures, and the rankings as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_subnet.reporting.measurements import write_measurements
from ig_subnet.studies.ranking import Agreement, Ranking, agreement, rank
from ig_subnet.studies.results import experts_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class StudyReport:
    """What was found, and the files that tell it: report.html, ranking.json, .csv and .parquet, figures by name."""

    rankings: tuple[Ranking, ...]
    agreements: tuple[Agreement, ...]
    files: Mapping[str, Path]


def write_study_report(folder: Path, scores: pa.Table, settings: Mapping[str, Any]) -> StudyReport:
    """Writes the report into a study's folder, over an earlier one; a reader never sees half a file.

    `scores` is the study's table (scores.parquet); its images lie in `folder`/images. `settings` are shown on the page;
    of them `models`, a mapping by name or a list, and `outcomes` tell which models have no images and why. Raises
    `StudyError` for a table in which nothing was scored.
    """
    columns = ["incentive", "total", *experts_of(scores)]
    rankings = tuple(ranking for column in columns for ranking in rank(scores, value=column))
    agreements = tuple(agreement(scores, values=columns))
    files = {"ranking.json": folder / "ranking.json"}
    write_measurements(files["ranking.json"], rows_of(rankings))
    return StudyReport(rankings, agreements, files)


def rows_of(rankings: Iterable[Ranking]) -> list[dict[str, Any]]:
    """A row for each model, topic and expert (`incentive`, `total` or an expert's name); an unknown bound is None."""
    return [
        {
            "model": ranked.model,
            "topic": ranking.topic,
            "expert": ranking.expert,
            "mean": ranked.mean,
            "low": _finite(ranked.low),
            "high": _finite(ranked.high),
            "rank": ranked.rank,
            "worst_rank": ranked.worst_rank,
            "letters": ranked.letters,
            "prompts": ranked.prompts,
            "images": ranked.images,
        }
        for ranking in rankings
        for ranked in ranking.models
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
