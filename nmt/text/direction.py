"""Whether a text is in the language that a run translates from, or in the one that it translates into.

A profile is the character trigrams of the training text (Cavnar and Trenkle 1994): the logarithm of how much likelier
each is in a word of the target side than in one of the source side. The evidence of a word is the mean over its
trigrams, that of a text the mean over its different words, so that a line which comes again says nothing new. The means
of the two sides place a text between them, 0 being the source side and 1 the target side; a third language lies in the
middle. Where the sides are too much alike, as source and target of one language are, there is no profile.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean, stdev

PAIRS = 10_000
"""As many of the training text, evenly spread, are looked at."""
TRIGRAMS = 1000
"""As many of each side, the most frequent, are kept: at most 45 kB together."""
STRONGEST = 3.0
"""Evidence in nats beyond which no trigram goes, so that no single name decides."""
PIECE = 12
"""Characters at which a word is cut, for scripts that put no spaces between words."""

LEAST_WORDS = 30
MOST_WORDS = 10_000
"""After which nothing is heard any more."""
APART = 1.0
"""Standard deviations between the words of the two sides, below which there is no profile."""
NEARER, ERRORS = 0.7, 3.0
"""A text is in the other language if its place is beyond the first by so many standard errors."""


@dataclass(frozen=True)
class Profile:
    """How words are spelled on the two sides of a training text."""

    evidence: dict[str, float]  # of a trigram, in nats: above 0 for the target side
    src: float  # the mean over different words of the source side
    tgt: float
    spread: float  # the standard deviation over words, of the side where it is larger

    def of(self, word: str) -> float:
        """The evidence of a word."""
        return fmean(self.evidence.get(trigram, 0.0) for trigram in _trigrams(word))


def learn_profile(pair: Callable[[int], tuple[str, str]], pairs: int) -> Profile | None:
    """The profile of a training text, of which `pair` gives each (source, target), from 0. None where its sides cannot
    be told apart, or are too short to tell."""
    rows = [pair(row) for row in range(0, pairs, math.ceil(pairs / PAIRS))]
    counts = [Counter(t for word in _words(side) for t in _trigrams(word)) for side in zip(*rows[::2], strict=True)]
    others = [list(_words(side)) for side in zip(*rows[1::2], strict=True)]
    if not others or min(map(len, others)) < LEAST_WORDS:
        return None
    known = len(counts[0] | counts[1])

    def share(trigram: str, side: int) -> float:
        return math.log((counts[side][trigram] + 0.5) / (counts[side].total() + 0.5 * known))

    kept = dict.fromkeys(trigram for count in counts for trigram, _ in count.most_common(TRIGRAMS))
    evidence = {t: round(max(-STRONGEST, min(STRONGEST, share(t, 1) - share(t, 0))), 2) for t in kept}
    profile = Profile(evidence, 0.0, 0.0, 0.0)
    src, tgt = ([profile.of(word) for word in words] for words in others)
    profile = Profile(evidence, fmean(src), fmean(tgt), max(stdev(src), stdev(tgt)))
    return profile if profile.tgt - profile.src > APART * profile.spread else None


class Direction:
    """Hears a text, bit by bit, and notices when it is sure to be in the language of the target side."""

    def __init__(self, profile: Profile | None) -> None:
        """Without a profile nothing is noticed."""
        self.profile = profile
        self.turned = False
        self._words: set[str] = set()
        self._sum = self._squares = 0.0

    def hear(self, lines: Iterable[str | bytes]) -> bool:
        """Whether it is these lines that made it sure, which happens but once."""
        if self.profile is None or self.turned or len(self._words) > MOST_WORDS:
            return False
        for word in _words(line.decode(errors="ignore") if isinstance(line, bytes) else line for line in lines):
            if word not in self._words:
                self._words.add(word)
                evidence = self.profile.of(word)
                self._sum += evidence
                self._squares += evidence**2
        self.turned = self._is_turned(self.profile)
        return self.turned

    def _is_turned(self, profile: Profile) -> bool:
        count = len(self._words)
        if count < LEAST_WORDS:
            return False
        mean = self._sum / count
        spread = max(profile.spread, math.sqrt(max(0.0, self._squares / count - mean**2)))
        sure = mean - ERRORS * spread / math.sqrt(count)
        return sure > profile.src + NEARER * (profile.tgt - profile.src)


def _words(lines: Iterable[str]) -> Iterator[str]:
    """The different words, long ones in pieces."""
    seen: set[str] = set()
    for line in lines:
        for word in line.lower().split():
            seen.update(word[start : start + PIECE] for start in range(0, len(word), PIECE))
    return iter(sorted(seen))


def _trigrams(word: str) -> Iterator[str]:
    spaced = f" {word} "
    return (spaced[start : start + 3] for start in range(len(spaced) - 2))
