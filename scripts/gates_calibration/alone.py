"""Gates that look at one image alone: what they stop of honest images, and where they are drawn."""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from calibrate import CalibrationError
from gates_calibration.honest import Honest
from gates_calibration.thresholds import round_up
from PIL import Image

if TYPE_CHECKING:
    from ig_subnet.validating.gate_settings import GrainGate, SafetyGate

UNSAFE = 0.8  # what the authors of open_nsfw recommend where one wants to be sure
CHECKED = 100  # images that the classifier of unsafe ones looks at, 70 ms each
ENCODINGS = (("JPEG", 80), ("WEBP", 80))  # the least quality that an honest miner is expected to send
GRAIN_MARGIN = 1.2  # times the grain of the grainiest honest image
LEAST_GRAIN = 0.5  # levels: rounding to bytes can leave as much
# What an ascent leaves is far above nearly all honest images: few have to be suspected of it.
GRAIN_SUSPECTED = 0.05

Row = dict[str, Any]


def measure_safety(
    honest: Sequence[Honest], what: str, options: argparse.Namespace, told: Callable[[str, float, str], str]
) -> tuple[SafetyGate | None, list[Row]]:
    """The gate, None where it is left out, and what it costs. Raises CalibrationError for too many false alarms."""
    from ig_subnet.rewards.nsfw import load_safety
    from ig_subnet.validating.gate_settings import SafetyGate

    if options.nsfw == "off":
        return None, []
    classifier = load_safety(options.nsfw, device=options.device)
    chosen = random.Random(options.seed).sample([one.image for one in honest], min(CHECKED, len(honest)))
    began = time.perf_counter()
    unsafe = classifier.unsafe(chosen).numpy()
    stopped = float((unsafe >= UNSAFE).mean())
    row: Row = {
        "gate": "nsfw",
        "check": options.nsfw,
        "threshold": UNSAFE,
        "images": len(chosen),
        "false_alarms": stopped,
        "highest_honest": float(unsafe.max()),
        "seconds_per_image": (time.perf_counter() - began) / len(chosen),
    }
    if stopped > options.false_alarms:
        raise CalibrationError(
            f"{options.nsfw} stops {stopped:.1%} of honest images at {UNSAFE:g}: leave it out with --nsfw off"
        )
    provenance = told(f"{len(chosen)} of {what}", stopped, classifier.identity)
    return SafetyGate(check=options.nsfw, threshold=UNSAFE, provenance=provenance), [row]


def measure_grain(
    honest: Sequence[Honest], size: int, told: Callable[[float], str]
) -> tuple[list[Honest], GrainGate, list[Row]]:
    """The images with their grain as experts of this `size` see it, the gate, and what it stops of each encoding.

    `told` is the provenance, of the share that is stopped. Nothing that was measured is.
    """
    from ig_subnet.rewards.grain import grain
    from ig_subnet.validating.gate_settings import GrainGate

    images = [one.image.convert("RGB") for one in honest]
    found = {"as made": grain(images, size)}
    for encoding, quality in ENCODINGS:
        found[f"{encoding} {quality}"] = grain([_sent(image, encoding, quality) for image in images], size)
    threshold = max(LEAST_GRAIN, round_up(GRAIN_MARGIN * max(map(max, found.values()))))
    suspicion = round_up(float(np.quantile(found["as made"], 1 - GRAIN_SUSPECTED)))
    rows: list[Row] = [
        {
            "gate": "grain",
            "sent_as": encoding,
            "threshold": threshold,
            "suspicion": suspicion,
            "honest_p99": float(np.quantile(levels, 0.99)),
            "highest_honest": max(levels),
            "false_alarms": float((np.array(levels) > threshold).mean()),
            "suspected": float((np.array(levels) > suspicion).mean()),
        }
        for encoding, levels in found.items()
    ]
    sent = " and ".join(f"{encoding} {quality}" for encoding, quality in ENCODINGS)
    suspected = rows[0]["suspected"]
    gate = GrainGate(
        threshold=threshold,
        suspicion=suspicion,
        provenance=f"{told(0.0)}; as they are made, and as {sent}; suspects {suspected:.1%} of the former",
    )
    return [_with_grain(one, levels) for one, levels in zip(honest, found["as made"], strict=True)], gate, rows


def _sent(image: Image.Image, encoding: str, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, encoding, quality=quality)
    return Image.open(file).convert("RGB")


def _with_grain(one: Honest, levels: float) -> Honest:
    if one.entry.findings is None:
        raise ValueError(f"nothing was found out yet about image {one.entry.key}")
    return replace(one, entry=replace(one.entry, findings=replace(one.entry.findings, grain=levels)))
