"""The prompts of a study: as a validator would draw them for each topic, or simply the nearest ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_subnet.studies.configuration import StudySettings
from ig_subnet.studies.errors import SettingsError, SourceError
from ig_subnet.studies.folder import StudyPrompt
from ig_subnet.studies.results import replacing

if TYPE_CHECKING:
    from ig_subnet.prompts import Prompter


def prompter_section(section: Mapping[str, Any], settings: StudySettings) -> dict[str, Any]:
    """A profile's `prompter` section for this study: its topics, and as many candidates as it wants prompts."""
    topics = [topic.model_dump(mode="json") for topic in settings.topics or ()]
    candidates = max(section.get("candidates", 0) or 100, settings.prompts_per_topic)
    plain = {"expand": None} if settings.prompts == "nearest" else {}
    return {**section, **plain, "topics": topics, "candidates": candidates}


def find_prompts(prompter: Prompter, settings: StudySettings) -> list[StudyPrompt]:
    """So many prompts for each topic as the settings want; the same for the same database and seed.

    Raises `SettingsError` for a topic that has not so many.
    """
    found = []
    wanted = settings.prompts_per_topic
    for topic in prompter.topics:
        candidates = prompter.candidates(topic)
        if len(candidates) < wanted:
            raise SettingsError(
                f"topic {topic.name} has {len(candidates)} prompts, not {wanted}: give fewer --prompts-per-topic"
            )
        if settings.prompts == "nearest":
            chosen = [(prompt.text, prompt.id) for prompt in candidates.prompts[:wanted]]
        else:
            drawn = prompter.draw(candidates, wanted, {}, f"study {settings.seed}".encode())
            chosen = [(prompt.text, prompt.id) for prompt in drawn]
        found += [StudyPrompt(topic.name, topic.text, number, *prompt) for number, prompt in enumerate(chosen)]
    return found


def write_prompts(path: Path, prompts: list[StudyPrompt]) -> None:
    """A row a prompt, in a Parquet file that is complete or not there at all."""
    import pyarrow as pa
    import pyarrow.parquet

    with replacing(path) as partial:
        pyarrow.parquet.write_table(pa.Table.from_pylist([asdict(prompt) for prompt in prompts]), partial)


def read_prompts(path: Path) -> list[StudyPrompt]:
    """What `write_prompts` wrote. Raises `SourceError`."""
    import pyarrow.parquet

    try:
        return [StudyPrompt(**row) for row in pyarrow.parquet.read_table(path).to_pylist()]
    except FileNotFoundError:
        raise SourceError(f"there are no prompts in {path.parent} yet: run --stage prompts first") from None
    except (OSError, ValueError, TypeError) as error:  # Arrow's errors are ValueErrors
        raise SourceError(f"prompts {path} cannot be read ({error}): delete it and run --stage prompts") from error
