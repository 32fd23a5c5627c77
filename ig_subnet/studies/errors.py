"""What can stop a study. One bad image never does: it becomes a row with its error.

StudyError
├── SettingsError  a study of models cannot be what its settings say
├── ModelFailed    a model of a study cannot be loaded or makes no images; the others go on
├── SourceError    images or prompts cannot be read: no such table, column, folder or dataset
└── ResultsError   results cannot be read, written or continued

Every message names what was wrong and what to do about it.
"""

from __future__ import annotations


class StudyError(Exception):
    """Base of all errors of this package."""


class SettingsError(StudyError):
    """A study of models: no such study, or a model, topic or count that cannot be."""


class ModelFailed(StudyError):
    """A text-to-image model cannot be loaded, or makes no images."""


class SourceError(StudyError):
    """Where images and prompts should come from cannot be read."""


class ResultsError(StudyError):
    """A table of results cannot be read, written or continued."""
