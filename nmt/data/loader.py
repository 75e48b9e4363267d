"""From a corpus and its plan to batches of tensors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from nmt.data.batch import Batch, Ids
from nmt.data.corpus import Corpus
from nmt.data.example import Example, Feeder, collate_examples
from nmt.data.guiding import Guide, collate_links
from nmt.data.plan import Indices, Plan, plan_evaluation
from nmt.text.sampling import Samplers


class Task(NamedTuple):
    """Which batch to make: its number in the plan, the epoch that is in, and the corpus positions of its pairs."""

    global_index: int
    epoch: int
    pairs: Indices


def batches(
    corpus: Corpus,
    *,
    max_tokens: int,
    seed: int,
    start: int,
    stride: int = 1,
    workers: int = 0,
    feeder: Feeder | None = None,
    samplers: Samplers | None = None,
    guide: Guide | None = None,
) -> Iterator[tuple[int, Batch]]:
    """The batches of the corpus's plan with their global numbers: `start`, `start + stride`, ..., without end.

    They depend on the arguments alone, but for `workers`: how many processes make them ahead of time (0 = this one
    makes them when asked). torch's random state stays as it is. `feeder` makes examples for
    models that are fed more than ids.
    `samplers` cut the text anew in each epoch; which pairs make a batch is decided by the corpus's ids all the same.
    `guide` is for models that learn from links, which the corpus must have.
    """
    plan = Plan(corpus.src_lengths, corpus.tgt_lengths, max_tokens=max_tokens, seed=seed, parts=corpus.parts)
    loader = DataLoader(
        _Batches(corpus, feeder, samplers, guide, seed),
        sampler=_Tasks(plan, start, stride),
        batch_size=None,  # a task is a whole batch
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # else the loader draws a seed from the global one
    )
    return iter(loader)


def evaluation_batches(corpus: Corpus, *, max_tokens: int, feeder: Feeder | None = None) -> Iterator[Batch]:
    """All pairs of the corpus once, shortest first; `Batch.indices` says which they are."""
    for pairs in plan_evaluation(corpus.src_lengths, corpus.tgt_lengths, max_tokens=max_tokens):
        yield _make(corpus, pairs, feeder)


class _Tasks(Sampler[Task]):
    """Plans in the main process only, so that the workers hold no plan."""

    def __init__(self, plan: Plan, start: int, stride: int) -> None:
        self._plan, self._start, self._stride = plan, start, stride

    def __iter__(self) -> Iterator[Task]:
        for global_index in count(self._start, self._stride):
            yield Task(global_index, self._plan.epoch_of(global_index)[0], self._plan.batch(global_index))


class _Batches(Dataset[tuple[int, Batch]]):
    def __init__(
        self, corpus: Corpus, feeder: Feeder | None, samplers: Samplers | None, guide: Guide | None, seed: int
    ) -> None:
        self._corpus, self._feeder, self._samplers, self._guide = corpus, feeder, samplers, guide
        self._seed = seed

    def __getitem__(self, task: Task) -> tuple[int, Batch]:
        key = (self._seed, task.epoch)
        return task.global_index, _make(self._corpus, task.pairs, self._feeder, self._samplers, self._guide, key)


def _make(
    corpus: Corpus,
    pairs: Indices,
    feeder: Feeder | None,
    samplers: Samplers | None = None,
    guide: Guide | None = None,
    key: tuple[int, ...] = (),
) -> Batch:
    index = pairs.tolist()
    reads_text = samplers is not None or (feeder is not None and feeder.reads_text)
    examples, shares = [], []
    for i in index:
        texts = corpus.text(i) if reads_text else ("", "")
        ids: tuple[Ids, Ids] = (corpus.src(i), corpus.tgt(i))
        if samplers is not None:
            ids = samplers.sample(texts, ids, (*key, i))
        if guide is not None:
            shares.append(guide.spread(corpus.links(i), *ids))
        examples.append(Example(*ids) if feeder is None else feeder.example((texts[0], ids[0]), (texts[1], ids[1])))
    batch = collate_examples(examples, index)
    return batch if guide is None else batch._replace(links=collate_links(shares))


def _as_it_is(item: Any) -> Any:
    return item
