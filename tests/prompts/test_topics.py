from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from ig_subnet.config.profiles import load_profile
from ig_subnet.prompts.topics import TOPIC_SETS, Topic, TopicFilters, passing

TEXTS = (
    "A Cat, on a mat",
    "a catalogue of cars",
    "Ein Café am See",
    "many cafés",
    "oil painting of a dog",
    "(cat:1.2), poster",
    "cat_food",
    "a CAFÉ",
    "C++ code",
)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """In two chunks, each with a dictionary of its own."""
    rows = len(TEXTS)
    source = pa.array([f"source {row % 3}" for row in range(rows)]).dictionary_encode()
    whole = pa.table({"text": TEXTS, "source": source, "clip_tokens": pa.array(range(3, 3 + rows), pa.int16())})
    return pa.concat_tables([whole.slice(0, 4), whole.slice(4)])


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ({}, range(9)),
        ({"any_of": ["cat"]}, [0, 5]),
        ({"any_of": ["CAFÉ"]}, [2, 7]),
        ({"any_of": ["café", "dog"]}, [2, 4, 7]),
        ({"any_of": ["oil painting"]}, [4]),
        ({"any_of": ["c++"]}, [8]),
        ({"any_of": ["."]}, []),
        ({"none_of": ["a", "cat"]}, [2, 3, 6, 8]),
        ({"any_of": ["cat"], "none_of": ["poster"]}, [0]),
        ({"sources": ["source 1", "source 2"]}, [1, 2, 4, 5, 7, 8]),
        ({"max_clip_tokens": 5}, [0, 1, 2]),
        ({"max_clip_tokens": 5, "sources": ["source 1"]}, [1]),
    ],
)
def test_filters_let_through_what_passes_all_of_them(table: pa.Table, filters: dict[str, Any], rows: Any) -> None:
    mask = passing(table, TopicFilters.model_validate(filters))
    assert mask.dtype == bool and mask.nonzero()[0].tolist() == list(rows)


@pytest.mark.parametrize(
    "filters", [{"any_of": [" "]}, {"sources": [""]}, {"max_clip_tokens": 0}, {"words": ["cat"]}, {"any_of": "cat"}]
)
def test_filters_that_make_no_sense_are_refused(filters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Topic.model_validate({"name": "a topic", "text": "its text", "filters": filters})


def test_the_shipped_sets_are_those_of_the_original_project_and_of_its_authors_study() -> None:
    assert [(topic.name, topic.text) for topic in TOPIC_SETS["seed"]] == [
        ("landscape", "a image of landscape, detail, realistic, beautiful"),
        ("anime_character", "a image of anime character, realistic, ultra hd"),
    ]
    assert [(topic.name, topic.text) for topic in TOPIC_SETS["study"]] == [
        ("animated_style", "a animated image of"),
        ("artistic_style", "a artistic, artstation image of"),
        ("landscape_style", "a landscape image of"),
        ("portrait_style", "a portrait image of"),
        ("realistic_photo_style", "a realistic photo of"),
    ]


@pytest.mark.parametrize(("profile", "topics"), [("baseline", "seed"), ("mixture", "study")])
def test_profiles_name_the_sets(profile: str, topics: str) -> None:
    assert load_profile(profile)["prompter"]["topics"] == topics
