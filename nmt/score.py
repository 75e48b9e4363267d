"""How probable a model finds translations that are there already: the forced pass, without smoothing."""

from __future__ import annotations

import itertools
import math
from collections import ChainMap
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


Target = str | Sequence[str]
"""A text; or the tokens that it was written in, as `nmt translate --details` has them."""


def score_pairs(translator: Translator, pairs: Iterable[tuple[str, Target]]) -> Iterator[PairScore]:
    """log p(tgt | src) of each pair, in order. Of its own output these are the figures that search reports, but for a
    text that is not cut into the subwords that it was written in.

    Works through a window of pairs at a time. A target may be empty, a source not, of which a model has nothing to
    say; neither may be longer than `search.max_source`. Raises UserError for a translator with a shortlist: the forced
    pass speaks of the whole vocabulary.
    """
    if translator.shortlist is not None:
        raise UserError("scores are over the whole vocabulary, and a shortlist confines it", "Score without it.")
    return _scores(translator, pairs)


def _scores(translator: Translator, pairs: Iterable[tuple[str, Target]]) -> Iterator[PairScore]:
    iterator, tgt = iter(pairs), translator.tokenizers[1]
    ids = {piece: n for n, piece in reversed(list(enumerate(tgt.pieces(range(len(tgt))))))}  # the special ones first
    while window := list(itertools.islice(iterator, WINDOW)):
        yield from _score_window(translator, window, ids)


def _score_window(translator: Translator, pairs: Sequence[tuple[str, Target]], ids: dict[str, int]) -> list[PairScore]:
    found = [_example(translator, *pair, ids) for pair in pairs]
    results = {n: PairScore(math.nan, math.nan, [], [], why) for n, why in enumerate(found) if isinstance(why, str)}
    examples = {n: example for n, example in enumerate(found) if isinstance(example, Example)}
    sizes = {n: (len(example.src), len(example.tgt or ())) for n, example in examples.items()}
    numbers = list(examples)
    lengths = (np.array([sizes[n][side] for n in numbers], dtype=np.int64) for side in (0, 1))
    for rows in plan_evaluation(*lengths, max_tokens=translator.search.max_tokens):
        batch = [numbers[row] for row in rows]
        with memory_for_pass([sizes[n] for n in batch], translator.search.max_tokens):
            results.update(zip(batch, _score_batch(translator, [examples[n] for n in batch]), strict=True))
    return [results[n] for n in range(len(pairs))]


def refuses(translator: Translator, src: str, tgt: str) -> str | None:
    """Why no forced pass is made over a pair: it is too long. None if it is not."""
    limit = translator.search.max_source
    lengths = (len(tokenizer.encode(line)) for tokenizer, line in zip(translator.tokenizers, (src, tgt), strict=True))
    found = (beyond(side, length, limit) for side, length in zip(("source", "target"), lengths, strict=True))
    return next((problem for problem in found if problem is not None), None)


def _example(translator: Translator, source: str, target: Target, ids: dict[str, int]) -> Example | str:
    """What the model is fed of a pair, or why it is not scored; `ids` of the target's tokens."""
    src, tgt = (tokenizer.encode for tokenizer in translator.tokenizers)
    line, tokens = src(source), tgt(target) if isinstance(target, str) else target
    problem = _problem(source, len(line), len(tokens), translator.search.max_source)
    if problem is not None:
        return problem
    if isinstance(target, str):
        return translator.feeder.example((source, line), (target, tgt(target)))
    example = translator.feeder.example((source, line))
    copies = () if example.copies is None else example.copies.extras
    known = ChainMap(ids, {word: n for n, word in enumerate(copies, start=len(translator.tokenizers[1]))})
    strange = next((token for token in target if token not in known), None)
    if strange is not None:
        return f"the target vocabulary has no token {strange!r}: was it written by this run?"
    return example._replace(tgt=[known[token] for token in target])


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
