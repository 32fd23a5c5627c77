"""Near-duplicate removal: against every pair compared in plain Python, in any chunking, and what counts as the same."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_subnet.prompts.near_duplicates import (
    BANDS,
    CANDIDATE_RECALL,
    CHUNK,
    SUBJECT_WEIGHT,
    SUBJECT_WORDS,
    THRESHOLD,
    band_keys,
    keep_first,
    rows_per_band,
    shingle_sets,
)

SUBJECTS = [
    "an old lighthouse in a storm",
    "a red fox asleep in the snow",
    "two robots playing chess on mars",
    "cat",
    "dog",
]
MODIFIERS = ["intricate", "sharp focus", "8k", "oil on canvas", "by wlop", "soft light", "(film grain:1.2)", "fog"]
PROMPTS = st.builds(
    lambda subject, modifiers: ", ".join([subject, *modifiers]),
    st.sampled_from(SUBJECTS),
    st.lists(st.sampled_from(MODIFIERS), max_size=8, unique=True),
)


def plain_shingles(text: str) -> frozenset[object]:
    """What the docstring says, in sets of words."""
    text = re.sub(r":\s*-?\d+(\.\d+)?", "", text.lower())
    subject = re.findall(r"[^\W_]+", re.split(r"[,.;|]| by ", text, maxsplit=1)[0])
    line = ["^", *subject, "$"][: SUBJECT_WORDS + 1 if len(subject) > SUBJECT_WORDS else None]
    return frozenset(re.findall(r"[^\W_]+", text)) | {
        (*pair, n) for pair in pairwise(line) for n in range(SUBJECT_WEIGHT)
    }


def plain_keep_first(texts: list[str], threshold: float) -> list[bool]:
    kept: list[frozenset[object]] = []
    answer = []
    for shingles in map(plain_shingles, texts):
        answer.append(not any(len(shingles & other) >= threshold * len(shingles | other) for other in kept))
        if answer[-1]:
            kept.append(shingles)
    return answer


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(PROMPTS, max_size=40), st.sampled_from([0.5, 0.75, THRESHOLD, 0.95, 1.0]))
def test_every_pair_compared_gives_the_same_answer(texts: list[str], threshold: float) -> None:
    assert keep_first(texts, threshold).tolist() == plain_keep_first(texts, threshold)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.text(max_size=30), max_size=12))
def test_any_text_has_shingles_and_its_copy_goes(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    sets = shingle_sets(pa.array(texts, pa.large_string()))
    assert (np.diff(sets.offsets) > 0).all()
    kept = keep_first([*texts, *texts])
    assert not kept[len(texts) :].any() and kept[: len(texts)].any() == bool(texts)


def test_the_answer_depends_on_no_chunking() -> None:
    """What stays of the first prompts depends on none behind them, across the bounds of the working chunks too."""
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(60)]
    texts = [f"{' '.join(rng.choice(words, 3))}, {', '.join(rng.choice(words, 4))}" for _ in range(CHUNK + 300)]
    for place in range(10, len(texts), 10):
        texts[place] = f"{texts[rng.integers(place)]}, 8k"
    kept = keep_first(texts)
    assert not kept[10::10].any() and kept.mean() == pytest.approx(0.9, abs=0.01)
    assert (keep_first(texts[: CHUNK - 7]) == kept[: CHUNK - 7]).all()
    pieces = pa.chunked_array([texts[:1], [], texts[1:4200], texts[4200:]], pa.string())
    assert (keep_first(pieces) == kept).all()
    assert (keep_first(pa.array(texts, pa.large_string())) == kept).all()


def test_hashes_are_the_same_everywhere() -> None:
    """Curated databases are named by their content: other hashes would be another database."""
    texts = pa.array(
        ["a castle, (fog:1.2), by Wlop", "Ein Schloß; Nebel", "猫", "🐱 🐶", "!!!", "", " ".join("abcdefghijklm")]
    )
    keys = band_keys(shingle_sets(texts), 7)
    assert keys.shape == (BANDS, len(texts))
    assert hashlib.sha256(keys.astype("<u8").tobytes()).hexdigest()[:16] == "2f61ceb08aec1433"


BASE = "a weary knight feeding pigeons, highly detailed, rim light, oil painting, by Moebius and Wlop, (fog:1.2)"


@pytest.mark.parametrize(
    "text",
    [
        "A weary knight feeding pigeons, highly detailed, rim light, oil painting, by moebius and wlop, fog",
        "a weary knight feeding pigeons, highly detailed, rim light, oil painting, by Moebius and Wlop, (fog:0.4)",
        "a weary knight feeding pigeons; (fog:1.2); oil painting; rim light; highly detailed; by Moebius and Wlop",
        "a weary knight feeding pigeons, highly detailed, rim light, oil painting, by Moebius and Artgerm, (fog:1.2)",
        f"{BASE}, trending on artstation",
    ],
)
def test_the_same_in_other_words_goes(text: str) -> None:
    assert keep_first([BASE, text]).tolist() == [True, False]


@pytest.mark.parametrize("changed", ["weary knight", "feeding pigeons", "knight"])
def test_another_subject_stays(changed: str) -> None:
    assert keep_first([BASE, BASE.replace(changed, "blue whale")]).all()


def test_one_word_subjects_are_told_apart() -> None:
    modifiers = ", highly detailed, rim light, oil painting, trending on artstation, by Moebius and Wlop"
    assert keep_first([f"{subject}{modifiers}" for subject in ("cat", "dog", "🐱", "🐶", "猫")]).all()


def test_a_chain_of_small_changes_is_not_merged_end_to_end() -> None:
    words = [f"word{number}" for number in range(60)]
    chain = ["a cat, " + ", ".join(words[start : start + 30]) for start in range(30)]
    kept = keep_first(chain)
    assert kept[0] and 1 < kept.sum() < 15
    assert kept.tolist() == plain_keep_first(chain, THRESHOLD)


def test_rows_of_a_band_keep_the_promised_recall() -> None:
    assert rows_per_band(THRESHOLD) == 7 and rows_per_band(0.01) == 1 and rows_per_band(1.0) == 16
    recall = 1 - (1 - THRESHOLD ** rows_per_band(THRESHOLD)) ** BANDS
    assert recall >= CANDIDATE_RECALL > 1 - (1 - THRESHOLD**8) ** BANDS


def test_bands_agree_as_often_as_jaccard_says() -> None:
    """The permutations are good enough: of 300 pairs with similarity 0.6, bands of one row agree in 60%."""
    texts = []
    for pair in range(300):
        words = [f"word{pair}x{number}" for number in range(40)]
        texts += [f"{words[0]}, {' '.join(words[:32])}", f"{words[0]}, {' '.join(words[8:])}"]
    sets = shingle_sets(pa.array(texts))
    keys = band_keys(sets, 1)
    shingles = [plain_shingles(text) for text in texts[:2]]
    similarity = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
    agreement = (keys[:, ::2] == keys[:, 1::2]).mean()
    assert agreement == pytest.approx(similarity, abs=0.03)  # 4.2 standard deviations of 4,800 draws


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan")])
def test_a_threshold_that_makes_no_sense_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        keep_first(["a cat"], threshold)


def test_missing_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 prompts are missing"):
        keep_first(pa.array(["a cat", None]))


def test_no_prompts_give_no_answer() -> None:
    assert keep_first([]).tolist() == []
