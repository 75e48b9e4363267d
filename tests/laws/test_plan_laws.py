"""Laws of the plan: every pair once an epoch, or as often as its weight says, within the budget, a pure function,
shared out without remainder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data.plan import Part, Plan, plan_epoch, plan_evaluation, shard

PAIRS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=60)
BUDGET = st.integers(1, 200)
SEED = st.integers(0, 2**40)
EPOCH = st.integers(0, 5)


def sides(pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    src, tgt = zip(*pairs, strict=True)
    return np.array(src, np.int32), np.array(tgt, np.int32)


def fits(pairs: Sequence[tuple[int, int]], max_tokens: int) -> bool:
    return all(len(pairs) * max(length + 1 for length in side) <= max_tokens for side in zip(*pairs, strict=True))


def as_lists(batches: Sequence[np.ndarray]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


@given(PAIRS, BUDGET, SEED, EPOCH)
def test_plan_covers_once(pairs: list[tuple[int, int]], max_tokens: int, seed: int, epoch: int) -> None:
    for plan in (
        plan_epoch(*sides(pairs), max_tokens=max_tokens, seed=seed, epoch=epoch),
        plan_evaluation(*sides(pairs), max_tokens=max_tokens),
    ):
        assert sorted(np.concatenate(plan).tolist()) == list(range(len(pairs)))
        assert all(len(batch) > 0 for batch in plan)


@given(PAIRS, BUDGET, SEED, EPOCH)
def test_plan_respects_budget(pairs: list[tuple[int, int]], max_tokens: int, seed: int, epoch: int) -> None:
    for batch in plan_epoch(*sides(pairs), max_tokens=max_tokens, seed=seed, epoch=epoch):
        assert len(batch) == 1 or fits([pairs[i] for i in batch], max_tokens)


@given(PAIRS, BUDGET)
def test_cut_is_greedy(pairs: list[tuple[int, int]], max_tokens: int) -> None:
    """Each batch takes all it can: the first pair of the next would not fit."""
    plan = plan_evaluation(*sides(pairs), max_tokens=max_tokens)
    for batch, following in pairwise(plan):
        assert not fits([pairs[i] for i in [*batch, following[0]]], max_tokens)


@given(PAIRS, BUDGET, SEED, EPOCH)
def test_plan_is_pure(pairs: list[tuple[int, int]], max_tokens: int, seed: int, epoch: int) -> None:
    src, tgt = sides(pairs)
    kept = src.copy(), tgt.copy()
    once = plan_epoch(src, tgt, max_tokens=max_tokens, seed=seed, epoch=epoch)
    np.random.default_rng().random(3)
    again = plan_epoch(src.astype(np.int64), tgt.astype(np.uint16), max_tokens=max_tokens, seed=seed, epoch=epoch)
    assert as_lists(once) == as_lists(again)
    assert np.array_equal(src, kept[0])
    assert np.array_equal(tgt, kept[1])


@given(SEED, EPOCH)
def test_seed_and_epoch_change_the_order(seed: int, epoch: int) -> None:
    src = tgt = np.full(200, 9)  # 200 pairs alike: 20 batches of 10
    plans = [
        as_lists(plan_epoch(src, tgt, max_tokens=100, seed=s, epoch=e))
        for s, e in ((seed, epoch), (seed, epoch + 1), (seed + 1, epoch))
    ]
    assert plans[0] != plans[1]
    assert plans[0] != plans[2]
    together = [{frozenset(batch) for batch in plan} for plan in plans]
    assert together[0] != together[1]  # not only the order of the batches: the company changes, too


@given(PAIRS, BUDGET, SEED, st.integers(1, 5), st.integers(1, 3), st.integers(0, 30))
def test_ranks_partition(
    pairs: list[tuple[int, int]], max_tokens: int, seed: int, world: int, accumulate: int, start: int
) -> None:
    """What the ranks take of a step is what one process would take, and the label count is known to all."""
    src, tgt = sides(pairs)
    plan = Plan(src, tgt, max_tokens=max_tokens, seed=seed)
    step = range(start, start + world * accumulate)
    shares = [shard(step, rank=rank, world=world) for rank in range(world)]
    assert sorted(n for share in shares for n in share) == list(step)
    assert all(len(share) == accumulate for share in shares)
    labels = sum(len(plan.batch(n)) + int(tgt[plan.batch(n)].sum()) for n in step)
    assert sum(plan.tgt_tokens(n) for share in shares for n in share) == labels


# Parts with weights

WEIGHTED = st.lists(st.tuples(PAIRS, st.floats(0.05, 3.5)), min_size=1, max_size=3)
Weighted = list[tuple[list[tuple[int, int]], float]]


def joined(weighted: Weighted) -> tuple[list[tuple[int, int]], list[Part]]:
    return [pair for pairs, _ in weighted for pair in pairs], [Part(len(pairs), weight) for pairs, weight in weighted]


def weighted_epoch(weighted: Weighted, *, max_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    pairs, parts = joined(weighted)
    return plan_epoch(*sides(pairs), max_tokens=max_tokens, seed=seed, epoch=epoch, parts=parts)


@settings(max_examples=50)
@given(WEIGHTED, SEED, EPOCH, st.integers(1, 12))
def test_each_pair_comes_as_often_as_its_weight_says(weighted: Weighted, seed: int, epoch: int, epochs: int) -> None:
    """In any epochs in a row, no pair more than once too often or too seldom."""
    pairs, parts = joined(weighted)
    plans = [weighted_epoch(weighted, max_tokens=100, seed=seed, epoch=epoch + e) for e in range(epochs)]
    counts = np.bincount(np.concatenate([batch for plan in plans for batch in plan]), minlength=len(pairs))
    start = 0
    for part in parts:
        slots = max(1, round(part.weight * part.pairs))
        share = epochs * Fraction(slots, part.pairs)
        own = counts[start : start + part.pairs]
        assert own.sum() == epochs * slots
        assert set(own.tolist()) <= {math.floor(share), math.ceil(share)}
        start += part.pairs


@given(PAIRS, PAIRS, st.integers(1, 4), SEED, EPOCH)
def test_whole_weights_are_exact_in_every_epoch(
    first: list[tuple[int, int]], second: list[tuple[int, int]], weight: int, seed: int, epoch: int
) -> None:
    plan = weighted_epoch([(first, 1.0), (second, float(weight))], max_tokens=100, seed=seed, epoch=epoch)
    counts = np.bincount(np.concatenate(plan), minlength=len(first) + len(second))
    assert counts.tolist() == [1] * len(first) + [weight] * len(second)


@given(WEIGHTED, BUDGET, SEED, EPOCH)
def test_weighted_plan_respects_budget(weighted: Weighted, max_tokens: int, seed: int, epoch: int) -> None:
    pairs, _ = joined(weighted)
    for batch in weighted_epoch(weighted, max_tokens=max_tokens, seed=seed, epoch=epoch):
        assert len(batch) == 1 or fits([pairs[i] for i in batch], max_tokens)


@given(WEIGHTED, BUDGET, SEED, EPOCH)
def test_all_epochs_are_cut_alike(weighted: Weighted, max_tokens: int, seed: int, epoch: int) -> None:
    """So a batch has its number, and can be had without those before it."""
    plans = [weighted_epoch(weighted, max_tokens=max_tokens, seed=seed, epoch=e) for e in (0, epoch + 1)]
    assert sorted(map(len, plans[0])) == sorted(map(len, plans[1]))
    pairs, parts = joined(weighted)
    plan = Plan(*sides(pairs), max_tokens=max_tokens, seed=seed, parts=parts)
    assert as_lists([plan.batch(n) for n in range(plan.batches_per_epoch)]) == as_lists(plans[0])


@given(PAIRS, PAIRS, BUDGET, SEED, EPOCH)
def test_parts_of_weight_1_are_one_corpus(
    first: list[tuple[int, int]], second: list[tuple[int, int]], max_tokens: int, seed: int, epoch: int
) -> None:
    parts = weighted_epoch([(first, 1.0), (second, 1.0)], max_tokens=max_tokens, seed=seed, epoch=epoch)
    whole = plan_epoch(*sides([*first, *second]), max_tokens=max_tokens, seed=seed, epoch=epoch)
    assert as_lists(parts) == as_lists(whole)


@given(SEED)
def test_the_seed_decides_which_pairs_come_first(seed: int) -> None:
    pairs = [(9, 9)] * 400
    epochs = [
        set(np.concatenate(weighted_epoch([(pairs, 0.25)], max_tokens=100, seed=seed + n, epoch=0))) for n in range(2)
    ]
    assert 5 < len(epochs[0] & epochs[1]) < 60  # of 100; 25 by chance
