"""Preferences in the pocket world, where an exact checker says which of two images shows what their caption says.

For each of many captions that no training saw, the generator draws the caption in 20, 8, 4 and 2 steps, and a caption
that is wrong in one respect in 20 and 4; some of these are also spoilt by a corruption, and the one of 2 steps is
climbed from: its pixels are changed until one of the pocket experts likes it. Preferred is:

    right over wrong             an image that shows all that is said, over one that surely does not
    right over unreadable        the same over one drawn so badly that the checker cannot say what it shows
    right over climbed           the same over one that was climbed to, unless that shows all that is said, too
    clean over spoilt            any image over a spoilt copy of itself
    spoilt but right over wrong  one that shows all that is said though it is spoilt, over a clean one that does not

The checker calls some spoilt images wrong that are not (docs/pocket.md), so there only what it finds right counts. What
an image shows comes before how clean it is: another judge might weigh the last kind differently.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ig_subnet.pocket import CORRUPTIONS, Scene, caption, check, corrupt, sample_scene
from ig_subnet.studies.errors import ResultsError
from ig_subnet.studies.preferences import Pairs, Preferences
from ig_subnet.studies.results import canonical, differences, replacing
from ig_subnet.studies.sources import Item, Items

if TYPE_CHECKING:
    from PIL import Image

OWN_STEPS = (20, 8, 4, 2)
CHANGED_STEPS = (20, 4)
SPOILT = (0, 0, 1, 4)  # which of these images are spoilt, the first of them in two ways
CLIMBED = ("image_reward", "clip_aesthetic", "pick_score", "hps_v2")  # the experts that images are climbed to for
START = 3  # the place of the image that is climbed from
SEVERITIES = (0.1, 0.6)  # below it nothing is seen, above it hardly a thing is left

Draw = Callable[[str, int, int], "Image.Image"]
"""An image of a caption, by a seed and in a number of steps."""
Climb = Callable[["Image.Image", str, str], "Image.Image"]
"""An image climbed to from another: for a caption, in the eyes of the expert of that name."""


@dataclass(frozen=True)
class Picture:
    """How one image of a caption is made: for the caption itself or another, in how many steps; or from an image of
    the same caption, by its place, through a corruption or by climbing to what an expert likes.
    """

    caption: str
    seed: int
    steps: int
    source: int | None = None
    corruption: str = ""
    severity: float = 0.0
    climbed: str = ""


def pocket_preferences(
    folder: Path,
    captions: int,
    seed: int,
    draw: Draw,
    climb: Climb | None,
    progress: Callable[[int], None] = lambda done: None,
) -> Preferences:
    """Pairs of images in `folder`, which are made as far as they are not there yet; `progress` gets captions done.

    A longer run goes on from a shorter one. Without `climb` there are no images that were climbed to. Raises
    `ResultsError` where the folder holds images made otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_settings(folder / "settings.json", {"seed": seed, "severities": list(SEVERITIES)})
    rows: list[tuple[int, int, float, int, str]] = []
    items: list[Item] = []
    for number in range(captions):
        rng = np.random.default_rng([seed, number])
        scene = sample_scene(rng, "held_out")
        pictures = [picture for picture in plan(scene, rng) if climb or not picture.climbed]
        paths = [folder / f"{number:05d}-{place}.png" for place in range(len(pictures))]
        images = _made(pictures, paths, draw, climb)
        rows += [
            (len(items) + better, len(items) + worse, 1.0, number, kind)
            for better, worse, kind in judged(pictures, [check(image, scene).everything for image in images])
        ]
        items += [Item(path.name, caption(scene), path) for path in paths]
        progress(number + 1)
    source = f"the pocket world, {captions:,} held-out captions, seed {seed}"
    all_items = Items(source, len(items), lambda: iter(items))
    return Preferences("pocket", f"seed-{seed}", source, all_items, Pairs.of(rows), "strict")


def plan(scene: Scene, rng: np.random.Generator) -> list[Picture]:
    """The images of a scene's caption, always as many, in an order that tells which is which."""
    from ig_subnet.pocket.training.negatives import CHANGES, applicable

    own, changed = caption(scene), caption(CHANGES[str(rng.choice(applicable(scene)))](scene, rng))
    drawn = [(own, steps) for steps in OWN_STEPS] + [(changed, steps) for steps in CHANGED_STEPS]
    pictures = [Picture(text, int(rng.integers(2**31)), steps) for text, steps in drawn]
    pictures += [
        Picture(
            pictures[source].caption,
            int(rng.integers(2**31)),
            pictures[source].steps,
            source,
            str(rng.choice(CORRUPTIONS)),
            float(rng.uniform(*SEVERITIES)),
        )
        for source in SPOILT
    ]
    return pictures + [replace(pictures[START], source=START, climbed=expert) for expert in CLIMBED]


def judged(pictures: list[Picture], verdicts: list[bool | None]) -> Iterator[tuple[int, int, str]]:
    """The better and the worse of each pair that has one, by their places, and which kind of pair it is."""
    for better, worse in permutations(range(len(pictures)), 2):
        one, other = pictures[better], pictures[worse]
        right, wrong = verdicts[better], verdicts[worse]
        if other.corruption:
            if other.source == better:
                yield better, worse, "clean over spoilt"
        elif right is True and wrong is not True and not one.climbed:
            if other.climbed:
                kind = "right over climbed"
            elif wrong is None:
                kind = "right over unreadable"
            else:
                kind = "right over wrong"
            if not one.corruption:
                yield better, worse, kind
            elif kind == "right over wrong":
                yield better, worse, f"spoilt but {kind}"


def _made(pictures: list[Picture], paths: list[Path], draw: Draw, climb: Climb | None) -> list[Image.Image]:
    from PIL import Image

    images: list[Image.Image] = []
    for picture, path in zip(pictures, paths, strict=True):
        if path.exists():
            with Image.open(path) as file:
                images.append(file.convert("RGB"))
            continue
        if picture.source is None:
            images.append(draw(picture.caption, picture.seed, picture.steps))
        elif climb and picture.climbed:
            images.append(climb(images[picture.source], picture.caption, picture.climbed))
        else:
            rng = np.random.default_rng(picture.seed)
            images.append(corrupt(images[picture.source], picture.corruption, picture.severity, rng))
        with replacing(path) as partial:
            images[-1].save(partial, "PNG")
    return images


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    if not path.exists():
        with replacing(path) as partial:
            partial.write_text(canonical(settings), encoding="utf-8")
    elif different := differences(settings, json.loads(path.read_text(encoding="utf-8"))):
        raise ResultsError(f"{path.parent} holds images made with another {different}: name another output")
