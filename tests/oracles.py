"""Independent answers to what the library computes: slow, obvious, and sharing none of its code."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

PAD, BOS, EOS = 0, 1, 2


class TableState(NamedTuple):
    """What was read so far, [N,steps]."""

    read: Tensor

    def reorder(self, rows: Tensor) -> TableState:
        return TableState(self.read[rows])


class TablePredictor:
    """A predictor that is a table: per sentence [V,V] log-probabilities of the next token given the last one, times
    a factor per position, so that the tree does not repeat itself."""

    def __init__(self, tables: Tensor) -> None:
        self.tables = tables  # [B,L,V,V]
        self.sentences = len(tables)
        self.device = tables.device
        self.columns = None

    @classmethod
    def random(cls, sentences: int, steps: int, size: int, seed: int) -> TablePredictor:
        generator = torch.Generator().manual_seed(seed)
        logits = 2.0 * torch.randn(sentences, steps, size, size, generator=generator)
        return cls(torch.log_softmax(logits, dim=-1))

    def start(self, beams: int, steps: int) -> TableState:
        return TableState(torch.zeros(self.sentences * beams, 0, dtype=torch.int64))

    def step(self, tokens: Tensor, state: TableState) -> tuple[Tensor, TableState]:
        position = state.read.shape[1]
        beams = len(tokens) // self.sentences
        tables = self.tables[:, position].repeat_interleave(beams, dim=0)  # [N,V,V]
        log_probs = tables[torch.arange(len(tokens)), tokens]
        return log_probs, TableState(torch.cat([state.read, tokens[:, None]], dim=1))

    def select(self, sentences: Tensor) -> TablePredictor:
        return TablePredictor(self.tables[sentences])


def exhaustive(
    table: Tensor,
    limit: int,
    length_penalty: float | Callable[[float, int], float],
    allowed: Callable[[list[int]], bool] = lambda output: True,
) -> list[tuple[list[int], float, float]]:
    """Every output of a table [L,V,V] that ends in EOS within `limit` tokens and is allowed, best first: tokens, score,
    log p. `length_penalty`: an exponent of the length, or the score of (log p, length)."""
    score = length_penalty if callable(length_penalty) else lambda p, length: p / length**length_penalty
    words = [w for w in range(table.shape[-1]) if w not in (PAD, BOS, EOS)]
    outputs = []
    for length in range(1, limit + 1):
        for body in filter(lambda b: allowed(list(b)), itertools.product(words, repeat=length - 1)):
            log_prob, last = 0.0, BOS
            for position, token in enumerate((*body, EOS)):
                log_prob += float(table[position, last, token])
                last = token
            outputs.append((list(body), score(log_prob, length), log_prob))
    return sorted(outputs, key=lambda output: -output[1])


def attention_scores(kind: str, query: Tensor, keys: Tensor, parameters: dict[str, Tensor]) -> list[list[float]]:
    """Scores of one sentence, queries [Q,D] against states [S,D], by loops over float64 numbers."""

    def dot(a: list[float], b: list[float]) -> float:
        return math.fsum(x * y for x, y in zip(a, b, strict=True))

    def times(matrix: list[list[float]], vector: list[float]) -> list[float]:
        return [dot(row, vector) for row in matrix]

    p = {name: value.double().tolist() for name, value in parameters.items()}

    def one(q: list[float], k: list[float]) -> float:
        match kind:
            case "dot":
                return dot(q, k)
            case "scaled-dot":
                return dot(q, k) / math.sqrt(len(q))
            case "general":
                return dot(q, times(p["bilinear.weight"], k))
            case "additive":
                inner = zip(times(p["query.weight"], q), times(p["memory.weight"], k), p["memory.bias"], strict=True)
                return dot(p["v.weight"][0], [math.tanh(math.fsum(terms)) for terms in inner])
        raise ValueError(kind)

    return [[one(q, k) for k in keys.double().tolist()] for q in query.double().tolist()]
