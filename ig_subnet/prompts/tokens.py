"""How long a prompt is for the experts, in their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def count_clip_tokens(texts: Sequence[str]) -> NDArray[np.int16]:
    """int16 [N]: tokens of CLIP's byte-pair vocabulary with the two that mark the ends.

    CLIP, PickScore and HPSv2 read 77 of a prompt. The vocabulary is the packaged one.
    """
    return _count(_clip(), texts)


def count_bert_tokens(texts: Sequence[str]) -> NDArray[np.int16]:
    """int16 [N]: tokens of uncased BERT's vocabulary with the two that mark the ends.

    ImageReward reads 35 of a prompt. The vocabulary is the packaged one.
    """
    return _count(_bert(), texts)


def _count(tokenizer: Any, texts: Sequence[str]) -> NDArray[np.int16]:
    return np.fromiter(map(len, tokenizer.encode_batch_fast(texts)), np.int16, count=len(texts))


# The compiled tokenizers inside the experts' own. Importing the experts' room costs as much as importing torch.


@cache
def _clip() -> Any:
    from ig_subnet.rewards.loading import WeightFiles
    from ig_subnet.rewards.tokenizers import load_clip_tokenizer

    return load_clip_tokenizer(WeightFiles("the packaged vocabulary", {})).backend_tokenizer


@cache
def _bert() -> Any:
    from ig_subnet.rewards.loading import WeightFiles
    from ig_subnet.rewards.tokenizers import load_bert_tokenizer

    return load_bert_tokenizer(WeightFiles("the packaged vocabulary", {})).backend_tokenizer
