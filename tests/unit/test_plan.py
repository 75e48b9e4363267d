"""Plans: the cut is the greedy one, and little is padding."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from nmt.data.plan import Plan, plan_epoch, plan_evaluation, shard


def lengths(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_a_small_plan() -> None:
    """Budget 12: four pairs of 2 + 1 tokens, or two of 5 + 1, or one longer than the budget."""
    src, tgt = lengths(2, 5, 2, 40, 2, 1, 2), lengths(2, 5, 1, 3, 2, 2, 5)
    batches = [sorted(batch.tolist()) for batch in plan_evaluation(src, tgt, max_tokens=12)]
    assert batches == [[0, 2, 4, 5], [1, 6], [3]]


@pytest.mark.parametrize(("max_tokens", "sizes"), [(19, [3, 1]), (20, [4])])
def test_the_last_token_of_the_budget(max_tokens: int, sizes: list[int]) -> None:
    """The fourth pair makes all four cost 4 * (4 + 1)."""
    for src, tgt in ((lengths(2, 2, 2, 4), lengths(2, 2, 2, 1)), (lengths(2, 2, 2, 1), lengths(2, 2, 2, 4))):
        assert [len(batch) for batch in plan_evaluation(src, tgt, max_tokens=max_tokens)] == sizes


def test_the_sequence_is_pinned() -> None:
    """Runs resume by batch number: if this changes, runs begun before go on with other batches."""
    src, tgt = np.arange(24) % 7 + 1, np.arange(24) % 5 + 2
    plan = Plan(src, tgt, max_tokens=32, seed=7)
    found = [plan.batch(n).tolist() for n in (0, 1, plan.batches_per_epoch, 3 * plan.batches_per_epoch + 2)]
    assert found == PINNED


PINNED = [[5, 12, 19, 4], [15, 0, 21, 1, 16, 10], [23, 3, 18, 11], [9, 14, 13, 6]]


def test_epochs_follow_one_another() -> None:
    src, tgt = np.arange(100) % 7 + 1, np.arange(100) % 5 + 2
    plan = Plan(src, tgt, max_tokens=40, seed=3)
    count = plan.batches_per_epoch
    for epoch in (0, 1, 5):
        assert plan.epoch_of(epoch * count) == (epoch, 0)
        assert plan.epoch_of(epoch * count + count - 1) == (epoch, count - 1)
        expected = plan_epoch(src, tgt, max_tokens=40, seed=3, epoch=epoch)
        assert len(expected) == count
        for position, batch in enumerate(expected):
            assert np.array_equal(plan.batch(epoch * count + position), batch)
            assert plan.tgt_tokens(epoch * count + position) == sum(tgt[i] + 1 for i in batch)


def test_any_batch_without_those_before() -> None:
    src, tgt = np.arange(50) % 7 + 1, np.arange(50) % 5 + 2
    walked = Plan(src, tgt, max_tokens=40, seed=3)
    sequence = [walked.batch(n) for n in range(40)]
    for n in (39, 0, 17, 38, 1):
        assert np.array_equal(Plan(src, tgt, max_tokens=40, seed=3).batch(n), sequence[n])
        assert np.array_equal(walked.batch(n), sequence[n])


def test_batches_come_in_no_order_of_length() -> None:
    src = tgt = np.arange(1000) % 50 + 1
    longest = [int(tgt[batch].max()) for batch in plan_epoch(src, tgt, max_tokens=100, seed=1, epoch=0)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_evaluation_is_shortest_first() -> None:
    src, tgt = lengths(9, 1, 5, 3), lengths(9, 2, 5, 1)
    assert [batch.tolist() for batch in plan_evaluation(src, tgt, max_tokens=6)] == [[1], [3], [2], [0]]
    assert plan_evaluation(src[:0], tgt[:0], max_tokens=6) == []


def test_no_plan_of_nothing() -> None:
    with pytest.raises(ValueError, match="0 sources and 0 targets make no plan"):
        Plan(lengths(), lengths(), max_tokens=10, seed=1)
    with pytest.raises(ValueError, match="2 sources and 1 targets make no plan"):
        Plan(lengths(1, 2), lengths(1), max_tokens=10, seed=1)


def test_shard() -> None:
    assert shard(range(10, 16), rank=1, world=3) == range(11, 16, 3)


@pytest.mark.parametrize("max_tokens", [1024, 4096])
def test_little_padding_on_captions(shared: Path, max_tokens: int) -> None:
    sides = []
    for name in ("train.en.gz", "train.de.gz"):
        with gzip.open(shared / "multi30k" / name, "rt", encoding="utf-8", newline="\n") as lines:
            sides.append(np.array([len(line.split()) for line in lines]))
    batches = plan_epoch(sides[0], sides[1], max_tokens=max_tokens, seed=1, epoch=0)
    for side in sides:
        padded = sum(len(batch) * (int(side[batch].max()) + 1) for batch in batches)
        assert 1 - (side + 1).sum() / padded < 0.06
    real = np.maximum(*sides) + 1
    assert real.sum() / (len(batches) * max_tokens) > 0.9  # batches are full
