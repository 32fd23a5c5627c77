"""The figure of the ranking study: what mixture and checker say of each generator, and tau by prompts and by noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranking_study.tau import GOAL

from ig_subnet.reporting.study_figures import GRID, MUTED, TEXT, colours_of
from ig_subnet.studies.ranking import Ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#2a78d6", "#d9622b", "#8d8c86"

Row = dict[str, Any]


def draw(rows: Sequence[Row], mixture: Ranking, checker: Ranking, path: Path) -> None:
    """Four panels; `rows` are those of scripts/study_ranking.py."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    generators, prompts, scores, images = figure.subplots(2, 2).flat
    _draw_generators(generators, mixture, checker)
    mixed, itself = ("incentive", "the mixture", BLUE), ("checker", "the checker, on as many prompts", GREY)
    apart = ("incentive", "the mixture, of pairs that the checker tells apart", ORANGE)
    for axes, varied, key, (scorer, label, colour), banded in (
        (prompts, "prompts", "prompts", mixed, True),
        (prompts, "prompts", "prompts", itself, False),
        (prompts, "prompts, pairs apart", "prompts", apart, False),
        (scores, "noise of scores", "noise", mixed, True),
        (images, "noise on images", "noise", mixed, True),
    ):
        shown = [row for row in rows if (row["varied"], row["scorer"]) == (varied, scorer)]
        _draw_taus(axes, shown, key, label, colour, banded=banded)
    at = next(row["prompts"] for row in rows if row["varied"] == "noise of scores")
    prompts.set(xscale="log", xlabel="prompts")
    prompts.set_xticks(ticks := sorted({row["prompts"] for row in rows if row["varied"] == "prompts"}), ticks)
    prompts.minorticks_off()
    scores.set(xlabel="noise on the incentives, in standard deviations of theirs")
    images.set(xlabel="Gaussian noise, in levels of 255; one image of each prompt")
    lowest = min(row["low"] for row in rows if row["varied"] in ("prompts", "noise of scores", "noise on images"))
    for axes in (prompts, scores, images):
        axes.axhline(GOAL, color=TEXT, linewidth=0.7, linestyle=(0, (4, 3)))
        axes.set_ylim(lowest - 0.02, 1.01)
        axes.set_ylabel("Kendall's tau with the checker", fontsize=7)
    for axes, title in (
        (generators, "a  Generators of known quality"),
        (prompts, "b  Agreement by the number of prompts"),
        (scores, f"c  {at} prompts, noise on the scores"),
        (images, f"d  {at} prompts, noise on the images"),
    ):
        axes.set_title(title, loc="left", fontsize=8, fontweight="bold", color=TEXT)
        axes.xaxis.label.set_fontsize(7)
        axes.tick_params(labelsize=6.5, colors=MUTED, length=0)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_frame_on(False)
    prompts.legend(fontsize=6.5, frameon=False, loc="lower right")
    figure.savefig(path, dpi=200, facecolor="white")


def _draw_generators(axes: Axes, mixture: Ranking, checker: Ranking) -> None:
    """The checker's share and the mixture's mean of each generator, numbered in the checker's order."""
    means = {one.model: one for one in mixture.models}
    colours = colours_of([one.model for one in checker.models])
    for number, truth in enumerate(checker.models, start=1):
        one = means[truth.model]
        axes.plot([truth.low, truth.high], [one.mean, one.mean], color=GREY, linewidth=0.8, zorder=2)
        axes.plot([truth.mean, truth.mean], [one.low, one.high], color=GREY, linewidth=0.8, zorder=2)
        axes.plot(truth.mean, one.mean, "o", color=colours[truth.model], markersize=4.5, zorder=3)
        offset = (-8, 4) if number % 2 else (3, -9)  # neighbours would hide each other's numbers
        axes.annotate(f"{number}", (truth.mean, one.mean), offset, textcoords="offset points", fontsize=6, color=TEXT)
    key = "\n".join(f"{number}  {one.model}" for number, one in enumerate(checker.models, start=1))
    axes.text(
        0.99, 0.02, key, transform=axes.transAxes, ha="right", va="bottom", fontsize=5.8, color=TEXT, linespacing=1.35
    )
    axes.set_xlabel("share of pictures that the checker finds entirely right")
    axes.set_ylabel("mean incentive by the mixture", fontsize=7)


def _draw_taus(axes: Axes, rows: Sequence[Row], key: str, label: str, colour: str, *, banded: bool) -> None:
    """Mean tau, and the band of 95% of the studies."""
    at = [row[key] for row in rows]
    if banded:
        low, high = [row["low"] for row in rows], [row["high"] for row in rows]
        axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(at, [row["tau"] for row in rows], "o-", color=colour, markersize=3, linewidth=1.4, label=label)
