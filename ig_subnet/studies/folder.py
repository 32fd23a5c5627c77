"""The folder of a study of models: what lies where, and whose settings it was begun with.

    study.json                 its settings
    prompts.parquet            topic, query, number, prompt, prompt_id
    images/                    an image folder of `datasets`: <model>/<topic>/<number>-<sample>.png, metadata.parquet
    failed/<model>.jsonl       its images that were withheld or came out black
    models.json                what each model was, and what became of it
    scores.parquet             a row an image, as `ig_subnet.studies.results` describes it
    scores.parts/              scores as they come, a folder a topic; can be deleted at the end

All is complete or not there at all, but for lines of what failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ig_subnet.studies.configuration import ModelSettings, StudySettings
from ig_subnet.studies.errors import ResultsError
from ig_subnet.studies.results import canonical, differences, lock_folder, replacing


@dataclass(frozen=True)
class StudyPrompt:
    """A prompt of a topic; `number` counts them from 0, `prompt_id` is of the database."""

    topic: str
    query: str
    number: int
    prompt: str
    prompt_id: str


@dataclass(frozen=True)
class Shot:
    """One image to be made: the `sample`-th of a prompt by a model. `file_name` is relative to the images' folder.

    Its seed is the same for every model, so that models are compared on the same noise where they take the same.
    """

    model: str
    prompt: StudyPrompt
    sample: int
    seed: int

    @property
    def file_name(self) -> str:
        return f"{self.model}/{self.prompt.topic}/{self.prompt.number}-{self.sample}.png"


@dataclass(frozen=True)
class StudyFolder:
    """Paths in a study's folder."""

    path: Path

    @property
    def settings(self) -> Path:
        return self.path / "study.json"

    @property
    def prompts(self) -> Path:
        return self.path / "prompts.parquet"

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def metadata(self) -> Path:
        return self.images / "metadata.parquet"

    @property
    def failed(self) -> Path:
        return self.path / "failed"

    @property
    def models(self) -> Path:
        return self.path / "models.json"

    @property
    def scores(self) -> Path:
        return self.path / "scores.parquet"

    @property
    def score_parts(self) -> Path:
        return self.path / "scores.parts"


def shots(model: ModelSettings, prompts: Sequence[StudyPrompt], images_per_prompt: int, seed: int) -> list[Shot]:
    """All images of a model, prompt after prompt."""
    return [
        Shot(model.name, prompt, sample, _seed(seed, prompt, sample))
        for prompt in prompts
        for sample in range(images_per_prompt)
    ]


@contextlib.contextmanager
def open_study(path: Path, settings: StudySettings) -> Iterator[StudyFolder]:
    """With `with`: the folder of a study, begun with these settings now or before; other runs are kept out of it.

    Models may be added to a study and left out of it, and a model of which there is no image may be another; all else
    must be the same. Raises `ResultsError` that says what is not.
    """
    folder = StudyFolder(path)
    with lock_folder(path):
        wanted = json.loads(canonical(settings.record()))
        if folder.settings.is_file() and (folder.prompts.is_file() or folder.images.is_dir()):
            found = read_json(folder.settings)
            if not isinstance(found.get("models"), dict):
                raise ResultsError(f"{folder.settings} is not the settings of a study: give another folder")
            _check_settings(folder, found, wanted)
            wanted["models"] = {**found["models"], **wanted["models"]}  # what is left out may come back
        for pattern in ("*.json.partial", "*.parquet.partial", "images/*.parquet.partial", "images/*/*/*.png.partial"):
            for stale in path.glob(pattern):
                stale.unlink()
        write_json(folder.settings, wanted)
        yield folder


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a study's folder. Raises `ResultsError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read ({error}): delete it") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path} holds no JSON object: delete it")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes it whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _check_settings(folder: StudyFolder, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    remedy = "give the same settings, or another folder"
    if different := differences({**wanted, "models": found["models"]}, found):
        raise ResultsError(f"{folder.path} holds a study with another {different}: {remedy}")
    for name in found["models"].keys() & wanted["models"].keys():
        if different := differences(wanted["models"][name], found["models"][name]):
            if any((folder.images / name).rglob("*.png")):
                raise ResultsError(f"{folder.path} holds images of {name} with another {different}: {remedy}")
            (folder.failed / f"{name}.jsonl").unlink(missing_ok=True)


def _seed(study_seed: int, prompt: StudyPrompt, sample: int) -> int:
    """32 bits."""
    text = f"{study_seed}\0{prompt.topic}\0{prompt.prompt}\0{sample}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big")
