"""Measures how like an image is to the same image made again, and what a false declaration looks like beside it.

    python scripts/calibrate_regeneration.py --model pocket
    python scripts/calibrate_regeneration.py --model organisation/name --profile mine.yaml --write mine.yaml

Images of a model are made again as honest miners make them (on the same machine, in another batch, in another number
format) and as they are made by who declares something else than what it does: with another seed, fewer steps, another
guidance scale or scheduler, by another model. Each is compared with the first by the cosine of the embeddings that the
profile's gates use. The threshold is drawn at a distance of twice the farthest honest one, for machines that were not
measured; with --write it goes into the profile. Images sent with loss are told beside it: a miner that declares its
model must not send them.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ig_subnet.config.profiles import ProfileError, load_profile, profile_path, with_gate
from ig_subnet.config.settings import GeneratorSettings, NeuronSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from ig_subnet.mining.generators import Generator

MARGIN = 2.0  # times the farthest honest distance: GPUs and library versions that nobody here has measured
SMALLEST_DISTANCE, SMALLEST_LEVELS = 1e-4, 0.1  # of a threshold, where all that was measured came out the same
QUICK_IMAGES = 10
HONEST, FALSE, LOSSY = "honest", "false", "lossy"
DISTURBANCE = 0.1  # of each weight's deviation: a stand-in for another model where there is none
OTHER_SEED = 7919

Make = Callable[[str, int], "Image"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One way to make an image of a prompt and a seed, or to send it."""

    name: str
    kind: str
    make: Make


@dataclass(frozen=True)
class Limits:
    """The least cosine to an image made again, and the most levels of brightness between their thumbnails."""

    cosine: float
    levels: float


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from ig_subnet.mining.errors import MiningError
    from ig_subnet.reporting.measurements import write_measurements
    from ig_subnet.rewards import RewardError
    from ig_subnet.validating.errors import ValidatingError

    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="calibrate-regeneration-") as folder:
            name, rows, limits = measure(options, Path(folder))
        for row in rows:
            print("  ".join(f"{key} {_short(value)}" for key, value in row.items()))
        told = f"limits of {name}: cosine {limits.cosine:.5f}, levels {limits.levels:.2f}"
        print(f"{told}; {time.monotonic() - began:.0f} s", file=sys.stderr)
        if options.json:
            write_measurements(options.json, rows, torch_threads=options.threads)
        if options.write:
            write_profile(options, name, rows, limits)
            print(f"wrote {options.write}: start with --neuron.verify_models {options.model}", file=sys.stderr)
    except (MiningError, ProfileError, RewardError, ValidatingError, OSError) as error:
        print(f"calibrate_regeneration.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="pocket, a hub id, or a directory (default: pocket)")
    parser.add_argument("--other", metavar="MODEL", help="another model; without it, this one with disturbed weights")
    parser.add_argument("--profile", default="pocket", help="profile whose gates embed images (default: pocket)")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="one a line; without it, captions of pocket")
    parser.add_argument("--images", type=int, default=200, help="of each case (default: 200)")
    parser.add_argument("--steps", type=int, default=20, help="that miners declare (default: 20)")
    parser.add_argument("--dtype", default="bfloat16", help="the other number format (default: bfloat16)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="of the captions and the images (default: 1)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the profile there, with this threshold")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_IMAGES} images of each case")
    options = parser.parse_args(arguments)
    if options.quick:
        options.images = QUICK_IMAGES
    if options.images < 2 or options.steps < 4:
        parser.error("--images must be at least 2 and --steps at least 4")
    return options


# --- the images


def measure(options: argparse.Namespace, folder: Path) -> tuple[str, list[Row], Limits]:
    """The model's declared name, a row for each case, and the limits that follow from them."""
    from tqdm import tqdm

    from ig_subnet.imaging import fingerprint
    from ig_subnet.mining.generators import load_reference
    from ig_subnet.validating.likeness import levels_apart

    neuron = NeuronSettings(device=options.device, torch_threads=options.threads)
    reference = load_reference(GeneratorSettings(model=options.model), neuron)
    width, height = reference.native_size
    embed = embedder(options.profile, options.device)
    prompts = read_prompts(options)
    seeds = [options.seed * 1_000_003 + 100 * number for number in range(len(prompts))]
    original = cache(maker(reference, options.steps, width, height))
    originals = [original(*pair) for pair in zip(prompts, seeds, strict=True)]
    embedded, thumbnails = embed(originals), [fingerprint(np.asarray(image)) for image in originals]
    cosines, levels = {}, {}
    cases = cases_of(options, neuron, reference, original, folder)
    for case in tqdm(cases, desc="cases", unit="case", disable=None):
        again = [case.make(*pair) for pair in zip(prompts, seeds, strict=True)]
        cosines[case.name] = (embedded * embed(again)).sum(axis=1)
        pairs = zip(thumbnails, again, strict=True)
        levels[case.name] = np.array([levels_apart(one, fingerprint(np.asarray(image))) for one, image in pairs])
    honest = [case.name for case in cases if case.kind == HONEST]
    limits = limits_of([cosines[name] for name in honest], [levels[name] for name in honest])
    rows = [row_of(reference.name, case, cosines[case.name], levels[case.name], limits) for case in cases]
    return reference.name, rows, limits


def cases_of(
    options: argparse.Namespace, neuron: NeuronSettings, reference: Generator, original: Make, folder: Path
) -> list[Case]:
    """Everything that is measured, honest miners first."""
    from ig_subnet.mining.generators import load_reference

    size, steps = reference.native_size, options.steps
    again = maker(reference, steps, *size)
    declared = reference.declaration(steps)
    guidance = declared.guidance if declared.guidance is not None else 7.5  # what most pipelines have
    other_dtype = load_reference(GeneratorSettings(model=options.model, dtype=options.dtype), neuron)
    different = options.other or disturbed(options.model, folder / "disturbed", DISTURBANCE)
    other = load_reference(GeneratorSettings(model=different), neuron)

    def in_a_batch(prompt: str, seed: int) -> Image:
        seeds = [seed + 1, seed, seed + 2, seed + 3]
        image = reference.generate(prompt, "", *size, seeds, steps)[1]
        assert image is not None, "the model withholds its images; choose other prompts"
        return image

    def with_settings(**changed: Any) -> Make:
        return maker(reference.as_declared(replace(declared, **changed)), steps, *size)

    return [
        Case("made again", HONEST, again),
        Case("in a batch of 4", HONEST, in_a_batch),
        Case(f"in {options.dtype}", HONEST, maker(other_dtype, steps, *size)),
        Case("another seed", FALSE, lambda prompt, seed: again(prompt, seed + OTHER_SEED)),
        *(
            Case(f"{fewer} steps", FALSE, maker(reference, fewer, *size))
            for fewer in dict.fromkeys((steps * 3 // 4, steps // 2, steps // 4, max(2, steps // 10)))
        ),
        Case(f"guidance {guidance / 2:g}", FALSE, with_settings(guidance=guidance / 2)),
        Case("scheduler ddpm", FALSE, with_settings(scheduler="ddpm")),
        Case(
            f"the model {options.other}" if options.other else f"weights disturbed by {DISTURBANCE:g}",
            FALSE,
            maker(other.as_declared(replace(declared, guidance=guidance)), steps, *size),
        ),
        *(Case(f"as JPEG {quality}", LOSSY, sent_as_jpeg(original, quality)) for quality in (95, 75)),
    ]


def maker(generator: Generator, steps: int, width: int, height: int) -> Make:
    """Makes one image of a prompt from a seed."""

    def make(prompt: str, seed: int) -> Image:
        image = generator.generate(prompt, "", width, height, [seed], steps)[0]
        assert image is not None, "the model withholds its images; choose other prompts"
        return image

    return make


def sent_as_jpeg(make: Make, quality: int) -> Make:
    def encode_and_decode(prompt: str, seed: int) -> Image:
        from PIL import Image

        file = BytesIO()
        make(prompt, seed).save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return encode_and_decode


def disturbed(model: str, copy: Path, share: float) -> str:
    """A `copy` of a model's directory with noise added to the weights of its denoiser: `share` of their deviation."""
    import torch
    from safetensors.torch import load_file, save_file

    from ig_subnet.mining.errors import ModelUnavailable
    from ig_subnet.pocket import STABLE_DIFFUSION

    source = STABLE_DIFFUSION if model == "pocket" else Path(model)
    files = [file for part in ("unet", "transformer") for file in sorted((source / part).glob("*.safetensors"))]
    if not files:
        raise ModelUnavailable(f"no weights to disturb in {source}: name another model with --other")
    shutil.copytree(source, copy)
    noise = torch.Generator().manual_seed(1)
    for file in files:
        tensors = load_file(file)
        for tensor in tensors.values():
            deviation = tensor.float().std(correction=0)
            tensor += share * deviation * torch.randn(tensor.shape, generator=noise)
        save_file(tensors, copy / file.relative_to(source))
    return str(copy)


def read_prompts(options: argparse.Namespace) -> list[str]:
    """As many prompts as images."""
    if options.prompts is None:
        from ig_subnet.pocket import pocket_captions

        return pocket_captions(options.images, options.seed)
    lines = [line.strip() for line in options.prompts.read_text(encoding="utf-8").splitlines()]
    prompts = [line for line in lines if line][: options.images]
    if len(prompts) < 2:
        raise ProfileError(f"{options.prompts} has fewer than 2 prompts: one a line")
    return prompts


def embedder(profile: str, device: str) -> Callable[[Sequence[Image]], NDArray[np.float32]]:
    """What the profile's gates embed images with: PIL images in, unit length [N, D] out."""
    from ig_subnet.rewards import load_mixture
    from ig_subnet.validating.gate_settings import GateSettings

    content = load_profile(profile)
    gate = GateSettings.parse(content["gates"], profile).duplicates
    if content["rewarder"] is None or gate is None:
        raise ProfileError(f"profile {profile!r} needs a rewarder, and gates.duplicates: its expert embeds images")
    mixture = load_mixture(content["rewarder"], device)
    return lambda images: mixture.embed(images, gate.expert).numpy()


# --- what is told


def limits_of(cosines: Sequence[NDArray[np.floating]], levels: Sequence[NDArray[np.floating]]) -> Limits:
    """Both at `MARGIN` times the farthest honest distance; rounded to five and two digits, so that it is within."""
    farthest = 1 - min(float(of_case.min()) for of_case in cosines)
    widest = max(float(of_case.max()) for of_case in levels)
    return Limits(
        math.floor((1 - max(SMALLEST_DISTANCE, MARGIN * farthest)) * 1e5) / 1e5,
        math.ceil(max(SMALLEST_LEVELS, MARGIN * widest) * 100) / 100,
    )


def row_of(model: str, case: Case, cosines: NDArray[np.floating], levels: NDArray[np.floating], limits: Limits) -> Row:
    return {
        "model": model,
        "case": case.name,
        "kind": case.kind,
        "images": len(cosines),
        "cosine_min": float(cosines.min()),
        "cosine_median": float(np.median(cosines)),
        "cosine_max": float(cosines.max()),
        "levels_min": float(levels.min()),
        "levels_median": float(np.median(levels)),
        "levels_max": float(levels.max()),
        "beyond_limits_share": float(((cosines < limits.cosine) | (levels > limits.levels)).mean()),
    }


def write_profile(options: argparse.Namespace, name: str, rows: Sequence[Row], limits: Limits) -> None:
    """The profile with the model's limits, and where they come from."""
    honest = [row for row in rows if row["kind"] == HONEST]
    cosine, levels = min(row["cosine_min"] for row in honest), max(row["levels_max"] for row in honest)
    found = [f"{row['beyond_limits_share']:.0%} of {row['case']}" for row in rows if row["kind"] == FALSE]
    provenance = (
        f"scripts/calibrate_regeneration.py: {options.images} images of {options.steps} steps, again, in batches and "
        f"in {options.dtype}: {cosine:.5f} or more, {levels:.2f} levels or less; beyond the limits "
        f"{', '.join(found)}; {date.today().isoformat()}"
    )
    known = (load_profile(options.profile)["gates"] or {}).get("regeneration") or {}
    models = {**known.get("models", {}), name: {**asdict(limits), "provenance": provenance}}
    text = profile_path(options.profile).read_text(encoding="utf-8")
    options.write.write_text(with_gate(text, "regeneration", {**known, "models": models}), encoding="utf-8")


def _short(value: object) -> str:
    return f"{value:.5f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
