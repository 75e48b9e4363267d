"""Batches from a corpus: the right pairs, padded, from any place on."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from nmt.config import WordsConfig
from nmt.data.batch import BOS, EOS, PAD, Batch, Padded
from nmt.data.corpus import Corpus, write_corpus
from nmt.data.loader import batches, evaluation_batches
from nmt.data.plan import Plan
from nmt.text.tokenizer import WordTokenizer

BUDGET, SEED = 24, 5


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("loader") / "corpus"
    words = WordTokenizer([str(n) for n in range(60)], WordsConfig())
    pairs = [(" ".join(map(str, range(n, n + 1 + n % 7))), " ".join(["1"] * (1 + n % 5))) for n in range(40)]
    write_corpus(folder, pairs, (words, words), max_length=None)
    return Corpus.open(folder)


def rows(padded: Padded) -> list[list[int]]:
    """The rows without their padding, which is checked."""
    found = []
    for row, length in zip(padded.ids.tolist(), padded.lengths.tolist(), strict=True):
        assert set(row[length:]) <= {PAD}
        found.append(row[:length])
    return found


def same(one: Batch, other: Batch) -> bool:
    assert one.tgt is not None
    assert other.tgt is not None
    return (
        torch.equal(one.indices, other.indices)
        and rows(one.src) == rows(other.src)
        and rows(one.tgt) == rows(other.tgt)
    )


def test_batches_are_those_of_the_plan(corpus: Corpus) -> None:
    plan = Plan(corpus.src_lengths, corpus.tgt_lengths, max_tokens=BUDGET, seed=SEED)
    count = 2 * plan.batches_per_epoch + 1  # into the third epoch
    for n, (number, batch) in enumerate(islice(batches(corpus, max_tokens=BUDGET, seed=SEED, start=0), count)):
        assert number == n
        assert batch.indices.tolist() == plan.batch(n).tolist()
        assert batch.tgt is not None
        assert rows(batch.src) == [[*corpus.src(i).tolist(), EOS] for i in batch.indices.tolist()]
        assert rows(batch.tgt) == [[BOS, *corpus.tgt(i).tolist(), EOS] for i in batch.indices.tolist()]
        labels = batch.tgt.ids[:, 1:]
        assert int((labels != PAD).sum()) == plan.tgt_tokens(n)
        assert len(labels) == 1 or max(labels.numel(), batch.src.ids.numel()) <= BUDGET
        assert batch.src.ids.dtype == batch.tgt.ids.dtype == torch.int64


def test_from_any_start_and_in_strides(corpus: Corpus) -> None:
    every = list(islice(batches(corpus, max_tokens=BUDGET, seed=SEED, start=0), 30))
    for number, batch in islice(batches(corpus, max_tokens=BUDGET, seed=SEED, start=7, stride=3), 7):
        assert number in range(7, 30, 3)
        assert same(batch, every[number][1])


def test_workers_change_nothing(corpus: Corpus) -> None:
    alone = islice(batches(corpus, max_tokens=BUDGET, seed=SEED, start=4), 12)
    helped = islice(batches(corpus, max_tokens=BUDGET, seed=SEED, start=4, workers=2), 12)
    for (n, one), (m, other) in zip(alone, helped, strict=True):
        assert n == m
        assert same(one, other)


def test_random_state_of_torch_is_left_alone(corpus: Corpus) -> None:
    before = torch.get_rng_state()
    next(batches(corpus, max_tokens=BUDGET, seed=SEED, start=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_sees_every_pair_once(corpus: Corpus) -> None:
    found = list(evaluation_batches(corpus, max_tokens=BUDGET))
    assert sorted(i for batch in found for i in batch.indices.tolist()) == list(range(len(corpus)))
    longest = [max(batch.src.ids.shape[1], 0 if batch.tgt is None else batch.tgt.ids.shape[1] - 1) for batch in found]
    assert longest == sorted(longest)
    again = list(evaluation_batches(corpus, max_tokens=BUDGET))
    assert all(same(one, other) for one, other in zip(found, again, strict=True))
