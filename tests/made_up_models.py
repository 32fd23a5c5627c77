"""Stands in for prompter and experts where a test is about something else: it rewards brightness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ig_subnet.prompts import Candidates, DrawnPrompt, RetrievedPrompt, Topic, Uses
from ig_subnet.prompts.choosing import choose
from ig_subnet.prompts.database import prompt_id

if TYPE_CHECKING:
    import torch

SIZE = 32


@dataclass
class MadeUpPrompter:
    """Its prompts are as near to any topic as they stand in the database; none is like another."""

    topics: Sequence[Topic] = (Topic(name="brightness", text="something bright"),)
    database: Sequence[str] = tuple(f"prompt {number}" for number in range(30))
    fresh_wanted: int = 10
    digest: str = "ab" * 32
    fingerprint: str = "cd" * 32
    searched: list[int] = field(default_factory=list)

    def candidates(self, topic: Topic) -> Candidates:
        return self._nearest(topic, self.fresh_wanted)

    def wider(self, candidates: Candidates, uses: Mapping[str, Uses]) -> Candidates | None:
        fresh = sum(uses.get(found, Uses()).fresh for found in candidates.ids)
        if fresh >= self.fresh_wanted or candidates.searched >= len(self.database):
            return None
        return self._nearest(candidates.topic, 2 * candidates.searched)

    def draw(self, candidates: Candidates, n: int, uses: Mapping[str, Uses], seed: bytes) -> list[DrawnPrompt]:
        chosen = choose(candidates, n, uses=uses, seed=seed)
        return [DrawnPrompt.of(prompt, candidates.topic.name) for prompt in chosen]

    def _nearest(self, topic: Topic, k: int) -> Candidates:
        self.searched.append(k)
        nearest = [
            RetrievedPrompt(prompt_id(text), text, 0.9 - row / 100, row, "made up", "MIT")
            for row, text in enumerate(self.database[:k])
        ]
        return Candidates(topic, k, tuple(nearest), np.eye(len(nearest), dtype=np.float32))


@dataclass(frozen=True)
class Scores:
    total: np.ndarray
    disagreement: np.ndarray
    components: dict[str, np.ndarray]
    truncated: dict[str, np.ndarray]


@dataclass(frozen=True)
class RobustScores:
    score: Scores
    worst: dict[str, np.ndarray]
    trust: np.ndarray
    incentive: np.ndarray
    embeddings: dict[str, torch.Tensor]


@dataclass
class BrightnessMixture:
    """The incentive is the mean pixel over 255; `before` is called with each batch first."""

    before: Callable[[list[Image.Image]], None] = lambda images: None
    batches: list[tuple[str, str | None, int]] = field(default_factory=list)
    dtype: str = "float32"
    resize: str = "pil"
    image_size: int = SIZE
    identities: dict[str, str] = field(default_factory=lambda: {"brightness": "no weights"})

    def score_robustly(
        self, images: list[Image.Image], prompt: str, topic: str | None, seeds: Sequence[bytes]
    ) -> RobustScores:
        self.before(images)
        self.batches.append((prompt, topic, len(images)))
        bright = np.array([np.asarray(image).mean() / 255 for image in images], dtype=np.float32)
        score = Scores(
            total=2 * bright - 1,
            disagreement=bright / 4,
            components={"brightness": bright * 10},
            truncated={"brightness": np.full(len(images), len(prompt) > len("prompt 1"))},
        )
        worst = {"brightness": bright * 9}
        return RobustScores(
            score, worst, np.ones_like(bright), bright, {"brightness": self.embed(images, "brightness")}
        )

    def embed(self, images: list[Image.Image], expert: str) -> torch.Tensor:
        """Of an image shrunk to 4 x 4: its colours, and 1 for an image that has none."""
        import torch

        small = [np.asarray(image.resize((4, 4), Image.Resampling.BOX)).reshape(-1) / 255 for image in images]
        found = torch.tensor(np.array([[*colours, 1.0] for colours in small]), dtype=torch.float32)
        return torch.nn.functional.normalize(found, dim=-1)


def grey(brightness: int, format: str = "PNG", size: tuple[int, int] = (SIZE, SIZE)) -> bytes:
    """An encoded image of one grey, 0 to 255."""
    file = BytesIO()
    Image.new("RGB", size, (brightness,) * 3).save(file, format, lossless=True)
    return file.getvalue()
