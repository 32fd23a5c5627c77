"""Pairs of the pocket world: what is preferred to what, and that no image is made twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ig_subnet.pocket import is_held_out, parse_caption, render
from ig_subnet.studies.errors import ResultsError
from ig_subnet.studies.pocket_preferences import (
    CHANGED_STEPS,
    CLIMBED,
    OWN_STEPS,
    SPOILT,
    judged,
    plan,
    pocket_preferences,
)
from ig_subnet.studies.preferences import Preferences

OWN, CHANGED = len(OWN_STEPS), len(OWN_STEPS) + len(CHANGED_STEPS)
CLIMBING = CHANGED + len(SPOILT)
SIZE = CLIMBING + len(CLIMBED)


class Painter:
    """Renders captions perfectly, whatever the steps; climbing turns an image grey."""

    def __init__(self) -> None:
        self.painted = 0
        self.climbed: list[str] = []

    def draw(self, caption: str, seed: int, steps: int) -> Image.Image:
        self.painted += 1
        return render(parse_caption(caption), np.random.default_rng(seed))

    def climb(self, image: Image.Image, caption: str, expert: str) -> Image.Image:
        self.climbed.append(expert)
        return image.convert("L").convert("RGB")

    def preferences(
        self, folder: Path, captions: int, seed: int = 5, progress: Callable[[int], None] = print
    ) -> Preferences:
        return pocket_preferences(folder, captions, seed, self.draw, self.climb, progress)


def test_a_perfect_painter_is_judged_by_what_was_said(tmp_path: Path) -> None:
    painter = Painter()
    preferences = painter.preferences(tmp_path, 3)
    items, pairs = list(preferences.items), preferences.pairs
    assert len(items) == preferences.items.count == 3 * SIZE and painter.painted == 3 * CHANGED
    assert all(is_held_out(parse_caption(item.prompt)) for item in items)
    assert painter.climbed == 3 * list(CLIMBED)
    chosen = pairs.where(pairs.kind == "right over wrong")
    assert len(chosen) == 3 * OWN * len(CHANGED_STEPS)
    assert set(chosen.first % SIZE) == set(range(OWN)) and set(chosen.second % SIZE) == set(range(OWN, CHANGED))
    assert (pairs.kind == "clean over spoilt").sum() == 3 * len(SPOILT) and (pairs.label == 1).all()
    assert not (pairs.kind == "right over unreadable").any()
    climbed = pairs.where(pairs.kind == "right over climbed")
    assert len(climbed) == 3 * OWN * len(CLIMBED) and set(climbed.second % SIZE) == set(range(CLIMBING, SIZE))
    assert np.array_equal(pairs.first // SIZE, pairs.prompt) and np.array_equal(pairs.second // SIZE, pairs.prompt)


def test_images_are_made_once_and_a_longer_run_begins_with_the_shorter(tmp_path: Path) -> None:
    Painter().preferences(tmp_path, 2)
    (tmp_path / "00001-2.png").unlink()
    painter, done = Painter(), []
    longer = painter.preferences(tmp_path, 3, progress=done.append)
    assert painter.painted == 1 + CHANGED and painter.climbed == list(CLIMBED) and done == [1, 2, 3]
    fresh = Painter().preferences(tmp_path / "fresh", 3)
    plain = pocket_preferences(tmp_path, 3, 5, painter.draw, None)
    assert len(list(plain.items)) == 3 * CLIMBING and len(plain.pairs) < len(longer.pairs)
    assert not (plain.pairs.kind == "right over climbed").any()
    assert [item.image.read_bytes() for item in longer.items] == [item.image.read_bytes() for item in fresh.items]
    assert np.array_equal(longer.pairs.second, fresh.pairs.second)
    with pytest.raises(ResultsError, match="images made with another seed"):
        Painter().preferences(tmp_path, 2, seed=6)


def test_judged_by_verdicts() -> None:
    pictures = plan(parse_caption("a small red circle on a blue background"), np.random.default_rng(0))
    verdicts: list[bool | None] = [None] * len(pictures)
    verdicts[0], verdicts[4], verdicts[CHANGED], verdicts[SIZE - 1] = True, False, True, True
    found = set(judged(pictures, verdicts))
    spoilt = {(SPOILT[n], CHANGED + n, "clean over spoilt") for n in range(len(SPOILT))}
    unreadable = {(0, place, "right over unreadable") for place in (1, 2, 3, 5)}
    climbed = {(0, place, "right over climbed") for place in range(CLIMBING, SIZE - 1)}
    assert found == spoilt | unreadable | climbed | {
        (0, 4, "right over wrong"),
        (CHANGED, 4, "spoilt but right over wrong"),
    }
    verdicts[CHANGED] = False  # what the checker calls wrong of a spoilt image is not believed
    assert set(judged(pictures, verdicts)) == spoilt | unreadable | climbed | {(0, 4, "right over wrong")}
