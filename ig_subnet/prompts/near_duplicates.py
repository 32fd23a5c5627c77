"""Near-duplicate prompts: the same subject with other weights, order, punctuation, a modifier more or another artist.

MinHash with banded locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
chapter 3) finds candidates; the exact Jaccard similarity of their shingles decides.

The shingles of a prompt are its words and, `SUBJECT_WEIGHT` times each, the pairs of neighbouring words in its subject:
what stands before the first comma, full stop, semicolon, bar or "by", at most `SUBJECT_WORDS` words. Words alone cannot
tell another subject from another modifier; docs/decisions.md has the figures. Case, punctuation, and numbers after a
colon do not count.

Every hash is fixed: the same prompts in the same order give the same answer on any machine, in any chunking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ig_subnet.prompts.words import in_chunks, split_words, text_column

if TYPE_CHECKING:
    import pyarrow as pa

THRESHOLD = 0.85  # of the shingles' Jaccard similarity; see docs/decisions.md
SUBJECT_WORDS = 12
SUBJECT_WEIGHT = 3
BANDS = 16
CANDIDATE_RECALL = 0.995  # of pairs exactly at the threshold, that they share a band; more similar ones are surer
CHUNK = 4096  # prompts whose shingles stay in a core's cache
PAIRS = 100_000  # compared at once

COLON_NUMBER = r":\s*-?\d+(?:\.\d+)?"
AFTER_SUBJECT = r"(?s)(?:[,.;|]| by ).*"
START, END = "^", "$"  # of a subject: never words


@dataclass(frozen=True)
class ShingleSets:
    """32-bit shingles of N prompts: of prompt i `values[offsets[i] : offsets[i + 1]]`, ascending, at least one."""

    values: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def sizes(self, prompts: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.offsets[prompts + 1] - self.offsets[prompts]

    def of(self, prompts: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The shingles of those prompts, one after the other, and how many each has."""
        sizes = self.sizes(prompts)
        ends = np.cumsum(sizes)
        places = np.arange(ends[-1]) + np.repeat(self.offsets[prompts] - ends + sizes, sizes)
        return self.values[places], sizes


def keep_first(
    texts: pa.Array | pa.ChunkedArray | Sequence[str], threshold: float = THRESHOLD, progress: bool = False
) -> NDArray[np.bool_]:
    """bool [N]: True for each prompt that is no near-duplicate of an earlier kept one.

    Greedy in the given order: a prompt goes if its similarity to one that stays is at least `threshold`. So whatever
    goes has a likeness that stays, and a long chain of small changes is not merged from end to end. LSH is expected to
    overlook at most 1 - `CANDIDATE_RECALL` of the pairs at the threshold, always the same ones. `progress` shows a bar.
    ValueError for a threshold outside (0, 1] and for missing texts.
    """
    from tqdm import tqdm

    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold of near-duplicates must be above 0 and at most 1, not {threshold}")
    column = text_column(texts)
    if not len(column):
        return np.ones(0, np.bool_)
    rows = rows_per_band(threshold)
    keys = np.empty((BANDS, len(column)), np.uint64)
    values, sizes = [], []
    with tqdm(total=len(column), desc="near duplicates", unit=" prompts", disable=not progress) as bar:
        for number, texts in enumerate(in_chunks(column, CHUNK)):
            sets = shingle_sets(texts)
            values.append(sets.values)
            sizes.append(np.diff(sets.offsets))
            keys[:, number * CHUNK :][:, : len(texts)] = band_keys(sets, rows)
            bar.update(len(texts))
    return _greedy(keys, ShingleSets(np.concatenate(values), _offsets(np.concatenate(sizes))), threshold)


def rows_per_band(threshold: float) -> int:
    """The most with which a pair at the threshold still shares one of `BANDS` bands with `CANDIDATE_RECALL`."""
    rows = 1
    while rows < 16 and 1 - (1 - threshold ** (rows + 1)) ** BANDS >= CANDIDATE_RECALL:
        rows += 1
    return rows


def shingle_sets(texts: pa.Array) -> ShingleSets:
    """The shingles of each text, which follow from nothing but that text."""
    import pyarrow.compute as pc

    texts = pc.replace_substring_regex(pc.utf8_lower(texts), COLON_NUMBER, "")
    words, word_rows = _hashed_words(texts)
    subject, subject_rows = _hashed_words(pc.replace_substring_regex(texts, AFTER_SUBJECT, ""))
    pairs, pair_rows = _subject_pairs(subject, subject_rows, len(texts))
    copies = [_mix(pairs + np.uint64(copy)) for copy in range(SUBJECT_WEIGHT)]
    rows = np.concatenate([word_rows, *[pair_rows] * SUBJECT_WEIGHT])
    keyed = np.sort(_keyed(rows, np.concatenate([_mix(words), *copies])))
    keyed = keyed[np.diff(keyed, prepend=~keyed[:1]) != 0]
    counts = np.bincount((keyed >> np.uint64(32)).astype(np.int64), minlength=len(texts))
    return ShingleSets(keyed.astype(np.uint32), _offsets(counts))


def _hashed_words(texts: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The words of all texts as 64-bit hashes, and the text that each is of."""
    words = split_words(texts)
    return np.array([_hash(word) for word in words.vocabulary], np.uint64)[words.codes], words.rows


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def _subject_pairs(
    words: NDArray[np.uint64], rows: NDArray[np.int64], texts: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the neighbours in START, words, END of each text (END only where all words fit), and their texts."""
    counts = np.bincount(rows, minlength=texts)
    place = np.arange(len(rows)) - np.repeat(_offsets(counts)[:-1], counts)
    taken = place < SUBJECT_WORDS
    taken_counts = np.minimum(counts, SUBJECT_WORDS)
    # One line of marks and words per text: START at 0, words from 1, END behind the last.
    line = np.full((texts, SUBJECT_WORDS + 2), 0, np.uint64)
    line[:, 0] = _hash(START)
    line[rows[taken], place[taken] + 1] = words[taken]
    line[np.arange(texts), taken_counts + 1] = _hash(END)
    pairs = line[:, :-1] * np.uint64(0x9E3779B97F4A7C15) + line[:, 1:]
    whole = counts <= SUBJECT_WORDS
    pair_rows, column = np.nonzero(np.arange(SUBJECT_WORDS + 1) < (taken_counts + whole)[:, None])
    return pairs[pair_rows, column], pair_rows


def _mix(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """32 well mixed bits of each (the finaliser of MurmurHash3, public domain)."""
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return (hashes >> np.uint64(32)).astype(np.uint32)


def band_keys(sets: ShingleSets, rows: int) -> NDArray[np.uint64]:
    """uint64 [BANDS, N]: equal where all `rows` minima of a band are."""
    constants = np.frombuffer(hashlib.shake_256(b"ig_subnet near duplicates").digest(8 * BANDS * rows), "<u4")
    keys = np.zeros((BANDS, len(sets.offsets) - 1), np.uint64)
    for number, (factor, term) in enumerate(constants.reshape(-1, 2).astype(np.uint32)):
        hashes = sets.values * (factor | np.uint32(1)) + term  # a permutation of the 32-bit numbers
        key = keys[number // rows]
        key *= np.uint64(0x9E3779B97F4A7C15)
        key += np.minimum.reduceat(hashes, sets.offsets[:-1])
        key ^= key >> np.uint64(29)
    return keys


def _greedy(keys: NDArray[np.uint64], sets: ShingleSets, threshold: float) -> NDArray[np.bool_]:
    """Which prompts stay, found in rounds: whoever is the first in all its buckets stays, and its likenesses go."""
    kept = np.ones(keys.shape[1], np.bool_)
    bucket, member = _buckets(keys)
    while len(member):
        first = np.flatnonzero(np.diff(bucket, prepend=-1))
        leader = np.repeat(member[first], np.diff(first, append=len(member)))
        waits = np.zeros(len(kept), np.bool_)
        waits[member[leader != member]] = True
        compared = ~waits[leader] & (leader != member)
        pairs = np.unique(_keyed(leader[compared], member[compared].astype(np.uint32)))
        ahead, behind = (pairs >> np.uint64(32)).astype(np.int64), pairs.astype(np.uint32).astype(np.int64)
        kept[behind[_alike(ahead, behind, sets, threshold)]] = False
        undecided = waits[member] & kept[member]
        bucket, member = bucket[undecided], member[undecided]
    return kept


def _buckets(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Numbers of buckets, and the prompts (two or more) in each: ascending in both. A bucket is a key of a band."""
    buckets, members = [], []
    count = 0
    for band in keys:
        order = np.argsort(band, kind="stable").astype(np.int32)
        same = band[order[1:]] == band[order[:-1]]
        shared = np.concatenate([same, [False]]) | np.concatenate([[False], same])
        begins = np.concatenate([[True], ~same])[shared]
        buckets.append((count + np.cumsum(begins)).astype(np.int32))
        members.append(order[shared])
        count += int(begins.sum())
    return np.concatenate(buckets), np.concatenate(members)


def _alike(
    first: NDArray[np.int64], second: NDArray[np.int64], sets: ShingleSets, threshold: float
) -> NDArray[np.bool_]:
    """Whether the Jaccard similarity of each pair is at least `threshold`."""
    sizes = sets.sizes(first), sets.sizes(second)
    alike = np.minimum(*sizes) / np.maximum(*sizes) >= threshold  # what the similarity is at most
    possible = np.flatnonzero(alike)
    for start in range(0, len(possible), PAIRS):
        block = possible[start : start + PAIRS]
        values, counts = zip(*(sets.of(prompts[block]) for prompts in (first, second)), strict=True)
        pair = np.arange(len(block))
        keyed = np.sort(_keyed(np.concatenate([np.repeat(pair, count) for count in counts]), np.concatenate(values)))
        common = keyed[1:][keyed[1:] == keyed[:-1]] >> np.uint64(32)
        shared = np.bincount(common.astype(np.int64), minlength=len(pair))
        alike[block] = shared / (counts[0] + counts[1] - shared) >= threshold
    return alike


def _keyed(rows: NDArray[np.integer], values: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Row and value in one number, which sorts by row first."""
    return rows.astype(np.uint64) << np.uint64(32) | values


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])
