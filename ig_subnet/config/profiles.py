"""Profiles: which experts score, and where prompts come from. Three are shipped; a YAML file may bring another."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node

SHIPPED = ("pocket", "baseline", "mixture")
SECTIONS = ("rewarder", "prompter", "gates")
YAML_SPACE = " \t\r\n"  # a no-break space at the end of a text belongs to it


class ProfileError(ValueError):
    """A profile that does not exist or cannot be read; the message says which and what to do."""


def load_profile(name_or_path: str | Path) -> dict[str, Any]:
    """The `rewarder`, `prompter` and `gates` of a shipped profile, or of a YAML file; a section left out is None.

    What the sections contain is checked by `load_mixture`, `load_prompter` and the validator, which use them.
    """
    path = profile_path(name_or_path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {path} is not valid YAML: {error}") from error
    if not isinstance(content, dict) or not content or not set(content) <= set(SECTIONS):
        raise ProfileError(f"profile {path} must have sections among {', '.join(SECTIONS)}, and no others")
    return {section: content.get(section) for section in SECTIONS}


def profile_path(name_or_path: str | Path) -> Path:
    """The file of a shipped profile, or the path itself. Raises ProfileError where there is none."""
    path = Path(__file__).with_name(f"{name_or_path}.yaml") if name_or_path in SHIPPED else Path(name_or_path)
    if not path.is_file():
        raise ProfileError(f"no profile {str(name_or_path)!r}: use {', '.join(SHIPPED)}, or the path of a YAML file")
    return path


def with_calibrations(text: str, calibrations: Mapping[str, Mapping[str, float | str]]) -> str:
    """A profile's text with the `calibration` of these experts set, by their names in it.

    All else stays as it is written, comments included. Raises ProfileError for a text in which that cannot be done.
    """
    try:
        content = yaml.safe_load(text)
        found = content["rewarder"]["experts"]
        calibrated = {name: {**found[name], "calibration": dict(added)} for name, added in calibrations.items()}
        wanted = {**content, "rewarder": {**content["rewarder"], "experts": {**found, **calibrated}}}
        experts = _value(_value(yaml.compose(text, Loader=yaml.SafeLoader), "rewarder"), "experts")
        edits = [_edit(text, _value(experts, name), calibration) for name, calibration in calibrations.items()]
        for start, end, replacement in sorted(edits, reverse=True):
            text = text[:start] + replacement + text[end:]
        written = yaml.safe_load(text)
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise ProfileError(f"the calibration of {', '.join(calibrations)} cannot be written: {error}") from error
    if written != wanted:  # aliases, merge keys and the like
        raise ProfileError("the experts of this profile are written in a way that cannot be edited: write them out")
    return text


def _value(node: Node | None, key: str) -> Node:
    for found, value in node.value if isinstance(node, MappingNode) else ():
        if found.value == key:
            return value
    raise KeyError(key)


def _edit(text: str, expert: Node, calibration: Mapping[str, float | str]) -> tuple[int, int, str]:
    """Where an expert's calibration stands in the text, or is to stand: its start, its end, and what goes there."""
    assert isinstance(expert, MappingNode)
    first, last = expert.value[0][0], expert.value[-1][1]
    written = yaml.safe_dump(
        {"calibration": dict(calibration)},
        allow_unicode=True,
        default_flow_style=expert.flow_style,
        sort_keys=False,
        width=10**6,
    ).strip(YAML_SPACE)
    if expert.flow_style:
        written = written[1:-1]
    else:
        written = textwrap.indent(written, " " * first.start_mark.column).lstrip()
    for key, value in expert.value:
        if key.value == "calibration":
            return key.start_mark.index, _end(text, value), written
    if expert.flow_style:
        end = _end(text, last)
        return end, end, f", {written}"
    end = (text + "\n").index("\n", _end(text, last))  # behind a comment
    return end, end, "\n" + " " * first.start_mark.column + written


def _end(text: str, node: Node) -> int:
    """Where what is written of a node ends; the mark of a block is where the next one begins, behind any comments."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(node, MappingNode) else last)
    return len(text[: node.end_mark.index].rstrip(YAML_SPACE))
