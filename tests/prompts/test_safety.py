from __future__ import annotations

import pyarrow as pa
import pytest

from ig_subnet.prompts.safety import WORD_LIST, has_unsafe_words


def entries() -> list[str]:
    lines = [line.strip() for line in WORD_LIST.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "text",
    ["a Nude", "NSFW_art", "x-rated poster", "a severed  head, dripping", "(naked:1.3)", "rule 34", "no clothes"],
)
def test_whole_words_in_any_case_and_punctuation_are_found(text: str) -> None:
    assert has_unsafe_words(pa.array([text])).to_pylist() == [True]


@pytest.mark.parametrize(
    "text",
    ["a bass guitar", "Essex in Sussex", "denuded hills", "the head, severed", "a great tit", "", "naked2", "class"],
)
def test_parts_of_words_and_other_words_are_not(text: str) -> None:
    assert has_unsafe_words(pa.array([text])).to_pylist() == [False]


def test_every_entry_of_the_list_is_found_once_and_written_plainly() -> None:
    words = entries()
    assert len(words) > 200 and len(set(words)) == len(words)
    assert all(word == " ".join(word.lower().split()) for word in words)
    assert all(has_unsafe_words(pa.array([f"a photo of {word.upper()}, 8k" for word in words])).to_pylist())


def test_no_entry_is_covered_by_another() -> None:
    words = set(entries())
    for phrase in words:
        parts = phrase.split()
        spans = {" ".join(parts[start:end]) for start in range(len(parts)) for end in range(start + 1, len(parts) + 1)}
        assert spans & words == {phrase}
