"""How words are spelled that the vocabulary lacks: by n-grams of characters (Bojanowski et al. 2017).

Digits are all alike there, so that 1,928 is spelled as other numbers of its form are, and years as other years.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch

from nmt.data.batch import UNK, Ids, Spelled
from nmt.text.tokenizer import WordTokenizer

LENGTHS = (2, 3, 4)
"""Of n-grams, the marks of begin and end included."""
LONGEST = 40
"""Characters of a word that are read; more of them are seldom a word."""


def unknown_words(tokenizer: WordTokenizer, line: str, ids: Ids) -> dict[int, str]:
    """The words of a line, `ids` to its tokenizer, that it does not know: position -> word."""
    if UNK not in ids:
        return {}
    return {n: word for n, (word, known) in enumerate(zip(tokenizer.split(line), ids, strict=True)) if known == UNK}


@lru_cache(maxsize=1 << 16)
def ngrams(word: str) -> tuple[int, ...]:
    """The hashes, from 1 to 2^32, of the word itself and of its n-grams, each once, in their order.

    `<` and `>` stand at its ends: of `ab` these are `<ab>`, `<a`, `ab`, `b>`, `<ab` and `ab>`."""
    marked = "<" + re.sub(r"\d", "0", word[:LONGEST]) + ">"
    parts = {marked, *(marked[i : i + n] for n in LENGTHS for i in range(len(marked) - n + 1))}
    return tuple(sorted({1 + zlib.crc32(part.encode("utf-8", "surrogatepass")) for part in parts}))


def collate_spelled(sentences: Sequence[Mapping[int, str]], length: int) -> Spelled:
    """Of B sentences, padded to `length` tokens, the unknown words by their positions."""
    words = {word: n for n, word in enumerate(dict.fromkeys(w for s in sentences for w in s.values()), start=1)}
    hashes = [ngrams(word) for word in words]
    table = np.zeros((len(words), max(map(len, hashes), default=0)), dtype=np.int64)
    for row, found in zip(table, hashes, strict=True):
        row[: len(found)] = found
    places = np.zeros((len(sentences), length), dtype=np.int64)
    for row, sentence in zip(places, sentences, strict=True):
        for position, word in sentence.items():
            row[position] = words[word]
    return Spelled(torch.from_numpy(table), torch.from_numpy(places))
