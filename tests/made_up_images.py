"""Images of rounds as the gates see them, made up: each shows one of a few pictures, and gates that tell them apart."""

from __future__ import annotations

from functools import cache

import numpy as np

from ig_subnet.imaging.fingerprints import FINGERPRINT_BYTES
from ig_subnet.validating.device import Findings
from ig_subnet.validating.gate_settings import AlignmentGate, DuplicatesGate, GateSettings, SafetyGate
from ig_subnet.validating.gates import Examined, ImageKey

PICTURES = 8
DUPLICATES = DuplicatesGate(
    hash_distance=10, laid_over=0.99, times_nearer=3, expert="brightness", cosine=0.9, history=50, provenance="made up"
)
GATES = GateSettings(
    nsfw=SafetyGate(check="opennsfw", threshold=0.8, provenance="made up"),
    duplicates=DUPLICATES,
    alignment=AlignmentGate(expert="pick_score", threshold=1.0, decoys=8, provenance="made up"),
)


@cache
def phash_of(picture: int) -> bytes:
    return np.random.default_rng(picture).integers(0, 256, FINGERPRINT_BYTES, dtype=np.uint8).tobytes()


def embedding_of(picture: int) -> np.ndarray:
    """Unlike that of any other picture."""
    return np.eye(PICTURES, dtype=np.float32)[picture]


def examined(
    hotkey: str = "alice",
    picture: int = 0,
    *,
    position: int = 0,
    number: int = 0,
    arrived: float = 1.0,
    unsafe: float = 0.0,
    alignment: float = 2.0,
) -> Examined:
    """An honest image, but for what is said."""
    findings = Findings(0.0, 0.5, 0.0, 1.0, {}, embedding=embedding_of(picture), alignment=alignment, unsafe=unsafe)
    key = ImageKey(position, hotkey, number)
    return Examined(key, f"prompt {position}", arrived, phash=phash_of(picture), findings=findings)
