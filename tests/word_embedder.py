"""Stands in for a sentence model where a test is about something else."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from ig_subnet.prompts.embedding import ModelIdentity


class WordEmbedder:
    """Stands in for the model: texts with common words are near to each other. Remembers the texts."""

    def __init__(self, name: str = "words") -> None:
        digest = f"{zlib.crc32(name.encode()):08x}" * 8
        self.identity = ModelIdentity(name=name, revision=None, dtype="float32", dimension=128, fingerprint=digest)
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        self.embedded += texts
        vectors = np.full((len(texts), self.identity.dimension), 1e-3, dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                vector += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(128, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
