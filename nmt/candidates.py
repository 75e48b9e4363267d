"""The translations of a line: their text, and which of them are given in which order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from nmt.align.maps import Weights
from nmt.config import SearchConfig
from nmt.consensus import consensus
from nmt.search.hypothesis import Hypothesis
from nmt.text.tokenizer import Tokenizer, one_line


class Candidate(NamedTuple):
    """One translation of a line."""

    text: str
    hypothesis: Hypothesis
    extras: Sequence[str]  # the words of the source that ids beyond the vocabulary stand for


class Translation(NamedTuple):
    """What became of one line. A line that cannot be translated gives no candidates and says why."""

    candidates: list[Candidate]  # best first; empty for an empty line or a problem
    problem: str | None
    source: str = ""  # the line itself, if it could be read
    prefix: str = ""  # what the candidates were to begin with

    @property
    def text(self) -> str:
        return self.candidates[0].text if self.candidates else ""


def written(tokenizer: Tokenizer, tokens: Sequence[int], extras: Sequence[str], prefix: str) -> str:
    """The text of tokens, of which the first are those of a prefix; that comes out as it was given, unknown words, case
    and white space at its end included."""
    text = tokenizer.decode(tokens, extras)
    if not prefix:
        return text
    read = tokenizer.decode(tokens[: len(tokenizer.encode(prefix))], extras)
    rest = text.removeprefix(read)
    return one_line(prefix + (rest.lstrip() if prefix[-1].isspace() else rest))


def merged(found: Iterable[Candidate]) -> list[Candidate]:
    """The candidates of several searches, by score; each sequence of tokens once."""
    return sorted({tuple(c.hypothesis.tokens): c for c in found}.values(), key=lambda c: -c.hypothesis.score)


def different(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Of candidates of one text, which may have been written in several ways, the one with the best score, where the
    first of them stood."""
    best: dict[str, Candidate] = {}
    for candidate in candidates:
        if candidate.hypothesis.score > getattr(best.get(candidate.text), "hypothesis", NOTHING).score:
            best[candidate.text] = candidate
    return list(best.values())


NOTHING = Hypothesis([], -math.inf, -math.inf, [])


def ranked(candidates: list[Candidate], search: SearchConfig) -> list[Candidate]:
    """The candidates to give, all different as text; but samples as they were drawn."""
    if search.mbr is not None:
        # Samples come as often as they are probable; what a beam holds is weighed by its probability.
        weights = None if search.sampling is not None else relative([c.hypothesis.log_prob for c in candidates])
        order = consensus([c.text for c in candidates], utility=search.mbr.utility, weights=weights)
        candidates = [candidates[n] for n in order]
    return candidates if search.sampling is not None and search.mbr is None else different(candidates)


def relative(log_probs: Sequence[float]) -> list[float]:
    return [math.exp(p - max(log_probs)) for p in log_probs]


def coverage(weights: Weights) -> float:
    """sum over s of log min(1, sum over t of a_ts) for weights [T,S]; less than e^-10 counts as that."""
    return float(np.log(np.clip(weights.sum(axis=0), math.exp(-10), 1.0)).sum())
