"""How probable a model finds translations that are there already: the forced pass, without smoothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from nmt.align.extract import default_reading, forced_weights
from nmt.candidates import coverage
from nmt.data.batch import Ids
from nmt.data.example import Example, collate_examples
from nmt.data.plan import plan_evaluation
from nmt.errors import UserError
from nmt.limits import beyond, memory_for_pass
from nmt.search.penalty import length_penalty
from nmt.translate import WINDOW, Translator


class PairScore(NamedTuple):
    """What a model says of one target given its source. A pair that cannot be scored gives NaN and says why."""

    log_prob: float  # natural log, of the whole target, EOS included
    score: float  # what search would rank it by, penalties included
    token_log_probs: list[float]  # of each token, then of EOS
    tokens: list[str]  # as the model is scored for them: <unk> is what it can neither generate nor copy
    problem: str | None = None


def score_pairs(translator: Translator, pairs: Iterable[tuple[str, str]]) -> Iterator[PairScore]:
    """log p(tgt | src) of each pair, in order; the same figures that search reports for its own output.

    Works through a window of pairs at a time. A target may be empty, a source not, of which a model has nothing to
    say; neither may be longer than `search.max_source`. Raises UserError for a translator with a shortlist: the forced
    pass speaks of the whole vocabulary.
    """
    if translator.shortlist is not None:
        raise UserError("scores are over the whole vocabulary, and a shortlist confines it", "Score without it.")
    return _scores(translator, pairs)


def _scores(translator: Translator, pairs: Iterable[tuple[str, str]]) -> Iterator[PairScore]:
    iterator = iter(pairs)
    while window := list(itertools.islice(iterator, WINDOW)):
        yield from _score_window(translator, window)


def _score_window(translator: Translator, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
    src, tgt = translator.tokenizers
    encoded = [(src.encode(a), tgt.encode(b)) for a, b in pairs]
    results: dict[int, PairScore] = {}
    examples: dict[int, Example] = {}
    for n, ((a, b), (a_ids, b_ids)) in enumerate(zip(pairs, encoded, strict=True)):
        problem = _problem(a, len(a_ids), len(b_ids), translator.search.max_source)
        if problem is None:
            examples[n] = translator.feeder.example((a, a_ids), (b, b_ids))
        else:
            results[n] = PairScore(math.nan, math.nan, [], [], problem)
    numbers = list(examples)
    lengths = (np.array([len(encoded[n][side]) for n in numbers], dtype=np.int64) for side in (0, 1))
    for rows in plan_evaluation(*lengths, max_tokens=translator.search.max_tokens):
        batch = [numbers[row] for row in rows]
        sides = [(len(encoded[n][0]), len(encoded[n][1])) for n in batch]
        with memory_for_pass(sides, translator.search.max_tokens):
            results.update(zip(batch, _score_batch(translator, [examples[n] for n in batch]), strict=True))
    return [results[n] for n in range(len(pairs))]


def refuses(translator: Translator, src: str, tgt: str) -> str | None:
    """Why no forced pass is made over a pair: it is too long. None if it is not."""
    limit = translator.search.max_source
    lengths = (len(tokenizer.encode(line)) for tokenizer, line in zip(translator.tokenizers, (src, tgt), strict=True))
    found = (beyond(side, length, limit) for side, length in zip(("source", "target"), lengths, strict=True))
    return next((problem for problem in found if problem is not None), None)


def _problem(source: str, src_tokens: int, tgt_tokens: int, limit: int) -> str | None:
    """Why a pair is not scored; the same limits as those of translating."""
    if not src_tokens or not source.strip():
        return "the source is empty, so there is nothing to score its translation by"
    return beyond("source", src_tokens, limit) or beyond("target", tgt_tokens, limit)


def _score_batch(translator: Translator, examples: Sequence[Example]) -> list[PairScore]:
    with torch.inference_mode():
        nll = translator.model(collate_examples(examples).to(translator.device)).nll.cpu()  # [B,T]
    penalty = length_penalty(translator.search.length_penalty)
    scores = []
    for row, covered, example in zip(nll, _coverages(translator, examples), examples, strict=True):
        tgt: Ids = () if example.tgt is None else example.tgt
        tokens = (-row[: len(tgt) + 1]).tolist()
        log_prob = sum(tokens)
        score = float(penalty(torch.tensor(log_prob, dtype=torch.float64), len(tokens))) + covered
        pieces = translator.tokenizers[1].pieces(list(tgt), () if example.copies is None else example.copies.extras)
        scores.append(PairScore(log_prob, score, tokens, pieces))
    return scores


def _coverages(translator: Translator, examples: Sequence[Example]) -> list[float]:
    """What `search.coverage_penalty` adds to each score."""
    search, model = translator.search, translator.model
    if not search.coverage_penalty:
        return [0.0] * len(examples)
    reading = default_reading(model)
    found = forced_weights(model, examples, reading, device=translator.device, max_tokens=search.max_tokens)
    return [search.coverage_penalty * coverage(weights[:-1, :-1]) for weights in found]
