"""Who takes part: honest miners, every attack with what should stop it, and what it may earn at most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from adversaries.answers import ACCOMPLICE_STEPS, Adversary, Honest, Lab
from adversaries.ascent import MIXTURE, SMOOTHING, START_STEPS, Ascent, Goal
from adversaries.copies import CHANGES, Copy, EvadingCopy, Middleman, Replay, distort, everything
from adversaries.simple import DrawnText, EasyTopics, FixedImage, Malformed, Missing, Noise, Slow

HONEST_STEPS = (20, 8, 4, 2)
SYBIL_STEPS = 4
ANSWERED: Final = "answered"
CHEATING = 0.2  # of what the best honest miner earns: the most that cheating may
ACCOMPLICE = "accomplice (honest work)"  # whose answers other hotkeys copy
VICTIM = "honest--20-steps"  # the miner whom the middleman asks


@dataclass(frozen=True)
class Contestant:
    """One row of the table. `hotkeys` of one owner answer alike; `stopped_by` is what should stop it.

    An image that a gate stops of a contestant who `works` is a false alarm; `honest` are those who do nothing else.

    `goal` is the most it may earn as a ratio to the best honest miner: None where nothing is to stop it, ANSWERED for
    the share of queries that it answers.
    """

    attack: str
    adversary: Adversary
    stopped_by: str = ""
    goal: float | Literal["answered"] | None = None
    hotkeys: int = 1
    honest: bool = False
    works: bool = False

    @property
    def names(self) -> list[str]:
        """Of its hotkeys, in characters that a wallet's name may have."""
        plain = "".join(c if c.isalnum() else "-" for c in self.attack)
        return [plain] if self.hotkeys == 1 else [f"{plain}-{number}" for number in range(1, self.hotkeys + 1)]


@dataclass(frozen=True)
class Size:
    """How much of it is played: hotkeys of one owner, and whether every ascent or a choice of them."""

    sybils: int
    every_ascent: bool


QUICK, REAL, FULL = Size(12, False), Size(24, False), Size(24, True)


def honest_miners(lab: Lab) -> list[Contestant]:
    """Those whose best is the measure of all."""
    return [Contestant(f"honest, {steps} steps", Honest(lab, steps), honest=True, works=True) for steps in HONEST_STEPS]


def attackers(lab: Lab, size: Size) -> list[Contestant]:
    """Every attack of one owner; the accomplice, whose answers others copy, does honest work."""
    accomplice = Honest(lab, ACCOMPLICE_STEPS, posts=True)
    return [
        Contestant("noise", Noise(), "experts", CHEATING),
        Contestant("one image for every prompt", FixedImage(lab), "duplicates", CHEATING),
        Contestant("one image, distorted each time", FixedImage(lab, everything), "history, alignment", CHEATING),
        Contestant("prompt drawn as text", DrawnText(lab), "experts, alignment", CHEATING),
        Contestant(ACCOMPLICE, accomplice, works=True),
        Contestant("copy of the accomplice", Copy(lab), "duplicates", CHEATING),
        *(
            Contestant(f"near-duplicate: {name}", Copy(lab, change), "duplicates", CHEATING)
            for name, change in CHANGES.items()
        ),
        *(
            [
                Contestant(
                    f"copy distorted past the gate{', falsely declared' * declares}",
                    EvadingCopy(lab, lab.gates.duplicates, declares),
                    "regeneration",
                    CHEATING,
                )
                for declares in (False, True)
            ]
            if lab.gates.duplicates
            else []
        ),
        Contestant("replay", Replay(lab, Honest(lab, ACCOMPLICE_STEPS)), "history, alignment", CHEATING),
        Contestant(
            "replay, distorted", Replay(lab, Honest(lab, ACCOMPLICE_STEPS), everything), "history, alignment", CHEATING
        ),
        Contestant("middleman", Middleman(), "the honest miner's permits", CHEATING),
        *(
            Contestant(f"{fault} files", Malformed(lab, fault), "decoder", CHEATING)
            for fault in ("oversized", "truncated", "bomb", "mislabelled")
        ),
        *ascents(lab, size),
        Contestant("easy topics only", EasyTopics(Honest(lab, 20)), "silence counts 0", ANSWERED, works=True),
        Contestant("every second answer missing", Missing(Honest(lab, 20)), "silence counts 0", ANSWERED, works=True),
        Contestant("slow but in time", Slow(Honest(lab, 20)), works=True),
        Contestant("honest, 20 steps, declares nothing", Honest(lab, 20, declares=False), works=True),
        Contestant("honest work under many hotkeys", Honest(lab, SYBIL_STEPS), hotkeys=size.sybils, works=True),
        Contestant("copies under many hotkeys", Copy(lab, everything), "duplicates", CHEATING, hotkeys=size.sybils),
        Contestant(
            "distorted copies under many hotkeys, falsely declared",
            Copy(lab, distort, declares=True),
            "regeneration",
            CHEATING,
            hotkeys=size.sybils,
        ),
    ]


def ascents(lab: Lab, size: Size) -> Iterator[Contestant]:
    """Gradient ascent on each expert and on the mixture, from noise and from cheap images, which also go untouched.

    Those through the transforms from cheap images, which pay best, also hide their grain, and declare falsely or
    nothing.
    """
    yield Contestant(f"{START_STEPS} step, untouched", Honest(lab, START_STEPS))
    experts = [*lab.climbable]
    plain = [
        (Goal(target, through), from_noise)
        for target in (*experts, MIXTURE)
        for through in (False, True)
        for from_noise in (False, True)
    ]
    hiding = [
        (Goal(target, True, smoothing=SMOOTHING), declares)
        for target in (*experts, MIXTURE)
        for declares in (False, True)
    ]
    if not size.every_ascent:
        plain = [
            (Goal("pick_score"), False),
            (Goal("pick_score", True), False),
        ]
        hiding = [
            (goal, declares)
            for goal, declares in hiding
            if goal.target == "pick_score" or (goal.target == MIXTURE and not declares)
        ]
    for goal, from_noise in plain:
        yield _ascent(lab, goal, from_noise)
    for goal, declares in hiding:
        yield _ascent(lab, goal, from_noise=False, declares=declares)


def _ascent(lab: Lab, goal: Goal, from_noise: bool, declares: bool = False) -> Contestant:
    """Those that hide their grain climb through the transforms from cheap images.

    The ascent on the whole mixture has no goal: what all experts agree on is what is paid for.
    """
    hides = goal.smoothing > 0
    how = f" from {'noise' if from_noise else 'a cheap image'}" + ", through transforms" * goal.through
    return Contestant(
        f"ascent on {goal.target}" + (", hiding its grain" + ", falsely declared" * declares if hides else how),
        Ascent(lab, goal, from_noise, declares),
        "regeneration" if hides else "robust scores, grain",
        None if goal.target == MIXTURE else CHEATING,
    )
