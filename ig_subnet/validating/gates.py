"""Which images of a round are paid, and why the others are not. Pure: all that is looked at is handed in.

An image passes the gates in this order: it decodes, can be scored, is what its declared model makes, is safe for work,
has no grain, shows its prompt, and is like no image of its own answer or of another miner's that came earlier, like
none of an earlier round and none made for another prompt.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ig_subnet.validating.device import Findings
from ig_subnet.validating.gate_settings import DuplicatesGate, GateSettings
from ig_subnet.validating.likeness import Alike, Compared, Prints, candidates, is_alike
from ig_subnet.validating.records import (
    COPY,
    DUPLICATE,
    GRAINY,
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
        found = self.findings
        return self.phash is not None and found is not None and found.is_finite and found.embedding is not None


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
    """An image and what its miner declares of it: that `model` made it for its `prompt` from `seed`, one of those
    `asked` for. `phash` is its fingerprint, `embedding` is as in `Findings`."""

    key: ImageKey
    prompt: str
    seed: int
    asked: AbstractSet[int]
    model: str
    phash: bytes
    embedding: NDArray[np.float32]


@dataclass(frozen=True)
class Check:
    """What came of making an image again: its cosine to the copy, and by how many `levels` they are apart (see
    `gate_settings.VerifiedModel`); None where the seed was not one asked for."""

    number: int
    model: str
    cosine: float | None
    threshold: float
    matches: bool
    levels: float | None = None


@dataclass(frozen=True)
class Proofs:
    """What came of holding images against what their miners declare of them: nothing, where nobody verifies.

    `checks` are of the images that were made again. `unproven` are those that could not be, whoever wanted to: their
    miner declares nothing, or nothing that is known here, or has declared falsely before.
    """

    checks: Mapping[ImageKey, Check] = field(default_factory=dict)
    unproven: AbstractSet[ImageKey] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """`VALID` or the reason of the first gate that stopped an image (see `records`), with figures that show it.

    A valid one is `paid` this share of its incentive.
    """

    reason: str
    evidence: dict[str, Any] | None = None
    paid: float = 1.0


def judge(
    images: Sequence[Examined],
    gates: GateSettings,
    *,
    round_id: int = 0,
    seen: Mapping[ImageKey, Likeness] | None = None,
    proofs: Proofs | None = None,
    suspected: Container[ImageKey] = (),
    compared: Compared | None = None,
) -> dict[ImageKey, Verdict]:
    """The verdict on every image of a round.

    `seen` names the image of an earlier round that one is most like. Of images that are alike, the earliest keeps its
    pay: prompts are asked one after the other, answers to one prompt come in the order of `arrived`, images of an
    answer in that of their numbers. But what was made again, and matches, is nobody's copy, whatever it is like, and
    may be as grainy as it is. The grain of those that are `suspected`, and their likeness to others' answers, count by
    the limits of the gates' suspicion. `compared` is what an earlier verdict on the very same images has compared
    already, and is added to.
    """
    seen, proofs = seen or {}, proofs or Proofs()
    false = {key[:2]: check for key, check in proofs.checks.items() if not check.matches}
    proven = {key for key, check in proofs.checks.items() if check.matches}
    faults = {
        image.key: _fault(
            image,
            gates,
            false.get(image.key[:2]),
            is_proven=image.key in proven,
            is_suspected=image.key in suspected,
        )
        for image in images
    }
    alike: dict[ImageKey, Likeness] = {}
    if gates.duplicates:
        sound = {key for key, fault in faults.items() if fault is None}
        alike = _duplicates(images, sound, proven, gates.duplicates, round_id, seen, suspected, compared)
    return {
        image.key: faults[image.key] or _verdict(image, gates, alike.get(image.key), proofs, round_id)
        for image in images
    }


def _fault(
    image: Examined, gates: GateSettings, false: Check | None, *, is_proven: bool, is_suspected: bool
) -> Verdict | None:
    """The verdict of the gates that compare an image with no other one; None where they let it pass.

    `is_proven` and `is_suspected` are as in `judge`; `false` is the check of its answer, where that does not match.
    """
    found = image.findings
    if image.refused is not None:
        return Verdict(image.refused)
    if found is None or not found.is_finite:
        return Verdict(NO_SCORE)
    if false is not None:  # before all else that is wrong with it: who lied is remembered by this verdict
        return Verdict(NOT_REGENERATED, {"checked": asdict(false)})
    if (evidence := _unsafe(found, gates)) is not None:
        return Verdict(NOT_SAFE, evidence)
    if not is_proven and (evidence := _grainy(found, gates, is_suspected)) is not None:
        return Verdict(GRAINY, evidence)
    if (evidence := _ignores_prompt(found, gates)) is not None:
        return Verdict(IGNORES_PROMPT, evidence)
    return None


def _verdict(image: Examined, gates: GateSettings, alike: Likeness | None, proofs: Proofs, round_id: int) -> Verdict:
    """The verdict on an image without fault, which is `alike` to an earlier one, of this round or another."""
    if alike is not None:
        if alike.prompt != image.prompt:
            return Verdict(OTHER_PROMPT, alike.evidence())
        if alike.round_id != round_id:
            return Verdict(SEEN_BEFORE, alike.evidence())
        return Verdict(DUPLICATE if alike.key.hotkey == image.key.hotkey else COPY, alike.evidence())
    if (check := proofs.checks.get(image.key)) is not None:
        return Verdict(VALID, {"checked": asdict(check)})
    if image.key in proofs.unproven and gates.regeneration is not None:
        share = gates.regeneration.unproven
        return Verdict(VALID, {"unproven": share}, share)
    return Verdict(VALID)


def _unsafe(found: Findings, gates: GateSettings) -> dict[str, Any] | None:
    """The evidence that an image is not safe for work; None where there is none."""
    if gates.nsfw is None or found.unsafe is None or found.unsafe < gates.nsfw.threshold:
        return None
    return {"unsafe": found.unsafe, "threshold": gates.nsfw.threshold}


def _grainy(found: Findings, gates: GateSettings, is_suspected: bool) -> dict[str, Any] | None:
    """The evidence that an image has grain all over, by the wider limit where it `is_suspected`; None without any."""
    if (gate := gates.grain) is None or found.grain is None:
        return None
    limit = gate.suspicion if is_suspected and gate.suspicion is not None else gate.threshold
    return {"grain": found.grain, "threshold": limit} if found.grain > limit else None


def _ignores_prompt(found: Findings, gates: GateSettings) -> dict[str, Any] | None:
    """The evidence that an image ignores its prompt; None where there is none."""
    if gates.alignment is None or found.alignment is None or found.alignment >= gates.alignment.threshold:
        return None
    return {"alignment": found.alignment, "threshold": gates.alignment.threshold}


def _duplicates(
    images: Sequence[Examined],
    sound: Container[ImageKey],
    proven: Container[ImageKey],
    gate: DuplicatesGate,
    round_id: int,
    seen: Mapping[ImageKey, Likeness],
    suspected: Container[ImageKey],
    compared: Compared | None,
) -> dict[ImageKey, Likeness]:
    """For each of the `sound` images that is like an earlier one, that one: of its own answer if there is such a one,
    else of another answer to its prompt, else of an earlier round, else of another prompt of this round.

    An image that is stopped is nobody's original: it says nothing of how like each other honest images of the prompt
    are, and whoever is paid nothing for it must not take anything from others with it.
    """
    ordered = sorted(
        (image for image in images if image.is_comparable),
        key=lambda image: (image.key.position, image.arrived, image.key.hotkey, image.key.number),
    )
    prints = prints_of(ordered)
    positions = np.array([image.key.position for image in ordered])
    _, miners = np.unique([image.key.hotkey for image in ordered], return_inverse=True)
    original = np.array([image.key in sound for image in ordered], bool)
    alike: dict[ImageKey, Likeness] = {}

    def place(found: Alike) -> Likeness:
        other = ordered[found.index]
        return Likeness(round_id, other.key, other.prompt, found)

    for index, image in enumerate(ordered):
        if not original[index] or image.key in proven:
            continue
        before, same_prompt = original[:index], positions[:index] == positions[index]
        own, others, elsewhere = (
            candidates((prints, index), prints, np.flatnonzero(before & chosen), gate, compared)
            for chosen in (
                same_prompt & (miners[:index] == miners[index]),
                same_prompt & (miners[:index] != miners[index]),
                ~same_prompt,
            )
        )
        nearest = [(place(found), others, gate) for found in own[:1]]
        for found in others[:1]:
            rivals = [one for one in others if miners[one.index] != miners[found.index]]
            nearest.append((place(found), rivals, gate.suspecting() if image.key in suspected else gate))
        if image.key in seen:
            nearest.append((seen[image.key], others, gate))
        nearest += [(place(found), others, gate) for found in elsewhere[:1]]
        for likeness, rivals, limits in nearest:
            if is_alike(likeness.figures, rivals, limits):
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
