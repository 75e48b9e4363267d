"""Beam search for anything that predicts the next token. It never sees a model.

Shapes: B sentences still searched, K beams, N = B*K rows, C columns of the predictor (extras included), M = 2K.

Each step: log-probabilities -> rules -> cumulative scores -> the best 2K of K*C per sentence -> EOS counts only where
it ranks among the first K -> the finished pool keeps the K best by score -> the best K others live on. So beam 1 is
greedy search, and a beam as wide as the whole tree is exhaustive search. A sentence stops when K hypotheses have
finished and

first_k: the best live prefix, at its present length, does not beat the best of them;
exact: no live prefix can still reach the score of the worst of them, whatever follows;

when nothing lives; or at its length limit, where EOS is the only choice: every hypothesis ends in EOS and its
log-probability is that of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nmt.data.batch import BOS, EOS
from nmt.models.interface import Predictor
from nmt.search.hypothesis import Hypothesis, Trellis
from nmt.search.penalty import LengthPenalty, best_possible
from nmt.search.rules import Columns, Rule, Step

Stop = Literal["first_k", "exact"]


def beam_search(
    predictor: Predictor,
    *,
    beam: int,
    limits: Tensor,
    penalty: LengthPenalty,
    stop: Stop = "first_k",
    rules: Sequence[Rule] = (),
) -> list[list[Hypothesis]]:
    """The n-best hypotheses of each sentence, best first, at most `beam`; none only where rules leave none.

    `limits` [B] is the largest length of each output, EOS included (>= 1); `penalty` makes scores of log-probabilities.
    Call it without gradients.
    """
    total, device = predictor.sentences, predictor.device
    steps = int(limits.max())
    limits = limits.to(device)
    trellis = Trellis()
    pool = Pool.empty(total, beam, device)
    sentences = torch.arange(total, device=device)  # [B] which of all sentences each row still searched is
    live = torch.full((total, beam), -torch.inf, device=device)  # [B,K] cumulative log-probabilities
    live[:, 0] = 0.0  # at first all beams of a sentence are alike: all but one start impossible
    tokens = torch.full((total * beam,), BOS, device=device)
    written = tokens.new_empty(total, beam, 0)  # [B,K,t] each live prefix, if there is a rule to read it
    early = torch.arange(2 * beam, device=device) < beam
    state = predictor.start(beam, steps)

    for step in range(steps):
        log_probs, state = predictor.step(tokens, state)  # [N,C]
        log_probs, columns = log_probs.unflatten(0, (-1, beam)), Columns(predictor.columns)  # [B,K,C]
        for rule in rules:
            rule(log_probs, Step(sentences, written, columns))
        scores, parents, chosen = candidates(log_probs, live, at_limit=limits[sentences] == step + 1)  # [B,M] each
        ends = chosen == EOS
        pool.add(sentences, scores.masked_fill(~(ends & early), -torch.inf), parents, step, penalty)

        live, order = scores.masked_fill(ends, -torch.inf).topk(beam, dim=1)  # [B,K]
        parents, written_now = parents.gather(1, order), columns.read(chosen.gather(1, order))
        trellis.add(*scattered(total, sentences, written_now, parents, live))

        if stop == "first_k":
            hopeless = penalty(live[:, 0], step + 1) <= pool.scores[sentences, 0]  # at its present length
        else:  # another token, at least, and EOS
            best = best_possible(penalty, live[:, 0], step + 2, limits[sentences])
            hopeless = best <= pool.scores[sentences, -1]
        searched = ~((pool.count[sentences] >= beam) & hopeless | (live[:, 0] == -torch.inf))  # [B]
        remaining = int(searched.sum())  # the one host synchronisation of a step
        if remaining == 0:
            break
        rows = torch.arange(len(live), device=device)
        if 2 * remaining <= len(live):  # half the sentences are done: stop computing them
            # nonzero() would ask the device once more how many there are.
            rows = searched.int().argsort(descending=True, stable=True)[:remaining]
            predictor = predictor.select(rows)
            sentences, live, written = sentences[rows], live[rows], written[rows]
            written_now, parents = written_now[rows], parents[rows]
        else:
            live = live.masked_fill(~searched[:, None], -torch.inf)
        state = state.reorder((rows[:, None] * beam + parents).flatten())
        tokens = written_now.flatten()
        if rules:
            past = written.gather(1, parents[:, :, None].expand(-1, -1, written.shape[2]))
            written = torch.cat([past, written_now[:, :, None]], dim=2)
    return pool.hypotheses(trellis)


def candidates(log_probs: Tensor, live: Tensor, *, at_limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B,K,C] and live scores [B,K] -> the best 2K continuations per sentence, best first: cumulative scores, the beam
    each continues, the column it adds, [B,2K] each. Sentences `at_limit` [B] may only end."""
    beam = live.shape[1]
    ending = live + log_probs[:, :, EOS]  # [B,K]
    log_probs[:, :, :EOS] = -torch.inf  # PAD and BOS
    # The best 2K of a sentence are among the best 2K of each of its rows: two small selections instead of a large one.
    width = min(2 * beam, log_probs.shape[-1])
    best, columns = top(log_probs, width)
    scores, order = (live[:, :, None] + best).flatten(1).topk(2 * beam, dim=1)
    parents, columns = order // width, columns.flatten(1).gather(1, order)
    # At the limit the K ends are the only candidates; the other K places are void.
    last, beams = at_limit[:, None], torch.arange(beam, device=live.device).repeat(2)
    scores = torch.where(last, torch.cat([ending, torch.full_like(ending, -torch.inf)], dim=1), scores)
    return scores, torch.where(last, beams, parents), columns.masked_fill(last, EOS)


def top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What topk(count) of the last axis gives. The `count` greatest are in the `count` blocks with the greatest
    maxima: finding these first takes one fast pass, where topk walks through all, on a GPU two bits of each number at a
    time."""
    block, device = 64, values.device
    if values.shape[-1] < 8 * block * count // 4:
        return values.topk(count, dim=-1)
    whole = values.shape[-1] // block * block
    blocks = values[..., :whole].unflatten(-1, (-1, block))  # [...,C/64,64]
    _, best = blocks.amax(dim=-1).topk(count, dim=-1)  # [...,count]
    places = (best[..., None] * block + torch.arange(block, device=device)).flatten(-2)
    rest = torch.arange(whole, values.shape[-1], device=device).expand(*places.shape[:-1], -1)
    places = torch.cat([places, rest], dim=-1)
    found, order = values.gather(-1, places).topk(count, dim=-1)
    return found, places.gather(-1, order)


def scattered(total: int, sentences: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """[B,K] of the sentences still searched -> [total,K], so that all steps of the trellis line up."""
    if len(sentences) == total:
        return parts
    return tuple(part.new_zeros(total, part.shape[1]).index_copy_(0, sentences, part) for part in parts)


class Pool:
    """The K best finished hypotheses of every sentence."""

    def __init__(self, scores: Tensor, log_probs: Tensor, steps: Tensor, parents: Tensor, count: Tensor) -> None:
        self.scores = scores  # [B,K] normalised; -inf = none yet
        self.log_probs = log_probs  # [B,K]
        self.steps = steps  # [B,K] at which EOS was written
        self.parents = parents  # [B,K] the beam it was written to
        self.count = count  # [B] hypotheses finished so far

    @classmethod
    def empty(cls, sentences: int, beam: int, device: torch.device) -> Pool:
        nothing = torch.full((sentences, beam), -torch.inf, device=device)
        zeros = torch.zeros(sentences, beam, dtype=torch.int64, device=device)
        return cls(nothing, nothing.clone(), zeros, zeros.clone(), torch.zeros_like(zeros[:, 0]))

    def add(self, sentences: Tensor, log_probs: Tensor, parents: Tensor, step: int, penalty: LengthPenalty) -> None:
        """Hypotheses [B,M] that end at `step` (from 0; -inf = does not); `sentences` [B] says whose they are."""
        scores = penalty(log_probs, step + 1)
        self.count[sentences] += (log_probs > -torch.inf).sum(dim=1)
        merged = torch.cat([self.scores[sentences], scores], dim=1)
        best, order = merged.topk(self.scores.shape[1], dim=1)
        self.scores[sentences] = best
        for mine, new in (
            (self.log_probs, log_probs),
            (self.steps, torch.full_like(parents, step)),
            (self.parents, parents),
        ):
            mine[sentences] = torch.cat([mine[sentences], new], dim=1).gather(1, order)

    def hypotheses(self, trellis: Trellis) -> list[list[Hypothesis]]:
        scores, log_probs, steps, parents = (
            part.cpu().numpy() for part in (self.scores, self.log_probs, self.steps, self.parents)
        )
        tokens, cumulative = trellis.walk_back(steps - 1, parents)
        return [
            [
                Hypothesis(
                    tokens[b, k, : steps[b, k]].tolist(),
                    float(scores[b, k]),
                    float(log_probs[b, k]),
                    np.diff(cumulative[b, k, : steps[b, k]], prepend=0.0, append=log_probs[b, k]).tolist(),
                )
                for k in range(scores.shape[1])
                if scores[b, k] > -np.inf
            ]
            for b in range(len(scores))
        ]
