"""What makes a translation look wrong without a reference: one small function per sign, with its threshold.

A flag is a reason to look, not a verdict: a good translation may carry one, and a bad one none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REPEATS = 3
"""So many times in a row the same tokens are a loop, unless the source repeats itself as often."""

COPIED_SHARE = 0.8
"""From this share of the output's letters on that stand in words of the source, the source was copied."""
COPIED_WORDS, COPIED_LETTERS = 4, 20
"""Outputs with both fewer words and fewer letters are not judged: a name is the same in two languages."""

LENGTH_RATIO, LENGTH_SLACK = 2.0, 4
"""The longer side may have LENGTH_RATIO times the tokens of the shorter one and LENGTH_SLACK more."""

COVERED = 0.1
"""A source token that gets less attention from the whole output, of which each token has 1 to give, is uncovered."""
UNCOVERED_SHARE, UNCOVERED_TOKENS = 0.25, 3
"""So large a share of the source's tokens, and at least so many, are more than words that need no translation.

With three small models (recurrent and transformer, two corpora), 1 or 2 translations in 100 are beyond both limits; of
the same translations without their second half, about 50 in 100."""

LOW_LOG_PROB = -1.0
"""A mean log-probability per token below this (0.37 as a probability) is low confidence. Of text like that of training,
less than 1 translation in 100 of the same models is."""


def find_flags(
    src: str,
    tgt: str,
    src_tokens: Sequence[object],
    tgt_tokens: Sequence[object],
    token_log_probs: Sequence[float],
    weights: NDArray[np.float32] | None = None,
) -> list[str]:
    """The flags of one translation, of `repetition`, `copied source`, `length ratio`, `uncovered source` and `low
    confidence`.

    src, tgt: the text; src_tokens, tgt_tokens: its S and T tokens without EOS, as anything that can be compared with
    tokens of the same side. token_log_probs: of the tokens and of EOS, natural log. weights: [T+1,S+1], attention of
    each forced step to each source token, EOS included; None for a model without attention to the source.
    """
    found = {
        "repetition": repeats(src_tokens, tgt_tokens),
        "copied source": copies_source(src, tgt),
        "length ratio": has_extreme_length(len(src_tokens), len(tgt_tokens)),
        "uncovered source": weights is not None and leaves_uncovered(weights),
        "low confidence": has_low_confidence(token_log_probs),
    }
    return [name for name, holds in found.items() if holds]


def repeats(src_tokens: Sequence[object], tgt_tokens: Sequence[object]) -> bool:
    """Whether the output says the same REPEATS times in a row, and more often than the source does."""
    times = longest_loop(tgt_tokens)
    return times >= REPEATS and times > longest_loop(src_tokens)


def longest_loop(tokens: Sequence[object]) -> int:
    """How many times in a row a stretch of tokens, of any length, stands there: 1 where nothing is repeated."""
    most = min(1, len(tokens))
    for period in range(1, len(tokens) // 2 + 1):
        same = 0  # tokens up to here that equal the one a period before
        for token, before in zip(tokens[period:], tokens, strict=False):
            same = same + 1 if token == before else 0
            if same >= period * most:
                most = same // period + 1
    return most


def copies_source(src: str, tgt: str) -> bool:
    """Whether nearly all of the output's letters stand in words of the source; numbers and punctuation do not count."""
    written, there = _words(tgt), _words(src)
    letters = sum(_letters(word) * count for word, count in written.items())
    if written.total() < COPIED_WORDS and letters < COPIED_LETTERS:
        return False
    copied = sum(_letters(word) * count for word, count in (written & there).items())
    return copied >= COPIED_SHARE * letters


def _words(text: str) -> Counter[str]:
    return Counter(word for word in text.casefold().split() if _letters(word))


def _letters(word: str) -> int:
    return sum(map(str.isalpha, word))


def has_extreme_length(src_length: int, tgt_length: int) -> bool:
    """Whether one side is far longer than the other, in tokens."""
    shorter, longer = sorted((src_length, tgt_length))
    return longer > LENGTH_RATIO * shorter + LENGTH_SLACK


def leaves_uncovered(weights: NDArray[np.float32]) -> bool:
    """Whether a large share of the source's tokens got nearly no attention; weights [T+1,S+1], EOS included."""
    received = weights[:, :-1].sum(axis=0)  # [S]
    uncovered = int((received < COVERED).sum())
    return uncovered >= max(UNCOVERED_TOKENS, UNCOVERED_SHARE * len(received))


def has_low_confidence(token_log_probs: Sequence[float]) -> bool:
    """Whether the model itself finds its tokens, EOS among them, improbable."""
    return bool(token_log_probs) and sum(token_log_probs) / len(token_log_probs) < LOW_LOG_PROB
