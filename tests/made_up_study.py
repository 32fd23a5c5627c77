"""A study's models and their images, and its table of scores, made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ig_subnet.studies.configuration import ModelSettings, StudySettings, parse_study
from ig_subnet.studies.making import LoadedModel
from ig_subnet.studies.series import ModelFacts

EXPERTS = ("pick_score", "hps_v2")
FACTS = ModelFacts("made up", None, None, "MadeUp", 4, 3.0, "ddim", "", 8, 8, "float32")


def study(*models: str, images: int = 2) -> StudySettings:
    topics = [{"name": "cats", "text": "a cat"}]
    written = [{"source": "made up", "name": model} for model in models]
    return parse_study({"models": written, "topics": topics, "images_per_prompt": images})


@dataclass
class Painter:
    """Models whose images follow from prompt and seed; `act` is called with each batch first, and may end it."""

    act: Callable[[Sequence[str]], None] = lambda prompts: None
    batch: int = 4
    facts: ModelFacts = FACTS
    loaded: list[str] = field(default_factory=list)
    made: list[tuple[str, int]] = field(default_factory=list)

    def load(self, model: ModelSettings, negative_prompt: str) -> LoadedModel:
        self.loaded.append(model.name)
        return LoadedModel(self.facts, self.batch, self.make)

    def make(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image | None]:
        self.act(prompts)
        self.made += zip(prompts, seeds, strict=True)
        return [
            Image.new("RGB", (8, 8), (1 + seed % 255, 9, len(prompt)))
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]


def made_up_scores(
    quality: Mapping[str, float],
    *,
    topics: Sequence[str] = ("cats", "dogs"),
    prompts: int = 10,
    samples: int = 2,
    noise: float = 0.5,
    seed: int = 0,
) -> pa.Table:
    """As scores.parquet has them: a model's mean logit of the incentive is its quality, but for chance.

    Some prompts are harder than others for all models alike.
    """
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
