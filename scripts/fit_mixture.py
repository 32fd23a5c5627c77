"""Learns the weights of a mixture from preferences, and writes them into a profile.

    python scripts/fit_mixture.py                                            the pocket world and its exact checker
    python scripts/fit_mixture.py --profile mixture --dataset image_reward_db=hub --split validation --write mine.yaml
    python scripts/fit_mixture.py --profile mixture --dataset hpdv2=HPDv2/ --topics --write mine.yaml

Weights are fitted by Bradley and Terry's model on the calibrated scores that a mixture averages, so the profile's
incentive orders images as what was fitted does. They are never negative; experts count the same where the pairs tell
nothing else; with --topics each topic of the profile's prompter has weights of its own, near the general ones.

What they are worth is told by pairs of prompts they were not learnt from: each fold of the prompts is held out once.
There the fitted mixture, the profile's own and equal weights are compared with the best single expert, which is chosen
by the held-out pairs themselves. --write takes the weights that all pairs together give. Left in --out are fit.json
and fit.png. Data sets, what else is kept there, and how a cut run goes on: as scripts/evaluate.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrate import CalibrationError, check_target, replace_text
from evaluate import (
    Scorer,
    add_options,
    agreement_rows,
    checked,
    fail,
    find,
    load_scoring_profile,
    plot,
    print_rows,
)

from ig_subnet.config.profiles import ProfileError, load_profile, profile_path, with_mapping
from ig_subnet.reporting.measurements import write_measurements
from ig_subnet.studies.errors import StudyError
from ig_subnet.studies.fitting import FOLDS

Row = dict[str, Any]

if TYPE_CHECKING:
    from ig_subnet.studies.agreement import Scored
    from ig_subnet.studies.fitting import Examples, Weights

FITTED, FITTED_BY_TOPIC, EQUAL = "fitted", "fitted by topic", "equal weights"
SMALLEST = 100  # prompts for --write; below it a fold is too small to tell experts apart


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from ig_subnet.rewards import ConfigurationError, RewardError

    try:
        check_target(options.profile, options.write)
        profile = load_scoring_profile(options.profile)
        if profile["rewarder"].get("topics") and not options.topics:
            raise ProfileError(f"profile {options.profile} has weights for topics: fit these too, with --topics")
        if options.topics and profile["prompter"] is None:
            raise ProfileError(f"--topics: profile {options.profile} has no prompter, so no topics")
        ((name, where),) = options.dataset
        preferences = find(name, where, options.split, options)
        scorer = Scorer(profile, options)
        scored = scorer.score(preferences)
        topics = scorer.topics(scored) if options.topics else {}
        rows = list(fit_rows(scored, topics, options))
        held_out = [row for row in rows if "scorer" in row]
        print_rows(held_out)
        print_weights([row for row in rows if "weight" in row])
        plot(held_out, options.out / "fit.png")
        for path in (options.out / "fit.json", *([options.json] if options.json else [])):
            write_measurements(path, rows, profile=options.profile, device=options.device)
        if options.write:
            write_profile(options, rows)
            print(f"wrote {options.write}: start with --profile {options.write}", file=sys.stderr)
    except (ProfileError, ConfigurationError) as error:
        return fail("fit_mixture.py", error, 2)
    except (CalibrationError, StudyError, RewardError, OSError) as error:
        return fail("fit_mixture.py", error, 1)
    except KeyboardInterrupt:
        return fail("fit_mixture.py", "interrupted; the same command goes on from here", 130)
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fit_mixture.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, Path("agreement-out"))
    parser.add_argument("--topics", action="store_true", help="weights for each topic of the profile, too")
    parser.add_argument(
        "--folds", type=int, default=FOLDS, help="parts of the prompts, each held out once (%(default)s)"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the profile there, with the fitted weights")
    options = checked(parser, parser.parse_args(arguments))
    if len(options.dataset) > 1:
        parser.error("--dataset: weights are learnt from one data set at a time")
    if options.folds < 2:
        parser.error(f"--folds must be at least 2, not {options.folds}")
    return options


# --- what is learnt, and what it is worth


def fit_rows(scored: Scored, topics: Mapping[str, str], options: argparse.Namespace) -> Iterator[Row]:
    """How often each scorer agrees with held-out pairs; then the weights that all pairs together give."""
    import numpy as np

    from ig_subnet.studies.fitting import cross_validate, fit

    examples = examples_of(scored, topics)
    fits = cross_validate(examples, options.folds)
    fitted, by_topic = np.empty(len(scored.pairs)), np.empty(len(scored.pairs))
    for held_out, weights in fits:
        fitted[held_out] = weights.leads(examples.where(held_out), by_topic=False)
        by_topic[held_out] = weights.leads(examples.where(held_out), by_topic=True)
    leads = {name: scored.leads(name) for name in (*scored.experts, "incentive")}
    leads |= {EQUAL: examples.leads.mean(axis=1), FITTED: fitted}
    if topics:
        leads[FITTED_BY_TOPIC] = by_topic
    yield from agreement_rows(scored, leads, {})
    yield from weight_rows(scored.experts, fit(examples, options.folds), [weights for _, weights in fits])


def examples_of(scored: Scored, topics: Mapping[str, str]) -> Examples:
    import numpy as np

    from ig_subnet.studies.fitting import Examples

    leads = np.stack([scored.leads(f"{name}_calibrated") for name in scored.experts], axis=1)
    topic = np.array([topics.get(prompt, "") for prompt in scored.prompts()], np.str_)
    return Examples(leads, scored.pairs.label, scored.pairs.prompt, topic)


def weight_rows(experts: Sequence[str], weights: Weights, folds: Sequence[Weights]) -> Iterator[Row]:
    """Each expert's share of the weight, in general and by topic, with its deviation over the folds."""
    for topic, of_topic in {"": weights.general, **weights.topics}.items():
        learnt = [fold.topics.get(topic, fold.general) if topic else fold.general for fold in folds]
        for place, expert in enumerate(experts):
            deviation = statistics.pstdev([float(shares[place]) for shares in learnt])
            yield {"topic": topic, "expert": expert, "weight": float(of_topic[place]), "fold_deviation": deviation}


def print_weights(rows: Sequence[Row]) -> None:
    for row in rows:
        print(
            f"{row['topic'] or 'in general':20} {row['expert']:16} {row['weight']:.3f}"
            f"  (deviation over folds {row['fold_deviation']:.3f})"
        )


# --- the profile


def write_profile(options: argparse.Namespace, rows: Sequence[Row]) -> None:
    """Writes the profile with these weights and where they come from, and everything else as it is."""
    from ig_subnet.rewards.registry import expert_name

    scorer = FITTED_BY_TOPIC if options.topics else FITTED
    worth = next(row for row in rows if row.get("scorer") == scorer)
    if worth["prompts"] < SMALLEST:
        raise StudyError(f"--write: {worth['prompts']} prompts are too few to learn weights from; give {SMALLEST}")
    weights = {(row["topic"], row["expert"]): round(row["weight"], 4) for row in rows if "weight" in row}
    text = profile_path(options.profile).read_text(encoding="utf-8")
    for name, expert in load_profile(options.profile)["rewarder"]["experts"].items():
        section = {**expert, "weight": weights["", expert_name(name)]}
        text = with_mapping(text, ("rewarder", "experts", name), section)
    if options.topics:
        topics: dict[str, dict[str, float]] = {}
        for (topic, expert), weight in weights.items():
            if topic:
                topics.setdefault(topic, {})[expert] = weight
        text = with_mapping(text, ("rewarder", "topics"), topics)
    text = with_mapping(text, ("rewarder", "fitted"), {"provenance": provenance(worth, options.folds)})
    replace_text(options.write, text)


def provenance(worth: Row, folds: int) -> str:
    """What weights were learnt from, and what they were worth on pairs they were not learnt from, in one line."""
    accuracy, low, high, gain, gain_low, gain_high = (
        f"{100 * worth[key]:.1f}" for key in ("accuracy", "low", "high", "gain", "gain_low", "gain_high")
    )
    return (
        f"scripts/fit_mixture.py: {worth['pairs']} pairs of {worth['prompts']} prompts, {worth['source']}; in {folds} "
        f"folds of held-out prompts right in {accuracy}% ({low} to {high}), {gain} ({gain_low} to {gain_high}) more "
        f"than {worth['best_expert']} alone; {date.today().isoformat()}"
    )


if __name__ == "__main__":
    sys.exit(main())
