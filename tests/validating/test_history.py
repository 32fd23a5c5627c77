"""What is remembered of earlier rounds: bounded, the newest, and only what was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from made_up_images import DUPLICATES, PICTURES, embedding_of, examined, phash_of

from ig_subnet.validating.gates import ImageKey
from ig_subnet.validating.history import History
from ig_subnet.validating.records import FingerprintRow


def row(round_id: int, picture: int, hotkey: str = "bob") -> FingerprintRow:
    embedding = embedding_of(picture).astype(np.float16).tobytes()
    return FingerprintRow(round_id, 0, hotkey, 0, f"prompt of {round_id}", phash_of(picture), embedding)


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    yield lines
    logger.remove(sink)


def test_an_image_of_an_earlier_round_is_known_again() -> None:
    history = History(DUPLICATES)
    assert history.seen([examined()]) == {}
    history.add([row(4, 0), row(5, 1)])
    seen = history.seen([examined(picture=0), examined(picture=1, number=1), examined(picture=2, number=2)])
    assert [(key.number, found.round_id, found.prompt) for key, found in seen.items()] == [
        (0, 4, "prompt of 4"),
        (1, 5, "prompt of 5"),
    ]
    found = seen[ImageKey(0, "alice", 0)]
    assert (found.key, found.figures.bits, found.figures.laid_over) == (ImageKey(0, "bob", 0), 0, None)


@settings(deadline=None)  # a busy machine takes its time over comparing images
@given(st.lists(st.integers(0, PICTURES - 1), max_size=30), st.integers(1, 5))
def test_the_newest_are_remembered_and_no_more(pictures: list[int], size: int) -> None:
    history = History(DUPLICATES.model_copy(update={"history": size}))
    for round_id, picture in enumerate(pictures):
        history.add([row(round_id, picture)])
    newest = list(enumerate(pictures))[-size:]
    assert len(history) == len(newest)
    for picture in range(PICTURES):
        seen = history.seen([examined(picture=picture)])
        rounds = {round_id for round_id, shown in newest if shown == picture}
        assert {found.round_id for found in seen.values()} <= rounds
        assert bool(seen) == bool(rounds)


def test_another_expert_begins_anew(said: list[str]) -> None:
    """A profile may name another expert over a store that has embeddings of the one before."""
    history, known = History(DUPLICATES), row(1, 0)
    shorter = replace(known, embedding=np.zeros(5, np.float16).tobytes())
    history.add([shorter, shorter])
    assert history.seen([examined(picture=0)]) == {}
    assert said == []
    history.add([known, replace(known, phash=b"short")])
    assert len(history) == 1
    assert history.seen([examined(picture=0)]).keys() == {ImageKey(0, "alice", 0)}
    assert said == ["3 images of earlier rounds have no fingerprint that could be compared"]
