"""What mixture and checker say of the images of a study, and what the mixture says when noise is put on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from ig_subnet.studies.results import replacing

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

    from ig_subnet.rewards import Mixture

CHECKER, RESPECTS, INCENTIVE = "checker", "respects", "incentive"
BATCH = 64
FULL_NOISE = 80.0  # levels: the deviation of the pocket world's `noise` at severity 1

Row = dict[str, Any]
Judge = Callable[[Sequence[Row], Sequence["Image"]], list[Row]]


def with_checker(scores: pa.Table, folder: Path) -> pa.Table:
    """The table with two more columns: `checker`, 1 where all that was asked is right and 0 where not or where the
    checker abstains, and `respects`, the share of the nine respects that are right.
    """
    from ig_subnet.pocket import check

    def judge(rows: Sequence[Row], images: Sequence[Image]) -> list[Row]:
        verdicts = [check(image, row["prompt"]) for row, image in zip(rows, images, strict=True)]
        return [
            {
                CHECKER: float(verdict.everything is True),
                RESPECTS: float(np.mean([right is True for right in astuple(verdict)])),
            }
            for verdict in verdicts
        ]

    found = _judged(folder / "checked.parquet", scores, folder, judge, "checker")
    for name in (CHECKER, RESPECTS):
        scores = scores.append_column(name, [[row[name] for row in found]])
    return scores


def with_noise(scores: pa.Table, folder: Path, mixture: Mixture, levels: float) -> pa.Table:
    """The first image of each prompt, with its incentive when Gaussian noise of so many levels lies on it."""
    import pyarrow.compute

    from ig_subnet.pocket import corrupt

    def judge(rows: Sequence[Row], images: Sequence[Image]) -> list[Row]:
        noisy = [
            corrupt(image, "noise", levels / FULL_NOISE, np.random.default_rng(crc32(row["image"].encode())))
            for row, image in zip(rows, images, strict=True)
        ]
        return [
            {INCENTIVE: value} for value in mixture.score(noisy, [row["prompt"] for row in rows]).incentive.tolist()
        ]

    first = scores.filter(pyarrow.compute.equal(scores["sample"], 0))
    found = _judged(folder / f"noise-{levels:g}.parquet", first, folder, judge, f"noise of {levels:g} levels")
    return first.set_column(first.column_names.index(INCENTIVE), INCENTIVE, [[row[INCENTIVE] for row in found]])


def _judged(path: Path, scores: pa.Table, folder: Path, judge: Judge, what: str) -> list[Row]:
    """What `judge` says of each image of the table. It is kept in a file, and said once of each."""
    import pyarrow as pa
    import pyarrow.parquet
    from tqdm import tqdm

    from ig_subnet.studies.pictures import load_picture, open_picture

    known = {row["image"]: row for row in (pyarrow.parquet.read_table(path).to_pylist() if path.is_file() else [])}
    rows = scores.select(["image", "prompt"]).to_pylist()
    missing = [row for row in rows if row["image"] not in known]
    for start in tqdm(range(0, len(missing), BATCH), desc=what, unit="batch", disable=None):
        batch = missing[start : start + BATCH]
        images = [load_picture(open_picture(folder / "images" / row["image"])) for row in batch]
        said = judge(batch, images)
        known |= {row["image"]: {"image": row["image"]} | each for row, each in zip(batch, said, strict=True)}
        with replacing(path) as partial:
            pyarrow.parquet.write_table(pa.Table.from_pylist(list(known.values())), partial)
    return [known[row["image"]] for row in rows]
