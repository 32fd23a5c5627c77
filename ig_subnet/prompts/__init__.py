"""Prompts: a database, an index of what its prompts mean, and retrieval by topic.

prompter = load_prompter(load_profile("pocket")["prompter"])
prompter.retrieve("a shape above another shape", k=10)
"""

from __future__ import annotations

from ig_subnet.prompts.choosing import Candidates, RetrievedPrompt, Uses
from ig_subnet.prompts.database import PromptDatabase
from ig_subnet.prompts.errors import (
    DatabaseError,
    EmbeddingModelError,
    PromptConfigurationError,
    PromptError,
    PromptIndexError,
    RetrievalError,
)
from ig_subnet.prompts.expansion import DrawnPrompt
from ig_subnet.prompts.prompter import Prompter, load_prompter
from ig_subnet.prompts.topics import TOPIC_SETS, Topic

__all__ = [
    "TOPIC_SETS",
    "Candidates",
    "DatabaseError",
    "DrawnPrompt",
    "EmbeddingModelError",
    "PromptConfigurationError",
    "PromptDatabase",
    "PromptError",
    "PromptIndexError",
    "Prompter",
    "RetrievalError",
    "RetrievedPrompt",
    "Topic",
    "Uses",
    "load_prompter",
]
