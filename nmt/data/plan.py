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
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.integer[Any]]
Indices = NDArray[np.int64]
T = TypeVar("T")


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
        self._src, self._tgt = src_lengths.astype(np.int32), tgt_lengths.astype(np.int32)
        self._seed = seed
        parts = parts or [Part(pairs)]
        ends = np.cumsum([part.pairs for part in parts])
        if int(ends[-1]) != pairs:
            raise ValueError(f"the parts have {ends[-1]} pairs, the corpus {pairs}")
        stretches = [slice(int(end) - part.pairs, int(end)) for part, end in zip(parts, ends, strict=True)]
        self._rotations = [
            _Rotation.of(part, stretch, self._src, self._tgt, seed)
            for part, stretch in zip(parts, stretches, strict=True)
        ]
        costs = np.maximum(self._src, self._tgt) + 1
        highest = [_highest(part, costs[stretch]) for part, stretch in zip(parts, stretches, strict=True)]
        # If numbers are below others one by one, they are so, too, when both are sorted.
        self._bounds = _cut(np.sort(np.concatenate(highest)), max_tokens)
        self._epochs: dict[int, _Epoch] = {}

    @property
    def batches_per_epoch(self) -> int:
        return len(self._bounds) - 1

    def epoch_of(self, global_index: int) -> tuple[int, int]:
        """The epoch of a batch and its position there, both from 0."""
        return divmod(global_index, self.batches_per_epoch)

    def batch(self, global_index: int) -> Indices:
        """Corpus positions of the pairs of a batch, [b]."""
        epoch, position = self.epoch_of(global_index)
        order, sequence = self._epoch(epoch)
        number = sequence[position]
        return order[self._bounds[number] : self._bounds[number + 1]].astype(np.int64)

    def tgt_tokens(self, global_index: int) -> int:
        """How many labels a batch has: the target tokens and an EOS for each pair."""
        return int((self._tgt[self.batch(global_index)] + 1).sum())

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            # The one before is kept, too: one reader may still be in it when another is ahead.
            self._epochs = {e: kept for e, kept in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = self._arrange(epoch)
        return self._epochs[epoch]

    def _arrange(self, epoch: int) -> _Epoch:
        taken = np.concatenate([rotation.taken(epoch) for rotation in self._rotations])
        pairs = len(taken)
        bits = _random_bits(pairs + self.batches_per_epoch, self._seed, epoch)
        shuffled = taken[np.argsort(bits[:pairs], kind="stable")]
        order = shuffled[np.argsort(_path(self._src, self._tgt)[shuffled], kind="stable")]
        return _Epoch(order.astype(np.uint32), np.argsort(bits[pairs:], kind="stable"))


class _Epoch(NamedTuple):
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
    def of(cls, part: Part, pairs: slice, src: Lengths, tgt: Lengths, seed: int) -> _Rotation:
        rank = None
        if part.slots % part.pairs:
            lot = _random_bits(part.pairs, seed, 0, pairs.start)
            rank = np.empty(part.pairs, np.uint32)
            rank[np.lexsort((lot, _path(src[pairs], tgt[pairs])))] = np.arange(part.pairs)
        return cls(pairs, part.slots, rank)

    def taken(self, epoch: int) -> NDArray[np.int64]:
        """[m] Corpus positions, ascending, as often as they come."""
        positions = np.arange(self.pairs.start, self.pairs.stop)
        whole, rest = divmod(self.slots, len(positions))
        if self.rank is None:
            return np.repeat(positions, whole)
        t = self.rank + np.int64(epoch % len(positions))
        return np.repeat(positions, whole + (t + 1) * rest // len(positions) - t * rest // len(positions))


def _highest(part: Part, costs: NDArray[np.int32]) -> NDArray[np.int32]:
    """[m] What the j-th smallest cost of any epoch is at most, of a part with `costs` [n].

    At least f(r) pairs of the first r ranks come in any epoch (see `_Rotation`, floor(a + b) >= floor(a) + floor(b)),
    so the j-th, from 0, is among the first ceil((j + 1) * n / m).
    """
    last = (np.arange(1, part.slots + 1) * part.pairs - 1) // part.slots
    highest: NDArray[np.int32] = np.sort(costs)[last]
    return highest


def _random_bits(count: int, *seeds: int) -> NDArray[np.uint64]:
    # numpy promises that the raw stream of a bit generator stays what it is; not so its shuffle().
    return np.random.Philox(np.random.SeedSequence(seeds)).random_raw(count)


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
    costs = np.maximum(src_lengths, tgt_lengths) + 1
    order = np.argsort(_path(src_lengths, tgt_lengths), kind="stable").astype(np.int64)
    bounds = _cut(costs[order], max_tokens)
    return [order[a:b] for a, b in pairwise(bounds)]


def shard(batches: Sequence[T], *, rank: int, world: int) -> Sequence[T]:
    """What process `rank` of `world` takes of consecutive batches: every world-th."""
    return batches[rank::world]


def _path(src: Lengths, tgt: Lengths) -> NDArray[np.int64]:
    """[n] Sort keys: by the longer side, then by how much longer the source is, there and back in turn.

    Neighbours are then alike on both sides, where sorting by target and then source leaves the sources of a batch
    from several target lengths as unlike as can be. On Multi30k (words, 4096 tokens) that pads 10 % of the source;
    this pads 2 % of the source and 4 % of the target, and there are fewer batches.
    """
    longer = np.maximum(src, tgt).astype(np.int64)
    difference = src.astype(np.int64) - tgt
    back_and_forth = np.where(longer % 2, difference, -difference)
    return longer * (2 * int(longer.max(initial=0)) + 1) + back_and_forth


def _cut(costs: Lengths, max_tokens: int) -> NDArray[np.int64]:
    """[batches + 1] Bounds of batches in ascending `costs`, each taking as many pairs as the budget allows."""
    bounds = [0]
    while (start := bounds[-1]) < len(costs):
        window = costs[start : start + max(1, max_tokens // int(costs[start]))].astype(np.int64)
        totals = window * np.arange(1, len(window) + 1)  # of the first pair, the first two, ...: ascending
        bounds.append(start + max(1, int(np.searchsorted(totals, max_tokens, side="right"))))
    return np.array(bounds)
