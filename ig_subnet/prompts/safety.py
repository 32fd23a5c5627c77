"""A word list for prompts that no classifier has judged.

It is a net with wide meshes: it knows the English words of data/unsafe_words.txt, whole, in any case, and nothing of
what a sentence means. It drops harmless prompts ("the gore of a skirt") and misses euphemisms, misspellings and other
languages. It is no moderation of what miners send back.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

WORD_LIST = Path(__file__).parent / "data" / "unsafe_words.txt"


def has_unsafe_words(texts: pa.Array) -> pa.BooleanArray:
    """True where a text contains an entry of the word list as whole words."""
    return pc.match_substring_regex(texts, _pattern())


@cache
def word_list_digest() -> str:
    """SHA-256 of the word list, hexadecimal: which list a database was filtered with."""
    return hashlib.sha256(WORD_LIST.read_bytes()).hexdigest()


@cache
def _pattern() -> str:
    """One RE2 pattern: an entry between what is no Latin letter or digit, and any of that between its own words.

    The same with Unicode's letters and digits takes forty times as long and finds no other English words.
    """
    lines = [line.strip() for line in WORD_LIST.read_text(encoding="utf-8").splitlines()]
    entries = ["[^a-z0-9]+".join(map(re.escape, line.split())) for line in lines if line and line[0] != "#"]
    return f"(?i)(?:^|[^a-z0-9])(?:{'|'.join(entries)})(?:$|[^a-z0-9])"
