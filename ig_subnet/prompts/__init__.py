"""Prompts: a database, an index of what its prompts mean, and retrieval by topic.

prompter = load_prompter(load_profile("pocket")["prompter"])
prompter.retrieve("a shape above another shape", k=10)
"""

from __future__ import annotations

from ig_subnet.prompts.errors import (
    DatabaseError,
    EmbeddingModelError,
    PromptConfigurationError,
    PromptError,
    RetrievalError,
)
from ig_subnet.prompts.old_database import PromptDatabase, load_database
from ig_subnet.prompts.prompter import Prompter, RetrievedPrompt, Topic, load_prompter

__all__ = [
    "DatabaseError",
    "EmbeddingModelError",
    "PromptConfigurationError",
    "PromptDatabase",
    "PromptError",
    "Prompter",
    "RetrievalError",
    "RetrievedPrompt",
    "Topic",
    "load_database",
    "load_prompter",
]
