"""Attention over the source: scorers, and what is done with their scores.

A scorer is the one part that differs between the attentions of the literature; masking, softmax and the weighted sum
are the same for all and live in `Attention`. Shapes: see the legend in `interface.py`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nmt.config import AdditiveConfig, DotConfig, GeneralConfig, ScaledDotConfig, ScorerConfig
from nmt.models.interface import Memory, Probe

MOST_HIDDEN = 1 << 25
"""Numbers in the hidden layer of additive attention, [B,Q,S,A], that exist at a time; beyond that queries are scored in
parts, whose hidden layers are made again for the backward pass."""


class Scorer(nn.Module, ABC):
    """How well each source position answers each query."""

    def keys(self, states: Tensor) -> Tensor:
        """What is computed once per sentence: [B,S,D] -> [B,S,Dk]. By default the states themselves."""
        return states

    @abstractmethod
    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """[B,Q,D], [B,S,Dk] -> [B,Q,S], any real numbers."""


class Dot(Scorer):
    """q . k (Luong et al. 2015, "dot")."""

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.transpose(1, 2)


class ScaledDot(Scorer):
    """q . k / sqrt(D) (Vaswani et al. 2017, equation 1)."""

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.transpose(1, 2) / math.sqrt(query.shape[-1])


class General(Scorer):
    """q' W k, the bilinear form (Luong et al. 2015, "general"). W is applied to the memory, once per sentence."""

    def __init__(self, query_width: int, memory_width: int) -> None:
        super().__init__()
        self.bilinear = nn.Linear(memory_width, query_width, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        return self.bilinear(states)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.transpose(1, 2)


class Additive(Scorer):
    """v' tanh(W q + U k + b) (Bahdanau et al. 2015, appendix A.1.2)."""

    def __init__(self, query_width: int, memory_width: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_width, width, bias=False)
        self.memory = nn.Linear(memory_width, width)
        self.v = nn.Linear(width, 1, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        return self.memory(states)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        query = self.query(query)
        rows = max(1, MOST_HIDDEN // (keys.numel() or 1))  # queries whose hidden layers may exist together
        if query.shape[1] <= rows:
            return self._scores(query, keys)
        parts = (checkpoint(self._scores, part, keys, use_reentrant=False) for part in query.split(rows, dim=1))
        return torch.cat(list(parts), dim=1)

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        return self.v(torch.tanh(query[:, :, None] + keys[:, None])).squeeze(-1)  # by way of [B,Q,S,A]


def build_scorer(config: ScorerConfig, query_width: int, memory_width: int) -> Scorer:
    match config:
        case DotConfig():
            return Dot()
        case ScaledDotConfig():
            return ScaledDot()
        case GeneralConfig():
            return General(query_width, memory_width)
        case AdditiveConfig():
            return Additive(query_width, memory_width, config.width)
        case _:
            assert_never(config)


class Attention(nn.Module):
    """Scores -> weights that sum to 1 over the real source positions -> their weighted mean of the memory."""

    def __init__(self, scorer: Scorer, name: str) -> None:
        super().__init__()
        self.scorer = scorer
        self.name = name

    def keys(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """What is scored, [B,1,S,Dk], and what is weighed, [B,1,S,D]; made once per sentence."""
        return self.scorer.keys(memory.states)[:, None], memory.states[:, None]

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, probe: Probe | None = None
    ) -> tuple[Tensor, Tensor]:
        """[B,Q,D], [B,H,S,Dk], [B,H,S,Dv], [B,S] -> context [B,Q,H*Dv], weights [B,Q,S], the mean over the heads
        (float32, padding exactly 0)."""
        heads = keys.shape[1]
        queries = self.split(query, heads).flatten(0, 1)  # [B*H,Q,Dq]
        # A softmax in bfloat16 does not sum to 1 within 1e-3.
        scores = self.scorer.score(queries, keys.flatten(0, 1)).unflatten(0, (-1, heads)).float()  # [B,H,Q,S]
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        if probe is not None:
            weights = probe(self.name, weights, values.transpose(1, 2).flatten(2))
        context = weights.to(values.dtype) @ values  # [B,H,Q,Dv]
        return context.transpose(1, 2).flatten(2), weights.mean(dim=1)

    def split(self, query: Tensor, heads: int) -> Tensor:
        """[B,Q,D] -> [B,H,Q,Dq]"""
        return query[:, None]


class ManyHeads(Attention):
    """The same in H subspaces (Vaswani et al. 2017, section 3.2.2), with any scorer: each head has its own projections
    of query, keys and values; the parameters of the scorer itself are shared."""

    def __init__(self, scorer: Scorer, name: str, heads: int, query_width: int, memory_width: int) -> None:
        super().__init__(scorer, name)
        self.heads = heads
        self.query = nn.Linear(query_width, query_width, bias=False)
        self.key = nn.Linear(memory_width, query_width, bias=False)
        self.value = nn.Linear(memory_width, memory_width, bias=False)

    def keys(self, memory: Memory) -> tuple[Tensor, Tensor]:
        keys, values = (
            part(memory.states).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.key, self.value)
        )
        return self.scorer.keys(keys.flatten(0, 1)).unflatten(0, (-1, self.heads)), values

    def split(self, query: Tensor, heads: int) -> Tensor:
        return self.query(query).unflatten(-1, (heads, -1)).transpose(1, 2)


def build_attention(config: ScorerConfig, query_width: int, memory_width: int, name: str) -> Attention:
    if config.heads == 1:
        return Attention(build_scorer(config, query_width, memory_width), name)
    size = query_width // config.heads
    return ManyHeads(build_scorer(config, size, size), name, config.heads, query_width, memory_width)
