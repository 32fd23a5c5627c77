"""Holds experts and their mixture against preferences: how often they agree which of two images is better.

    python scripts/evaluate.py                                                       the pocket world and its checker
    python scripts/evaluate.py --profile mixture --dataset image_reward_db=hub --dataset hpdv2=hub   from the hub
    python scripts/evaluate.py --profile mine.yaml --dataset pick_a_pic=pickapic_v2/                 a local copy

A data set is read from a folder that is laid out as its repository is, or, with =hub, from the hub at a pinned commit
(=hub@<commit> for another); nothing is fetched that was not asked for. Pairs of the pocket world are made here. Ties
are counted as the authors of each data set do; 95% intervals are of prompts drawn anew.

In --out are left agreement.json, .csv and .png, the scores of every image, and what a cut run goes on from. Images that
are missing or cannot be scored are told, and their pairs left out. docs/agreement.md tells the rest.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from score import BATCH, positive

from ig_subnet.config.profiles import ProfileError, load_profile
from ig_subnet.studies.agreement import RESAMPLES
from ig_subnet.studies.errors import StudyError

if TYPE_CHECKING:
    from PIL import Image

    from ig_subnet.studies.agreement import Floats, Scored
    from ig_subnet.studies.preferences import Preferences, Split

POCKET = "pocket"
QUICK_PROMPTS = 12
SHOWN_ERRORS = 5
CAPTIONS = 400
CLIMBING_STEPS = 20  # enough for any expert to be fooled in 8 of 8 tries

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from ig_subnet.rewards import ConfigurationError, RewardError

    try:
        rows = evaluate(options)
        print_rows(rows)
        write_files(rows, options)
    except (ProfileError, ConfigurationError) as error:
        return fail("evaluate.py", error, 2)
    except (StudyError, RewardError, OSError) as error:
        return fail("evaluate.py", error, 1)
    except KeyboardInterrupt:
        return fail("evaluate.py", "interrupted; the same command goes on from here", 130)
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="evaluate.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, Path("agreement-out"))
    parser.add_argument(
        "--resamples", type=positive, default=RESAMPLES, metavar="N", help="prompts drawn anew so often (%(default)s)"
    )
    return checked(parser, parser.parse_args(arguments))


def add_options(parser: argparse.ArgumentParser, out: Path) -> None:
    """What scoring preferences needs to know; `out` is the folder where results go by default."""
    parser.add_argument("--profile", default="pocket", help="pocket, baseline, mixture or a YAML file (pocket)")
    parser.add_argument(
        "--dataset",
        action="append",
        metavar="NAME[=WHERE]",
        help="pocket, or image_reward_db, hpdv2, pick_a_pic with =FOLDER or =hub[@COMMIT] (repeatable; pocket)",
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="of a published set (test)")
    parser.add_argument("--prompts", type=positive, metavar="N", help="of a published set, the first N (all)")
    parser.add_argument(
        "--captions",
        type=positive,
        default=CAPTIONS,
        metavar="N",
        help="of the pocket world, 14 images each (400)",
    )
    parser.add_argument("--no-climbing", action="store_true", help="leave out the images that were climbed to")
    parser.add_argument("--seed", type=int, default=1, help="of the pocket world's captions and images (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="of the experts (the profile's)")
    parser.add_argument("--batch", type=positive, metavar="N", help="images at a time (16, on a GPU 128)")
    parser.add_argument("--fresh", action="store_true", help="score anew what an earlier run has scored")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="where results go (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--quick", action="store_true", help=f"the first {QUICK_PROMPTS} prompts of each set: no result, a try"
    )


def checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    """The options, with datasets as (name, where); ends the program with status 2 for what cannot be."""
    pairs = [tuple(text.partition("=")[::2]) for text in options.dataset or [POCKET]]
    if wrong := [name for name, where in pairs if (name == POCKET) == bool(where)]:
        parser.error(f"--dataset {wrong[0]}: give {POCKET} alone, and any other as NAME=FOLDER or NAME=hub[@COMMIT]")
    if len({name for name, _ in pairs}) < len(pairs):
        parser.error("--dataset: give each data set once")
    options.dataset = pairs
    if options.quick:
        options.captions = options.prompts = QUICK_PROMPTS
    return options


# --- preferences and scores


def evaluate(options: argparse.Namespace) -> list[Row]:
    profile = load_scoring_profile(options.profile)  # before any images are made
    found = [find(name, where, options.split, options) for name, where in options.dataset]
    scorer = Scorer(profile, options)
    rows: list[Row] = []
    for preferences in found:
        scored = scorer.score(preferences)
        leads = {name: scored.leads(name) for name in scored.scorers}
        rows += agreement_rows(scored, leads, tie_thresholds(scored, scorer), options.resamples)
    return rows


def load_scoring_profile(name: str) -> dict[str, Any]:
    """The profile. Raises ProfileError where it has no experts, or weights for topics that nothing tells."""
    profile = load_profile(name)
    if profile["rewarder"] is None:
        raise ProfileError(f"profile {name} has no rewarder section, so no experts")
    if profile["rewarder"].get("topics") and profile["prompter"] is None:
        raise ProfileError(f"profile {name} has weights for topics but no prompter to tell them by")
    return profile


def find(name: str, where: str, split: Split, options: argparse.Namespace) -> Preferences:
    from ig_subnet.studies.preferences import load_preferences

    if name == POCKET:
        return pocket(options)
    preferences = load_preferences(name, where, split)
    return preferences.first(options.prompts) if options.prompts else preferences


def pocket(options: argparse.Namespace) -> Preferences:
    """Pairs of the pocket world, whose images are made if they are not there."""
    from adversaries.ascent import Goal, ascend
    from adversaries.experts import load_climbable
    from tqdm import tqdm

    from ig_subnet.config.settings import parse_miner_settings
    from ig_subnet.mining.errors import MiningError
    from ig_subnet.mining.generators import load_generator
    from ig_subnet.studies.pocket_preferences import pocket_preferences

    flags = f"--subtensor.network local --miner.model pocket --neuron.device {options.device}"
    try:
        generator = load_generator(parse_miner_settings(flags.split()))
    except MiningError as error:
        raise StudyError(str(error)) from error
    experts = load_climbable(load_profile(POCKET)["rewarder"])

    def draw(caption: str, seed: int, steps: int) -> Image.Image:
        (image,) = generator.generate(caption, "", *generator.native_size, [seed], steps)
        assert image is not None  # it has no safety checker
        return image

    def climb(image: Image.Image, caption: str, expert: str) -> Image.Image:
        (climbed,) = ascend([image], [caption], Goal(expert, steps=CLIMBING_STEPS), experts, options.seed)
        return climbed

    with tqdm(total=options.captions, desc="captions", unit="caption") as bar:
        folder = options.out / f"{POCKET}-seed-{options.seed}"
        return pocket_preferences(
            folder,
            options.captions,
            options.seed,
            draw,
            None if options.no_climbing else climb,
            lambda done: bar.update(done - bar.n),
        )


class Scorer:
    """A profile's mixture, and where the scores that it gives are kept."""

    def __init__(self, profile: Mapping[str, Any], options: argparse.Namespace) -> None:
        from ig_subnet.rewards import load_mixture

        self.options = options
        self.prompter = profile["prompter"]
        self.mixture = load_mixture(profile["rewarder"], options.device, options.dtype)
        if names := ", ".join(self.mixture.uncalibrated):
            print(f"nobody has measured the reference scores of {names}: the incentive is a rough one", file=sys.stderr)
        warnings.filterwarnings("ignore", module="PIL")  # what keeps an image from being scored is told in its row
        options.out.mkdir(parents=True, exist_ok=True)

    def score(self, preferences: Preferences) -> Scored:
        """Scores what has no score yet, leaves all scores in a table, and says which images have none."""
        from ig_subnet.rewards.runtime import resolve_device
        from ig_subnet.studies.agreement import score_preferences
        from ig_subnet.studies.results import write_results
        from ig_subnet.studies.screen import ProgressBar

        table = self.options.out / f"{preferences.name}-{preferences.split}.parquet"
        with ProgressBar(preferences.items.count) as bar:
            scored = score_preferences(
                preferences,
                self.mixture,
                table.with_name(f"{table.name}.parts"),
                fresh=self.options.fresh,
                batch_size=self.options.batch or BATCH.get(resolve_device(self.options.device).type, BATCH["cpu"]),
                progress=bar,
            )
        write_results(table, scored.table)
        for remark in remarks(scored, table.name):
            print(remark, file=sys.stderr)
        if self.mixture.topics:
            return scored.by_topic(self.mixture, self.topics(scored))
        return scored

    def topics(self, scored: Scored) -> dict[str, str]:
        """The topic of each prompt."""
        from ig_subnet.studies.nearest_topics import nearest_topics

        return nearest_topics(scored.table["prompt"].to_pylist(), self.prompter, self.options.device)


def remarks(scored: Scored, table: str) -> list[str]:
    """What is left out, and why."""
    preferences = scored.preferences
    lines = [f"{preferences.source}: {remark}" for remark in preferences.remarks]
    if scored.missing:
        lost, pairs = len(preferences.pairs) - len(scored.pairs), len(preferences.pairs)
        lines.append(
            f"{preferences.source}: {len(scored.missing):,} of {scored.table.num_rows:,} images have no score, so "
            f"{lost:,} of {pairs:,} pairs are left out; {table} tells why, such as"
        )
        lines += [f"  {name}: {error}" for name, error in list(scored.missing.items())[:SHOWN_ERRORS]]
    return lines


def tie_thresholds(scored: Scored, scorer: Scorer) -> dict[str, float]:
    """The lead up to which each scorer calls it a tie, learnt from the other split; empty where no set counts so."""
    from ig_subnet.studies.agreement import tie_threshold

    preferences, options = scored.preferences, scorer.options
    if preferences.counting != "tie threshold":
        return {}
    split: Split = "test" if preferences.split == "validation" else "validation"
    other = scorer.score(find(preferences.name, dict(options.dataset)[preferences.name], split, options))
    return {name: tie_threshold(other.leads(name), other.pairs.label) for name in other.scorers}


# --- agreement


def agreement_rows(
    scored: Scored, leads: Mapping[str, Floats], thresholds: Mapping[str, float], resamples: int = RESAMPLES
) -> Iterator[Row]:
    """How often each scorer agrees, over all pairs and over each kind, by the `leads` [P] of the first of each pair.

    What is no expert alone is compared with the best expert on these very pairs: it has to beat what nobody could have
    known beforehand.
    """
    import numpy as np

    from ig_subnet.studies.agreement import credits, estimate, weights_of

    preferences, all_pairs = scored.preferences, scored.pairs
    weights = weights_of(all_pairs, preferences.counting)
    earned = {
        name: credits(lead, all_pairs.label, preferences.counting, thresholds.get(name, 0.0))
        for name, lead in leads.items()
    }
    missing = {"missing_images": len(scored.missing), "missing_pairs": len(preferences.pairs) - len(all_pairs)}
    for kind in ["", *(str(kind) for kind in np.unique(all_pairs.kind) if kind)]:
        chosen = (all_pairs.kind == kind) if kind else np.ones(len(all_pairs), bool)
        pairs = all_pairs.where(chosen)
        reached = {name: estimate(values[chosen], pairs, weights[chosen], resamples) for name, values in earned.items()}
        best = max(scored.experts, key=lambda name: reached[name].value)
        for name, found in reached.items():
            row: Row = {
                "scorer": name,
                "dataset": f"{preferences.name}, {kind}" if kind else preferences.name,
                "pairs": len(pairs),
                "prompts": len(np.unique(pairs.prompt)),
                "accuracy": found.value,
                "low": found.low,
                "high": found.high,
            }
            if name not in scored.experts:
                gain = estimate((earned[name] - earned[best])[chosen], pairs, weights[chosen], resamples)
                row |= {"best_expert": best, "gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
            if thresholds:
                row["tie_threshold"] = thresholds[name]
            yield row if kind else row | missing | {"source": preferences.source}


def print_rows(rows: Sequence[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("data set", "pairs", "prompts", "scorer", "accuracy", "95% interval", "over the best expert"):
        table.add_column(title, justify="left" if title in ("data set", "scorer") else "right", no_wrap=True)
    before = ""
    for row in rows:
        new = row["dataset"] != before
        before = row["dataset"]
        gain = (
            f"{100 * row['gain']:+.2f} ({100 * row['gain_low']:+.2f} to {100 * row['gain_high']:+.2f})"
            if "gain" in row
            else ""
        )
        table.add_row(
            *((before, f"{row['pairs']:,}", f"{row['prompts']:,}") if new else ("", "", "")),
            row["scorer"],
            f"{100 * row['accuracy']:.2f}%",
            f"{100 * row['low']:.2f} to {100 * row['high']:.2f}",
            gain,
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def write_files(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """The rows as agreement.json, .csv and .png."""
    import pyarrow as pa

    from ig_subnet.reporting.measurements import write_measurements
    from ig_subnet.studies.results import write_results

    for path in (options.out / "agreement.json", *([options.json] if options.json else [])):
        write_measurements(path, rows, profile=options.profile, device=options.device)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_results(options.out / "agreement.csv", pa.table({name: [row.get(name) for row in rows] for name in columns}))
    plot(rows, options.out / "agreement.png")
    print(options.out)


def plot(rows: Sequence[Row], path: Path) -> None:
    """A panel for each data set and kind: each scorer's accuracy with its interval."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["dataset"] for row in rows))
    scorers = list(dict.fromkeys(row["scorer"] for row in rows))[::-1]
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(2.2 + 3.1 * across, 0.9 + down * (0.55 + 0.3 * len(scorers))), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        of_panel = [row for row in rows if row["dataset"] == name]
        axes.axvline(50, color="0.7", linewidth=1, linestyle=":")
        for row in of_panel:
            accuracy, low, high = (100 * row[key] for key in ("accuracy", "low", "high"))
            axes.errorbar(
                accuracy,
                scorers.index(row["scorer"]),
                xerr=[[max(0, accuracy - low)], [max(0, high - accuracy)]],
                fmt="s" if "gain" in row else "o",
                color="C1" if "gain" in row else "C0",
                markersize=5,
                capsize=3,
            )
        axes.set_title(f"{name}\n({of_panel[0]['pairs']:,} pairs)", fontsize="small")
        axes.set_yticks(range(len(scorers)), scorers)
        axes.grid(axis="x", alpha=0.3)
    for axes in panels[len(names) :]:
        axes.remove()
    figure.supxlabel("pairs in agreement (%)", fontsize="small")
    figure.savefig(path, dpi=110)


def fail(program: str, error: object, status: int) -> int:
    print(f"{program}: error: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
