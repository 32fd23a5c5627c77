"""How long a prompt is for the experts, in their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def count_tokens(texts: Sequence[str]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """(CLIP's, BERT's) number of tokens of each text, int16 [N], with the two special ones that each adds.

    CLIP's byte-pair vocabulary is that of CLIP, PickScore and HPSv2, which read 77 tokens of a prompt; uncased BERT's
    is ImageReward's, which reads 35. Both are the packaged ones.
    """
    clip, bert = _tokenizers()
    return _count(clip, texts), _count(bert, texts)


def _count(tokenizer: Any, texts: Sequence[str]) -> NDArray[np.int16]:
    return np.fromiter(map(len, tokenizer.encode_batch_fast(texts)), np.int16, count=len(texts))


@cache
def _tokenizers() -> tuple[Any, Any]:
    """The compiled tokenizers inside the experts' own. Importing the experts' room costs as much as importing torch."""
    from ig_subnet.rewards.loading import WeightFiles
    from ig_subnet.rewards.tokenizers import load_bert_tokenizer, load_clip_tokenizer

    packaged = WeightFiles("the packaged vocabularies", {})
    return load_clip_tokenizer(packaged).backend_tokenizer, load_bert_tokenizer(packaged).backend_tokenizer
