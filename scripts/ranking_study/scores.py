"""What mixture and checker say of the images of a study, and what the mixture says when noise is put on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ig_subnet.studies.results import replacing

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

    from ig_subnet.rewards import Mixture

CHECKER, RESPECTS = "checker", "respects"
BATCH = 64
FULL_NOISE = 80.0  # levels: the deviation of the pocket world's `noise` at severity 1


def with_checker(scores: pa.Table, folder: Path) -> pa.Table:
    """The table with two more columns: `checker`, 1 where all that was asked is right and 0 where not or where the
    checker abstains, and `respects`, the share of the nine respects that are right.
    """
    from ig_subnet.pocket import check

    def judge(images: Sequence[Image], prompts: Sequence[str]) -> dict[str, list[float]]:
        verdicts = [check(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        return {
            CHECKER: [float(verdict.everything is True) for verdict in verdicts],
            RESPECTS: [float(np.mean([right is True for right in astuple(verdict)])) for verdict in verdicts],
        }

    found = _kept(folder / "checked.parquet", scores, folder, judge, "checker")
    return scores.append_column(CHECKER, found[CHECKER]).append_column(RESPECTS, found[RESPECTS])


def with_noise(scores: pa.Table, folder: Path, mixture: Mixture, levels: float) -> pa.Table:
    """The first image of each prompt, with its incentive when Gaussian noise of so many levels lies on it."""
    import pyarrow.compute

    from ig_subnet.pocket import corrupt

    first = scores.filter(pyarrow.compute.equal(scores["sample"], 0))

    def judge(images: Sequence[Image], prompts: Sequence[str]) -> dict[str, list[float]]:
        rng = np.random.default_rng(0)
        noisy = [corrupt(image, "noise", levels / FULL_NOISE, rng) for image in images]
        return {"incentive": mixture.score(noisy, prompts).incentive.tolist()}

    found = _kept(folder / f"noise-{levels:g}.parquet", first, folder, judge, f"noise of {levels:g}")
    return first.set_column(first.column_names.index("incentive"), "incentive", found["incentive"])


def _kept(
    path: Path, scores: pa.Table, folder: Path, judge: Callable[..., dict[str, list[float]]], what: str
) -> pa.Table:
    """What `judge` says of each image of the table; from the file where it was said of the same images before."""
    import pyarrow as pa
    import pyarrow.parquet

    names = scores["image"].to_pylist()
    if path.is_file() and (found := pyarrow.parquet.read_table(path))["image"].to_pylist() == names:
        return found
    said: dict[str, list[Any]] = {"image": names}
    for images, prompts in _batches(scores, folder / "images", what):
        for name, values in judge(images, prompts).items():
            said.setdefault(name, []).extend(values)
    table = pa.table(said)
    with replacing(path) as partial:
        pyarrow.parquet.write_table(table, partial)
    return table


def _batches(scores: pa.Table, images: Path, what: str) -> Iterator[tuple[list[Image], list[str]]]:
    from tqdm import tqdm

    from ig_subnet.studies.pictures import load_picture, open_picture

    rows = scores.select(["image", "prompt"]).to_pylist()
    for start in tqdm(range(0, len(rows), BATCH), desc=what, unit="batch", disable=None):
        batch = rows[start : start + BATCH]
        pictures = [load_picture(open_picture(images / row["image"])) for row in batch]
        yield pictures, [row["prompt"] for row in batch]
