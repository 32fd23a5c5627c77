"""Calibrations go into the text of a profile, and nothing else of it changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_subnet.config.profiles import (
    SHIPPED,
    ProfileError,
    load_profile,
    profile_path,
    with_calibrations,
    with_gate,
    with_mapping,
)

MEASURED = {"mean": -1.5e-07, "deviation": 2.0, "provenance": 'photos: "ä" and {more} # of them'}
HAND_WRITTEN = """\
# on top
rewarder:   {dtype: bfloat16, experts: {image_reward: {weight: 1.0}, hps_v2: {calibration: {mean: 1,
    deviation: 2, provenance: x}, weight: 0.5}}}   # in one line
prompter: null
---END---
rewarder:
    experts:
        pick_score: {weights: package:pocket/weights/clip, weight: 1.0}   # a flow mapping
        clip_aesthetic:   # a block
            weight: 0.25  # its weight

            # between the two
        image_reward:
            calibration:
              mean: 1
              # of the old one
              deviation: 1
              provenance: |
                several
                lines

            # behind the old one
            weight: 2

prompter: {model: x}   # the last line has no end"""


@pytest.mark.parametrize("text", HAND_WRITTEN.split("---END---\n"))
def test_what_is_written_by_hand_keeps_its_comments_and_its_form(text: str) -> None:
    experts = yaml.safe_load(text)["rewarder"]["experts"]
    written = with_calibrations(text, dict.fromkeys(experts, MEASURED))
    assert yaml.safe_load(written) == expected(text, list(experts))
    for line in (line.partition("#")[2] for line in text.splitlines() if "old one" not in line):
        assert line in written
    assert written.endswith(text[-20:])
    assert with_calibrations(written, dict.fromkeys(experts, MEASURED)) == written


def expected(text: str, experts: list[str]) -> dict[str, Any]:
    content = yaml.safe_load(text)
    for name in experts:
        content["rewarder"]["experts"][name]["calibration"] = MEASURED
    return content


def test_only_what_yaml_calls_space_is_trimmed() -> None:
    text = "rewarder:\n  experts:\n    hps_v2: {weight: 1}\n    pick_score:\n      weight: 1\n"
    calibration = {**MEASURED, "provenance": "\xa0measured\xa0"}
    written = yaml.safe_load(with_calibrations(text, {"hps_v2": calibration, "pick_score": calibration}))
    assert all(expert["calibration"] == calibration for expert in written["rewarder"]["experts"].values())


@pytest.mark.parametrize("profile", SHIPPED)
def test_shipped_profiles_only_gain_the_lines_of_the_calibration(profile: str) -> None:
    text = profile_path(profile).read_text(encoding="utf-8")
    experts = load_profile(profile)["rewarder"]["experts"]
    written = with_calibrations(text, dict.fromkeys(experts, MEASURED))
    assert yaml.safe_load(written) == expected(text, list(experts))
    ours = ("calibration:", "mean:", "deviation:", "provenance:")
    assert [line for line in written.splitlines() if not line.strip().startswith(ours)] == [
        line for line in text.splitlines() if not line.strip().startswith(ours)
    ]


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(["pick_score", "hps_v2", "image_reward", "clip_score"]), min_size=1, unique=True),
    provenance=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40),
    mean=st.floats(allow_nan=False, allow_infinity=False),
    flow=st.booleans(),
    indent=st.integers(2, 6),
    data=st.data(),
)
def test_any_expert_of_any_profile(
    names: list[str], provenance: str, mean: float, flow: bool, indent: int, data: st.DataObject
) -> None:
    content = {"rewarder": {"experts": {name: {"weight": 1.0} for name in names}, "dtype": "float32"}}
    content["rewarder"]["experts"][names[0]]["calibration"] = {"mean": 0.5}
    text = yaml.safe_dump(content, default_flow_style=flow, sort_keys=data.draw(st.booleans()), indent=indent)
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    calibration = {"mean": mean, "deviation": 1.0, "provenance": provenance}
    wanted = copy.deepcopy(content)
    for name in chosen:
        wanted["rewarder"]["experts"][name]["calibration"] = calibration
    assert yaml.safe_load(with_calibrations(text, dict.fromkeys(chosen, calibration))) == wanted


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rewarder: {experts: {hps_v2: {weight: 1}}}", "pick_score"),
        ("rewarder: null", "cannot be written"),
        ("prompter: {model: x}", "cannot be written"),
        ("rewarder: [", "cannot be written"),
        ("rewarder: {experts: {a: &one {weight: 1}, pick_score: *one}}", "cannot be edited: write it out"),
        ("rewarder: {experts: {pick_score: 1}}", "cannot be written"),
    ],
)
def test_a_text_that_cannot_be_edited_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ProfileError, match=complaint):
        with_calibrations(text, {"pick_score": MEASURED})


ROBUST = {"copies": 2, "provenance": "photos: 7 # of them"}


@pytest.mark.parametrize("path", [("rewarder", "robust"), ("gates", "duplicates"), ("gates", "regeneration", "models")])
@pytest.mark.parametrize("text", HAND_WRITTEN.split("---END---\n"))
@pytest.mark.parametrize("end", ["", "\ngates:\n", "\ngates: {duplicates: {cosine: 0.5}}  # as measured\n"])
def test_a_mapping_anywhere_is_set_and_its_sections_are_made(text: str, path: tuple[str, ...], end: str) -> None:
    text = text.rstrip() + end
    wanted = yaml.safe_load(text)
    section = wanted
    for key in path[:-1]:
        section[key] = section.get(key) or {}
        section = section[key]
    section[path[-1]] = ROBUST
    written = with_mapping(text, path, ROBUST)
    assert yaml.safe_load(written) == wanted
    for comment in (line.partition("#")[2] for line in text.splitlines()):
        assert comment in written
    assert with_mapping(written, path, ROBUST) == written


@pytest.mark.parametrize("profile", SHIPPED)
def test_shipped_profiles_only_gain_the_lines_of_the_mapping(profile: str) -> None:
    text = profile_path(profile).read_text(encoding="utf-8")
    written = with_gate(text, "made_up", ROBUST)
    assert yaml.safe_load(written)["gates"]["made_up"] == ROBUST
    assert {line.strip() for line in written.splitlines()} - {line.strip() for line in text.splitlines()} <= {
        "gates:",
        "made_up:",
        "copies: 2",
        "provenance: 'photos: 7 # of them'",
    }


@pytest.mark.parametrize("text", ["gates: 1", "gates: [a]", "gates: {made_up: 1", "- gates", ""])
def test_a_mapping_has_to_have_a_place(text: str) -> None:
    with pytest.raises(ProfileError, match=r"gates\.made_up of this profile cannot be written"):
        with_mapping(text, ("gates", "made_up"), ROBUST)
