"""Which of a profile's topics a prompt belongs to: the one whose text is nearest, by the profile's own embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ig_subnet.studies.errors import StudyError


def nearest_topics(prompts: Sequence[str], prompter: Mapping[str, Any], device: str = "auto") -> dict[str, str]:
    """The name of the nearest topic of each different prompt. `prompter` is the section of a profile.

    A validator asks for a topic's nearest prompts; this is the same nearness from the prompt's side. Raises
    `StudyError` for a section that cannot be used, or whose embedding model cannot be had.
    """
    from pydantic import ValidationError

    from ig_subnet.prompts.embedding import SentenceEmbedder
    from ig_subnet.prompts.errors import PromptError
    from ig_subnet.prompts.prompter import PrompterConfig

    try:
        config = PrompterConfig.model_validate(prompter)
    except ValidationError as error:
        raise StudyError(f"the profile's prompter section cannot be used: {error.errors()[0]['msg']}") from error
    texts = list(dict.fromkeys(prompts))
    try:
        embedder = SentenceEmbedder(config.model, device, config.revision, config.dtype)
    except PromptError as error:
        raise StudyError(str(error)) from error
    nearness = embedder.embed(texts) @ embedder.embed([topic.text for topic in config.topics]).T
    return {text: config.topics[int(place)].name for text, place in zip(texts, nearness.argmax(axis=1), strict=True)}
