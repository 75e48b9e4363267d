"""Hard word alignments: made from weights, joined from two directions, and the error rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from nmt.align.maps import AttentionMap
from nmt.errors import UserError
from nmt.text.links import Gold, Link, Links


class AlignmentScore(NamedTuple):
    """Counts and ratios (0..1) over a whole corpus; see `score_links`."""

    aer: float
    precision: float
    recall: float
    f1: float
    links: int  # of the hypothesis
    sure: int  # of the gold
    possible: int  # of the gold, the sure ones included


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
