"""What a miner declares of its model: one text for one meaning, and nothing that is not of the form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Declaration, GeneratedImage, encode_images

names = st.text("abcXYZ0189._@/+-", min_size=1, max_size=80)
declarations = st.builds(
    Declaration,
    model=names,
    steps=st.none() | st.integers(1, 9999),
    guidance=st.none() | st.integers(0, 999_999_999).map(lambda millionths: millionths / 1e6),
    scheduler=st.none() | st.sampled_from(["ddim", "euler_a", "dpm++", "heun"]),
)


@given(declarations)
def test_what_is_declared_is_read_back(declaration: Declaration) -> None:
    assert Declaration.parse(str(declaration)) == declaration


@given(declarations)
def test_the_wire_carries_every_declaration(declaration: Declaration) -> None:
    image = GeneratedImage("png", 64, 64, 1, str(declaration), b"data")
    assert str(declaration).encode() in encode_images([image])


def test_the_text_is_short_and_plain() -> None:
    assert str(Declaration("pocket", 20, 3.0)) == "pocket steps:20 guidance:3"
    assert str(Declaration("org/model", 30, 7.25, "dpm++")) == "org/model steps:30 guidance:7.25 scheduler:dpm++"
    assert str(Declaration("pocket", guidance=0.0)) == "pocket guidance:0"


def test_where_there_is_no_room_only_the_model_is_declared() -> None:
    long = "a/" + "b" * 110
    assert str(Declaration(long, 20)) == f"{long} steps:20"
    assert str(Declaration(long, 20, 7.5)) == long
    assert str(Declaration(long * 2, 20)) == (long * 2)[:128]


def test_a_model_alone_tells_nothing_of_its_settings() -> None:
    assert Declaration.parse("pocket") == Declaration("pocket")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tiny model",  # as folders were declared before there was a form
        "pocket steps:0",
        "pocket steps:020",
        "pocket steps:10000",
        "pocket steps:-1",
        "pocket steps:20 steps:20",
        "pocket guidance:3 steps:20",  # one order, so that there is one text for one meaning
        "pocket guidance:nan",
        "pocket guidance:1e3",
        "pocket steps:20 lora:mine",  # of a later version: whoever does not know it cannot make the image again
        "pocket  steps:20",
        "pocket steps:20 ",
        "pocket steps:20\n",
        "pocket steps:\u0662\u0660",
    ],
)
def test_what_is_not_of_the_form_is_not_guessed_at(text: str) -> None:
    assert Declaration.parse(text) is None
