"""Which images of a round are paid, and why the others are not. Pure: all that is looked at is handed in.

An image passes the gates in the order of `records`: it decodes, can be scored, is safe for work, is like no image of
its own answer or of another miner's that came earlier, like none of an earlier round and none made for another prompt,
shows its prompt, and is what its declared model makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ig_subnet.validating.device import Findings
from ig_subnet.validating.gate_settings import DuplicatesGate, GateSettings
from ig_subnet.validating.likeness import Alike, Prints, candidates, is_alike
from ig_subnet.validating.records import (
    COPY,
    DUPLICATE,
    IGNORES_PROMPT,
    NO_SCORE,
    NOT_REGENERATED,
    NOT_SAFE,
    OTHER_PROMPT,
    SEEN_BEFORE,
    VALID,
)


class ImageKey(NamedTuple):
    """Which image of a round: the prompt's position, the miner, the number in its answer."""

    position: int
    hotkey: str
    number: int


@dataclass(frozen=True, eq=False)
class Examined:
    """One image of a round as the gates see it.

    `refused` says why it did not decode, and is None where it did. `arrived` is how long after the sending of its query
    the answer was there, in seconds. `findings` is None where there is no finite score.
    """

    key: ImageKey
    prompt: str
    arrived: float
    refused: str | None = None
    phash: bytes | None = None
    findings: Findings | None = None

    @property
    def is_comparable(self) -> bool:
        """Whether there is all it takes to compare it with other images."""
        return self.phash is not None and self.findings is not None and self.findings.embedding is not None


@dataclass(frozen=True)
class Likeness:
    """An earlier image that one is like: where it stands, the prompt it was made for, and how like it is."""

    round_id: int
    key: ImageKey
    prompt: str
    figures: Alike

    def evidence(self) -> dict[str, Any]:
        """What the record says of it."""
        return {
            "like": {"round_id": self.round_id, **self.key._asdict()},
            "bits": self.figures.bits,
            "cosine": self.figures.cosine,
            **({} if self.figures.laid_over is None else {"laid_over": self.figures.laid_over}),
        }


@dataclass(frozen=True, eq=False)
class Declared:
    """An image and what its miner declares of it: that `model` made it from `seed`, one of those `asked` for.

    `embedding` is as in `Findings`.
    """

    hotkey: str
    number: int
    seed: int
    asked: tuple[int, ...]
    model: str
    embedding: NDArray[np.float32]


@dataclass(frozen=True)
class Check:
    """What came of making an image again: its cosine to the copy, None where the seed was not one asked for."""

    number: int
    model: str
    cosine: float | None
    threshold: float
    matches: bool


@dataclass(frozen=True)
class Verdict:
    """`VALID` or the reason of the first gate that stopped an image (see `records`), with figures that show it."""

    reason: str
    evidence: dict[str, Any] | None = None


def judge(
    images: Sequence[Examined],
    gates: GateSettings,
    *,
    round_id: int = 0,
    seen: Mapping[ImageKey, Likeness] | None = None,
    checks: Mapping[tuple[int, str], Check] | None = None,
) -> dict[ImageKey, Verdict]:
    """The verdict on every image of a round.

    `seen` names the image of an earlier round that one is most like, `checks` what came of making images again, by the
    prompt's position and the miner. Of images that are alike, the earliest keeps its pay: prompts are asked one after
    the other, answers to one prompt come in the order of `arrived`, images of an answer in that of their numbers.
    """
    seen, checks = seen or {}, checks or {}
    alike = _duplicates(images, gates, gates.duplicates, round_id, seen) if gates.duplicates else {}
    return {
        image.key: _verdict(
            image, gates, alike.get(image.key), checks.get((image.key.position, image.key.hotkey)), round_id
        )
        for image in images
    }


def _verdict(
    image: Examined, gates: GateSettings, alike: Likeness | None, check: Check | None, round_id: int
) -> Verdict:
    """The verdict on one image, which is `alike` to an earlier one, of this round or another."""
    found = image.findings
    if image.refused is not None:
        return Verdict(image.refused)
    if found is None:
        return Verdict(NO_SCORE)
    if (evidence := _unsafe(found, gates)) is not None:
        return Verdict(NOT_SAFE, evidence)
    if alike is not None:
        if alike.prompt != image.prompt:
            return Verdict(OTHER_PROMPT, alike.evidence())
        if alike.round_id != round_id:
            return Verdict(SEEN_BEFORE, alike.evidence())
        return Verdict(DUPLICATE if alike.key.hotkey == image.key.hotkey else COPY, alike.evidence())
    if (evidence := _ignores_prompt(found, gates)) is not None:
        return Verdict(IGNORES_PROMPT, evidence)
    if check is not None and not check.matches:
        return Verdict(NOT_REGENERATED, {"checked": asdict(check)})
    if check is not None and check.number == image.key.number:
        return Verdict(VALID, {"checked": asdict(check)})
    return Verdict(VALID)


def _unsafe(found: Findings, gates: GateSettings) -> dict[str, Any] | None:
    """The evidence that an image is not safe for work; None where there is none."""
    if gates.nsfw is None or found.unsafe is None or found.unsafe < gates.nsfw.threshold:
        return None
    return {"unsafe": found.unsafe, "threshold": gates.nsfw.threshold}


def _ignores_prompt(found: Findings, gates: GateSettings) -> dict[str, Any] | None:
    """The evidence that an image ignores its prompt; None where there is none."""
    if gates.alignment is None or found.alignment is None or found.alignment >= gates.alignment.threshold:
        return None
    return {"alignment": found.alignment, "threshold": gates.alignment.threshold}


def _duplicates(
    images: Sequence[Examined],
    gates: GateSettings,
    gate: DuplicatesGate,
    round_id: int,
    seen: Mapping[ImageKey, Likeness],
) -> dict[ImageKey, Likeness]:
    """For each image that is like an earlier one, that one: of its own answer if there is such a one, else of another
    answer to its prompt, else of an earlier round, else of another prompt of this round.

    An image that is stopped itself is nobody's original: it says nothing of how like each other honest images of the
    prompt are, and whoever is paid nothing for it must not take anything from others with it.
    """
    ordered = sorted(
        (image for image in images if image.is_comparable),
        key=lambda image: (image.key.position, image.arrived, image.key.hotkey, image.key.number),
    )
    prints = prints_of(ordered)
    positions = np.array([image.key.position for image in ordered])
    _, miners = np.unique([image.key.hotkey for image in ordered], return_inverse=True)
    stopped = [
        one.findings and (_unsafe(one.findings, gates) or _ignores_prompt(one.findings, gates)) for one in ordered
    ]
    original = np.array([not evidence for evidence in stopped], bool)
    alike: dict[ImageKey, Likeness] = {}

    def place(found: Alike) -> Likeness:
        other = ordered[found.index]
        return Likeness(round_id, other.key, other.prompt, found)

    for index, image in enumerate(ordered):
        before, same_prompt = original[:index], positions[:index] == positions[index]
        own, others, elsewhere = (
            candidates((prints, index), prints, np.flatnonzero(before & chosen), gate)
            for chosen in (
                same_prompt & (miners[:index] == miners[index]),
                same_prompt & (miners[:index] != miners[index]),
                ~same_prompt,
            )
        )
        nearest = [(place(found), others) for found in own[:1]]
        for found in others[:1]:
            nearest.append((place(found), [one for one in others if miners[one.index] != miners[found.index]]))
        if image.key in seen:
            nearest.append((seen[image.key], others))
        nearest += [(place(found), others) for found in elsewhere[:1]]
        for likeness, rivals in nearest:
            if is_alike(likeness.figures, rivals, gate):
                alike[image.key] = likeness
                original[index] = False
                break
    return alike


def prints_of(images: Sequence[Examined]) -> Prints:
    """What comparable images are compared by."""
    return Prints.of(
        [image.phash for image in images if image.phash is not None],
        [image.findings.embedding for image in images if image.findings and image.findings.embedding is not None],
    )
