"""Measures what robust scores take from honest images and what they stop, and writes their limits into a profile.

    python scripts/calibrate_robust.py --profile pocket                                    on images of pocket miners
    python scripts/calibrate_robust.py --profile mine.yaml --images photos/ --write mine.yaml   on a set of images
    python scripts/calibrate_robust.py --profile pocket --ascents 4                        and on images climbed to

The experts must have been calibrated first (scripts/calibrate.py). They are trusted fully up to the spread of standard
scores that one honest image in twenty exceeds, and not at all from 1.3 times that on. For 1 to 4 transformed
copies, every row tells of one kind of image what it earns without and with robust scores, beside the first kind, and
what copies and distrust take from it.

With --ascents, as many captions are climbed to with the experts' own gradients, 200 steps each, plainly and through
random transforms, from noise and from images of one sampling step (scripts/adversaries/ascent.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrate import (
    HONEST_STEPS,
    SMALLEST_SET,
    CalibrationError,
    check_target,
    images_of_miners,
    pictures_of_set,
    replace_text,
    short,
)

from ig_subnet.config.profiles import ProfileError, load_profile, profile_path, with_mapping
from ig_subnet.pocket import GUIDANCE_SCALE

if TYPE_CHECKING:
    from PIL import Image

    from ig_subnet.rewards import Mixture

COPIES = 2
MOST_COPIES = 4  # in the table
TOLERATED_QUANTILE = 0.95  # of the spread about honest images
DISTRUSTED = 1.3  # times the tolerated spread
QUICK_CAPTIONS = 10

Row = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """Images of one kind, with their prompts."""

    kind: str
    images: list[Image.Image]
    prompts: list[str]


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from ig_subnet.reporting.measurements import write_measurements
    from ig_subnet.rewards import RewardError, load_mixture
    from ig_subnet.studies.errors import StudyError

    began = time.monotonic()
    try:
        check_target(options.profile, options.write)
        rewarder = load_profile(options.profile)["rewarder"]
        if rewarder is None:
            raise CalibrationError(f"profile {options.profile!r} has no rewarder section, so nothing to make robust")
        rewarder = {**rewarder, "robust": None}  # what is there is measured anew, or was written for an older version
        mixture = load_mixture(rewarder, options.device)
        if mixture.uncalibrated:
            names = ", ".join(mixture.uncalibrated)
            raise CalibrationError(f"nobody has measured the scores of {names}: run scripts/calibrate.py first")
        honest, others = samples(options, rewarder)
        robust = limits(mixture, honest, options)
        rows = []
        for row in table(mixture, [*honest, *others], robust):
            rows.append(row)
            print("  ".join(f"{name} {short(value)}" for name, value in row.items()), flush=True)
        print("  ".join(f"{name} {short(value)}" for name, value in robust.items()))
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        if options.json:
            write_measurements(options.json, rows)
        if options.write:
            write_profile(options, robust, sum(len(sample.images) for sample in honest))
            print(f"wrote {options.write}: start with --profile {options.write}", file=sys.stderr)
    except (CalibrationError, ProfileError, RewardError, StudyError, OSError) as error:
        print(f"calibrate_robust.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="pocket", help="profile that is made robust (default: pocket)")
    parser.add_argument("--images", type=Path, metavar="SET", help="folder, .csv, .jsonl or .parquet: honest images")
    parser.add_argument("--captions", type=int, default=100, help="without a set: one image of each a miner (100)")
    parser.add_argument("--copies", type=int, default=COPIES, help=f"what is written into the profile ({COPIES})")
    parser.add_argument("--ascents", type=int, default=0, metavar="N", help="climb to that many captions (0)")
    parser.add_argument("--seed", type=int, default=2, help="of captions, images and copies (2)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the profile there, with these limits")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_CAPTIONS} captions, or the first {SMALLEST_SET} images of a set"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.captions = QUICK_CAPTIONS
    if options.captions < 2:
        parser.error(f"--captions must be at least 2, not {options.captions}")
    if not 1 <= options.copies <= MOST_COPIES:
        parser.error(f"--copies must be 1 to {MOST_COPIES}, not {options.copies}")
    if options.ascents and options.images:
        parser.error("--ascents are climbed from images of pocket miners: leave out --images")
    return options


# --- the images


def samples(options: argparse.Namespace, rewarder: Row) -> tuple[list[Sample], list[Sample]]:
    """Honest images, and others."""
    if options.images:
        return [images_of_set(options)], []
    prompts, answers = images_of_miners(options.captions, GUIDANCE_SCALE, options.seed, options.device)
    honest = [Sample(f"{steps} steps", answers[str(steps)], prompts) for steps in HONEST_STEPS]
    others = [Sample("noise", answers["noise"], prompts)]
    if options.ascents:
        others += ascended(prompts[: options.ascents], answers, rewarder, options.seed)
    return honest, others


def images_of_set(options: argparse.Namespace) -> Sample:
    """The images of a folder or a table; those that cannot be read are left out, with a line for each."""
    sample = Sample(options.images.name, [], [])
    for prompt, image in pictures_of_set(options.images, SMALLEST_SET if options.quick else None):
        sample.images.append(image)
        sample.prompts.append(prompt)
    return sample


def ascended(prompts: list[str], answers: dict[str, list[Image.Image]], rewarder: Row, seed: int) -> Iterator[Sample]:
    """Images climbed to each prompt: for one expert and for the mixture, from noise and from cheap images."""
    from adversaries.ascent import MIXTURE, Goal, ascend
    from adversaries.experts import load_climbable
    from tqdm import tqdm

    experts = load_climbable(rewarder)
    starts = {"noise": answers["noise"], "1 step": answers[str(HONEST_STEPS[-1])]}
    targets = (*experts, MIXTURE)
    goals = [(Goal(target, through), start) for target in targets for through in (False, True) for start in starts]
    for goal, start in tqdm(goals, desc="ascents", unit="goal"):
        how = "through transforms" if goal.through else "plainly"
        pairs = zip(starts[start], prompts, strict=False)  # as many as there are prompts
        images = [ascend([image], [prompt], goal, experts, seed)[0] for image, prompt in pairs]
        yield Sample(f"{goal.target}, {how}, from {start}", images, prompts)


# --- the figures


def limits(mixture: Mixture, honest: Sequence[Sample], options: argparse.Namespace) -> Row:
    """The `robust` section: copies, and the spread of standard scores that is tolerated, and that is not."""
    import torch

    found = torch.cat([mixture.spread(mixture.score(sample.images, sample.prompts)) for sample in honest])
    tolerated = float(found.quantile(TOLERATED_QUANTILE))
    if not tolerated > 0:
        raise CalibrationError("the experts say the same of all these images, so no limit can be taken from them")
    return {
        "copies": options.copies,
        "tolerated_spread": round(tolerated, 4),
        "distrusted_spread": round(DISTRUSTED * tolerated, 4),
    }


def table(mixture: Mixture, all_samples: Iterable[Sample], robust: Row) -> Iterator[Row]:
    """What each kind of image earns by number of copies, also beside the first kind."""
    import torch

    from ig_subnet.rewards.mixture import weighted
    from ig_subnet.rewards.robust import transformed, trust

    size = max(member.expert.image_size for member in mixture.members)
    first: dict[int, float] = {}
    for sample in all_samples:
        seeds = [f"{sample.kind} {number}".encode() for number in range(len(sample.images))]
        made = [transformed(*pair, MOST_COPIES, size) for pair in zip(sample.images, seeds, strict=True)]
        plain = mixture.score(sample.images, sample.prompts)
        spread = mixture.spread(plain)
        trusted = trust(spread, robust["tolerated_spread"], robust["distrusted_spread"])
        worst = plain.calibrated
        for copies in range(1, MOST_COPIES + 1):
            found = mixture.score([of_image[copies - 1] for of_image in made], sample.prompts).calibrated
            worst = {expert: torch.minimum(marks, found[expert]) for expert, marks in worst.items()}
            incentive, _ = weighted(worst, plain.weights)
            before, after = float(incentive.mean()), float((incentive * trusted).mean())
            yield {
                "images": sample.kind,
                "copies": copies,
                "count": len(sample.images),
                "spread": float(spread.mean()),
                "plain_incentive": float(plain.incentive.mean()),
                "incentive": after,
                "ratio_to_first": after / max(first.setdefault(copies, after), 1e-9),
                "lost_to_copies": 1 - before / float(plain.incentive.mean()),
                "lost_to_distrust": 1 - after / before,
                "distrusted_images": int((trusted < 1).sum()),
            }


def write_profile(options: argparse.Namespace, robust: Row, images: int) -> None:
    """Writes the profile with these limits, and everything else as it is."""
    if images < SMALLEST_SET:
        raise CalibrationError(f"--write: {images} images are too few for a limit; at least {SMALLEST_SET} are needed")
    what = options.images.name if options.images else "the shipped generator, 20 to 1 steps"
    provenance = (
        f"scripts/calibrate_robust.py: {images} images of {what}; {1 - TOLERATED_QUANTILE:.0%} of them are "
        f"trusted less; {date.today().isoformat()}"
    )
    text = profile_path(options.profile).read_text(encoding="utf-8")
    replace_text(options.write, with_mapping(text, ("rewarder", "robust"), {**robust, "provenance": provenance}))


if __name__ == "__main__":
    sys.exit(main())
