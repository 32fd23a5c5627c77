"""The gate that stops images with grain: alone, among the others, and where images are made again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_images import GATES, examined

from ig_subnet.validating.errors import ProfileUnusable
from ig_subnet.validating.gate_settings import GateSettings, GrainGate
from ig_subnet.validating.gates import Check, Examined, Proofs, Verdict, judge
from ig_subnet.validating.miner_record import told
from ig_subnet.validating.records import DISPROVABLE, GRAINY, IGNORES_PROMPT, NOT_REGENERATED, NOT_SAFE, VALID

GRAIN = GATES.model_copy(update={"grain": GrainGate(threshold=1.0, suspicion=0.1, provenance="made up")})
MATCH = Check(number=0, model="pocket", cosine=0.99, threshold=0.9, matches=True)


def rough(grain: float, hotkey: str = "alice", **other: float) -> Examined:
    image = examined(hotkey, **other)  # type: ignore[arg-type]
    assert image.findings is not None
    return replace(image, findings=replace(image.findings, grain=grain))


def verdict(image: Examined, gates: GateSettings = GRAIN, **known: object) -> Verdict:
    return judge([image], gates, **known)[image.key]  # type: ignore[arg-type]


def test_an_image_with_grain_is_stopped_with_its_figure() -> None:
    assert verdict(rough(1.0)).reason == VALID
    assert verdict(rough(1.5)) == Verdict(GRAINY, {"grain": 1.5, "threshold": 1.0})
    assert told('{"grain": 1.5, "threshold": 1.0}') == '{"grain": 1.5, "threshold": 1.0}'


def test_its_place_among_the_gates() -> None:
    assert verdict(rough(1.5, unsafe=0.9, alignment=0.0)).reason == NOT_SAFE
    assert verdict(rough(1.5, alignment=0.0)).reason == GRAINY
    assert verdict(rough(1.5, alignment=0.0), GATES).reason == IGNORES_PROMPT


def test_what_is_suspected_counts_by_the_wider_limit_until_it_is_made_again() -> None:
    image = rough(0.5)
    suspected = {image.key}
    assert verdict(image).reason == VALID
    assert verdict(image, suspected=suspected) == Verdict(GRAINY, {"grain": 0.5, "threshold": 0.1})
    assert GRAINY in DISPROVABLE
    without = GRAIN.model_copy(update={"grain": GrainGate(threshold=1.0, provenance="made up")})
    assert verdict(image, without, suspected=suspected).reason == VALID
    assert verdict(rough(1.5), suspected=suspected, proofs=Proofs({image.key: MATCH})).reason == VALID
    mismatch = replace(MATCH, cosine=0.2, matches=False)
    assert verdict(image, suspected=suspected, proofs=Proofs({image.key: mismatch})).reason in (GRAINY, NOT_REGENERATED)
    assert verdict(image, proofs=Proofs({image.key: mismatch})).reason == NOT_REGENERATED


def test_an_image_that_is_stopped_for_it_is_nobodys_original() -> None:
    first, second = rough(1.5, "mallory", arrived=0.1), rough(0.0, "alice")
    verdicts = judge([first, second], GRAIN)
    assert [verdicts[image.key].reason for image in (first, second)] == [GRAINY, VALID]


@given(st.floats(0, 300), st.floats(0.01, 300), st.floats(0, 300), st.booleans())
def test_less_grain_and_a_higher_limit_stop_nobody(grain: float, limit: float, less: float, suspect: bool) -> None:
    gates = GRAIN.model_copy(update={"grain": GrainGate(threshold=limit, suspicion=limit / 2, provenance="made up")})
    image, smoother = rough(grain), rough(min(grain, less))
    suspected = {image.key} if suspect else frozenset()
    if verdict(image, gates, suspected=suspected).reason == VALID:
        assert verdict(smoother, gates, suspected=suspected).reason == VALID
        assert verdict(image, gates).reason == VALID


def test_a_figure_that_is_no_number_passes_no_gate() -> None:
    assert verdict(rough(float("nan"))).reason != VALID


@pytest.mark.parametrize("section", [{"threshold": 0, "provenance": "x"}, {"threshold": 1}, {"threshold": "nan"}])
def test_a_section_that_cannot_be_used_is_refused(section: dict[str, object]) -> None:
    with pytest.raises(ProfileUnusable, match="gates: grain"):
        GateSettings.parse({"grain": section}, "mine.yaml")
