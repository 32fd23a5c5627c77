"""report.html: a run of the subnet on one page that needs nothing else, neither network nor scripts."""

from __future__ import annotations

import base64
import io
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ig_subnet.reporting.epochs import EpochReading
from ig_subnet.reporting.flow import flow_chart
from ig_subnet.reporting.history import Answer, History
from ig_subnet.reporting.pages import page_environment
from ig_subnet.reporting.paired import compare_neighbours
from ig_subnet.reporting.plots import Bars, Series, bar_chart, colour_class, line_chart, strip_chart
from ig_subnet.reporting.prompts import committed_rounds, uses_by_miner
from ig_subnet.reporting.refusals import describe_evidence, reasons_of, refusals_by_miner
from ig_subnet.reporting.summary import MinerSummary, Summary, write_text_atomically
from ig_subnet.validating.records import VALID, PromptRow

GALLERY_PROMPTS = 12
IMAGES_A_CELL = 2  # of one miner for one prompt
THUMBNAIL = 256  # px: larger images are shown at this size, and as JPEG
MOTES = 300  # images a miner in the strip chart
COMMITMENTS = 20  # the newest


@dataclass(frozen=True)
class Run:
    """Everything the report shows. `images` is the folder the validator saved images in, named <sha256>.<suffix>."""

    summary: Summary
    history: History
    images: Path | None = None
    epochs: tuple[EpochReading, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)  # shown as they are, beside what the store tells


def write_report(path: Path, run: Run) -> None:
    """Write the page; a reader never sees half of it."""
    write_text_atomically(path, render_report(run))


def render_report(run: Run) -> str:
    """The page as HTML: whatever a peer had a say in is escaped, and images are decoded and encoded anew."""
    environment = page_environment()
    ranking = run.summary.ranking
    roles = {miner.hotkey: miner.role for miner in ranking}
    colours = {miner.hotkey: index for index, miner in enumerate(ranking)}
    refusals = refusals_by_miner(run.history)
    return environment.get_template("report.html.j2").render(
        summary=run.summary,
        ranking=ranking,
        colour={hotkey: colour_class(index) for hotkey, index in colours.items()},
        roles=roles,
        tiles=_tiles(run),
        facts=run.facts,
        finished=_local_time(run.history.rounds[-1].finished_at) if run.history.rounds else "before its first round",
        flow=flow_chart(run.summary, run.history),
        averages_chart=line_chart(
            [
                Series(
                    miner.role,
                    colours[miner.hotkey],
                    tuple((row.round_id, row.average) for row in run.history.averages if row.hotkey == miner.hotkey),
                )
                for miner in ranking
            ],
            title="Moving average of each miner's incentive after every round",
            x_label="round",
        ),
        images_chart=strip_chart(
            [
                Series(
                    miner.role,
                    colours[miner.hotkey],
                    tuple((value, 0.0) for value in _thinned(_incentives(run.history, miner.hotkey), MOTES)),
                )
                for miner in ranking
            ],
            title="Incentive of every valid image",
            x_label="incentive of one image",
        ),
        chain_chart=bar_chart(
            [Bars(miner.role, colours[miner.hotkey], (miner.weight, miner.incentive)) for miner in ranking],
            ("weight", "incentive"),
            title="Weights and incentives on the chain",
        ),
        epochs=run.epochs,
        uses=uses_by_miner(run.history),
        committed=committed_rounds(run.history)[-COMMITMENTS:],
        comparisons=compare_neighbours(run.history, [miner.hotkey for miner in ranking]),
        refusals=refusals,
        reasons=reasons_of(refusals.values()),
        gallery=_gallery(run, ranking, roles),
        weight_settings=run.history.weight_settings[-20:],
        clock=_local_time,
    )


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """Figure, what it counts, and a remark."""
    images = [image for answer in run.history.answers for image in answer.images]
    valid = sum(image.row.verdict == VALID for image in images)
    rounds = run.history.rounds
    pace = sum(row.finished_at - row.started_at for row in rounds) / len(rounds) if rounds else 0.0
    answers = sum(miner.answers for miner in run.summary.miners)
    queries = sum(miner.queries for miner in run.summary.miners)
    return [
        (str(run.summary.rounds), "rounds", f"{pace:.1f} s each"),
        (str(run.summary.epochs), "epochs paid", f"on subnet {run.summary.netuid}"),
        (f"{answers:,}", "answers", f"to {queries:,} queries"),
        (f"{valid:,}", "images scored", f"{len(images) - valid:,} refused by a gate"),
        (f"{run.summary.seconds:.0f} s", "wall time", "of this run"),
    ]


def _incentives(history: History, hotkey: str) -> list[float]:
    return [
        image.row.incentive
        for answer in history.answers
        if answer.row.hotkey == hotkey
        for image in answer.images
        if image.row.verdict == VALID
    ]


def _thinned(values: Sequence[float], most: int) -> Sequence[float]:
    """At most `most` of the values, evenly spread over their order."""
    step = max(1.0, len(values) / most)
    return [values[int(place * step)] for place in range(min(len(values), most))]


def _gallery(run: Run, ranking: Iterable[MinerSummary], roles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Prompts spread evenly over the run, each with every miner's answer: what the template needs of them."""
    answers: dict[tuple[int, int], dict[str, Answer]] = defaultdict(dict)
    for answer in run.history.answers:
        answers[answer.row.round_id, answer.row.position][answer.row.hotkey] = answer
    prompts: list[PromptRow] = [prompt for prompt in run.history.prompts if prompt.position == 0]
    step = max(1.0, len(prompts) / GALLERY_PROMPTS)
    chosen = [prompts[int(place * step)] for place in range(min(len(prompts), GALLERY_PROMPTS))]
    return [
        {
            "prompt": prompt,
            "cells": [
                _cell(miner, answers[prompt.round_id, prompt.position].get(miner.hotkey), run.images, roles)
                for miner in ranking
            ],
        }
        for prompt in chosen
    ]


def _cell(miner: MinerSummary, answer: Answer | None, images: Path | None, roles: Mapping[str, str]) -> dict[str, Any]:
    shown = answer.images[:IMAGES_A_CELL] if answer else ()
    experts = sorted({expert for image in shown for expert in image.scores})
    return {
        "miner": miner,
        "answer": answer.row if answer else None,
        "scores": [(expert, [image.scores.get(expert) for image in shown]) for expert in experts],
        "images": [
            {
                "row": image.row,
                "uri": image_uri(images, image.row.sha256) if images else None,
                "stopped": "" if image.row.verdict == VALID else image.row.verdict,
                "evidence": describe_evidence(image.row.evidence, roles),
            }
            for image in shown
        ],
    }


def image_uri(folder: Path, sha256: str) -> str | None:
    """A saved image as a data URI, its pixels encoded anew; None if it is not there or cannot be read."""
    from PIL import Image, UnidentifiedImageError

    path = next((path for suffix in ("png", "jpg", "webp") if (path := folder / f"{sha256}.{suffix}").is_file()), None)
    if path is None:
        return None
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as opened:
            picture = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None
    buffer = io.BytesIO()
    if max(picture.size) <= THUMBNAIL:
        kind = "png"
        picture.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        picture.save(buffer, "JPEG", quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
