"""What scripts/build_prompt_index.py builds: sources, curation, model and kind of search, from flags and a profile."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from ig_subnet.config.profiles import load_profile
from ig_subnet.prompts.curation import CurationConfig
from ig_subnet.prompts.embedding import PACKAGED, Dtype
from ig_subnet.prompts.embedding_file import read_record
from ig_subnet.prompts.errors import PromptConfigurationError
from ig_subnet.prompts.index import Kind
from ig_subnet.prompts.sources import SourceConfig

QUICK_CAPTIONS = 1000
COLLECTIONS = ("pocket_captions", "image_reward_db", "diffusion_db", "stable_diffusion_prompts")


@dataclass(frozen=True)
class BuildSettings:
    sources: list[SourceConfig]
    curation: CurationConfig | None  # None for what suits the sources
    model: str
    revision: str | None
    dtype: Dtype
    kind: Kind | Literal["auto"]


def read_settings(options: argparse.Namespace) -> BuildSettings:
    """Of the flags, else of the profile or of what the directory was embedded with before, else the defaults."""
    section = read_section(options)
    sources = [section["database"]] if "database" in section else map(read_source_option, options.source)
    curation = section.get("curation") if options.curation is None else parse_yaml("--curation", options.curation)
    try:
        return TypeAdapter(BuildSettings).validate_python(
            {
                "sources": list(sources),
                "curation": curation,
                "model": options.model or section.get("model", next(iter(PACKAGED))),
                "revision": options.revision or (None if options.model else section.get("revision")),
                "dtype": options.dtype or section.get("dtype", "float32"),
                "kind": options.kind or section.get("index", "auto"),
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise PromptConfigurationError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def read_section(options: argparse.Namespace) -> dict[str, Any]:
    """The prompter section of the profile, or what stands for one."""
    if bool(options.profile) + bool(options.source) + options.quick > 1:
        raise PromptConfigurationError("give one of --profile, --source and --quick")
    if options.quick:
        captions = {"source": "pocket_captions", "count": QUICK_CAPTIONS}
        return load_profile("pocket")["prompter"] | {"database": captions}
    if options.profile:
        section = load_profile(options.profile)["prompter"]
        if not isinstance(section, dict) or not isinstance(section.get("database"), dict):
            raise PromptConfigurationError(f"profile {options.profile} has no prompter section with a database")
        if section["database"].get("source") == "index":
            raise PromptConfigurationError(f"profile {options.profile} uses an index and names no source of one")
        return section
    record = read_record(options.out)
    if record is None:
        return {}
    return {"model": record.model.name, "revision": record.model.revision, "dtype": record.model.dtype}


def read_source_option(text: str) -> Any:
    """A file's path, a collection's name or a mapping as in a profile."""
    if text.lstrip().startswith("{"):
        return parse_yaml("--source", text)
    if text in COLLECTIONS:
        return {"source": text}
    if not Path(text).suffix:
        raise PromptConfigurationError(
            f"--source {text}: use a file, one of {', '.join(COLLECTIONS)}, or '{{source: ...}}'"
        )
    return {"source": "file", "path": text}


def parse_yaml(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PromptConfigurationError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
