from __future__ import annotations

import numpy as np
from source_tree import ROOT, imports

from ig_subnet.prompts.tokens import count_bert_tokens, count_clip_tokens
from ig_subnet.rewards.loading import WeightFiles
from ig_subnet.rewards.tokenizers import load_bert_tokenizer, load_clip_tokenizer

TEXTS = ["a cat", "", "a photo of a (lighthouse:1.2), trending on artstation, 8k", "Über-naïve 猫 🐈", "x" * 1024]


def test_tokens_are_counted_as_the_experts_count_them() -> None:
    clip, bert = count_clip_tokens(TEXTS), count_bert_tokens(TEXTS)
    assert clip.dtype == bert.dtype == np.int16
    packaged = WeightFiles("packaged", {})
    assert clip.tolist() == [len(ids) for ids in load_clip_tokenizer(packaged)(TEXTS)["input_ids"]]
    assert bert.tolist() == [len(ids) for ids in load_bert_tokenizer(packaged)(TEXTS)["input_ids"]]
    assert clip.tolist()[:2] == bert.tolist()[:2] == [4, 2]  # with the two special ones


def test_no_text_has_no_counts() -> None:
    assert count_clip_tokens([]).shape == count_bert_tokens([]).shape == (0,)


def test_only_the_tokenizers_of_the_experts_are_asked_for() -> None:
    asked = {
        (path.name, name)
        for path in (ROOT / "ig_subnet" / "prompts").glob("*.py")
        for name in imports(path)
        if name.startswith("ig_subnet.rewards")
    }
    assert {file for file, _ in asked} == {"tokens.py"}
    assert {name.split(".")[2] for _, name in asked} == {"loading", "tokenizers"}
