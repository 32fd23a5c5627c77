"""The report of a study that ranks models: one page, the figures as pictures, and the rankings as tables.

    report.html                     the page; it needs nothing else, its pictures are inside it
    ranking.json, .csv, .parquet    a row for each model, topic and expert
    pairs.csv                       a row for each two models of a topic, by each expert
    agreement.csv                   how alike each two experts order models and images
    incentives, rewards, experts    the figures, each as .png and .pdf

"Experts" are the columns of scores that models are ranked by: `incentive`, by which a subnet pays, `total`, the
weighted sum of the original project, and each expert by its name.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_subnet.reporting.gallery import image_card
from ig_subnet.reporting.measurements import write_measurements
from ig_subnet.reporting.pages import page_environment
from ig_subnet.reporting.study_figures import DPI, colours_of, draw_experts, draw_score, save_figure, short_names
from ig_subnet.reporting.summary import installed_versions, write_text_atomically
from ig_subnet.studies.pictures import thumbnail_of
from ig_subnet.studies.ranking import CONFIDENCE, FEWEST, POWER, Agreement, Pair, Ranking, agreement, rank
from ig_subnet.studies.results import experts_of, scored_with, write_results

if TYPE_CHECKING:
    import pyarrow as pa

INCENTIVE, TOTAL = "incentive", "total"
HEADINGS = {
    INCENTIVE: "Incentive: what the subnet would pay by",
    TOTAL: "Weighted reward: the sum of the experts' scores",
    "experts": "Each expert, in its own unit",
}
TABLES = ("ranking.json", "ranking.csv", "ranking.parquet", "pairs.csv", "agreement.csv")
FIGURES = ("incentives.png", "rewards.png", "experts.png")
GALLERY_IMAGES = 8  # of each kind, each of another prompt
MOST_REASONS = 20

Row = dict[str, Any]


@dataclass(frozen=True)
class StudyReport:
    """What was found, and the files that tell it, by name."""

    rankings: tuple[Ranking, ...]
    agreements: tuple[Agreement, ...]
    files: Mapping[str, Path]

    @property
    def ranking(self) -> Ranking:
        """The one that the study is about: by incentive, over all topics."""
        return [ranking for ranking in self.rankings if ranking.expert == INCENTIVE][-1]


def write_study_report(folder: Path, scores: pa.Table, settings: Mapping[str, Any]) -> StudyReport:
    """Writes the report into a study's folder, over an earlier one; a reader never sees half a file.

    `scores` is the study's table (scores.parquet); its images lie in `folder`/images. `settings` are the study's and
    stand at the foot of the page; its `outcomes` say by model what became of it: one with an `error` is told as not
    ranked. Raises `StudyError` for a table in which nothing was scored.
    """
    import pyarrow as pa

    experts = experts_of(scores)
    by_expert = {expert: rank(scores, value=expert) for expert in (INCENTIVE, TOTAL, *experts)}
    rankings = tuple(ranking for of_expert in by_expert.values() for ranking in of_expert)
    agreements = tuple(agreement(scores, values=(INCENTIVE, *experts)))
    files = {name: folder / name for name in (*TABLES, *FIGURES, "report.html")}
    rows = ranking_rows(rankings)
    table = pa.Table.from_pylist(rows)
    write_results(files["ranking.csv"], table)
    write_results(files["ranking.parquet"], table)
    further = {"pairs.csv": pair_rows(rankings), "agreement.csv": [_finite(asdict(one)) for one in agreements]}
    for name, found in further.items():
        if found:
            write_results(files[name], pa.Table.from_pylist(found))
        else:  # one model or one expert alone; what an earlier run of more of them left would be wrong
            files.pop(name).unlink(missing_ok=True)
    write_measurements(files["ranking.json"], rows)
    colours = colours_of(list(dict.fromkeys(scores["model"].to_pylist())))
    save_figure(draw_score(by_expert[INCENTIVE], colours, HEADINGS[INCENTIVE]), files["incentives.png"])
    save_figure(draw_score(by_expert[TOTAL], colours, HEADINGS[TOTAL]), files["rewards.png"])
    of_experts = {expert: by_expert[expert] for expert in experts}
    save_figure(draw_experts(of_experts, colours, HEADINGS["experts"]), files["experts.png"])
    report = StudyReport(rankings, agreements, files)
    write_text_atomically(files["report.html"], render_study(report, scores, settings, folder / "images"))
    return report


def ranking_rows(rankings: Iterable[Ranking]) -> list[Row]:
    """A row for each model, topic and expert; a bound that is unknown is None."""
    return [
        _finite(
            {
                "model": one.model,
                "topic": ranking.topic,
                "expert": ranking.expert,
                "mean": one.mean,
                "low": one.low,
                "high": one.high,
                "rank": one.rank,
                "worst_rank": one.worst_rank,
                "letters": one.letters,
                "prompts": one.prompts,
                "images": one.images,
            }
        )
        for ranking in rankings
        for one in ranking.models
    ]


def pair_rows(rankings: Iterable[Ranking]) -> list[Row]:
    """A row for each two models of a topic, by each expert; what is unknown or infinite is None."""
    return [
        _finite({"topic": ranking.topic, "expert": ranking.expert, **asdict(pair)})
        for ranking in rankings
        for pair in ranking.pairs
    ]


def render_study(report: StudyReport, scores: pa.Table, settings: Mapping[str, Any], images: Path) -> str:
    """The page as HTML; every text on it is escaped, and the policy in its head lets no script run."""
    environment = page_environment()
    environment.filters |= {"number": _number, "pair": frozenset}
    ranking = report.ranking
    names = short_names(scores["model"].unique().to_pylist())
    outcomes: Mapping[str, Mapping[str, Any]] = settings.get("outcomes") or {}
    return environment.get_template("study.html.j2").render(
        names=names,
        colours=colours_of(list(names)),
        finished=time.strftime("%Y-%m-%d %H:%M"),
        ranking=ranking,
        tiles=_tiles(scores, ranking),
        places=_places(report.rankings, ranking),
        topics=list(dict.fromkeys(one.topic for one in report.rankings if one.topic != ranking.topic)),
        pairs={frozenset((pair.better, pair.worse)): pair for pair in ranking.pairs},
        neighbours=_neighbours(ranking),
        confidence=CONFIDENCE,
        power=POWER,
        agreements={frozenset((one.first, one.second)): one for one in report.agreements},
        agreeing=list(dict.fromkeys(name for one in report.agreements for name in (one.first, one.second))),
        figures=[
            (heading, alt, _data_uri(report.files[name]), _shown_width(report.files[name]), name)
            for heading, name, alt in (
                ("By incentive", "incentives.png", "mean incentive of each model by topic, as sorted bars"),
                ("By weighted reward", "rewards.png", "mean weighted reward of each model by topic, as sorted bars"),
                ("By expert", "experts.png", "mean score of each model by each expert and topic, as sorted bars"),
            )
        ],
        galleries=_galleries(scores, images),
        not_ranked=[(name, outcome["error"]) for name, outcome in outcomes.items() if outcome.get("error")],
        broken=_broken(scores),
        files=[name for name in report.files if name != "report.html"],
        facts=_facts(settings, scores),
    )


def _tiles(scores: pa.Table, ranking: Ranking) -> list[tuple[str, str, str]]:
    """Figure, what it counts, and a remark."""
    scored = scores.num_rows - scores["incentive"].null_count
    apart = sum(pair.told_apart for pair in ranking.pairs)
    prompts = len({*zip(scores["topic"].to_pylist(), scores["number"].to_pylist(), strict=True)})
    topics = len(scores["topic"].unique())
    tiles = [
        (f"{len(ranking.models)}", _plural("model", len(ranking.models)), f"on {topics} {_plural('topic', topics)}"),
        (f"{prompts:,}", _plural("prompt", prompts), "the same for all models"),
        (f"{scored:,}", "images scored", f"by {len(experts_of(scores))} experts"),
    ]
    if ranking.pairs:
        tiles.append(
            (
                f"{apart} of {len(ranking.pairs)}",
                "pairs told apart",
                f"not to be believed: under {FEWEST} prompts a topic"
                if prompts < FEWEST * topics
                else f"with {CONFIDENCE:.0%} confidence at once",
            )
        )
    return tiles


def _places(rankings: Sequence[Ranking], overall: Ranking) -> list[Row]:
    """The overall ranking with what each model has by weighted reward, and by incentive on each topic."""
    by_key = {(one.topic, one.expert): {each.model: each for each in one.models} for one in rankings}
    topics = [one.topic for one in rankings if one.expert == INCENTIVE and one.topic != overall.topic]
    return [
        {
            "model": one.model,
            "ranked": one,
            "total": by_key[overall.topic, TOTAL].get(one.model),
            "topics": [by_key[topic, INCENTIVE].get(one.model) for topic in topics],
        }
        for one in overall.models
    ]


def _neighbours(ranking: Ranking) -> list[Pair]:
    """Each model against the next of the ranking."""
    pairs = {(pair.better, pair.worse): pair for pair in ranking.pairs}
    order = [one.model for one in ranking.models]
    return [pairs[pair] if pair in pairs else pairs[pair[::-1]] for pair in pairwise(order)]


def _galleries(scores: pa.Table, images: Path) -> list[tuple[str, str, list[Row]]]:
    """Title, remark and cards: the best, the worst and the most disputed images."""
    import pyarrow.compute

    rows = scores.filter(pyarrow.compute.is_finite(scores[INCENTIVE])).to_pylist()
    kinds: list[tuple[str, str, Callable[[Row], float]]] = [
        ("Best", "of highest incentive", lambda row: -row[INCENTIVE]),
        ("Worst", "of lowest incentive", lambda row: row[INCENTIVE]),
        ("Most disputed", "where the experts' calibrated scores are farthest apart", lambda row: -row["disagreement"]),
    ]
    experts = experts_of(scores)
    galleries = []
    for title, remark, key in kinds:
        chosen: dict[tuple[str, int], Row] = {}
        for row in sorted(rows, key=key):
            if len(chosen) < GALLERY_IMAGES:
                chosen.setdefault((row["topic"], row["number"]), row)
        cards = [
            image_card(row, place, thumbnail_of(images / row["image"]), experts, prompted=True)
            | {"model": row["model"], "topic": row["topic"]}
            for place, row in enumerate(chosen.values())
        ]
        galleries.append((title, remark, cards))
    return galleries


def _broken(scores: pa.Table) -> list[tuple[str, str, int]]:
    """Model, reason and how many of its images have no score for it; the most frequent first."""
    counts: dict[tuple[str, str], int] = {}
    for model, error in zip(scores["model"].to_pylist(), scores["error"].to_pylist(), strict=True):
        if error is not None:
            counts[model, error] = counts.get((model, error), 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [(model, error, count) for (model, error), count in ordered[:MOST_REASONS]]


def _facts(settings: Mapping[str, Any], scores: pa.Table) -> dict[str, str]:
    """The study's settings, what scored it, and versions, as texts."""
    told = {name: value for name, value in settings.items() if name != "outcomes"} | scored_with(scores)
    texts = {
        name.replace("_", " "): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in told.items()
    }
    return texts | installed_versions()


def _number(value: float) -> str:
    """A count of prompts, for people."""
    if value > 1e6:
        return "over a million"
    return f"{value:,.0f}"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else noun + "s"


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _shown_width(path: Path) -> int:
    """CSS pixels: half as large again as in print, whatever the number of panels."""
    from PIL import Image

    with Image.open(path) as picture:
        return round(picture.width / DPI * 96 * 1.5)


def _finite(row: Row) -> Row:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
