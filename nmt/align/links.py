"""Hard word alignments: reading and writing them, making them from weights, joining two directions, the error rate.

A link is a pair (source word, target word), both counted from 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple, TextIO

from nmt.align.maps import AttentionMap
from nmt.errors import UserError
from nmt.text.lines import read_lines

Link = tuple[int, int]
Links = frozenset[Link]

_LINK = re.compile(r"([0-9]+)([-?p])([0-9]+)")


class Gold(NamedTuple):
    """The links of one sentence pair, as people (or an aligner) drew them."""

    sure: Links
    possible: Links  # the sure ones included


class AlignmentScore(NamedTuple):
    """Counts and ratios (0..1) over a whole corpus; see `score_links`."""

    aer: float
    precision: float
    recall: float
    f1: float
    links: int  # of the hypothesis
    sure: int  # of the gold
    possible: int  # of the gold, the sure ones included


def read_links(
    path: Path, *, one_based: bool = False, reverse: bool = False, sizes: Sequence[tuple[int, int]] | None = None
) -> list[Gold]:
    """Reads a Pharaoh file: a line per sentence pair, `i-j` a sure link, `i?j` or `ipj` a possible one.

    An empty line has no link. A link that is there twice counts once, and sure wins over possible.
    `one_based`: the file counts words from 1. `reverse`: the file puts the target first.
    `sizes`: the numbers of source and target words of every sentence, to check the links against.
    Raises UserError, naming file, line and link, for bad syntax and for words that do not exist.
    """
    first = int(one_based)
    gold = []
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}, line {number}"
        marks: dict[str, set[Link]] = {"-": set(), "?": set(), "p": set()}
        for token in line.split():
            match = _LINK.fullmatch(token)
            if match is None:
                raise UserError(
                    f"{where}: {token!r} is not a link",
                    "A link is source word, mark, target word without spaces: 0-2 is sure, 0?2 or 0p2 possible.",
                )
            src, tgt = int(match[1]) - first, int(match[3]) - first
            if reverse:
                src, tgt = tgt, src
            if sizes is None or number <= len(sizes):
                _check_range(where, token, (src, tgt), None if sizes is None else sizes[number - 1], first)
            marks[match[2]].add((src, tgt))
        sure = frozenset(marks["-"])
        gold.append(Gold(sure, sure | marks["?"] | marks["p"]))
    if sizes is not None and len(gold) != len(sizes):
        raise UserError(
            f"{path} has {len(gold)} lines, but there are {len(sizes)} sentence pairs",
            "An alignment file has one line per sentence pair; a pair without links has an empty line.",
        )
    return gold


def _check_range(where: str, token: str, link: Link, size: tuple[int, int] | None, first: int) -> None:
    """Raises UserError if a word of the link does not exist. `size` None: only the lower end is known."""
    for side, (name, word) in enumerate(zip(("source", "target"), link, strict=True)):
        if word >= 0 and (size is None or word < size[side]):
            continue
        words = f"{first}.." if size is None else f"{first}..{size[side] - 1 + first}" if size[side] else "no words"
        hint = (
            "Does the file count from 0? Then it needs no --one-based."
            if first
            else "Does the file count words from 1 (nmt aer --one-based), or put the target first (--swap)?"
        )
        raise UserError(f"{where}: link {token}: {name} {word + first} of {words}", hint)


def write_links(sentences: Iterable[AbstractSet[Link]], file: TextIO) -> None:
    """Writes a line per sentence, its links sorted, counted from 0, all sure."""
    for links in sentences:
        file.write(" ".join(f"{src}-{tgt}" for src, tgt in sorted(links)) + "\n")


def argmax_links(attention: AttentionMap, threshold: float = 0.0) -> Links:
    """Links each target word to the source word it attends to most (the first of equals).

    A target word stays without a link if its greatest weight is 0 or below `threshold`.
    """
    weights = attention.weights
    if weights.size == 0:
        return frozenset()
    best = weights.argmax(axis=1)
    links = ((int(src), tgt, float(weights[tgt, src])) for tgt, src in enumerate(best))
    return frozenset((src, tgt) for src, tgt, weight in links if weight > 0.0 and weight >= threshold)


def score_links(hypotheses: Sequence[AbstractSet[Link]], gold: Sequence[Gold]) -> AlignmentScore:
    """Alignment error rate, precision and recall, from counts over the corpus (Och and Ney 2003, section 5.2).

    With the links A, sure S and possible P (S within P): precision |A and P| / |A|, recall |A and S| / |S|,
    AER = 1 - (|A and S| + |A and P|) / (|A| + |S|), f1 the harmonic mean of precision and recall.
    Ratios of nothing: AER is 0 if neither A nor S has a link; precision and recall are 0 where their set is empty.
    Raises ValueError if the numbers of sentences differ.
    """
    if len(hypotheses) != len(gold):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(gold)} gold sentences")
    links = sure = possible = in_sure = in_possible = 0
    for found, true in zip(hypotheses, gold, strict=True):
        links += len(found)
        sure += len(true.sure)
        possible += len(true.possible)
        in_sure += len(found & true.sure)
        in_possible += len(found & true.possible)
    precision = in_possible / links if links else 0.0
    recall = in_sure / sure if sure else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    aer = 1.0 - (in_sure + in_possible) / (links + sure) if links + sure else 0.0
    return AlignmentScore(aer, precision, recall, f1, links, sure, possible)


def symmetrize(forward: AbstractSet[Link], reverse: AbstractSet[Link], method: str) -> Links:
    """Joins the links of a source-to-target and a target-to-source model, both as (source, target).

    `method` is a key of SYMMETRIZERS: `intersection`, `union`, or grow-diag (`gd`), grow-diag-final (`gdf`) and
    grow-diag-final-and (`gdfa`) of Koehn, Och and Marcu 2003 (section 4.5), in the variant of one of two programs:
    published numbers rest on both, and they differ by up to 4 points of AER.
    -atools (fast_align): a link is added while EITHER of its words is free.
    -lilt (alignment-scripts, in most papers on neural alignment): only while BOTH are free, in the final step, too,
    so that `gdf-lilt` and `gdfa-lilt` are the same.
    Raises UserError if the method is unknown.
    """
    if method not in SYMMETRIZERS:
        raise UserError(f"there is no symmetrization {method!r}", f"Choose one of {', '.join(SYMMETRIZERS)}.")
    return SYMMETRIZERS[method](frozenset(forward), frozenset(reverse))


_NEIGHBORS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


class _Growing:
    """Links in the making, and the words they cover."""

    def __init__(self, links: Links) -> None:
        self.links = set(links)
        self._src = {src for src, _ in links}
        self._tgt = {tgt for _, tgt in links}

    def add(self, link: Link) -> None:
        self.links.add(link)
        self._src.add(link[0])
        self._tgt.add(link[1])

    def either_free(self, link: Link) -> bool:
        return link[0] not in self._src or link[1] not in self._tgt

    def both_free(self, link: Link) -> bool:
        return link[0] not in self._src and link[1] not in self._tgt

    def has_neighbor(self, link: Link) -> bool:
        return any((link[0] + i, link[1] + j) in self.links for i, j in _NEIGHBORS)


def _grow_atools(forward: Links, reverse: Links) -> _Growing:
    """Sweeps the candidates in source order, again and again until a sweep adds nothing."""
    grown = _Growing(forward & reverse)
    candidates = sorted(forward ^ reverse)
    while True:
        left = []
        for link in candidates:
            if grown.either_free(link) and grown.has_neighbor(link):
                grown.add(link)
            else:
                left.append(link)
        if len(left) == len(candidates):
            return grown
        candidates = left


def _grow_lilt(forward: Links, reverse: Links) -> _Growing:
    """Sweeps the links in source order, those added on the way included, and looks at the neighbours of each."""
    grown = _Growing(forward & reverse)
    union = forward | reverse
    order = sorted(union)
    size = -1
    while size != len(grown.links):
        size = len(grown.links)
        for src, tgt in order:
            if (src, tgt) not in grown.links:
                continue
            for i, j in _NEIGHBORS:
                link = (src + i, tgt + j)
                if link in union and grown.both_free(link):
                    grown.add(link)
    return grown


def _finish(grown: _Growing, forward: Links, reverse: Links, free: Callable[[Link], bool]) -> Links:
    """Adds what is free, of the forward links first, then of the reverse ones, in source order."""
    for direction in (forward, reverse):
        for link in sorted(direction):
            if free(link):
                grown.add(link)
    return frozenset(grown.links)


def _gd_atools(forward: Links, reverse: Links) -> Links:
    return frozenset(_grow_atools(forward, reverse).links)


def _gdf_atools(forward: Links, reverse: Links) -> Links:
    grown = _grow_atools(forward, reverse)
    return _finish(grown, forward, reverse, grown.either_free)


def _gdfa_atools(forward: Links, reverse: Links) -> Links:
    grown = _grow_atools(forward, reverse)
    return _finish(grown, forward, reverse, grown.both_free)


def _gd_lilt(forward: Links, reverse: Links) -> Links:
    return frozenset(_grow_lilt(forward, reverse).links)


def _gdfa_lilt(forward: Links, reverse: Links) -> Links:
    grown = _grow_lilt(forward, reverse)
    return _finish(grown, forward, reverse, grown.both_free)


SYMMETRIZERS: dict[str, Callable[[Links, Links], Links]] = {
    "intersection": lambda forward, reverse: forward & reverse,
    "union": lambda forward, reverse: forward | reverse,
    "gd-atools": _gd_atools,
    "gdf-atools": _gdf_atools,
    "gdfa-atools": _gdfa_atools,
    "gd-lilt": _gd_lilt,
    "gdf-lilt": _gdfa_lilt,
    "gdfa-lilt": _gdfa_lilt,
}
