"""The report of a study: what is on the page and in the tables, and that texts stay texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from html_page import Page
from made_up_study import made_up_scores
from PIL import Image

from ig_subnet.reporting.study import GALLERY_IMAGES, StudyReport, write_study_report
from ig_subnet.reporting.study_figures import NAME_LENGTH, colours_of, short_names, shortened
from ig_subnet.studies.errors import StudyError
from ig_subnet.studies.resampling import ALL_TOPICS

HOSTILE = """<script>alert(1)</script><img src=x onerror="alert(2)">'"&amp;{{ 7*7 }} </style></title>"""
MODELS = {"good": 1.5, "fair": 0.0, "copy-of-fair": 0.0}


@pytest.fixture(scope="module")
def scores() -> pa.Table:
    return made_up_scores(MODELS, prompts=12)


@pytest.fixture(scope="module")
def report(scores: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> StudyReport:
    folder = tmp_path_factory.mktemp("study")
    for row in scores.to_pylist():
        path = folder / "images" / row["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (int(255 * row["incentive"]),) * 3).save(path)
    settings = {"seed": 3, "outcomes": {"broken": {"error": "out of memory"}, "good": {"error": None}}}
    return write_study_report(folder, scores, settings)


def page_of(report: StudyReport) -> Page:
    return Page(report.files["report.html"].read_text(encoding="utf-8"))


def test_every_file_is_there_and_the_tables_say_the_same(report: StudyReport) -> None:
    assert all(path.is_file() for path in report.files.values())
    rows = json.loads(report.files["ranking.json"].read_text())["rows"]
    assert {(row["model"], row["topic"], row["expert"]) for row in rows} == {
        (model, topic, expert)
        for model in MODELS
        for topic in ("cats", "dogs", ALL_TOPICS)
        for expert in ("incentive", "total", "pick_score", "hps_v2")
    }
    assert {"mean", "low", "high", "rank", "worst_rank", "letters"} <= set(rows[0])
    assert pyarrow.parquet.read_table(report.files["ranking.parquet"]).to_pylist() == rows
    assert pyarrow.csv.read_csv(report.files["ranking.csv"]).num_rows == len(rows)
    assert pyarrow.csv.read_csv(report.files["pairs.csv"]).num_rows == len(rows)  # three models have three pairs
    assert pyarrow.csv.read_csv(report.files["agreement.csv"]).num_rows == 3


def test_the_overall_ranking_is_by_incentive_over_all_topics(report: StudyReport) -> None:
    assert (report.ranking.topic, report.ranking.expert) == (ALL_TOPICS, "incentive")
    assert [one.rank for one in report.ranking.models] == [1, 2, 2]
    assert report.ranking.models[0].model == "good"


def test_the_page_needs_nothing_else_and_shows_pictures_of_each_kind(report: StudyReport) -> None:
    page = page_of(report)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)
    assert len(sources) == 3 + 3 * GALLERY_IMAGES  # figures, and best, worst and most disputed
    assert not page.named("script") and not page.named("link")
    assert "out of memory" in " ".join(page.text)


def test_each_picture_of_a_gallery_is_of_another_prompt(report: StudyReport) -> None:
    texts = [text for text in page_of(report).text if text.startswith("prompt ")]
    for kind in range(3):
        of_kind = texts[kind * GALLERY_IMAGES : (kind + 1) * GALLERY_IMAGES]
        assert len(set(of_kind)) == GALLERY_IMAGES


def test_figures_are_as_wide_as_paper_and_in_both_formats(report: StudyReport) -> None:
    for name in ("incentives.png", "rewards.png", "experts.png"):
        with Image.open(report.files[name]) as picture:
            assert picture.width >= 1000
        assert report.files[name].with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_hostile_names_and_prompts_stay_texts(tmp_path: Path) -> None:
    rows = made_up_scores({"a": 0.0, "b": 0.0}, topics=["t"], prompts=2, samples=1).to_pylist()
    hostile: list[dict[str, Any]] = [row | {"prompt": HOSTILE, "topic": f"t$\\x${HOSTILE}"} for row in rows]
    hostile = [row | ({"model": f"b$\\frac${HOSTILE}"} if row["model"] == "b" else {}) for row in hostile]
    settings = {"profile": HOSTILE, "outcomes": {HOSTILE: {"error": HOSTILE}}}
    page = page_of(write_study_report(tmp_path, pa.Table.from_pylist(hostile), settings))
    assert not page.named("script")
    assert HOSTILE in page.text


def test_a_model_alone_has_no_pairs_and_an_earlier_table_of_them_goes(tmp_path: Path) -> None:
    write_study_report(tmp_path, made_up_scores({"a": 1.0, "b": 0.0}, topics=["t"], prompts=3), {})
    assert (tmp_path / "pairs.csv").is_file()
    report = write_study_report(tmp_path, made_up_scores({"a": 1.0}, topics=["t"], prompts=3), {})
    assert "pairs.csv" not in report.files and not (tmp_path / "pairs.csv").exists()
    assert [(one.rank, one.letters) for one in report.ranking.models] == [(1, "a")]


def test_an_image_without_a_score_is_told_with_its_reason(tmp_path: Path) -> None:
    rows = made_up_scores({"a": 1.0, "b": 0.0}, topics=["t"], prompts=3, samples=1).to_pylist()
    empty = dict.fromkeys(("incentive", "total", "disagreement", "pick_score", "hps_v2"))
    rows[0] |= {**empty, "error": "came out black"}
    page = page_of(write_study_report(tmp_path, pa.Table.from_pylist(rows), {}))
    assert "came out black" in page.text


def test_a_study_without_scores_says_so(tmp_path: Path) -> None:
    rows = made_up_scores({"a": 1.0}, topics=["t"], prompts=1, samples=1)
    nothing = rows.set_column(rows.column_names.index("incentive"), "incentive", pa.nulls(1, pa.float32()))
    with pytest.raises(StudyError, match="no image has a score of incentive"):
        write_study_report(tmp_path, nothing, {})


def test_names_lose_their_owner_unless_that_makes_two_the_same() -> None:
    assert short_names(["org/a", "other/b"]) == {"org/a": "a", "other/b": "b"}
    assert short_names(["org/a", "other/a"]) == {"org/a": "org/a", "other/a": "other/a"}
    long = shortened("stable-diffusion-" * 5 + "end")
    assert len(long) <= NAME_LENGTH and long.startswith("stable") and long.endswith("end")


def test_models_beyond_the_palette_share_a_colour() -> None:
    colours = colours_of([str(number) for number in range(14)])
    assert len(set(colours.values())) == 13 and colours["12"] == colours["13"]
