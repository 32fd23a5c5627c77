"""Figures of a ranking, at the size and in the type of a printed page: sorted bars with intervals, and ties as letters.

Each panel is a topic. A model has its name above its bar, so that long names take no room from the bars, and the colour
of a model is the same in all panels. Axes are shared by panels that show the same score. A bar begins at 0 unless all
of them would look the same from there: then the axis is cut, and every bar shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_subnet.reporting.plots import ticks
from ig_subnet.studies.ranking import Ranked, Ranking
from ig_subnet.studies.results import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = (  # the page's own eight first, then four more: the original author's study has nine models
    "#2a78d6", "#d9622b", "#12936a", "#a77400", "#6a4fc4", "#c9457c", "#1b8aa5", "#7a7f1f",
    "#7b3f20", "#4a5568", "#a83232", "#93a1b5",
)  # fmt: skip
OTHERS = "#8d8c86"
TEXT, MUTED, GRID = "#1d1d1b", "#6a6963", "#e3e2dc"
# Inches. Three panels beside each other fill the two columns of a paper.
PANEL_WIDTH, LONE_PANEL_WIDTH = 2.22, 3.6
ROW_HEIGHT = 0.225
GAP = 0.2  # between panels
PANEL_TITLE, PANEL_AXIS = 0.26, 0.2  # above the first row, and below the last
HEADING, FOOT = 0.3, 0.34
NAME_SIZE = 6.3  # points
NAME_LENGTH = 33  # characters that fit above a bar
DPI = 300
CUT_SHARE = 0.3  # the axis is cut where values differ by less than this share of the largest
NOTE = (
    "Rank, model, mean over prompts with its 95% confidence interval. Cut bars do not begin at 0.\n"
    "Models that share a letter cannot be told apart (95% confidence, all pairs of a panel at once)."
)


def colours_of(models: Sequence[str]) -> dict[str, str]:
    """A colour for each model; beyond twelve they share one."""
    return {model: PALETTE[place] if place < len(PALETTE) else OTHERS for place, model in enumerate(models)}


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Models without the owner of a hub id or the folder of a path, where that leaves no two the same."""
    endings = {model: model.rstrip("/").rpartition("/")[2] or model for model in models}
    return endings if len(set(endings.values())) == len(endings) else {model: model for model in models}


def draw_score(rankings: Sequence[Ranking], colours: Mapping[str, str], heading: str) -> Figure:
    """One score: a panel for each of `rankings`, three beside each other."""
    columns = min(3, len(rankings))
    figure, panels = _grid(heading, -(-len(rankings) // columns), columns, rankings)
    limits = _limits(rankings)
    for panel, ranking in zip(panels, rankings, strict=False):
        _draw_panel(panel(), ranking, colours, limits, _title(ranking.topic))
    return figure


def draw_experts(by_expert: Mapping[str, Sequence[Ranking]], colours: Mapping[str, str], heading: str) -> Figure:
    """Every expert beside the others: a column for each, a row for each topic."""
    topics = list(dict.fromkeys(ranking.topic for rankings in by_expert.values() for ranking in rankings))
    every = [ranking for rankings in by_expert.values() for ranking in rankings]
    figure, panels = _grid(heading, len(topics), len(by_expert), every)
    limits = {expert: _limits(rankings) for expert, rankings in by_expert.items()}
    ranked = {(ranking.topic, expert): ranking for expert, rankings in by_expert.items() for ranking in rankings}
    for place, (topic, expert) in enumerate(product(topics, by_expert)):
        if (topic, expert) in ranked:
            title = f"{expert} · {_title(topic)}"
            _draw_panel(panels[place](), ranked[topic, expert], colours, limits[expert], title)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes it as PNG, and beside it as PDF for a paper; a reader never sees half of either."""
    for suffix, options in ((".png", {"dpi": DPI}), (".pdf", {"metadata": {"CreationDate": None}})):
        with replacing(path.with_suffix(suffix)) as unfinished:
            figure.savefig(unfinished, format=suffix[1:], facecolor="white", **options)


def _grid(
    heading: str, rows: int, columns: int, rankings: Sequence[Ranking]
) -> tuple[Figure, list[Callable[[], Axes]]]:
    """A figure, and what makes its panels, row by row."""
    from matplotlib.figure import Figure

    bars = ROW_HEIGHT * max(len(ranking.models) for ranking in rankings)
    panel_width = PANEL_WIDTH if columns > 1 else LONE_PANEL_WIDTH
    width = columns * (panel_width + GAP)
    height = HEADING + rows * (PANEL_TITLE + bars + PANEL_AXIS) + FOOT
    figure = Figure(figsize=(width, height))
    figure.text(GAP / 2 / width, 1 - 0.1 / height, heading, fontsize=9, color=TEXT, va="top")
    figure.text(GAP / 2 / width, 0.06 / height, NOTE, fontsize=5.4, color=MUTED, va="bottom")

    def add(row: int, column: int) -> Axes:
        left = GAP / 2 + column * (panel_width + GAP)
        top = HEADING + row * (PANEL_TITLE + bars + PANEL_AXIS) + PANEL_TITLE
        place = (left / width, 1 - (top + bars) / height, panel_width / width, bars / height)
        axes = figure.add_axes(place)
        axes.set_ylim(bars / ROW_HEIGHT - 0.7, -0.8)  # a panel of fewer models leaves room below, and no bar is wider
        return axes

    return figure, [partial(add, row, column) for row, column in product(range(rows), range(columns))]


def _limits(rankings: Sequence[Ranking]) -> tuple[float, float, float]:
    """Where bars begin, and the ends of the axis."""
    shown = [end for ranking in rankings for one in ranking.models for end in _ends(one)]
    low, high = min(shown), max(shown)
    if low > 0 and high - low < CUT_SHARE * high:
        marks = ticks(low - 0.5 * (high - low), high, wanted=4)
        return marks[0], marks[0], high
    if high < 0 and high - low < -CUT_SHARE * low:
        marks = ticks(low, high + 0.5 * (high - low), wanted=4)
        return marks[-1], low, marks[-1]
    return 0.0, min(low, 0.0), max(high, 0.0)


def _ends(one: Ranked) -> tuple[float, float]:
    """Of its interval; where it has no bounds, the mean itself."""
    return (one.low, one.high) if math.isfinite(one.high - one.low) else (one.mean, one.mean)


def _draw_panel(
    axes: Axes, ranking: Ranking, colours: Mapping[str, str], limits: tuple[float, float, float], title: str
) -> None:
    names = short_names([one.model for one in ranking.models])
    origin, low, high = limits
    span = (high - low) or 1.0
    places = range(len(ranking.models))
    means = [one.mean for one in ranking.models]
    axes.barh(
        places,
        [mean - origin for mean in means],
        left=origin,
        height=0.34,
        color=[colours[one.model] for one in ranking.models],
        zorder=2,
    )
    ends = [_ends(one) for one in ranking.models]
    reach = [[mean - start for mean, (start, _) in zip(means, ends, strict=True)]]
    reach += [[end - mean for mean, (_, end) in zip(means, ends, strict=True)]]
    axes.errorbar(
        means, places, xerr=reach, fmt="none", ecolor=TEXT, elinewidth=0.8, capsize=1.5, capthick=0.8, zorder=4
    )
    axes.vlines(
        [origin] * len(means),
        [place - 0.24 for place in places],
        [place + 0.24 for place in places],
        MUTED,
        linewidth=0.8,
        zorder=5,
    )
    for place, one in enumerate(ranking.models):
        axes.axhspan(place - 0.66, place - 0.24, color="white", zorder=1)  # names stand on no grid line
        above: dict[str, Any] = {"y": place - 0.26, "transform": axes.get_yaxis_transform(), "va": "bottom"}
        above |= {"fontsize": NAME_SIZE, "parse_math": False}  # a dollar in a name is a dollar
        axes.text(0, s=f"{one.rank}", color=MUTED, **above)
        axes.text(0.06 if len(names) < 10 else 0.08, s=shortened(names[one.model]), color=TEXT, **above)
        axes.text(0.9, s=_figure(one.mean, span), ha="right", color=TEXT, **above)
        axes.text(0.925, s=one.letters, color=MUTED, **above)
    if origin:
        at = origin + (0.02 if origin == low else -0.02) * span
        axes.plot(
            [at] * len(means),
            places,
            linestyle="",
            marker=[(-1, -2), (1, 2)],
            markersize=5,
            markeredgewidth=1.6,
            color="white",
            zorder=3,
        )
    axes.set_xlim(low - 0.02 * span, high + 0.02 * span)
    axes.set_title(title, loc="left", fontsize=7.3, color=TEXT, fontweight="bold", pad=3.5, parse_math=False)
    axes.set_yticks([])
    marks = [mark for mark in (origin, *ticks(low, high, wanted=4)) if low - 0.02 * span <= mark <= high + 0.02 * span]
    axes.set_xticks(marks, [f"{mark:g}" for mark in marks], fontsize=5.6, color=MUTED)
    axes.tick_params(axis="x", length=0, pad=2)
    axes.grid(axis="x", color=GRID, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.set_frame_on(False)


def _figure(value: float, span: float) -> str:
    """With as many digits as tell a hundredth of the axis."""
    return f"{value:.2f}" if span > 3 else f"{value:.3f}" if span > 0.05 else f"{value:.4f}"


def shortened(name: str) -> str:
    """The name, or beginning and end of one that would not fit above a bar."""
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH // 2] + "…" + name[-(NAME_LENGTH // 2 - 1) :]


def _title(topic: str) -> str:
    return topic.replace("_", " ")
