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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ranking_study.generators import GENERATORS, load_generator

from ig_subnet.config.profiles import load_profile
from ig_subnet.studies.configuration import StudySettings, parse_study

if TYPE_CHECKING:
    from ig_subnet.studies.folder import StudyFolder, StudyPrompt

TOPIC = {"name": "held_out", "text": "captions of the pocket world that nothing was trained on"}
PROMPTS, SAMPLES = 300, 2
QUICK_PROMPTS, QUICK_SAMPLES = 16, 1


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    settings = study_settings(options)
    prompts = held_out_prompts(options.prompts, options.seed)
    make(options, settings, prompts)
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
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--out", type=Path, default=Path("ranking-study"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw tau there, as PNG")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PROMPTS} captions; under two minutes")
    options = parser.parse_args(arguments)
    if options.quick:
        options.prompts, options.samples = QUICK_PROMPTS, QUICK_SAMPLES
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


def make(options: argparse.Namespace, settings: StudySettings, prompts: Sequence[StudyPrompt]) -> StudyFolder:
    from tqdm import tqdm

    from ig_subnet.studies.folder import open_study
    from ig_subnet.studies.making import make_images

    generators = {generator.name: generator for generator in GENERATORS}
    captions = [prompt.prompt for prompt in prompts]
    with (
        open_study(options.out, settings) as folder,
        tempfile.TemporaryDirectory(prefix="study-ranking-") as checkpoints,
        tqdm(total=len(GENERATORS) * len(prompts) * options.samples, desc="images", unit="image") as bar,
    ):
        make_images(
            folder,
            settings,
            prompts,
            load=lambda model, _: load_generator(generators[model.name], captions, Path(checkpoints), options.device),
            progress=lambda model, images, seconds: bar.update(images),
        )
    return folder


if __name__ == "__main__":
    sys.exit(main())
