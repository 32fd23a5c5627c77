"""Profiles: which experts score, and where prompts come from. Three are shipped; a YAML file may bring another."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
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
        raise ProfileError(f"profile {path} must have the sections {', '.join(SECTIONS)} or some of them")
    return {section: content.get(section) for section in SECTIONS}


def profile_path(name_or_path: str | Path) -> Path:
    """The file of a shipped profile, or the path itself. Raises ProfileError where there is none."""
    path = Path(__file__).with_name(f"{name_or_path}.yaml") if name_or_path in SHIPPED else Path(name_or_path)
    if not path.is_file():
        raise ProfileError(f"no profile {str(name_or_path)!r}: use {', '.join(SHIPPED)}, or the path of a YAML file")
    return path


def with_calibrations(text: str, calibrations: Mapping[str, Mapping[str, float | str]]) -> str:
    """A profile's text with the `calibration` of these experts set, by their names in it; see `with_mapping`."""
    for name, calibration in calibrations.items():
        try:
            dict(yaml.safe_load(text)["rewarder"]["experts"][name])
        except (yaml.YAMLError, LookupError, TypeError, ValueError) as error:
            raise ProfileError(f"the calibration of {name} cannot be written: {error}") from error
        text = with_mapping(text, ("rewarder", "experts", name, "calibration"), calibration)
    return text


def with_gate(text: str, name: str, value: Mapping[str, Any]) -> str:
    """A profile's text with one of its gates set; see `with_mapping`."""
    return with_mapping(text, ("gates", name), value)


def with_mapping(text: str, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """A profile's text with the mapping at `path` set, as ("gates", "duplicates"); sections on the way are made.

    All else stays as it is written, comments included. Raises ProfileError for a text in which that cannot be done.
    """
    try:
        content = yaml.safe_load(text)
        wanted = _with(content, path, value)
        node, missing = yaml.compose(text, Loader=yaml.SafeLoader), list(path)
        while len(missing) > 1 and content.get(missing[0]):
            key = missing.pop(0)
            node, content = _value(node, key), content[key]
        text = _edited(text, node, missing[0], _with({}, missing, value)[missing[0]])
        written = yaml.safe_load(text)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise ProfileError(f"{'.'.join(path)} of this profile cannot be written: {error}") from error
    if written != wanted:  # aliases, merge keys and the like
        raise ProfileError(f"{path[0]} of this profile is written in a way that cannot be edited: write it out")
    return text


def _with(content: Mapping[str, Any], path: Sequence[str], value: Mapping[str, Any]) -> dict[str, Any]:
    key, *further = path
    return {**content, key: _with(content.get(key) or {}, further, value) if further else dict(value)}


def _value(node: Node | None, key: str) -> Node:
    for found, value in node.value if isinstance(node, MappingNode) else ():
        if found.value == key:
            return value
    raise KeyError(key)


def _edited(text: str, node: Node | None, key: str, value: Mapping[str, Any]) -> str:
    """The text with the `key` of a mapping that is not empty set to the value, where it stands or at the end."""
    if not isinstance(node, MappingNode) or not node.value:
        raise TypeError(f"there is nothing that could have a {key}")
    first, last = node.value[0][0], node.value[-1][1]
    written = yaml.safe_dump(
        {key: dict(value)}, allow_unicode=True, default_flow_style=node.flow_style, sort_keys=False, width=10**6
    ).strip(YAML_SPACE)
    if node.flow_style:
        written = written[1:-1]
    else:
        written = textwrap.indent(written, " " * first.start_mark.column).lstrip()
    for found, present in node.value:
        if found.value == key:
            return text[: found.start_mark.index] + written + text[_end(text, present) :]
    if node.flow_style:
        end, written = _end(text, last), f", {written}"
    else:
        end = (text + "\n").index("\n", _end(text, last))  # behind a comment
        written = "\n" + " " * first.start_mark.column + written
    return text[:end] + written + text[end:]


def _end(text: str, node: Node) -> int:
    """Where what is written of a node ends; the mark of a block is where the next one begins, behind any comments."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(node, MappingNode) else last)
    return len(text[: node.end_mark.index].rstrip(YAML_SPACE))
