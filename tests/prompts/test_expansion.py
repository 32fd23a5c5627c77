from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ig_subnet.prompts.choosing import Candidates, RetrievedPrompt
from ig_subnet.prompts.expansion import DrawnPrompt, ExpansionSettings, expand, split
from ig_subnet.prompts.topics import Topic

TEXTS = (
    "a lighthouse at dusk, oil painting, (mist, fog:1.2), highly detailed",
    "a fox in the snow, watercolour, soft light",
    "a market in the rain, Oil Painting, by a master of the brush of long ago, cinematic",
    "an old violin",
    "a harbour, (highly detailed:1.3), [blurry], sharp focus, unfinished (bracket",
)


def candidates_of(texts: tuple[str, ...]) -> Candidates:
    prompts = tuple(
        RetrievedPrompt(f"{row:016x}", text, 0.9 - row / 100, row, "a test", "MIT") for row, text in enumerate(texts)
    )
    return Candidates(Topic(name="a topic", text="its text"), len(texts), prompts, np.ones((len(texts), 2), np.float32))


def short(text: str) -> bool:
    return len(text) <= 1024


def expanded(row: int, seed: bytes = b"seed", modifiers: int = 2, texts: tuple[str, ...] = TEXTS) -> DrawnPrompt:
    candidates = candidates_of(texts)
    return expand(candidates.prompts[row], candidates, ExpansionSettings(modifiers=modifiers), seed, short)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a cat", ["a cat"]),
        (" a cat , oil painting,, ,4k,", ["a cat", "oil painting", "4k"]),
        ("a (cat, dog:1.2), [a, [b, c]], {d, e}", ["a (cat, dog:1.2)", "[a, [b, c]]", "{d, e}"]),
        (r"Hulk \(comics, 1962\), poster", [r"Hulk \(comics", r"1962\)", "poster"]),
        ("a smile :), a cat", ["a smile :)", "a cat"]),
        ("open (bracket, to the end", ["open (bracket, to the end"]),
        (",", [","]),
    ],
)
def test_a_prompt_is_split_at_commas_outside_brackets(prompt: str, parts: list[str]) -> None:
    assert split(prompt) == parts


def test_a_prompt_gets_modifiers_of_others_and_keeps_its_own() -> None:
    drawn = expanded(1)
    subject, *modifiers = split(drawn.text)
    assert subject == "a fox in the snow"
    assert {"watercolour", "soft light"} < set(modifiers) and len(modifiers) == 4
    assert (drawn.id, drawn.row, drawn.source, drawn.topic) == (f"{1:016x}", 1, "a test", "a topic")
    assert drawn.similarity == 0.89
    parents = [TEXTS[int(parent, 16)] for parent in drawn.parents]
    assert parents[0] == TEXTS[1] and len(parents) == len(set(parents)) == 3
    for parent, modifier in zip(parents[1:], set(modifiers) - {"watercolour", "soft light"}, strict=True):
        assert any(modifier in other for other in parents[1:]) and parent != TEXTS[3]


@given(row=st.integers(0, 3), modifiers=st.integers(1, 6), seed=st.binary(max_size=40))
def test_nothing_is_said_twice_and_only_modifiers_are_borrowed(row: int, modifiers: int, seed: bytes) -> None:
    drawn = expanded(row, seed, modifiers)
    assert drawn == expanded(row, seed, modifiers)
    parts = split(drawn.text)
    assert parts[0] == split(TEXTS[row])[0]
    said = [re.sub(r"[^a-z ]|:[\d.]+", "", part.lower()) for part in parts]
    assert len(said) == len(set(said))
    borrowed = set(parts) - set(split(TEXTS[row]))
    assert 1 <= len(borrowed) == len(drawn.parents) - 1 <= modifiers
    offered = {part for parent in drawn.parents[1:] for part in split(TEXTS[int(parent, 16)])[1:]}
    assert borrowed <= offered
    assert not borrowed & {"by a master of the brush of long ago", "unfinished (bracket"}
    assert "(mist" not in drawn.text or "(mist, fog:1.2)" in drawn.text


@given(limit=st.integers(1, 120), row=st.integers(0, 4), seed=st.binary(max_size=8))
def test_a_limit_holds_and_a_prompts_own_modifiers_make_room(limit: int, row: int, seed: bytes) -> None:
    candidates = candidates_of(TEXTS)
    chosen = candidates.prompts[row]
    drawn = expand(chosen, candidates, ExpansionSettings(modifiers=2), seed, lambda text: len(text) <= limit)
    if drawn.text == chosen.text:
        assert drawn == DrawnPrompt.of(chosen, "a topic") and drawn.parents == (chosen.id,)
    else:
        assert len(drawn.text) <= limit and len(drawn.parents) > 1


def test_a_new_modifier_takes_the_place_of_an_own_one() -> None:
    texts = ("a dog, aaaaaaaaaaaa", "a cat, bbbbbbbbbbbb")
    candidates = candidates_of(texts)
    drawn = expand(candidates.prompts[0], candidates, ExpansionSettings(modifiers=1), b"", lambda text: len(text) < 22)
    assert drawn.text == "a dog, bbbbbbbbbbbb"


def test_what_cannot_be_expanded_stays_as_it_is() -> None:
    only = ("a cat, 4k , 4k", "a dog, (4K:1.2), [4k]")  # nothing new is offered
    assert expanded(0, texts=only).text == only[0]
    assert expanded(0, texts=only).parents == (f"{0:016x}",)
    assert expanded(0, texts=("a cat",)).text == "a cat"
    assert expanded(4).text == TEXTS[4]  # its open bracket would take in what comes behind


def test_what_a_prompt_says_twice_is_said_once() -> None:
    texts = ("a cat, a Cat, (4k:1.1), 4K", "a dog, oil painting")
    assert sorted(split(expanded(0, texts=texts).text)) == ["(4k:1.1)", "a cat", "oil painting"]


def test_orders_and_donors_vary_with_the_seed() -> None:
    assert len({expanded(0, bytes([number])).text for number in range(50)}) > 20


@pytest.mark.parametrize("modifiers", [0, 17])
def test_how_many_modifiers_has_limits(modifiers: int) -> None:
    with pytest.raises(ValidationError, match="modifiers"):
        ExpansionSettings(modifiers=modifiers)
