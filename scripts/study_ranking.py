"""Does the mixture rank models as the exact checker does, and how many prompts does it take?

    python scripts/study_ranking.py --out ranking-study --json ranking.json --figure tau.png

Generators of known quality make the same captions of the pocket world, which nothing was trained on: in fewer steps,
with other guidance, with disturbed weights, and ignoring prompts. The mixture ranks them as in any study of models
(scripts/mimic.py), the checker by how many of their pictures show all that was asked. Printed is Kendall's tau of the
two rankings by the number of prompts, and with noise on the scores and on the images (docs/mimic.md).

Images and scores stay in --out: the same command goes on where it was cut.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ranking_study.figure import draw
from ranking_study.generators import GENERATORS, load_generator
from ranking_study.scores import BATCH, CHECKER, RESPECTS, with_checker, with_noise
from ranking_study.tau import tau_row

from ig_subnet.config.profiles import load_profile
from ig_subnet.studies.configuration import StudySettings, parse_study
from ig_subnet.studies.ranking import FEWEST
from ig_subnet.studies.resampling import cells_of

if TYPE_CHECKING:
    import pyarrow as pa

    from ig_subnet.rewards import Mixture
    from ig_subnet.studies.folder import StudyFolder, StudyPrompt
    from ig_subnet.studies.ranking import Ranking
    from ig_subnet.studies.resampling import Floats

TOPIC = {"name": "held_out", "text": "captions of the pocket world that nothing was trained on"}
PROMPTS, SAMPLES = 300, 2
QUICK_PROMPTS, QUICK_SAMPLES = 16, 1
PROMPT_COUNTS = (5, 10, 20, 30, 50, 70, 100, 150)
AT_PROMPTS = 100  # of what is told of scorers and of noise
SCORE_NOISE = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # standard deviations of all images' incentives
IMAGE_NOISE = (8.0, 20.0, 40.0)  # levels

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from ig_subnet.reporting.measurements import write_measurements
    from ig_subnet.rewards import load_mixture
    from ig_subnet.studies.errors import StudyError
    from ig_subnet.studies.folder import open_study
    from ig_subnet.studies.ranking import rank

    settings = study_settings(options)
    prompts = held_out_prompts(options.prompts, options.seed)
    try:
        mixture = load_mixture(load_profile(settings.profile)["rewarder"], options.device)
        with open_study(options.out, settings) as folder:
            make(options, folder, settings, prompts)
            scores = score(folder, settings, prompts, mixture)
            noisy = {levels: with_noise(scores, options.out, mixture, levels) for levels in IMAGE_NOISE}
    except (StudyError, OSError) as error:
        print(f"study_ranking.py: error: {error}", file=sys.stderr)
        return 1
    (by_mixture,), (by_checker,) = rank(scores, value="incentive"), rank(scores, value=CHECKER)
    rows = [*generator_rows(by_mixture, by_checker), *tau_rows(scores, noisy, by_checker, options)]
    for row in rows:
        print(
            "  ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )
    if options.json:
        write_measurements(options.json, rows)
    if options.figure:
        draw([row for row in rows if "tau" in row], by_mixture, by_checker, options.figure)
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="captions (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="images of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of captions and images (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--out", type=Path, default=Path("ranking-study"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw tau there, as PNG")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PROMPTS} captions; under two minutes")
    options = parser.parse_args(arguments)
    if options.quick:
        options.prompts, options.samples = QUICK_PROMPTS, QUICK_SAMPLES
    if options.prompts < FEWEST or options.samples < 1:
        parser.error(f"--prompts must be at least {FEWEST} and --samples at least 1")
    return options


def study_settings(options: argparse.Namespace) -> StudySettings:
    return parse_study(
        {
            "models": [generator.settings for generator in GENERATORS],
            "topics": [TOPIC],
            "prompts_per_topic": options.prompts,
            "images_per_prompt": options.samples,
            "seed": options.seed,
        }
    )


def held_out_prompts(count: int, seed: int) -> list[StudyPrompt]:
    """Different captions of scenes that no training saw."""
    from ig_subnet.pocket import caption, sample_scene
    from ig_subnet.studies.folder import StudyPrompt

    rng = np.random.default_rng(seed)
    captions: dict[str, None] = {}
    while len(captions) < count:
        captions.setdefault(caption(sample_scene(rng, "held_out")))
    return [StudyPrompt(TOPIC["name"], TOPIC["text"], number, text, text) for number, text in enumerate(captions)]


def make(
    options: argparse.Namespace, folder: StudyFolder, settings: StudySettings, prompts: Sequence[StudyPrompt]
) -> None:
    """The images that are missing. Raises `StudyError` where a generator fails."""
    from tqdm import tqdm

    from ig_subnet.studies.errors import ModelFailed
    from ig_subnet.studies.folder import shots
    from ig_subnet.studies.making import make_images

    generators = {generator.name: generator for generator in GENERATORS}
    best = {
        (shot.prompt.prompt, shot.seed): folder.images / shot.file_name
        for shot in shots(settings.models[0], prompts, settings.images_per_prompt, settings.seed)
    }
    with (
        tempfile.TemporaryDirectory(prefix="study-ranking-") as checkpoints,
        tqdm(total=len(GENERATORS) * len(prompts) * options.samples, desc="images", disable=None) as bar,
    ):
        outcomes = make_images(
            folder,
            settings,
            prompts,
            load=lambda model, _: load_generator(generators[model.name], best, Path(checkpoints), options.device),
            progress=lambda model, images, seconds: bar.update(images),
        )
    if failed := [f"{name}: {outcome.error}" for name, outcome in outcomes.items() if outcome.error]:
        raise ModelFailed(failed[0])


def score(folder: StudyFolder, settings: StudySettings, prompts: Sequence[StudyPrompt], mixture: Mixture) -> pa.Table:
    """A row an image, with what the experts and what the checker say of it."""
    from ig_subnet.studies.judging import finished_series, score_images

    table = score_images(folder, finished_series(folder, settings, prompts), mixture, batch_size=BATCH)
    return with_checker(table, folder.path)


def generator_rows(by_mixture: Ranking, by_checker: Ranking) -> list[Row]:
    """What mixture and checker say of each generator, the checker's best first."""
    mixture = {one.model: one for one in by_mixture.models}
    return [
        {
            "generator": one.model,
            "right": one.mean,
            "right_low": one.low,
            "right_high": one.high,
            "checker_rank": one.rank,
            "checker_letters": one.letters,
            "incentive": mixture[one.model].mean,
            "incentive_low": mixture[one.model].low,
            "incentive_high": mixture[one.model].high,
            "mixture_rank": mixture[one.model].rank,
            "mixture_letters": mixture[one.model].letters,
        }
        for one in by_checker.models
    ]


def tau_rows(
    scores: pa.Table, noisy: Mapping[float, pa.Table], by_checker: Ranking, options: argparse.Namespace
) -> list[Row]:
    """Tau by the number of prompts, by scorer, and with noise."""
    import pyarrow.compute

    from ig_subnet.studies.results import experts_of

    def matrix(table: pa.Table, value: str) -> Floats:
        (cells,) = cells_of(table, value)
        return cells.means

    (checked,) = cells_of(scores, CHECKER)
    truth, incentives = checked.means, matrix(scores, "incentive")
    told = {frozenset((pair.better, pair.worse)) for pair in by_checker.pairs if pair.told_apart}
    apart = [place for place, pair in enumerate(combinations(checked.models, 2)) if frozenset(pair) in told]
    deviation = float(np.std(scores["incentive"].to_numpy())) / options.samples**0.5
    at = min(AT_PROMPTS, options.prompts // 2)
    counts = [count for count in PROMPT_COUNTS if count <= options.prompts // 2]

    def row(varied: str, scorer: str, values: Floats, prompts: int, noise: float = 0.0, **further: Any) -> Row:
        found = tau_row(values, further.pop("truth", truth), prompts, options.seed, **further)
        return {"varied": varied, "scorer": scorer, "prompts": prompts, "noise": noise, **found}

    rows = [row("prompts", "incentive", incentives, count) for count in counts]
    rows += [row("prompts", CHECKER, truth, count) for count in counts]
    if apart:
        rows += [row("prompts, pairs apart", "incentive", incentives, count, apart=apart) for count in counts]
    rows += [
        row("scorer", scorer, matrix(scores, scorer), at) for scorer in ("incentive", "total", *experts_of(scores))
    ]
    rows.append(row("truth: share of respects", "incentive", incentives, at, truth=matrix(scores, RESPECTS)))
    rows += [
        row("noise of scores", "incentive", incentives, at, noise=share, disturbance=share * deviation)
        for share in SCORE_NOISE
    ]
    clean = {0.0: scores.filter(pyarrow.compute.equal(scores["sample"], 0))}
    rows += [
        row("noise on images", "incentive", matrix(table, "incentive"), at, noise=levels)
        for levels, table in (clean | dict(noisy)).items()
    ]
    return rows


if __name__ == "__main__":
    sys.exit(main())
