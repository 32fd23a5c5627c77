"""How fast a study makes its images: scripts/mimic.py's way beside a plain loop over the pipeline.

    python scripts/benchmark_images.py --quick                              the pocket model, a minute
    python scripts/benchmark_images.py --models stabilityai/sdxl-turbo:steps=1,guidance=0 --batches 1 2 4 8

The ways take turns. Processor seconds are of all threads, and tell more than the wall on a busy machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ig_subnet.studies.configuration import ModelSettings
    from ig_subnet.studies.series import ModelFacts

NEGATIVE_PROMPT = "ugly, blurry, poor quality"
IMAGES_PER_PROMPT = 4


@dataclass(frozen=True)
class Way:
    """A way to make an image of each prompt and its seed, so many at a time."""

    name: str
    batch: int
    make: Callable[[Sequence[str], Sequence[int]], object]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmark_images.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["pocket:steps=6", "pocket:steps=1"], metavar="MODEL")
    parser.add_argument("--batches", nargs="+", type=int, default=[4, 16, 32], metavar="N", help="images at a time")
    parser.add_argument("--prompts", type=int, default=32, metavar="N", help="of 4 images each (default: 32)")
    parser.add_argument("--turns", type=int, default=3, metavar="N", help="of all ways (default: 3)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table with machine and versions")
    parser.add_argument("--quick", action="store_true", help="8 prompts, one turn")
    options = parser.parse_args(arguments)
    if options.quick:
        options.prompts, options.turns = 8, 1

    from ig_subnet.reporting.measurements import write_measurements
    from ig_subnet.studies.errors import StudyError

    try:
        rows = [row for model in options.models for row in measure(model, options)]
    except StudyError as error:
        print(f"benchmark_images.py: error: {error}", file=sys.stderr)
        return 1
    for row in rows:
        print(
            f"{row['model']:24} {row['way']:12} {row['batch']:4} {row['images_per_second']:8.2f} a second"
            f" {row['cpu_seconds_per_image']:8.4f} CPU s an image, {row['ratio_to_plain']:.2f} of the plain loop's"
        )
    if options.json is not None:
        write_measurements(options.json, rows)
    return 0


def measure(written: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each way; the first is the plain loop."""
    from ig_subnet.pocket import pocket_captions
    from ig_subnet.studies.configuration import parse_study
    from ig_subnet.studies.pipelines import load_model

    (model,) = parse_study({"models": [written], "topics": "seed"}).models
    loaded = load_model(model, NEGATIVE_PROMPT, options.device)
    prompts = [prompt for prompt in pocket_captions(options.prompts, seed=1) for _ in range(IMAGES_PER_PROMPT)]
    ways = [
        Way("plain loop", 1, plain(model, loaded.facts, options.device)),
        *(Way("study", batch, loaded.make) for batch in options.batches),
    ]
    wall, cpu = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    for turn in range(options.turns + 1):
        for way in ways:
            began = time.perf_counter(), time.process_time()
            for start in range(0, len(prompts), way.batch):
                chosen = range(start, min(start + way.batch, len(prompts)))
                way.make([prompts[place] for place in chosen], list(chosen))
                if turn == 0:
                    break  # the first call of each warms up
            if turn > 0:
                wall[way] += time.perf_counter() - began[0]
                cpu[way] += time.process_time() - began[1]
    made = options.turns * len(prompts)
    return [
        {
            "model": model.name,
            "way": way.name,
            "batch": way.batch,
            "images_per_second": made / wall[way],
            "cpu_seconds_per_image": cpu[way] / made,
            "ratio_to_plain": cpu[way] / cpu[ways[0]],
        }
        for way in ways
    ]


def plain(model: ModelSettings, facts: ModelFacts, device: str) -> Callable[[Sequence[str], Sequence[int]], object]:
    """The pipeline as its own documentation calls it, an image a call, with weights of its own."""
    import torch

    from ig_subnet.mining.diffusion import PipelineSettings, load_pipeline
    from ig_subnet.pocket import STABLE_DIFFUSION

    source = str(STABLE_DIFFUSION) if model.source == "pocket" else model.source
    pipeline = load_pipeline(PipelineSettings(source, device, model.dtype, revision=model.revision))

    def make(prompts: Sequence[str], seeds: Sequence[int]) -> object:
        return pipeline(
            prompts[0],
            negative_prompt=facts.negative_prompt,
            num_inference_steps=facts.steps,
            guidance_scale=facts.guidance,
            width=facts.width,
            height=facts.height,
            generator=torch.Generator("cpu").manual_seed(seeds[0]),
        )

    return make


if __name__ == "__main__":
    sys.exit(main())
