"""How probable a model finds translations that are there already: the forced pass, without smoothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from nmt.data.copying import Example, collate_examples, make_example
from nmt.data.plan import plan_evaluation
from nmt.errors import UserError
from nmt.translate import WINDOW, Translator


class PairScore(NamedTuple):
    """Natural-log probabilities of one target given its source."""

    log_prob: float  # of the whole target, EOS included
    token_log_probs: list[float]  # of each token, then of EOS
    tokens: list[str]  # as the model is scored for them: <unk> is what it can neither generate nor copy


def score_pairs(
    translator: Translator, pairs: Iterable[tuple[str, str]], *, name: str = "the source"
) -> Iterator[PairScore]:
    """log p(tgt | src) of each pair, in order; the same figures that search reports for its own output.

    Raises UserError for a pair with an empty source, of which a model has nothing to say; `name` is where the sources
    are from.
    """
    iterator, done = iter(pairs), 0
    while window := list(itertools.islice(iterator, WINDOW)):
        yield from _score_window(translator, window, done, name)
        done += len(window)


def _score_window(translator: Translator, pairs: Sequence[tuple[str, str]], done: int, name: str) -> list[PairScore]:
    src, tgt = translator.tokenizers
    encoded = [(src.encode(a), tgt.encode(b)) for a, b in pairs]
    for n, (a, _) in enumerate(encoded, start=done + 1):
        if not a:
            raise UserError(f"{name}, line {n}: empty, so there is nothing to score its translation by")
    examples = [
        make_example(translator.copier, (a, a_ids), (b, b_ids))
        for (a, b), (a_ids, b_ids) in zip(pairs, encoded, strict=True)
    ]
    lengths = (np.array([len(pair[side]) for pair in encoded], dtype=np.int64) for side in (0, 1))
    scores: dict[int, PairScore] = {}
    for rows in plan_evaluation(*lengths, max_tokens=translator.search.max_tokens):
        scores.update(_score_batch(translator, examples, rows.tolist()))
    return [scores[n] for n in range(len(pairs))]


def _score_batch(translator: Translator, examples: Sequence[Example], rows: Sequence[int]) -> dict[int, PairScore]:
    batch = collate_examples([examples[n] for n in rows]).to(translator.device)
    with torch.inference_mode():
        nll = translator.model(batch).nll.cpu()  # [B,T]
    scores = {}
    for row, n in enumerate(rows):
        tokens = (-nll[row, : len(examples[n].tgt or ()) + 1]).tolist()
        _, tgt, copies = examples[n]
        pieces = translator.tokenizers[1].pieces(list(tgt or ()), () if copies is None else copies.extras)
        scores[n] = PairScore(sum(tokens), tokens, pieces)
    return scores
