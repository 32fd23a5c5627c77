"""Measures where a profile's gates are to be drawn, and writes them into a profile.

    python scripts/calibrate_gates.py --profile pocket --write mine.yaml                    on images of pocket miners
    python scripts/calibrate_gates.py --profile mixture --images photos/ --write mine.yaml  on images of one real model

Thresholds follow from honest images: of one model for the same prompts, with different seeds. They are drawn where they
stop the share --false-alarms of them together, most of it spent on near-duplicates, which are the hardest to tell. In
the end all gates are tried on honest images and on changed copies of them, with a full history. The more images of a
prompt a round brings, the more chances to look alike: measure with as many.

Without a set, pocket miners with 20, 4, 2 and 1 steps answer every prompt, and other pictures of the pocket world fill
the history. With a set (a folder or a table with prompts, several images of each), the images of a prompt are taken for
answers of as many miners, and those of the other prompts for the history. docs/gates.md tells how the gates work.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from calibrate import CalibrationError, check_target, replace_text, short
from gates_calibration.alone import measure_grain, measure_safety
from gates_calibration.honest import (
    FEWEST_PROMPTS,
    IMAGES_PER_PROMPT,
    KINDS,
    Honest,
    changed_copies,
    full_history,
    honest_of_pocket,
    honest_of_set,
)
from gates_calibration.thresholds import lowest_likeness, round_down, widest_distance
from numpy.typing import NDArray

from ig_subnet.config.profiles import ProfileError, load_profile, profile_path, with_gate

if TYPE_CHECKING:
    from ig_subnet.prompts import PromptDatabase
    from ig_subnet.rewards import Mixture
    from ig_subnet.validating.gate_settings import AlignmentGate, DuplicatesGate, GateSettings
    from ig_subnet.validating.history import History
    from ig_subnet.validating.likeness import Prints

SPENT = {"hash_distance": 0.25, "laid_over": 0.125, "times_nearer": 0.6, "alignment": 0.025}  # of the false alarms
SUSPECTED = {"laid_over": 0.2, "times_nearer": 0.8}  # of the honest images that may be suspected
LEAST_SUSPECTED = {"laid_over": 0.9, "times_nearer": 0.5}  # below that, a likeness says nothing
DECOYS = 32
MARGIN = 1.0  # of alignment, in its own unit: some prompts lie so much lower than all of a few dozen others
COPIES_KEPT = 0.99  # of near-duplicates, by the cosine of embeddings: the fingerprints decide about the rest
QUICK_PROMPTS, QUICK_HISTORY = 10, 500

Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from ig_subnet.prompts import PromptError
    from ig_subnet.reporting.measurements import write_measurements
    from ig_subnet.rewards import RewardError
    from ig_subnet.studies.errors import StudyError

    began = time.monotonic()
    try:
        check_target(options.profile, options.write)
        gates, rows = measure(options)
        for row in rows:
            print("  ".join(f"{name} {short(value)}" for name, value in row.items()))
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        if options.json:
            write_measurements(options.json, rows)
        if options.write:
            text = profile_path(options.profile).read_text(encoding="utf-8")
            for name, gate in gates.model_dump(exclude_none=True).items():
                text = with_gate(text, name, gate)
            replace_text(options.write, text)
            print(f"wrote {options.write}: start with --profile {options.write}", file=sys.stderr)
    except (CalibrationError, ProfileError, PromptError, RewardError, StudyError, OSError) as error:
        print(f"calibrate_gates.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="pocket", help="profile whose gates are measured (default: pocket)")
    parser.add_argument(
        "--images", type=Path, metavar="SET", help="folder, .csv, .jsonl or .parquet: images and prompts"
    )
    parser.add_argument("--prompts", type=int, default=24, help="without a set: how many the miners answer (24)")
    parser.add_argument(
        "--miners",
        type=int,
        default=2,
        help=f"without a set: of each kind ({', '.join(KINDS)}), {IMAGES_PER_PROMPT} images each (2)",
    )
    parser.add_argument("--history", type=int, default=20_000, help="images that are remembered (20000)")
    parser.add_argument(
        "--false-alarms", type=float, default=0.04, help="share of honest images that all thresholds may cost (0.04)"
    )
    parser.add_argument(
        "--suspected",
        type=float,
        default=0.2,
        help="share of honest images that may look like another's so much that a validator makes them again (0.2)",
    )
    parser.add_argument("--nsfw", choices=("opennsfw", "diffusers", "off"), default="opennsfw", help="(opennsfw)")
    parser.add_argument("--seed", type=int, default=1, help="of prompts, images, decoys and changes (1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the profile there, with these gates")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_PROMPTS} prompts, 1 miner of each kind, {QUICK_HISTORY} images remembered",
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.prompts, options.miners, options.history = QUICK_PROMPTS, 1, QUICK_HISTORY
    if not 0 < options.false_alarms < 0.5:
        parser.error(f"--false-alarms is a share above 0 and below 0.5, not {options.false_alarms}")
    if not 0 < options.suspected < 1:
        parser.error(f"--suspected is a share above 0 and below 1, not {options.suspected}")
    if options.prompts < FEWEST_PROMPTS or options.miners < 1 or options.history < 1:
        parser.error(f"at least {FEWEST_PROMPTS} prompts, 1 miner of each kind and a history of 1 image")
    return options


def measure(options: argparse.Namespace) -> tuple[GateSettings, list[Row]]:
    """The gates, and all there is to tell about them."""
    from ig_subnet.prompts import load_prompter
    from ig_subnet.rewards import load_mixture
    from ig_subnet.validating.gate_settings import GateSettings

    profile = load_profile(options.profile)
    if missing := [section for section in ("rewarder", "prompter") if profile[section] is None]:
        raise CalibrationError(f"profile {options.profile!r} has no {' and no '.join(missing)} section")
    present = GateSettings.parse(profile["gates"], options.profile)
    mixture = load_mixture({**profile["rewarder"], "robust": None}, options.device)  # gates look at no scores
    database = load_prompter(profile["prompter"], options.device).database

    if options.images:
        honest, source = honest_of_set(options.images), options.images.name
    else:
        honest, source = (
            honest_of_pocket(options.prompts, options.miners, options.seed, options.device),
            "the shipped generator",
        )
    prompts = len({one.entry.prompt for one in honest})
    what = f"{len(honest)} honest images of {source} ({len(honest) / prompts:.3g} of each of {prompts} prompts)"
    safety, checked = measure_safety(honest, what, options, provenance)
    honest, alignment, found = measure_alignment(mixture, honest, database, what, options)
    honest, grain, levels = measure_grain(
        honest, mixture.image_size, lambda share: provenance(what, share, f"at {mixture.image_size} px")
    )
    copies = changed_copies(mixture, honest, alignment.expert, options.seed)
    weights = mixture.identities[alignment.expert]
    duplicates, tests = measure_duplicates(
        honest, copies, alignment.expert, options, lambda share: provenance(what, share, weights)
    )
    gates = GateSettings(
        nsfw=safety or present.nsfw,
        grain=grain,
        duplicates=duplicates,
        alignment=alignment,
        regeneration=present.regeneration,
    )
    history = None if options.images else full_history(mixture, honest, duplicates, options.seed)
    return gates, [*checked, *found, *levels, *tests, *measure_together(honest, copies, gates, history)]


# --- gates


def measure_alignment(
    mixture: Mixture, honest: list[Honest], database: PromptDatabase, what: str, options: argparse.Namespace
) -> tuple[list[Honest], AlignmentGate, list[Row]]:
    """The gate with the expert that finds most of the images of another prompt, and what each expert finds.

    The images come back with their embedding by that expert, and their alignment.
    """
    from ig_subnet.rewards.alignment import Alignment
    from ig_subnet.rewards.errors import ConfigurationError
    from ig_subnet.validating.device import Findings
    from ig_subnet.validating.gate_settings import AlignmentGate

    by_prompt: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(honest):
        by_prompt[one.entry.prompt].append(index)
    prompts, chance = list(by_prompt), random.Random(options.seed)
    number = min(DECOYS, len(database))
    decoys = {prompt: database.texts(chance.sample(range(len(database)), number)) for prompt in prompts}
    rows: list[Row] = []
    best: tuple[Row, NDArray[np.float64], NDArray[np.float32]] | None = None
    for expert in mixture.weights:
        try:
            measured = Alignment(mixture, expert)
        except ConfigurationError:  # it does not compare images with prompts
            continue
        embeddings = mixture.embed([one.image for one in honest], expert)
        own, ignoring = np.zeros(len(honest)), []
        for prompt, previous in zip(prompts, [prompts[-1], *prompts], strict=False):
            own[by_prompt[prompt]] = measured.measure(embeddings[by_prompt[prompt]], prompt, decoys[prompt]).numpy()
            ignoring += measured.measure(embeddings[by_prompt[previous]], prompt, decoys[prompt]).tolist()
        threshold = round_down(float(np.quantile(own, options.false_alarms * SPENT["alignment"])) - MARGIN)
        row: Row = {
            "gate": "alignment",
            "expert": expert,
            "threshold": threshold,
            "honest_median": statistics.median(own.tolist()),
            "false_alarms": float((own < threshold).mean()),
            "found_of_another_prompt": float((np.array(ignoring) < threshold).mean()),
        }
        rows.append(row)
        if best is None or row["found_of_another_prompt"] > best[0]["found_of_another_prompt"]:
            best = row, own, embeddings.numpy()
    if best is None:
        raise CalibrationError("none of the profile's experts compares images with prompts by embeddings")
    row, own, embeddings = best
    seen = [
        replace(
            one,
            entry=replace(
                one.entry,
                findings=Findings(0.0, 1.0, 0.0, 1.0, {}, embedding=embeddings[index], alignment=float(own[index])),
            ),
        )
        for index, one in enumerate(honest)
    ]
    gate = AlignmentGate(
        expert=row["expert"],
        threshold=row["threshold"],
        decoys=number,
        provenance=provenance(what, row["false_alarms"], mixture.identities[row["expert"]]),
    )
    return seen, gate, rows


def measure_duplicates(
    honest: list[Honest],
    copies: Mapping[str, Sequence[Honest]],
    expert: str,
    options: argparse.Namespace,
    told: Callable[[float], str],
) -> tuple[DuplicatesGate, list[Row]]:
    """The gate, and what each of its tests stops of the honest images. `told` is the provenance, of such a share."""
    from ig_subnet.validating.gate_settings import DuplicatesGate, Suspicion
    from ig_subnet.validating.gates import prints_of

    prints = prints_of([one.entry for one in honest])
    original = {one.entry.prompt: index for index, one in reversed(list(enumerate(honest)))}
    cosines = [
        float(prints.embeddings[original[copy.entry.prompt]].astype(float) @ copy.entry.findings.embedding)
        for changed in copies.values()
        for copy in changed
        if copy.entry.findings is not None
    ]
    cosine = round_down(float(np.quantile(cosines, 1 - COPIES_KEPT)))
    nearest = nearest_honest(honest, prints, cosine)
    allowed = {test: options.false_alarms * share for test, share in SPENT.items()}
    distance = widest_distance(nearest["bits"], allowed["hash_distance"])
    rest = nearest["bits"] > distance
    laid_over = lowest_likeness(np.where(rest, nearest["laid_over"], 0), allowed["laid_over"])
    rest &= nearest["laid_over"] < laid_over
    if not nearest["times_nearer"].any():
        raise CalibrationError(
            "nobody can tell how like each other images of a prompt are: more images of the same prompts are needed, "
            "by more miners (of a set, 8 of a prompt at least)"
        )
    times = max(1.0, lowest_likeness(np.where(rest, nearest["times_nearer"], 1), allowed["times_nearer"]))
    rest &= nearest["times_nearer"] < times
    shares = {
        "hash_distance": float((nearest["bits"] <= distance).mean()),
        "laid_over": float((nearest["laid_over"] >= laid_over).mean()),
        "times_nearer": float((nearest["times_nearer"] >= times).mean()),
    }
    wider = {
        test: max(LEAST_SUSPECTED[test], lowest_likeness(np.where(rest, nearest[test], 0), options.suspected * share))
        for test, share in SUSPECTED.items()
    }
    suspected = rest & np.any([nearest[test] >= limit for test, limit in wider.items()], axis=0)
    gate = DuplicatesGate(
        hash_distance=distance,
        laid_over=laid_over,
        times_nearer=times,
        expert=expert,
        cosine=cosine,
        history=options.history,
        suspicion=Suspicion(**wider, provenance=told(float(suspected.mean())).replace("stops", "suspects", 1)),
        provenance=told(float(1 - rest.mean())),
    )
    return gate, [
        {"gate": "duplicates", "test": name, "threshold": getattr(gate, name), "false_alarms": share}
        for name, share in shares.items()
    ] + [{"gate": "duplicates", "test": "suspicion", **wider, "suspected": float(suspected.mean())}]


def nearest_honest(honest: Sequence[Honest], prints: Prints, cosine: float) -> dict[str, NDArray[np.float64]]:
    """For each image, of the earlier ones of its prompt: the least distance in bits, the greatest likeness once laid
    over each other, and how many times nearer the most alike is than those of further miners.

    `inf`, 0 and 0 where there is none whose embedding has this cosine.
    """
    from ig_subnet.imaging.fingerprints import laid_over, oriented_hashes
    from ig_subnet.validating.likeness import Alike, times_nearer

    nearest = {"bits": np.full(len(honest), np.inf)}
    nearest |= {name: np.zeros(len(honest)) for name in ("laid_over", "times_nearer")}
    embeddings = prints.embeddings.astype(np.float32)
    earlier: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(honest):
        pool = np.array(earlier[one.entry.prompt], dtype=int)
        earlier[one.entry.prompt].append(index)
        near = pool[embeddings[pool] @ embeddings[index] >= cosine]
        if not len(near):
            continue
        ways = oriented_hashes(prints.fingerprints[index])[:, None]
        nearest["bits"][index] = np.bitwise_count(ways ^ prints.hashes[near]).sum(axis=-1).min()
        likeness = laid_over(prints.fingerprints[index], prints.fingerprints[near])
        nearest["laid_over"][index] = likeness.max()
        found = [Alike(other, 0, 0.0, like) for other, like in zip(near.tolist(), likeness.tolist(), strict=True)]
        best = found[int(likeness.argmax())]
        strangers = {one.entry.key.hotkey, honest[best.index].entry.key.hotkey}
        rivals = [rival for rival in found if honest[rival.index].entry.key.hotkey not in strangers]
        nearest["times_nearer"][index] = times_nearer(best, rivals)
    return nearest


# --- all gates together


def measure_together(
    honest: Sequence[Honest], copies: Mapping[str, Sequence[Honest]], gates: GateSettings, history: History | None
) -> list[Row]:
    """What all gates stop of honest images by kind of miner, each verdict for itself, and of changed copies.

    All prompts are taken for one round.
    """
    from ig_subnet.validating.gates import judge
    from ig_subnet.validating.records import VALID

    images = [one.entry for one in honest]
    copied = [one.entry for changed in copies.values() for one in changed]
    everything = [*images, *copied]
    verdicts = judge(everything, gates, seen=history.seen(everything) if history is not None else {})
    kinds = [] if history is None else list(KINDS)  # of a set there is one
    groups = {kind: [image for image in images if image.key.hotkey.startswith(f"{kind},")] for kind in kinds}
    groups |= {"all": images} | {f"copier, {name}": [one.entry for one in changed] for name, changed in copies.items()}
    rows = []
    for name, chosen in groups.items():
        reasons = [verdicts[image.key].reason for image in chosen]
        rows.append(
            {
                "gate": "all",
                "miners": name,
                "images": len(reasons),
                "history": len(history) if history is not None else 0,
                "stopped": sum(reason != VALID for reason in reasons) / len(reasons),
                **{reason: reasons.count(reason) for reason in sorted(set(reasons) - {VALID})},
            }
        )
    return rows


def provenance(what: str, false_alarms: float, identity: str) -> str:
    """What a gate was measured on and with, and what it costs, in one line."""
    return f"scripts/calibrate_gates.py: stops {false_alarms:.1%} of {what}; {identity}; {date.today().isoformat()}"


if __name__ == "__main__":
    sys.exit(main())
