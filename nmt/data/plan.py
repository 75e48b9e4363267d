"""Which pairs make up which batch: a pure function of lengths, budget, seed and epoch.

Pairs of like length share a batch, so that little is padding. The order of lengths is the same in every epoch, and so
are the places where it is cut into batches; chance decides which of the pairs of equal lengths stands where, and in
which order the batches come. Hence every epoch has as many batches as the first, and any batch of any epoch can be
had without those before it.

Parts of a corpus may have weights: in an epoch, a pair of weight 2 comes twice, and of the pairs of weight 1/2 every
second one comes, in order of length. Which ones these are rotates from epoch to epoch, so that after any number of
epochs each pair has come as often as its weight says, rounded down or up. And since any stretch of the order gives
every epoch as many pairs, give or take one, it is known how long a pair can be at most at each place, and batches are
cut for that.

A corpus may have millions of pairs. As long as no side has more than 65,535 tokens, a plan holds 4 to 12 bytes for each
of them, and less than 24 while it makes an epoch: what takes wide numbers is done block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.integer[Any]]
Places = NDArray[np.unsignedinteger[Any]]
Indices = NDArray[np.int64]
T = TypeVar("T")

BLOCK = 2**16
"""Pairs that are looked at together."""


class Part(NamedTuple):
    """Consecutive pairs of a corpus that come equally often."""

    pairs: int
    weight: float = 1.0  # how often each of them comes in an epoch, on average

    @property
    def slots(self) -> int:
        """Pairs in an epoch, those counted twice that come twice."""
        return max(1, round(self.weight * self.pairs))


class Plan:
    """The endless sequence of batches of a corpus, numbered from 0 through all epochs.

    `src_lengths` and `tgt_lengths` [n] are numbers of tokens without BOS and EOS. A batch of b pairs costs
    b * (longest side + 1) tokens, which is what its padded source and its padded labels have at most; no batch costs
    more than `max_tokens`, but for a single pair that is longer than that. `parts` follow one another and cover the
    corpus; by default it is one, of weight 1.
    """

    def __init__(
        self, src_lengths: Lengths, tgt_lengths: Lengths, *, max_tokens: int, seed: int, parts: Sequence[Part] = ()
    ) -> None:
        pairs = len(src_lengths)
        if pairs != len(tgt_lengths) or pairs == 0:
            raise ValueError(f"{pairs} sources and {len(tgt_lengths)} targets make no plan")
        parts = parts or [Part(pairs)]
        ends = np.cumsum([part.pairs for part in parts])
        if int(ends[-1]) != pairs:
            raise ValueError(f"the parts have {ends[-1]} pairs, the corpus {pairs}")
        self._seed = seed
        self._tgt = tgt_lengths.astype(np.min_scalar_type(int(tgt_lengths.max())))
        self._places = _places(src_lengths, tgt_lengths)
        stretches = [slice(int(end) - part.pairs, int(end)) for part, end in zip(parts, ends, strict=True)]
        self._rotations = [
            _Rotation.of(part, stretch, self._places[stretch], seed)
            for part, stretch in zip(parts, stretches, strict=True)
        ]
        longest = max(int(src_lengths.max()), int(tgt_lengths.max()))
        # If numbers are below others one by one, they are so, too, when both are sorted.
        highest = np.sum(
            [
                _highest(part, src_lengths[stretch], tgt_lengths[stretch], longest)
                for part, stretch in zip(parts, stretches, strict=True)
            ],
            axis=0,
        )
        costs = np.arange(longest + 2, dtype=np.int32)
        self._bounds = _cut(np.repeat(costs, np.diff(highest, prepend=0)), max_tokens)
        self._kept: _Epoch | None = None

    @property
    def batches_per_epoch(self) -> int:
        return len(self._bounds) - 1

    def epoch_of(self, global_index: int) -> tuple[int, int]:
        """The epoch of a batch and its position there, both from 0."""
        return divmod(global_index, self.batches_per_epoch)

    def batch(self, global_index: int) -> Indices:
        """Corpus positions of the pairs of a batch, [b]."""
        epoch, position = self.epoch_of(global_index)
        _, order, sequence = self._epoch(epoch)
        number = sequence[position]
        return order[self._bounds[number] : self._bounds[number + 1]].astype(np.int64)

    def tgt_tokens(self, global_index: int) -> int:
        """How many labels a batch has: the target tokens and an EOS for each pair."""
        pairs = self.batch(global_index)
        return int(self._tgt[pairs].sum(dtype=np.int64)) + len(pairs)

    def _epoch(self, epoch: int) -> _Epoch:
        if self._kept is None or self._kept.number != epoch:
            self._kept = None  # first, or there would be two of them in memory
            self._kept = self._arrange(epoch)
        return self._kept

    def _arrange(self, epoch: int) -> _Epoch:
        taken = np.concatenate([block for rotation in self._rotations for block in rotation.taken(epoch)])
        order = taken[_by_lot(self._places[taken], self._seed, epoch)]
        lots = _lots(self._seed, epoch)
        lots.random_raw(len(order), output=False)  # those of the pairs
        return _Epoch(epoch, order, np.argsort(lots.random_raw(self.batches_per_epoch), kind="stable"))


class _Epoch(NamedTuple):
    number: int
    order: NDArray[np.uint32]  # [slots] corpus positions by length
    sequence: NDArray[np.intp]  # [batches] which stretch of `order` comes when


class _Rotation(NamedTuple):
    """How often each of the n pairs of a part, of m slots, comes in which epoch.

    With f(t) = floor(t * m / n), the pair of rank r by length comes f(e + r + 1) - f(e + r) times in epoch e. Summed
    over all ranks that is m; over E epochs it is f(E + r) - f(r), which is E * m / n rounded down or up.
    """

    pairs: slice
    slots: int
    rank: NDArray[np.uint32] | None  # [n] of each pair by length, ties by lot; None: m is a multiple of n

    @classmethod
    def of(cls, part: Part, pairs: slice, places: Places, seed: int) -> _Rotation:
        rank = None
        if part.slots % part.pairs:
            order = _by_lot(places, seed, 0, pairs.start)
            rank = np.empty(part.pairs, np.uint32)
            for block in _blocks(part.pairs):
                rank[order[block]] = np.arange(block.start, block.stop)
        return cls(pairs, part.slots, rank)

    def taken(self, epoch: int) -> Iterator[NDArray[np.uint32]]:
        """[m] Corpus positions, ascending, as often as they come; in blocks."""
        count = self.pairs.stop - self.pairs.start
        whole, rest = divmod(self.slots, count)
        for block in _blocks(count):
            times: int | Indices = whole
            if self.rank is not None:
                t = self.rank[block] + np.int64(epoch % count)
                times = whole + (t + 1) * rest // count - t * rest // count
            positions = np.arange(self.pairs.start + block.start, self.pairs.start + block.stop, dtype=np.uint32)
            yield np.repeat(positions, times)


def _highest(part: Part, src: Lengths, tgt: Lengths, longest: int) -> Indices:
    """[longest + 2] Of the slots of a part of n pairs and m slots, how many cost at most 0, 1, 2, ... in any epoch.

    At least f(r) pairs of the first r ranks come in any epoch (see `_Rotation`, floor(a + b) >= floor(a) + floor(b)),
    so if C pairs cost no more than c, then that is so of f(C) slots, in whichever epoch.
    """
    counts = np.zeros(longest + 2, np.int64)
    for block in _blocks(part.pairs):
        counts += np.bincount(_costs(src[block], tgt[block]), minlength=len(counts))
    return np.cumsum(counts) * part.slots // part.pairs


def _lots(*seeds: int) -> np.random.Philox:
    # numpy promises that the raw stream of a bit generator stays what it is; not so its shuffle().
    return np.random.Philox(np.random.SeedSequence(seeds))


def _by_lot(places: Places, *seeds: int) -> NDArray[np.uint32]:
    """[n] The numbers from 0 to n - 1, by their `places` [n], and those of one place by lot, which `seeds` decide.

    One number for each pair has its place in the highest bits, then its lot, then its own number: sorted in their own
    memory, they say it all.
    """
    low, high = len(places).bit_length(), 64 - int(places.max()).bit_length()
    keys, lots = np.empty(len(places), np.uint64), _lots(*seeds)
    for block in _blocks(len(places)):
        lot = lots.random_raw(block.stop - block.start) >> np.uint64(64 - high + low) << np.uint64(low)
        number = np.arange(block.start, block.stop, dtype=np.uint64)
        keys[block] = (places[block].astype(np.uint64) << np.uint64(high)) | lot | number
    keys.sort()
    keys &= np.uint64(2**low - 1)
    return keys.astype(np.uint32)


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def plan_epoch(
    src_lengths: Lengths,
    tgt_lengths: Lengths,
    *,
    max_tokens: int,
    seed: int,
    epoch: int,
    parts: Sequence[Part] = (),
) -> list[Indices]:
    """The batches of one epoch, as corpus positions; see `Plan`."""
    plan = Plan(src_lengths, tgt_lengths, max_tokens=max_tokens, seed=seed, parts=parts)
    first = epoch * plan.batches_per_epoch
    return [plan.batch(first + position) for position in range(plan.batches_per_epoch)]


def plan_evaluation(src_lengths: Lengths, tgt_lengths: Lengths, *, max_tokens: int) -> list[Indices]:
    """All pairs once, shortest first, nothing left to chance: the batches of `Plan` without its shuffling."""
    if len(src_lengths) == 0:
        return []
    costs = _costs(src_lengths, tgt_lengths)
    order = np.argsort(_path(src_lengths, tgt_lengths), kind="stable").astype(np.int64)
    bounds = _cut(costs[order], max_tokens)
    return [order[a:b] for a, b in pairwise(bounds)]


def shard(batches: Sequence[T], *, rank: int, world: int) -> Sequence[T]:
    """What process `rank` of `world` takes of consecutive batches: every world-th."""
    return batches[rank::world]


def _costs(src: Lengths, tgt: Lengths) -> Indices:
    """[n] Tokens of the longer side, with BOS or EOS."""
    return np.maximum(src, tgt).astype(np.int64) + 1


def _places(src: Lengths, tgt: Lengths) -> Places:
    """[n] The places of pairs in the order of `_path`, counted from 0; those that are equal share one."""
    paths = [np.unique(_path(src[block], tgt[block])) for block in _blocks(len(src))]
    path = np.unique(np.concatenate(paths))
    places = np.empty(len(src), np.min_scalar_type(len(path)))
    for block in _blocks(len(src)):
        places[block] = np.searchsorted(path, _path(src[block], tgt[block]))
    return places


def _path(src: Lengths, tgt: Lengths) -> Indices:
    """[n] Sort keys: by the longer side, then by how much longer the source is, there and back in turn.

    Neighbours are then alike on both sides, where sorting by target and then source leaves the sources of a batch
    from several target lengths as unlike as can be. On Multi30k (words, 4096 tokens) that pads 10 % of the source;
    this pads 2 % of the source and 4 % of the target, and there are fewer batches.
    """
    longer = np.maximum(src, tgt).astype(np.int64)
    difference = src.astype(np.int64) - tgt
    back_and_forth = np.where(longer % 2, difference, -difference)
    return (longer << 32) + back_and_forth


def _cut(costs: Lengths, max_tokens: int) -> NDArray[np.int64]:
    """[batches + 1] Bounds of batches in ascending `costs`, each taking as many pairs as the budget allows."""
    bounds = [0]
    while (start := bounds[-1]) < len(costs):
        window = costs[start : start + max(1, max_tokens // int(costs[start]))].astype(np.int64)
        totals = window * np.arange(1, len(window) + 1)  # of the first pair, the first two, ...: ascending
        bounds.append(start + max(1, int(np.searchsorted(totals, max_tokens, side="right"))))
    return np.array(bounds)
