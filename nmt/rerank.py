"""Reranking by the reverse model: of several translations, the one from which the source could best be told.

A model of p(y | x) likes what is common. The reverse model's p(x | y) is low where y leaves out something of x or says
something else, so log p(y | x) + weight * log p(x | y) finds other translations: mutual information (Li and Jurafsky
2016), or a noisy channel without its language model (Yee et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nmt.errors import UserError
from nmt.records import whole_number
from nmt.score import score_pairs
from nmt.text.lines import read_lines
from nmt.translate import Translator

BETWEEN = " ||| "


class Ranked(NamedTuple):
    """A translation of a line."""

    text: str
    score: float  # what search ranked it by
    reverse: float = 0.0  # log p(source | text) / number of source tokens, EOS counted; -inf where there is no text


def read_nbest(path: Path, lines: int) -> list[list[Ranked]]:
    """The translations of each of so many lines, from what `nmt translate --nbest` writes: `N ||| text ||| score`.

    Raises UserError, with the line of the file, for a row that is not of this form, or of a line that there is not; and
    for a line that has no row.
    """
    found: list[list[Ranked]] = [[] for _ in range(lines)]
    for row, line in enumerate(read_lines(path, record=True), start=1):
        number, _, rest = line.partition(BETWEEN)
        text, between, score = rest.rpartition(BETWEEN)
        which = whole_number(number)
        if not between or which is None or not _is_number(score):
            raise UserError(f"{path}, line {row}: not `N ||| text ||| score`, as `nmt translate --nbest` writes it")
        if not 1 <= which <= lines:
            raise UserError(f"{path}, line {row}: of line {which}, and the source has {lines:,} lines")
        found[which - 1].append(Ranked(text, float(score)))
    if not all(found):
        missing = next(number for number, ranked in enumerate(found, start=1) if not ranked)
        raise UserError(f"{path} has no translation of line {missing}: is it of another source?")
    return found


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def with_reverse(translator: Translator, sources: Sequence[str], nbest: Sequence[Sequence[Ranked]]) -> Iterator[Ranked]:
    """All translations, one line's after another's, with what the reverse model, `translator`, says of them."""
    flat = [(source, ranked) for source, n_best in zip(sources, nbest, strict=True) for ranked in n_best]
    scores = score_pairs(translator, ((ranked.text, source) for source, ranked in flat))
    for (_, ranked), said in zip(flat, scores, strict=True):
        mean = -math.inf if said.problem is not None else said.log_prob / len(said.token_log_probs)
        yield ranked._replace(reverse=mean)


def best(n_best: Sequence[Ranked], weight: float) -> str:
    """The text with the highest score + weight * reverse; of equal ones the first. With weight 0, that of search."""
    return max(n_best, key=lambda one: one.score + (weight * one.reverse if weight else 0.0)).text
