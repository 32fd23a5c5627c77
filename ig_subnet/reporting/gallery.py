"""A gallery of scored images on one page, best first: it needs nothing else, and its pictures are inside it."""

from __future__ import annotations

import base64
import hashlib
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_subnet.reporting.pages import page_environment
from ig_subnet.reporting.plots import Series, colour_class, strip_chart
from ig_subnet.reporting.summary import write_text_atomically
from ig_subnet.studies.results import best_first, experts_of

if TYPE_CHECKING:
    import pyarrow as pa

MOST_IMAGES = 240  # about 4 MB of a page at 512 px
MOST_BROKEN = 50
MOTES = 300  # images in a row of the chart
TINY = 128  # px: what is shown larger than it is keeps its pixels sharp

Thumbnails = Callable[[int], bytes | None]


def write_gallery(
    path: Path, results: pa.Table, thumbnail: Thumbnails, *, source: str, facts: Mapping[str, str] | None = None
) -> None:
    """Writes the page; a reader never sees half of it.

    `results` is a table as `ig_subnet.studies.results` describes it. `thumbnail(row)` gives the small copy of a row's
    image, as PNG or WebP, or None; it is asked for the images that are shown. `source` names where the images came
    from, and `facts` stand at the foot of the page.
    """
    write_text_atomically(path, render_gallery(results, thumbnail, source=source, facts=facts or {}))


def render_gallery(results: pa.Table, thumbnail: Thumbnails, *, source: str, facts: Mapping[str, str]) -> str:
    """The page as HTML; every text on it is escaped, and the policy in its head lets only its own script run."""
    import pyarrow as pa
    from markupsafe import Markup

    environment = page_environment()
    assert environment.loader is not None
    script = environment.loader.get_source(environment, "gallery.js")[0]
    experts = experts_of(results)
    order = best_first(results)
    prompts = results["prompt"].unique().to_pylist()
    one_prompt = len(prompts) == 1
    shown = order[:MOST_IMAGES]
    rows = results.take(pa.array(shown, pa.int64())).to_pylist()
    broken = results.filter(results["error"].is_valid()).select(["image", "error"])
    return environment.get_template("gallery.html.j2").render(
        title=prompts[0] if one_prompt else f"{len(order):,} images of {len(prompts):,} prompts",
        source=source,
        finished=time.strftime("%Y-%m-%d %H:%M"),
        tiles=_tiles(results, experts),
        chart=_chart(results, experts),
        orders=[("incentive", False), *((name, False) for name in experts), ("disagreement", False), ("input", True)],
        cards=[
            image_card(row, place, thumbnail(place), experts, prompted=not one_prompt)
            for row, place in zip(rows, shown, strict=True)
        ],
        left_out=len(order) - len(shown),
        broken=[tuple(row.values()) for row in broken.slice(0, MOST_BROKEN).to_pylist()],
        broken_left_out=max(0, broken.num_rows - MOST_BROKEN),
        facts=facts,
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _tiles(results: pa.Table, experts: list[str]) -> list[tuple[str, str, str]]:
    """Figure, what it counts, and a remark."""
    incentives = results["incentive"].drop_null().to_pylist()
    disagreement = results["disagreement"].drop_null().to_pylist()
    broken = results.num_rows - len(incentives)
    tiles = [(f"{len(incentives):,}", "images scored", f"by {len(experts)} experts")]
    if incentives:
        tiles += [
            (f"{statistics.fmean(incentives):.3f}", "mean incentive", f"deviation {statistics.pstdev(incentives):.3f}"),
            (f"{max(incentives):.3f}", "best", f"worst {min(incentives):.3f}"),
            (f"{statistics.fmean(disagreement):.3f}", "mean disagreement", "of the experts, at most 0.5"),
        ]
    if broken:
        tiles.append((f"{broken:,}", "not scored", "reasons below"))
    return tiles


def _chart(results: pa.Table, experts: list[str]) -> Any:
    scored = results.filter(results["incentive"].is_valid())
    if scored.num_rows < 2:
        return None
    step = max(1, scored.num_rows // MOTES)
    columns = {"incentive": "incentive", **{name: f"{name}_calibrated" for name in experts}}
    return strip_chart(
        [
            Series(label, colour, tuple((value, 0.0) for value in scored[column].to_pylist()[::step]))
            for colour, (label, column) in enumerate(columns.items())
        ],
        title="Incentive and calibrated expert scores of every image",
        x_label="place among reference images",
    )


def image_card(
    row: Mapping[str, Any], place: int, small: bytes | None, experts: list[str], *, prompted: bool
) -> dict[str, Any]:
    """What card.html.j2 needs of a scored row; `place` is where it stood in the table."""
    kind = "png" if small and small.startswith(b"\x89PNG") else "webp"
    values = [row["incentive"], *(row[name] for name in experts), row["disagreement"], place]
    return {
        "name": row["image"],
        "prompt": row["prompt"] if prompted else "",
        "width": row["width"],
        "height": row["height"],
        "tiny": max(row["width"], row["height"]) <= TINY,
        "uri": f"data:image/{kind};base64,{base64.b64encode(small).decode()}" if small else None,
        "incentive": row["incentive"],
        "disagreement": row["disagreement"],
        "order": " ".join(f"{value:.9g}" for value in values),
        "experts": [
            {
                "name": name,
                "colour": colour_class(number),
                "score": row[name],
                "calibrated": row[f"{name}_calibrated"],
                "cut": row[f"{name}_truncated"],
            }
            for number, name in enumerate(experts, start=1)
        ],
    }
