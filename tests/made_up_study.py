"""A study's table of scores, made up: models of known quality, prompts that are harder or easier for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

EXPERTS = ("pick_score", "hps_v2")


def made_up_scores(
    quality: Mapping[str, float],
    *,
    topics: Sequence[str] = ("cats", "dogs"),
    prompts: int = 10,
    samples: int = 2,
    noise: float = 0.5,
    seed: int = 0,
) -> pa.Table:
    """As scores.parquet has them; a model's mean logit of the incentive is its quality, but for chance."""
    rng = np.random.default_rng(seed)
    hardness = rng.normal(size=(len(topics), prompts))
    rows: list[dict[str, Any]] = []
    for model, better in quality.items():
        for place, topic in enumerate(topics):
            for number in range(prompts):
                for sample in range(samples):
                    marks = better + hardness[place, number] + rng.normal(scale=noise, size=len(EXPERTS))
                    calibrated = 1 / (1 + np.exp(-marks))
                    row = {
                        "image": f"{model}/{topic}/{number}-{sample}.png",
                        "prompt": f"prompt {number} about {topic}",
                        "model": model,
                        "topic": topic,
                        "number": number,
                        "sample": sample,
                        "sha256": f"{len(rows):064x}",
                        "width": 64,
                        "height": 64,
                        "total": float(marks.mean()),
                        "incentive": float(calibrated.mean()),
                        "disagreement": float(calibrated.std()),
                    }
                    for expert, mark, value in zip(EXPERTS, marks, calibrated, strict=True):
                        row |= {expert: float(mark), f"{expert}_calibrated": float(value), f"{expert}_truncated": False}
                    rows.append({**row, "error": None})
    table = pa.Table.from_pylist(rows)
    types = {"error": pa.string(), **dict.fromkeys(("number", "sample", "width", "height"), pa.int32())}
    narrow = {pa.float64(): pa.float32()}
    return table.cast(
        pa.schema([(field.name, types.get(field.name, narrow.get(field.type, field.type))) for field in table.schema])
    )
