"""What can go wrong between a configuration and a retrieved prompt.

PromptError
├── PromptConfigurationError   the configuration names something that does not exist or makes no sense
├── DatabaseError              a prompt source is missing, unreadable or empty
├── EmbeddingModelError        the sentence embedding model is missing or cannot be loaded
├── PromptIndexError           an index is missing, cut or damaged, or belongs to another model or database
└── RetrievalError             more prompts were asked for than the database holds, or an empty topic
"""

from __future__ import annotations


class PromptError(Exception):
    """Base of all errors of this package."""


class PromptConfigurationError(PromptError, ValueError):
    """The prompter's configuration cannot be used."""


class DatabaseError(PromptError):
    """A prompt database could not be read."""


class EmbeddingModelError(PromptError):
    """The embedding model could not be found or loaded."""


class PromptIndexError(PromptError):
    """An index directory cannot be used as it is; the message says which command mends it."""


class RetrievalError(PromptError, ValueError):
    """Prompts were asked for that the database cannot give."""
