"""Measures the reference distributions of a profile's experts, and writes them into a profile.

    python scripts/calibrate.py --profile pocket                                      on images of pocket miners
    python scripts/calibrate.py --profile mixture --images photos/ --write mine.yaml  on a folder or a table of images
    python scripts/calibrate.py --profile mixture --scores s.parquet --write mine.yaml  on what scripts/score.py wrote

The reference of an expert is the mean and deviation of its scores over the set, where a score further than four
deviations from the mean counts as four, as it does in what is paid (docs/rewards.md). With --scores no model is loaded.

Without a set, the same captions are given to the pocket generator at several step counts and to a miner that sends
noise. The reference is then taken over all generated images, equal parts of each step count: a market of miners who
spend more and less. Printed beside it are the incentives of these miners, how far apart they lie in paired differences
over the same captions, and the same for many splits of the weight among the experts.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_subnet.config.profiles import ProfileError, load_profile, profile_path, with_calibrations
from ig_subnet.pocket import GUIDANCE_SCALE

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

    from ig_subnet.mining.generators import Generator
    from ig_subnet.rewards import Mixture, MixtureScore

HONEST_STEPS = (20, 8, 4, 2, 1)
COMPARED = ("20", "2", "1", "noise")  # the miners of the local subnet, best first
SHARES = 4  # weights are split among the experts in quarters
# The standard error of a mean over 100 images is a tenth of a deviation, which moves an incentive by 0.04 at most.
SMALLEST_SET = 100
QUICK_CAPTIONS = 20


class CalibrationError(Exception):
    """A set from which no reference can be taken; the message says why."""


@dataclass(frozen=True)
class Sample:
    """Scores of a set of images by expert, each in its own unit, and what they were made of and with."""

    scores: dict[str, list[float]]
    what: str
    dtype: str
    resize: str
    identities: dict[str, str]


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from ig_subnet.reporting.measurements import write_measurements
    from ig_subnet.rewards import RewardError
    from ig_subnet.studies.errors import StudyError

    began = time.monotonic()
    try:
        check_target(options.profile, options.write)
        sample, rows = measure(options)
        references = reference_rows(sample)
        rows = [*references, *rows]
        for row in rows:
            print("  ".join(f"{name} {short(value)}" for name, value in row.items()))
        print(f"{sample.what}, {time.monotonic() - began:.0f} s", file=sys.stderr)
        if options.json:
            write_measurements(options.json, rows)
        if options.write:
            write_profile(options.profile, options.write, sample, references)
            print(f"wrote {options.write}: start with --profile {options.write}", file=sys.stderr)
    except (CalibrationError, ProfileError, RewardError, StudyError, OSError) as error:
        print(f"calibrate.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="pocket", help="profile whose experts are measured (default: pocket)")
    sets = parser.add_mutually_exclusive_group()
    sets.add_argument("--images", type=Path, metavar="SET", help="folder, .csv, .jsonl or .parquet: images and prompts")
    sets.add_argument("--scores", type=Path, metavar="FILE", help="scores of a set, as scripts/score.py writes them")
    parser.add_argument("--captions", type=int, default=100, help="without a set: one image of each a miner (100)")
    parser.add_argument(
        "--guidance", type=float, default=GUIDANCE_SCALE, help="without a set: of the generator (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="without a set: of the captions and the images (1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the profile there, with these references")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_CAPTIONS} captions, or the first {SMALLEST_SET} images of a set"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.captions = QUICK_CAPTIONS
    if options.captions < 2:
        parser.error(f"--captions must be at least 2, not {options.captions}")
    return options


# --- the scores


def measure(options: argparse.Namespace) -> tuple[Sample, list[dict[str, Any]]]:
    """The sample that references are taken from, and whatever else there is to tell about it."""
    from ig_subnet.rewards import load_mixture
    from ig_subnet.rewards.configuration import parse_rewarder

    rewarder = load_profile(options.profile)["rewarder"]
    if rewarder is None:
        raise CalibrationError(f"profile {options.profile!r} has no rewarder section, so no experts to measure")
    experts = list(parse_rewarder(rewarder).experts)
    if options.scores:
        from ig_subnet.studies.results import read_results

        return sample_of(read_results(options.scores), options.scores.name, experts), []
    mixture = load_mixture(rewarder, options.device)
    if options.images:
        return sample_of(score_set(mixture, options), options.images.name, experts), []
    scores = score_miners(mixture, options.captions, options.guidance, options.seed, options.device)
    sample = sample_of_miners(scores, f"the shipped generator, 20 to 1 steps, guidance {options.guidance:g}")
    calibrated = calibrate(scores, reference_rows(sample))
    return sample, [*miner_rows(scores), *split_rows(calibrated)]


def score_set(mixture: Mixture, options: argparse.Namespace) -> pa.Table:
    """The scores of a folder or a table of images, as a table."""
    from tqdm import tqdm

    from ig_subnet.studies.scoring import score_items
    from ig_subnet.studies.sources import items_from_set

    items = items_from_set(options.images)
    if options.quick:
        items = items.first(SMALLEST_SET)
    with tqdm(total=items.count, desc="images", unit="image") as bar:
        return score_items(items, mixture, progress=lambda progress: bar.update(progress.seen - bar.n)).table


def pictures_of_set(path: Path, limit: int | None = None) -> Iterator[tuple[str, Image.Image]]:
    """Prompt and image of each row of a folder or a table, or of the first `limit`; images that cannot be read are left
    out, with a line for each.
    """
    from ig_subnet.imaging import ImageError
    from ig_subnet.studies.pictures import load_picture, open_picture
    from ig_subnet.studies.sources import items_from_set

    items = items_from_set(path)
    for item in items if limit is None else items.first(limit):
        try:
            image = load_picture(open_picture(item.image))
        except ImageError as error:
            print(f"{item.name}: left out: {error}", file=sys.stderr)
        else:
            yield item.prompt, image


def sample_of(table: pa.Table, name: str, experts: list[str]) -> Sample:
    """The sample in a table of scores; images that could not be scored are left out."""
    from ig_subnet.rewards.registry import expert_name
    from ig_subnet.studies.results import scored_with

    made_with, scores = scored_with(table), {}
    for expert in map(expert_name, experts):
        if expert not in table.column_names:
            raise CalibrationError(
                f"{name} has no scores of {expert}, which is in the profile: it has "
                f"{', '.join(table.column_names)}; score the set with this profile first"
            )
        column = table[expert].drop_null().cast("float64").to_pylist()
        scores[expert] = [value for value in column if math.isfinite(value)]
    return Sample(
        scores,
        name,
        made_with.get("dtype", "unknown dtype"),
        made_with.get("resize", "unknown"),
        made_with.get("identities", {}),
    )


def score_miners(mixture: Mixture, captions: int, guidance: float, seed: int, device: str) -> dict[str, MixtureScore]:
    """Scores of one image for each caption, by miner: a step count, or noise."""
    prompts, answers = images_of_miners(captions, guidance, seed, device)
    return {miner: mixture.score(images, prompts) for miner, images in answers.items()}


def images_of_miners(
    captions: int, guidance: float, seed: int, device: str
) -> tuple[list[str], dict[str, list[Image.Image]]]:
    """The captions, and one image for each by miner: a step count, or noise."""
    from tqdm import tqdm

    from ig_subnet.config.settings import parse_miner_settings
    from ig_subnet.mining.generators import NoiseGenerator, load_generator
    from ig_subnet.pocket import pocket_captions

    prompts = pocket_captions(captions, seed)
    flags = f"--subtensor.network local --miner.model pocket --miner.guidance_scale {guidance} --neuron.device {device}"
    pocket = load_generator(parse_miner_settings(flags.split()))
    miners: dict[str, tuple[Generator, int]] = {str(steps): (pocket, steps) for steps in HONEST_STEPS}
    miners["noise"] = (NoiseGenerator(), 1)
    answers: dict[str, list[Image.Image]] = {}
    for number, (name, (generator, steps)) in enumerate(tqdm(miners.items(), desc="miners", unit="miner")):
        answers[name] = []
        for position, prompt in enumerate(prompts):
            image_seed = (seed * len(miners) + number) * captions + position  # no two miners share a seed
            width, height = generator.native_size
            (image,) = generator.generate(prompt, "", width, height, [image_seed], steps)
            assert image is not None  # neither model has a safety checker
            answers[name].append(image)
    return prompts, answers


def sample_of_miners(scores: dict[str, MixtureScore], name: str) -> Sample:
    """The sample of all generated images, none of the noise."""
    honest = [scores[str(steps)] for steps in HONEST_STEPS]
    first = honest[0]
    values = {
        expert: [value for score in honest for value in score.components[expert].tolist()]
        for expert in first.components
    }
    return Sample(values, name, first.dtype, first.resize, first.identities)


# --- the references


def reference_rows(sample: Sample) -> list[dict[str, Any]]:
    """What a profile's `calibration` holds, for each expert, with what it was taken from."""
    rows = []
    for expert, values in sample.scores.items():
        if len(values) < 2:
            raise CalibrationError(f"{sample.what}: {len(values)} scores of {expert}, too few for a deviation")
        mean, deviation, clipped = clipped_moments(values)
        if not deviation > 0:
            raise CalibrationError(f"{sample.what}: all scores of {expert} are {mean:g}, so they have no deviation")
        rows.append(
            {
                "expert": expert,
                "images": len(values),
                "mean": mean,
                "deviation": deviation,
                "clipped_images": clipped,
                "plain_mean": statistics.fmean(values),
                "plain_deviation": statistics.stdev(values),
                "lowest": min(values),
                "highest": max(values),
            }
        )
    return rows


def clipped_moments(values: list[float]) -> tuple[float, float, int]:
    """Mean m and deviation d of the values once all beyond m - 4d and m + 4d are moved there; and how many those are.

    Found by clipping until nothing changes: one wild score in a hundred then widens the deviation by a tenth, however
    wild it is.
    """
    from ig_subnet.rewards.calibration import CLIP_DEVIATIONS

    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    while True:
        low, high = mean - CLIP_DEVIATIONS * deviation, mean + CLIP_DEVIATIONS * deviation
        clipped = [min(high, max(low, value)) for value in values]
        before, mean, deviation = deviation, statistics.fmean(clipped), statistics.stdev(clipped)
        if deviation >= before * (1 - 1e-6):
            return mean, deviation, sum(not low <= value <= high for value in values)


def check_target(profile: str, target: Path | None) -> None:
    """Raises CalibrationError for a file that is not to be overwritten: before the hours of scoring, not after."""
    if target is not None and target.exists() and target.resolve() != profile_path(profile).resolve():
        raise CalibrationError(f"--write: {target} exists; take another name, or update it with --profile {target}")


def write_profile(profile: str, target: Path, sample: Sample, references: list[dict[str, Any]]) -> None:
    """Writes the profile with these references as its calibrations, and everything else as it is."""
    from ig_subnet.rewards.registry import expert_name

    measured = {row["expert"]: row for row in references}
    if few := [row for row in references if row["images"] < SMALLEST_SET]:
        raise CalibrationError(
            f"--write: {few[0]['images']} scored images of {sample.what} are too few for a reference; "
            f"at least {SMALLEST_SET} are needed"
        )
    calibrations: dict[str, dict[str, float | str]] = {}
    for name in load_profile(profile)["rewarder"]["experts"]:
        row = measured[expert_name(name)]
        calibrations[name] = {
            "mean": float(f"{row['mean']:.6g}"),
            "deviation": float(f"{row['deviation']:.6g}"),
            "provenance": provenance(sample, row),
        }
    replace_text(target, with_calibrations(profile_path(profile).read_text(encoding="utf-8"), calibrations))


def replace_text(target: Path, text: str) -> None:
    """Writes the file as a whole, or leaves it as it is."""
    part = target.with_name(target.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(target)


def provenance(sample: Sample, row: dict[str, Any]) -> str:
    """What a reference was taken from and with, in one line."""
    weights = sample.identities.get(row["expert"], "unknown weights")
    return (
        f"scripts/calibrate.py: {row['images']} images of {sample.what}; {sample.dtype}, resize {sample.resize}, "
        f"{weights}; {date.today().isoformat()}"
    )


# --- what the pocket miners would be paid


def calibrate(scores: dict[str, MixtureScore], references: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Scores in (0, 1) by miner and expert, through the references just measured."""
    from ig_subnet.rewards import Calibration

    measured = {row["expert"]: Calibration(row["mean"], row["deviation"], "this run") for row in references}
    return {
        miner: {expert: measured[expert].apply(raw).tolist() for expert, raw in score.components.items()}
        for miner, score in scores.items()
    }


def miner_rows(scores: dict[str, MixtureScore]) -> list[dict[str, Any]]:
    """What the profile, as it is now, pays each miner, and its experts' mean scores."""
    return [
        {
            "miner": miner,
            "images": len(score.incentive),
            "incentive_mean": float(score.incentive.mean()),
            "incentive_deviation": float(score.incentive.std()),
            "disagreement_mean": float(score.disagreement.mean()),
            **{f"{expert}_mean": float(raw.mean()) for expert, raw in score.components.items()},
        }
        for miner, score in scores.items()
    ]


def split_rows(calibrated: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """For every split of the weight in quarters: mean incentives, and what sets neighbours apart; best split last.

    `sigmas` is mean over deviation of the paired difference for a single image: 4 of them after (4 / sigmas)^2 images.
    """
    experts = list(next(iter(calibrated.values())))
    rows = []
    for quarters in itertools.product(range(SHARES + 1), repeat=len(experts)):
        if sum(quarters) != SHARES:
            continue
        shares = [quarter / SHARES for quarter in quarters]
        incentive = {
            miner: [sum(map(float.__mul__, shares, scores)) for scores in zip(*(of[e] for e in experts), strict=True)]
            for miner, of in calibrated.items()
        }
        row: dict[str, Any] = {f"{expert}_share": share for expert, share in zip(experts, shares, strict=True)}
        row.update({f"incentive_{miner}": statistics.fmean(incentive[miner]) for miner in COMPARED})
        sigmas = {}
        for better, worse in pairwise(COMPARED):
            differences = [a - b for a, b in zip(incentive[better], incentive[worse], strict=True)]
            deviation = statistics.stdev(differences)
            sigmas[f"sigmas_{better}_over_{worse}"] = statistics.fmean(differences) / max(deviation, 1e-9)
        rows.append({**row, **sigmas, "smallest_sigmas": min(sigmas.values())})
    return sorted(rows, key=lambda row: row["smallest_sigmas"])


def short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
