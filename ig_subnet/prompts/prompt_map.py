"""A picture of a database: its prompts in two dimensions by meaning, each in the colour of the topic nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLOURS = ("#2a78d6", "#d9622b", "#12936a", "#a77400", "#6a4fc4", "#c9457c", "#1b8aa5", "#7a7f1f")  # as in the report
INK, MUTED = "#22252b", "#6b7280"
COMPONENTS = 50  # that the neighbourhoods of the layout are measured in
PERPLEXITY = 30
NEAREST = 25  # prompts of a topic that are drawn larger, with its mark amid them
LABEL = (0.2, 0.06)  # of the picture: as wide and high as a label at most


def draw_prompt_map(
    path: Path, vectors: NDArray[np.float32], names: Sequence[str], topics: NDArray[np.float32], title: str
) -> None:
    """Writes a PNG of prompts float32 [n, D] and topics float32 [T, D] with their names; n of 3000 takes ten seconds.

    The layout is t-SNE (van der Maaten and Hinton, 2008), which keeps neighbours together and says nothing about
    distances between groups. The prompts nearest to a topic are drawn larger, and it is marked amid them. Raises
    `ValueError` for fewer than 3 prompts.
    """
    from matplotlib.figure import Figure

    if len(vectors) < 3:
        raise ValueError(f"a map needs at least 3 prompts, not {len(vectors)}")
    similarities = vectors @ topics.T
    nearest = similarities.argmax(axis=1)
    points = _layout(vectors)
    size = np.clip(30_000 / len(points), 6, 40)
    figure = Figure(figsize=(9, 7.4), facecolor="white", layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(names):
        own = points[nearest == number]
        share = f"{name}  {len(own) / len(points):.0%}"
        colour = COLOURS[number % len(COLOURS)]
        axes.scatter(*own.T, s=size, color=colour, alpha=0.6, linewidths=0, label=share, rasterized=True)
    closest = np.argsort(-similarities, axis=0)[:NEAREST]  # [NEAREST, T]
    middles = np.median(points[closest], axis=0)
    span = np.ptp(points, axis=0)
    for number, name in enumerate(names):
        middle = middles[number]
        over = np.abs(middles - middle) < LABEL * span  # another topic's label would lie on this one's
        covered = (over.all(axis=1) & (middles[:, 1] > middle[1])).any()
        colour = COLOURS[number % len(COLOURS)]
        axes.scatter(*points[closest[:, number]].T, s=4 * size, color=colour, edgecolors="white", linewidths=0.8)
        axes.scatter(*middle, marker="*", s=330, color=colour, edgecolors="white", linewidths=1.4, zorder=3)
        axes.annotate(
            name,
            middle,
            xytext=(0, -25 if covered else 13),
            textcoords="offset points",
            ha="center",
            fontsize=10,
            fontweight="bold",
            color=INK,
            bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": colour, "alpha": 0.9},
            zorder=4,
        )
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=12)
    legend = axes.legend(
        title=f"nearest topic, share of prompts; large: the {NEAREST} nearest to a topic",
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        markerscale=2.2,
    )
    legend.get_title().set_color(MUTED)
    figure.savefig(path, dpi=130)


def _layout(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, 2]; the same each time on the same machine."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    components = PCA(min(COMPONENTS, *vectors.shape), random_state=0).fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(components)
