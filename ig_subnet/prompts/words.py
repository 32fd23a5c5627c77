"""Texts as columns, and the words in them: what the filters over millions of prompts share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}\p{So}]+"  # a word is of letters, marks, digits and emoji


@dataclass(frozen=True)
class Words:
    """The words of `texts` texts in their order: word i is `vocabulary[codes[i]]`, in text `rows[i]`."""

    vocabulary: list[str]
    codes: NDArray[np.int32]
    rows: NDArray[np.int64]
    texts: int

    def sums(self, values: Iterable[float]) -> NDArray[np.float64]:
        """The sum over each text's words of what stands in `values` for each word of the vocabulary."""
        of_word = np.fromiter(values, np.float64, len(self.vocabulary))
        return np.bincount(self.rows, of_word[self.codes], self.texts).astype(np.float64)


def text_column(texts: pa.Array | pa.ChunkedArray | Sequence[str]) -> pa.ChunkedArray:
    """The texts as one Arrow column. ValueError where one is missing."""
    import pyarrow as pa

    if not isinstance(texts, pa.ChunkedArray):
        texts = pa.chunked_array([texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())])
    if texts.null_count:
        raise ValueError(f"{texts.null_count} of {len(texts)} prompts are missing; drop them first")
    return texts


def in_chunks(column: pa.ChunkedArray, size: int) -> Iterator[pa.Array]:
    """The column in arrays of `size` texts, the last of fewer, wherever its own chunks end."""
    for start in range(0, len(column), size):
        yield column.slice(start, size).combine_chunks()


def split_words(texts: pa.Array) -> Words:
    """The words of lower-case texts."""
    import pyarrow.compute as pc

    lists = pc.split_pattern_regex(texts, BETWEEN_WORDS)
    words = lists.flatten().dictionary_encode()
    vocabulary = words.dictionary.to_pylist()
    codes = words.indices.to_numpy()
    real = np.array([bool(word) for word in vocabulary], np.bool_)[codes]  # a separator at an end leaves an empty word
    return Words(vocabulary, codes[real], pc.list_parent_indices(lists).to_numpy()[real], len(texts))
