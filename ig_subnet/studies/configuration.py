"""What a study of models is made of: models with their settings, topics, counts, and the profile that scores.

A model is a line, `SOURCE:key=value,...`, or a mapping in a study's YAML file:

    models:
      - pocket:steps=4,guidance=3
      - {name: sdxl, source: stabilityai/stable-diffusion-xl-base-1.0, variant: fp16, offload: model}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ig_subnet.config import __file__ as config_room
from ig_subnet.config.groups import Dtype, Offload, Scheduler
from ig_subnet.config.profiles import ProfileError, load_profile
from ig_subnet.prompts.topics import Topics
from ig_subnet.studies.errors import SettingsError

SHIPPED = ("pocket", "author")
POCKET = "pocket"
QUICK_PROMPTS, QUICK_IMAGES = 4, 2
MAX_NAME = 80
POCKET_STEPS = 20  # as a miner's; more change nothing there
USUAL_STEPS = 50  # of a pipeline that does not tell its own
PLAIN_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)  # becomes a folder, on any system
MODEL_LINE = re.compile(r"(?P<source>.+?)(?::(?P<settings>\w+=.*))?", re.DOTALL)
COMMIT = re.compile(r"[0-9a-f]{40}")
MANNER = ("offload", "compile", "batch")  # how fast images are made; what they show changes by rounding at most


def _folder_name(name: str) -> str:
    if not PLAIN_NAME.fullmatch(name) or len(name) > MAX_NAME or name.endswith("."):
        raise ValueError(
            f"the name {name!r} becomes a folder: use up to {MAX_NAME} letters, digits, dots, dashes and underscores"
        )
    return name


def _size(value: Any) -> Any:
    """`512` and `768x512` as width and height."""
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value))
    return value if sides is None else (int(sides[1]), int(sides[2] or sides[1]))


Side = Annotated[int, Field(ge=8, le=8192, multiple_of=8)]
FolderName = Annotated[str, AfterValidator(_folder_name)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSettings(_Section):
    """A text-to-image model and how it is used; what is unset is the model's own."""

    source: str = Field(min_length=1)
    """`pocket`, a directory in the diffusers layout, or a hub id."""
    name: FolderName
    """What the study calls it; by default made of the source and the settings."""
    revision: str | None = None
    """Commit, branch or tag of a hub id."""
    variant: str | None = None
    """Of the files, as `fp16`."""
    safetensors: bool = True
    """False also reads .bin files, of a commit or a directory only, as tensors and nothing else."""
    steps: int | None = Field(None, ge=1, le=1000)
    guidance: float | None = Field(None, ge=0, le=100)
    scheduler: Scheduler | None = None
    negative_prompt: str | None = None
    """By default the study's."""
    size: Annotated[tuple[Side, Side], BeforeValidator(_size)] | None = None
    """Width and height in pixels, multiples of 8; written as 512 or 768x512."""
    dtype: Dtype = "auto"
    offload: Offload = "none"
    compile: bool = False
    """Compile the denoiser: minutes at first, then faster on a GPU."""
    batch: PositiveInt | None = None
    """Images made at a time; by default as many as make a megapixel."""

    @property
    def usual_steps(self) -> int:
        """Its steps as far as they are known before it is loaded."""
        return self.steps or (POCKET_STEPS if self.source == POCKET else USUAL_STEPS)

    @model_validator(mode="before")
    @classmethod
    def _with_name(cls, value: Any) -> Any:
        return _named(value)

    @model_validator(mode="after")
    def _pickles_are_pinned(self) -> Self:
        pinned = Path(self.source).is_dir() or COMMIT.fullmatch(self.revision or "")
        if not self.safetensors and not pinned:
            raise ValueError("safetensors: false needs a revision that is a full commit, or a directory")
        return self


def _different(models: tuple[ModelSettings, ...]) -> tuple[ModelSettings, ...]:
    seen: dict[str, ModelSettings] = {}
    for model in models:
        if model.name.lower() in seen:
            raise ValueError(f"two models are called {model.name!r}: give one of them another name")
        seen[model.name.lower()] = model
    return models


class StudySettings(_Section):
    """All that a study's prompts, images and scores follow from."""

    models: Annotated[tuple[ModelSettings, ...], Field(min_length=1), AfterValidator(_different)]
    profile: str = POCKET
    """Whose prompter finds the prompts and whose experts score: pocket, baseline, mixture or a YAML file."""
    topics: Topics | None = None
    """A list of names with texts, or the name of a set; by default the profile's."""
    prompts_per_topic: Annotated[int, Field(ge=1, le=10_000)] = 100
    images_per_prompt: PositiveInt = 4
    prompts: Literal["drawn", "nearest"] = "drawn"
    """As a validator draws them, or simply the nearest to the topic."""
    negative_prompt: str = ""
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _each_model(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not isinstance(value.get("each_model", {}), Mapping):
            return value
        study = {**value}
        common = study.pop("each_model", {})
        if common and isinstance(study.get("models"), list):
            ModelSettings.model_validate({"source": POCKET, **common})
            named = [_named(model) for model in study["models"]]
            if idle := [key for key in common if all(isinstance(model, Mapping) and key in model for model in named)]:
                raise ValueError(f"every model has {idle[0]} of its own: change it there, or name other models")
            study["models"] = [{**common, **model} if isinstance(model, Mapping) else model for model in named]
        return study

    @model_validator(mode="after")
    def _topics_are_folders(self) -> Self:
        for topic in self.topics or ():
            _folder_name(topic.name)
        return self

    def quick(self) -> StudySettings:
        """The same study at a size that ends soon."""
        return self.model_copy(
            update={
                "prompts_per_topic": min(self.prompts_per_topic, QUICK_PROMPTS),
                "images_per_prompt": min(self.images_per_prompt, QUICK_IMAGES),
            }
        )

    def record(self) -> dict[str, Any]:
        """What images and scores depend on, as JSON has it: without how fast they are made."""
        settings = self.model_dump(mode="json")
        settings["models"] = {
            model["name"]: {key: value for key, value in model.items() if key not in MANNER and value is not None}
            for model in settings["models"]
        }
        return settings


def read_study(name_or_path: str | Path) -> dict[str, Any]:
    """What stands in a shipped study, or in a YAML file. Raises `SettingsError`."""
    shipped = Path(config_room).parent / "studies" / f"{name_or_path}.yaml"
    path = shipped if name_or_path in SHIPPED else Path(name_or_path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"no study {str(name_or_path)!r}: use {', '.join(SHIPPED)}, or a YAML file") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"study {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"study {path} is no mapping: it needs models, and may have a profile, topics, ...")
    return content


def parse_study(content: Mapping[str, Any]) -> StudySettings:
    """The settings that a study's mapping says, with the profile's topics where it names none. Raises `SettingsError`.

    Beside the settings it may have `each_model`: settings of every model that has none of its own.
    """
    try:
        settings = StudySettings.model_validate(content)
        if settings.topics is None:
            prompter = load_profile(settings.profile)["prompter"]
            if prompter is None:
                raise SettingsError(f"profile {settings.profile} has no prompter section to find prompts with")
            settings = StudySettings.model_validate({**content, "topics": prompter.get("topics")})
    except ProfileError as error:
        raise SettingsError(str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"study: {place + ': ' if place else ''}{message}") from error
    return settings


def _named(written: Any) -> Any:
    """A model as a mapping with a name, however it was written."""
    mapping = _parse_line(written) if isinstance(written, str) else written
    if isinstance(mapping, Mapping) and isinstance(mapping.get("source"), str) and "name" not in mapping:
        return {**mapping, "name": _default_name(mapping)}
    return mapping


def _parse_line(line: str) -> dict[str, Any]:
    found = MODEL_LINE.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"the model {line!r} is not written as SOURCE:key=value,...")
    written: dict[str, Any] = {"source": found["source"]}
    for pair in filter(None, (found["settings"] or "").split(",")):
        key, equals, value = pair.partition("=")
        if not equals or key.strip() in written:
            raise ValueError(f"the model {line!r}: {pair!r} is no key=value, or stands there twice")
        plain = key.strip() in ("revision", "name", "negative_prompt")
        written[key.strip()] = value.strip() if plain else _scalar(value)
    return written


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{text!r} is no number, word or true or false") from None


def _default_name(written: Mapping[str, Any]) -> str:
    """The last part of the source, and the settings that make its images its own."""
    source = str(written["source"]).rstrip("/").rpartition("/")[2] or "model"
    told = [
        f"{key}-{value}"
        for key, value in written.items()
        if key not in ("source", "variant", "negative_prompt", *MANNER) and value is not None
    ]
    return re.sub(r"[^\w.+-]+", "-", "-".join([source, *told]), flags=re.ASCII).strip("-.")[:MAX_NAME].rstrip(".")
