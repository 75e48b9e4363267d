"""How dot products of random vectors grow with their width, and what the softmax makes of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nmt.models.scorers import Dot, ScaledDot

WIDTHS = (16, 32, 64, 128, 256, 512, 1024)
QUERIES = 1000
KEYS = 32
"""As many as a long sentence has words; the entropy of uniform attention is their logarithm."""


class Spread(NamedTuple):
    """Of the scores that a scorer gives to keys of a width, with query and keys of independent N(0, 1) components."""

    scorer: str
    width: int
    variance: float
    entropy: float  # of the softmax over KEYS scores, nats, mean over queries
    greatest: float  # weight, mean over queries


def dot_products(widths: Sequence[int] = WIDTHS, *, queries: int = QUERIES, seed: int = 1) -> list[Spread]:
    """Both scorers on the same vectors. In theory var(q.k) = d, as it is a sum of d products of variance 1, and 1 once
    divided by sqrt(d) (Vaswani et al. 2017, section 3.2.1)."""
    rows = []
    for width in widths:
        generator = torch.Generator().manual_seed(seed)
        query = torch.randn(queries, 1, width, generator=generator)
        states = torch.randn(queries, KEYS, width, generator=generator)
        for name, scorer in (("dot", Dot(width, width)), ("scaled_dot", ScaledDot(width, width))):
            rows.append(measure(name, width, scorer.score(query, scorer.keys(states)).double()))
    return rows


def measure(name: str, width: int, scores: Tensor) -> Spread:
    """[N,1,S]"""
    weights = torch.softmax(scores, dim=-1)
    entropy = torch.special.entr(weights).sum(dim=-1).mean()
    return Spread(name, width, scores.var().item(), entropy.item(), weights.amax(dim=-1).mean().item())


def uniform_entropy() -> float:
    return math.log(KEYS)
