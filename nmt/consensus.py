"""Minimum Bayes risk decoding over texts: of several outputs the one that the others resemble most.

The expected utility of a candidate is the mean utility it has if each of the candidates, itself among them, were the
reference, as in the decision rule over n-best lists (Kumar and Byrne 2004) and over samples, which are the candidates
and the pseudo-references at once (Eikema and Aziz 2020; Freitag et al. 2022). Itself: the mean is then the expectation
over the distribution of the candidates, and a text drawn c times counts c times. Leaving it out changes the order of
equally weighted candidates only where a text is nothing like itself, as the empty one; that text thereby never gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import numpy as np

Utility = Literal["chrf", "bleu"]

CHAR_ORDER, BETA, WORD_ORDER = 6, 2, 4  # of chrF and of BLEU, as is usual

COLUMNS = 1 << 14
"""N-grams that are compared at a time, so that memory does not grow with the texts."""


def consensus(texts: Sequence[str], *, utility: Utility, weights: Sequence[float] | None = None) -> list[int]:
    """The numbers of the candidates, from the highest expected utility to the lowest; of equal ones the first first."""
    expected = np.array(expected_utility(texts, utility=utility, weights=weights))
    return np.argsort(-expected, kind="stable").tolist()


def expected_utility(texts: Sequence[str], *, utility: Utility, weights: Sequence[float] | None = None) -> list[float]:
    """Of each candidate the mean utility, 0 to 100, with all candidates as references; equal texts have equal figures.

    `weights`, one per candidate, say how probable each is as a reference; they need not sum to 1. None: all alike.
    Raises ValueError when they are negative, not finite, all 0, or not as many as the texts.
    """
    if not texts:
        return []
    shares = np.ones(len(texts)) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(shares) != len(texts) or not np.isfinite(shares).all() or shares.min() < 0 or shares.sum() <= 0:
        raise ValueError(f"weights of {len(texts)} texts must be as many, >= 0, and not all 0: {weights}")
    numbers: dict[str, int] = {}
    places = np.array([numbers.setdefault(text, len(numbers)) for text in texts])
    share = np.bincount(places, weights=shares / shares.sum())  # of each different text
    return (utilities(list(numbers), utility) @ share)[places].tolist()


def utilities(texts: Sequence[str], utility: Utility) -> np.ndarray:
    """[U,U]: how much each text is worth if another (columns) is the reference, as sacrebleu scores sentences."""
    return chrf(texts) if utility == "chrf" else bleu(texts)


def chrf(texts: Sequence[str]) -> np.ndarray:
    """Sentence chrF2 (Popović 2015), [U,U] with references along the columns, equal to sacrebleu's: characters without
    white space, precision and recall averaged over the orders that both texts have."""
    characters = [
        np.frombuffer("".join(text.split()).encode("utf-32-le", "surrogatepass"), dtype=np.uint32) for text in texts
    ]
    common, totals = matches(characters, CHAR_ORDER)
    both = np.minimum(totals[:, :, None], totals[:, None, :]) > 0
    orders = np.maximum(both.sum(axis=0), 1)
    parts = common / np.maximum(totals, 1)[:, :, None]  # of the n-grams of the text, 0 where there is none
    precision = parts.sum(axis=0) / orders
    recall = precision.T  # common n-grams are common both ways
    divisor = BETA**2 * precision + recall
    return 100 * (1 + BETA**2) * precision * recall / np.where(divisor > 0, divisor, 1)


def bleu(texts: Sequence[str]) -> np.ndarray:
    """Sentence BLEU (Papineni et al. 2002), [U,U] with references along the columns, equal to sacrebleu's: 13a, orders
    up to the length of the text, and the n-th order without a match is taken for half of one, a quarter, and so on."""
    tokenize = _tokenizer()
    vocabulary: dict[str, int] = {}
    words = [
        np.array([vocabulary.setdefault(word, len(vocabulary)) for word in tokenize(text.rstrip()).split()], np.int64)
        for text in texts
    ]
    common, totals = matches(words, WORD_ORDER)
    lengths = totals[0]
    logs, missed = np.zeros(common.shape[1:]), np.zeros(common.shape[1:])
    for found, total in zip(common, totals, strict=True):
        missed += (found == 0) & (total > 0)[:, None]
        smoothed = np.where(found == 0, 0.5**missed, found) / np.maximum(total, 1)[:, None]
        logs += np.where((total > 0)[:, None], np.log(smoothed), 0.0)
    orders = np.maximum((totals > 0).sum(axis=0), 1)
    brevity = np.minimum(0.0, 1 - lengths[None, :] / np.maximum(lengths, 1)[:, None])
    return np.where(common[0] > 0, 100 * np.exp(logs / orders[:, None] + brevity), 0.0)


@cache
def _tokenizer() -> Callable[[str], str]:
    """13a of sacrebleu, which is slow to import; always the same one, for it remembers by itself what it did."""
    from sacrebleu.metrics.bleu import BLEU

    return BLEU().tokenizer


def matches(sequences: Sequence[np.ndarray], order: int) -> tuple[np.ndarray, np.ndarray]:
    """Of U sequences of whole numbers, for n = 1 to `order`: how many n-grams two have in common, each as often as in
    the one with fewer, [order,U,U]; and how many there are, [order,U]."""
    lengths = np.array([len(sequence) for sequence in sequences])
    _, symbols = np.unique(np.concatenate(sequences), return_inverse=True)
    owners = np.repeat(np.arange(len(sequences)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(symbols))  # symbols from here to the end of the text
    totals = np.maximum(lengths - np.arange(order)[:, None], 0)
    common = np.zeros((order, len(sequences), len(sequences)))
    starts = np.arange(len(symbols))
    grams = symbols  # the number of the n-gram that begins at each start
    for n in range(1, order + 1):
        if n > 1:
            longer = left[starts] >= n
            starts = starts[longer]
            pairs = grams[longer] * len(symbols) + symbols[starts + n - 1]
            _, grams = np.unique(pairs, return_inverse=True)
        common[n - 1] = overlaps(grams, owners[starts], len(sequences))
        np.fill_diagonal(common[n - 1], totals[n - 1])
    return common, totals


def overlaps(grams: np.ndarray, owners: np.ndarray, texts: int) -> np.ndarray:
    """How many n-grams two texts have in common, [U,U] (the diagonal means nothing), of lists that say which n-gram
    there is and whose it is.

    The first, the second, ... occurrence of an n-gram in a text are taken for different n-grams: min(a, b) occurrences
    are then a product of zeros and ones, and all pairs of texts one product of matrices.
    """
    keys = np.sort(grams * texts + owners)
    runs = np.flatnonzero(np.diff(keys, prepend=-1))  # where the n-gram, or its owner, becomes another
    occurrence = np.arange(len(keys)) - np.repeat(runs, np.diff(runs, append=len(keys)))
    grams, owners = np.divmod(keys, texts)
    _, columns, counts = np.unique(occurrence * (len(keys) + 1) + grams, return_inverse=True, return_counts=True)
    shared = counts > 1  # others say nothing of pairs
    columns, owners = (np.cumsum(shared) - 1)[columns[shared[columns]]], owners[shared[columns]]
    common = np.zeros((texts, texts))
    for first in range(0, int(shared.sum()), COLUMNS):
        here = (columns >= first) & (columns < first + COLUMNS)
        present = np.zeros((texts, min(COLUMNS, int(shared.sum()) - first)), dtype=np.float32)
        present[owners[here], columns[here] - first] = 1
        common += present @ present.T
    return common
