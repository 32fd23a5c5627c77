"""The images that gates are measured on: honest ones, near-duplicates of them, and what fills a history."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from calibrate import CalibrationError, pictures_of_set

from ig_subnet.validating.gates import Examined, ImageKey

if TYPE_CHECKING:
    from PIL import Image

    from ig_subnet.rewards import Mixture
    from ig_subnet.validating.gate_settings import DuplicatesGate
    from ig_subnet.validating.history import History

KINDS = {"20 steps": 20, "4 steps": 4, "2 steps": 2, "1 step": 1}  # of pocket miners
IMAGES_PER_PROMPT = 4
FEWEST_PROMPTS = 10
LAST = 1e6  # seconds
BATCH = 256  # pictures for the history that are in memory together


@dataclass(frozen=True, eq=False)
class Honest:
    """An image by an honest miner, and what the gates see of it."""

    image: Image.Image
    entry: Examined


def honest_of_pocket(prompts: int, miners: int, seed: int, device: str) -> list[Honest]:
    """What so many pocket miners of each kind answer to captions, four images each; no two share a seed.

    Miners are called by their kind and a number, and answer in an order of chance.
    """
    from tqdm import tqdm

    from ig_subnet.config.settings import parse_miner_settings
    from ig_subnet.mining.generators import load_generator
    from ig_subnet.pocket import pocket_captions

    flags = f"--subtensor.network local --miner.model pocket --neuron.device {device}"
    generator = load_generator(parse_miner_settings(flags.split()))
    chance = random.Random(seed)
    shown = []
    for prompt in tqdm(pocket_captions(prompts, seed), desc="prompts", unit="prompt"):
        order = [*KINDS.items()] * miners
        chance.shuffle(order)
        for arrived, (kind, steps) in enumerate(order):
            seeds = [chance.getrandbits(32) for _ in range(IMAGES_PER_PROMPT)]
            images = generator.generate(prompt, "", *generator.native_size, seeds, steps)
            miner = f"{kind}, {arrived}"
            shown += [(prompt, miner, number, float(arrived), image) for number, image in enumerate(images) if image]
    return entries(shown)


def honest_of_set(path: Path) -> list[Honest]:
    """The images of a folder or a table, each taken for the answer of another miner to its prompt; those that cannot be
    read are left out, with a line for each."""
    by_prompt: dict[str, list[Image.Image]] = defaultdict(list)
    for prompt, image in pictures_of_set(path):
        by_prompt[prompt].append(image)
    if len(by_prompt) < FEWEST_PROMPTS or not any(len(images) > 1 for images in by_prompt.values()):
        raise CalibrationError(
            f"{path} has images of {len(by_prompt)} prompts; at least {FEWEST_PROMPTS} prompts, and several images of "
            "them that one model made from different seeds, are needed"
        )
    return entries(
        (prompt, f"image {number}", 0, float(number), image)
        for prompt, images in by_prompt.items()
        for number, image in enumerate(images)
    )


def entries(shown: Iterable[tuple[str, str, int, float, Image.Image]]) -> list[Honest]:
    """Prompt, miner, number in its answer, time of arrival and image of each as the gates see them, earliest first."""
    from ig_subnet.imaging import fingerprint

    positions: dict[str, int] = {}
    return [
        Honest(
            image,
            Examined(
                ImageKey(positions.setdefault(prompt, len(positions)), miner, number),
                prompt,
                arrived,
                phash=fingerprint(np.asarray(image.convert("RGB"))),
            ),
        )
        for prompt, miner, number, arrived, image in shown
    ]


def changed_copies(mixture: Mixture, honest: Sequence[Honest], expert: str, seed: int) -> dict[str, list[Honest]]:
    """The first image of each prompt changed as a copier may change it, by the name of the change.

    Each change is another miner's, which answers last.
    """
    from adversaries.copies import CHANGES

    from ig_subnet.imaging import fingerprint
    from ig_subnet.rewards.grain import grain
    from ig_subnet.validating.device import Findings

    first = {one.entry.prompt: one for one in reversed(honest)}
    rng, copies = np.random.default_rng(seed), {}
    for name, change in CHANGES.items():
        images = [change(one.image.convert("RGB"), rng) for one in first.values()]
        copies[name] = [
            Honest(
                image,
                Examined(
                    ImageKey(one.entry.key.position, f"copier, {name}", 0),
                    one.entry.prompt,
                    LAST,
                    phash=fingerprint(np.asarray(image)),
                    findings=Findings(0.0, 1.0, 0.0, 1.0, {}, embedding=embedding, grain=levels),
                ),
            )
            for one, image, embedding, levels in zip(
                first.values(),
                images,
                mixture.embed(images, expert).numpy(),
                grain(images, mixture.image_size),
                strict=True,
            )
        ]
    return copies


def full_history(mixture: Mixture, honest: Sequence[Honest], gate: DuplicatesGate, seed: int) -> History:
    """A history full of pictures of the pocket world, of other captions than the honest images."""
    from tqdm import tqdm

    from ig_subnet.imaging import fingerprint
    from ig_subnet.pocket import caption, render, sample_scene
    from ig_subnet.validating.history import History
    from ig_subnet.validating.records import FingerprintRow

    asked, rng = {one.entry.prompt for one in honest}, np.random.default_rng(seed)
    history = History(gate)
    with tqdm(total=gate.history, desc="history", unit="picture") as bar:
        while len(history) < gate.history:
            scenes = [sample_scene(rng) for _ in range(BATCH)]
            pictures = [(caption(scene), render(scene, rng)) for scene in scenes if caption(scene) not in asked]
            embeddings = mixture.embed([picture for _, picture in pictures], gate.expert).numpy().astype(np.float16)
            history.add(
                FingerprintRow(0, 0, "", 0, prompt, fingerprint(np.asarray(picture)), embedding.tobytes())
                for (prompt, picture), embedding in zip(pictures, embeddings, strict=True)
            )
            bar.update(len(history) - bar.n)
    return history
