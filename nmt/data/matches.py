"""Fuzzy matches: what a translation memory knows about a sentence, written behind it for the model to read and copy.

A model trained on lines "source ¦ translation of a similar source ¦ translation of another" learns by itself when to
follow what it finds there (Bulte and Tezcan 2019, "Neural Fuzzy Repair"; Xu, Crego and Senellart 2020, "Boosting Neural
Machine Translation with Similar Translations"). To training, search and copying these are lines like any other.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from nmt.workers import map_blocks, usable_cores

SEPARATOR = "¦"
"""Stands before each match. It is in nearly every line, so any tokenizer learns it."""

WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|[^\w\s]")
"""A character of a script that puts no spaces between words, or a word, or a mark."""

BLOCK = 256
"""Lines that go to a process at a time."""


def words(line: str) -> frozenset[str]:
    """The distinct words of a line, whatever their case."""
    return frozenset(WORD.findall(line.casefold()))


class Match(NamedTuple):
    """A pair of the memory that resembles a line."""

    number: int  # of the pair, from 0
    similarity: float  # above 0, at most 1


class TranslationMemory:
    """Pairs of sentences, found by their sources.

    The similarity of two lines is the cosine of their vectors of words, in which a word that n of the N sources have
    weighs log(N / n) (inverse document frequency: Spärck Jones 1972), and one that none has as much as if n were 1.
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Raises ValueError where the two are not equally many."""
        if len(sources) != len(targets):
            raise ValueError(f"{len(sources)} sources, but {len(targets)} targets")
        self.sources, self.targets = sources, targets
        where: defaultdict[str, list[int]] = defaultdict(list)
        same: defaultdict[str, list[int]] = defaultdict(list)
        for number, line in enumerate(sources):
            same[line].append(number)
            for word in words(line):
                where[word].append(number)
        self._same = dict(same)
        self._where = {word: np.array(numbers, dtype=np.int32) for word, numbers in where.items()}
        squares = np.zeros(len(sources))
        for word, numbers in self._where.items():
            squares[numbers] += self._weight(word) ** 2
        self._norms = np.sqrt(squares)

    def closest(self, line: str, count: int, *, least: float = 0.0, skip_same: bool = False) -> list[Match]:
        """The `count` pairs most similar to a line, best first, earlier ones before later ones that are as similar.

        Left out are pairs that share no word of any weight with it, or are less similar than `least`; and with
        `skip_same`, as for a line of the memory itself, those whose source it is.
        """
        squares = {word: self._weight(word) ** 2 for word in sorted(words(line))}
        products = np.zeros(len(self.sources))
        for word, square in squares.items():
            if word in self._where:
                products[self._where[word]] += square
        if skip_same:
            products[self._same.get(line, [])] = 0
        found = np.flatnonzero(products)
        similarities = products[found] / (math.sqrt(sum(squares.values())) * self._norms[found])
        if len(found) > count:  # sorting what cannot be among them would take most of the time
            close = similarities >= np.partition(similarities, -count)[-count]
            found, similarities = found[close], similarities[close]
        best = np.argsort(-similarities, kind="stable")[:count]
        return [Match(int(found[n]), min(float(similarities[n]), 1.0)) for n in best if similarities[n] >= least]

    def _weight(self, word: str) -> float:
        return math.log(len(self.sources) / len(self._where.get(word, (0,))))


class Augmented(NamedTuple):
    """A line with the translations of its matches behind it."""

    text: str
    similarities: tuple[float, ...]  # of the matches, best first


def augment(
    memory: TranslationMemory, lines: Iterable[str], count: int, *, least: float = 0.0, skip_same: bool = False
) -> Iterator[Augmented]:
    """Each line with its matches, as `TranslationMemory.closest` finds them, on all cores."""
    lines = iter(lines)
    blocks = iter(lambda: list(islice(lines, BLOCK)), [])
    work = partial(_augment, memory, count, least, skip_same)
    with closing(map_blocks(work, blocks, workers=usable_cores())) as done:
        yield from chain.from_iterable(done)


def _augment(
    memory: TranslationMemory, count: int, least: float, skip_same: bool, lines: Sequence[str]
) -> list[Augmented]:
    found = [memory.closest(line, count, least=least, skip_same=skip_same) for line in lines]
    return [
        Augmented(
            " ".join([line, *(f"{SEPARATOR} {memory.targets[match.number]}" for match in matches)]),
            tuple(match.similarity for match in matches),
        )
        for line, matches in zip(lines, found, strict=True)
    ]
