"""Mimics the validating process: ranks text-to-image models by topic, as a subnet would reward them.

    python scripts/mimic.py                                              the pocket study: offline, in minutes
    python scripts/mimic.py --study author --out author                  the study of the original project's author
    python scripts/mimic.py --profile mixture --topics "cats=a photo of a cat" --out cats \\
        --models stabilityai/sdxl-turbo:steps=1,guidance=0 ./my-model:scheduler=dpm++,steps=25

Prompts come from the profile's prompter, images from diffusers pipelines, scores from the profile's experts; the report
and the ranking lie in --out. A study that was cut goes on where it was when the same command is given again. A model
that fails is reported and does not stop the rest. Exit status: 0 when models are ranked, 1 when none is or the study
failed, 2 when the command is wrong. docs/mimic.md tells the rest.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ig_subnet.reporting.study import StudyReport
    from ig_subnet.studies.configuration import ModelSettings, StudySettings
    from ig_subnet.studies.folder import StudyFolder, StudyPrompt
    from ig_subnet.studies.forecast import Forecast, StudyBar
    from ig_subnet.studies.making import LoadedModel, Outcome

STAGES = ("prompts", "images", "scores", "report")
SCORES = "scores"  # the part of the forecast
BATCH = {"cpu": 16, "cuda": 128}  # images scored at a time
EACH_MODEL = ("steps", "guidance", "scheduler", "size", "dtype", "offload", "compile", "batch")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.public and options.push_to_hub is None:
        parser.error("--public belongs to --push-to-hub")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        parser.error(f"--device {options.device}: use auto, cpu, cuda or cuda:N")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"the folder of {options.json} does not exist")
    from ig_subnet.studies.errors import SettingsError, StudyError

    try:
        settings = read_settings(options)
    except SettingsError as error:
        return fail(error, 2)

    from ig_subnet.config.profiles import ProfileError
    from ig_subnet.prompts import PromptError
    from ig_subnet.rewards import ConfigurationError, RewardError

    try:
        return mimic(settings, options)
    except (SettingsError, ConfigurationError, ProfileError) as error:
        return fail(error, 2)
    except (StudyError, PromptError, RewardError, OSError) as error:
        return fail(error, 1)
    except KeyboardInterrupt:
        return fail("interrupted; the same command goes on from here", 130)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mimic.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    study = parser.add_argument_group("the study")
    study.add_argument("--study", metavar="NAME|FILE.yaml", help="pocket, author or a file (default: pocket)")
    study.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="pocket, a directory or a hub id, as SOURCE or SOURCE:key=value,... (instead of the study's)",
    )
    study.add_argument(
        "--topics", nargs="+", metavar="TOPIC", help="seed, study, or NAME=QUERY TEXT ... (default: the profile's)"
    )
    study.add_argument("--prompts-per-topic", type=int, metavar="N", help="default: 100, pocket 20")
    study.add_argument("--images-per-prompt", type=int, metavar="N", help="default: 4, pocket 2")
    study.add_argument("--prompts", choices=("drawn", "nearest"), help="as a validator draws, or the nearest")
    study.add_argument("--profile", help="pocket, baseline, mixture or a YAML file: who finds prompts and who scores")
    study.add_argument("--negative-prompt", metavar="TEXT")
    study.add_argument("--seed", type=int, metavar="N", help="of the draw of prompts and of all images (default: 0)")
    study.add_argument("--quick", action="store_true", help="the study with 4 prompts a topic and 2 images a prompt")

    models = parser.add_argument_group("every model that has no setting of its own")
    models.add_argument("--steps", type=int, metavar="N")
    models.add_argument("--guidance", type=float, metavar="SCALE")
    models.add_argument("--scheduler", metavar="NAME", help="ddim, ddpm, pndm, lms, euler, euler_a, heun, dpm++, unipc")
    models.add_argument("--size", metavar="PIXELS", help="512 or 768x512")
    models.add_argument("--dtype", help="auto, float32, float16 or bfloat16 (auto: float16 on a GPU)")
    models.add_argument("--offload", help="none, model or sequential: keep parts of a model in main memory")
    models.add_argument("--compile", action="store_true", default=None, help="compile the denoiser")
    models.add_argument("--batch", type=int, metavar="N", help="images made at a time (default: a megapixel of them)")

    run = parser.add_argument_group("this run")
    run.add_argument("--out", type=Path, metavar="DIR", help="the study's folder (default: mimic-out/STUDY)")
    run.add_argument("--stage", nargs="+", choices=STAGES, default=STAGES, help="only these (default: all)")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    run.add_argument("--json", type=Path, metavar="FILE", help="the ranking's rows once more, here")
    run.add_argument("--push-to-hub", metavar="ID", help="put the images there as a dataset, in private")
    run.add_argument("--public", action="store_true", help="with --push-to-hub: for everybody to see")
    return parser


def read_settings(options: argparse.Namespace) -> StudySettings:
    """The study that the command means. Raises `SettingsError`."""
    from ig_subnet.studies.configuration import POCKET, SettingsError, parse_study, read_study

    content: dict[str, Any] = {"models": options.models}
    if options.study is not None or options.models is None:
        content = read_study(options.study or POCKET) | ({"models": options.models} if options.models else {})
    elif options.profile is None and not all(model.partition(":")[0] == POCKET for model in options.models):
        raise SettingsError("give --profile with --models: mixture for real images, pocket for the pocket world's")
    for name in ("prompts_per_topic", "images_per_prompt", "prompts", "profile", "negative_prompt", "seed"):
        if (value := getattr(options, name)) is not None:
            content[name] = value
    if options.topics is not None:
        content["topics"] = topics_of(options.topics)
    own = {name: value for name in EACH_MODEL if (value := getattr(options, name)) is not None}
    settings = parse_study({**content, "each_model": {**(content.get("each_model") or {}), **own}})
    return settings.quick() if options.quick else settings


def topics_of(written: Sequence[str]) -> str | list[dict[str, str]]:
    """A set's name, or topics as NAME=QUERY TEXT; of a text alone the name is made."""
    if len(written) == 1 and re.fullmatch(r"\w+", written[0]):
        return written[0]
    pairs = [text.partition("=") for text in written]
    return [
        {"name": name if equals else re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_"), "text": query or name}
        for name, equals, query in pairs
    ]


def mimic(settings: StudySettings, options: argparse.Namespace) -> int:
    """The stages that are asked for, one after the other."""
    from ig_subnet.studies.folder import open_study
    from ig_subnet.studies.forecast import StudyBar
    from ig_subnet.studies.prompting import read_prompts

    for section in ("prompter", "rewarder"):
        profile_section(settings, section)  # now rather than when the images are made
    kind = "-quick" if options.quick else ""
    name = Path(options.study).stem if options.study else "models" if options.models else "pocket"
    with open_study(options.out or Path("mimic-out") / f"{name}{kind}", settings) as folder:
        if "prompts" in options.stage:
            find_study_prompts(folder, settings, options.device)
        if {"images", "scores"} & {*options.stage}:
            prompts = read_prompts(folder.prompts)
            with StudyBar(forecast_of(settings, len(prompts), options.stage)) as bar:
                if "images" in options.stage:
                    make_study_images(folder, settings, prompts, options.device, bar)
                if "scores" in options.stage:
                    score_study_images(folder, settings, prompts, options.device, bar)
        if options.push_to_hub is not None:
            push(folder, options.push_to_hub, public=options.public)
        if "report" in options.stage:
            report(folder, settings, options.json)
    return 0


def forecast_of(settings: StudySettings, prompts: int, stages: Sequence[str]) -> Forecast:
    """What is to be done in these stages; a model's image costs as many units as it takes steps."""
    from ig_subnet.studies.forecast import Forecast, Part

    images = prompts * settings.images_per_prompt
    parts = {}
    if "images" in stages:
        parts = {model.name: Part(images, model.usual_steps) for model in settings.models}
    if "scores" in stages:
        parts[SCORES] = Part(images * len(settings.models))
    return Forecast(parts)


def profile_section(settings: StudySettings, name: str) -> dict[str, Any]:
    """The profile's `prompter` or `rewarder`."""
    from ig_subnet.config.profiles import load_profile
    from ig_subnet.studies.errors import SettingsError

    section = load_profile(settings.profile)[name]
    if section is None:
        raise SettingsError(f"profile {settings.profile} has no {name} section; a study needs it")
    return dict(section)


def find_study_prompts(folder: StudyFolder, settings: StudySettings, device: str) -> None:
    """Retrieves the prompts, unless they are there."""
    from ig_subnet.prompts import load_prompter
    from ig_subnet.studies.prompting import find_prompts, prompter_section, write_prompts

    if folder.prompts.is_file():
        return
    section = prompter_section(profile_section(settings, "prompter"), settings)
    write_prompts(folder.prompts, find_prompts(load_prompter(section, device), settings))


def make_study_images(
    folder: StudyFolder, settings: StudySettings, prompts: Sequence[StudyPrompt], device: str, bar: StudyBar
) -> None:
    """Makes what is missing of every model's images, and says at once which model failed."""
    from ig_subnet.studies.making import make_images
    from ig_subnet.studies.pipelines import load_model

    def load(model: ModelSettings, negative_prompt: str) -> LoadedModel:
        bar.say(f"loading {model.name}")
        return load_model(model, negative_prompt, device)

    def ended(model: str, outcome: Outcome) -> None:
        if outcome.error is not None:
            bar.give_up(model)
            bar.print(f"{model} failed: {outcome.error}")
        elif outcome.withheld:
            bar.print(f"{model}: {outcome.withheld:,} of its images did not come out (failed/{model}.jsonl)")

    make_images(folder, settings, prompts, load=load, progress=bar.add, ended=ended)


def score_study_images(
    folder: StudyFolder, settings: StudySettings, prompts: Sequence[StudyPrompt], device: str, bar: StudyBar
) -> None:
    """Scores what was not scored before, of all models that have their images."""
    from ig_subnet.rewards import load_mixture
    from ig_subnet.rewards.runtime import resolve_device
    from ig_subnet.studies.judging import finished_series, score_images

    series = finished_series(folder, settings, prompts)
    for name in sorted(
        {model.name for model in settings.models} - {shot.model for images in series for shot in images.wanted}
    ):
        bar.print(f"{name} lacks images and is not ranked: run --stage images, which makes them or says why not")
    bar.forecast.parts[SCORES].count = sum(len(images.wanted) for images in series)
    bar.say("loading the experts")
    resolved = resolve_device(device)
    mixture = load_mixture(profile_section(settings, "rewarder"), resolved)
    if mixture.uncalibrated:
        names = ", ".join(mixture.uncalibrated)
        bar.print(f"nobody has measured the reference scores of {names}: their incentive is a rough one")
    score_images(
        folder, series, mixture, batch_size=BATCH.get(resolved.type, BATCH["cpu"]), progress=bar.follow(SCORES)
    )


def report(folder: StudyFolder, settings: StudySettings, json_file: Path | None) -> None:
    """Writes the report of what was scored, and prints the ranking over all topics."""
    from rich.console import Console

    from ig_subnet.reporting.study import write_study_report
    from ig_subnet.studies.errors import SourceError
    from ig_subnet.studies.folder import read_json
    from ig_subnet.studies.results import read_results

    if not folder.scores.is_file():
        raise SourceError(f"there are no scores in {folder.path} yet: run --stage scores first")
    outcomes = read_json(folder.models) if folder.models.is_file() else {}
    found = write_study_report(folder.path, read_results(folder.scores), {**settings.record(), "outcomes": outcomes})
    if json_file is not None:
        shutil.copyfile(found.files["ranking.json"], json_file)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(ranking_table(found, outcomes))
    for path in found.files.values():
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)


def push(folder: StudyFolder, name: str, *, public: bool) -> None:
    """Uploads the images, and says where they are."""
    from ig_subnet.studies.pushing import push_images

    print(f"images: {push_images(folder, name, public=public)}")


def ranking_table(found: StudyReport, outcomes: dict[str, Any]) -> Table:
    """Models over all topics, best first, by incentive; then those that failed."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    ranking = [ranking for ranking in found.rankings if ranking.expert == "incentive"][-1]
    table = Table(box=box.SIMPLE_HEAD, title=f"{ranking.topic}: mean incentive, 95% interval", title_justify="left")
    for name in ("rank", "incentive", "low", "high", "images", "s an image"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("model", overflow="fold")
    for model in ranking.models:
        outcome = outcomes.get(model.model, {})
        ranks = str(model.rank) if model.rank == model.worst_rank else f"{model.rank}-{model.worst_rank}"
        pace = f"{outcome['seconds'] / outcome['made']:.2f}" if outcome.get("made") else ""
        cells = (f"{value:.4f}" for value in (model.mean, model.low, model.high))
        table.add_row(ranks, *cells, f"{model.images:,}", pace, escape(model.model))
    for name, outcome in outcomes.items():
        if outcome["error"] is not None:
            table.add_row("-", "", "", "", f"{outcome['made']:,}", "", escape(f"{name} failed: {outcome['error']}"))
    return table


def fail(error: object, status: int) -> int:
    print(f"mimic.py: error: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
