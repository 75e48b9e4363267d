"""What kind of text this is: its writing systems, and how much of it a vocabulary knows."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import chain

from nmt.text.tokenizer import UNK, SentencePieceTokenizer, Tokenizer

LEAST_SHARED = 0.5
"""Of the letters of two sides, that are of one writing system: with fewer, the sides have two."""
BYTE = re.compile("<0x[0-9A-F]{2}>")
"""A piece that spells a part of a character which the vocabulary lacks."""


def same_script(one: Iterable[str], two: Iterable[str]) -> bool:
    """Whether two texts are written in the same letters, for the most part. Text without letters is like any other."""
    ours, theirs = _scripts(one), _scripts(two)
    if not ours or not theirs:
        return True
    return sum(min(ours[script] / ours.total(), theirs[script] / theirs.total()) for script in ours) >= LEAST_SHARED


def unknown_share(tokenizer: Tokenizer, lines: Iterable[str]) -> float:
    """Share of the tokens that are unknown, or bytes of unknown characters; 0 where there are none at all."""
    total = unknown = 0
    for line in lines:
        ids = tokenizer.encode(line)
        total += len(ids)
        if isinstance(tokenizer, SentencePieceTokenizer):
            unknown += sum(BYTE.fullmatch(piece) is not None for piece in tokenizer.pieces(ids))
        unknown += ids.count(UNK)
    return unknown / total if total else 0.0


def _scripts(lines: Iterable[str]) -> Counter[str]:
    """How many letters there are of each writing system: the first word of their names, such as LATIN."""
    counts: Counter[str] = Counter()
    for letter, count in Counter(chain.from_iterable(lines)).items():
        if letter.isalpha():
            counts[unicodedata.name(letter, "UNKNOWN").partition(" ")[0]] += count
    return counts
