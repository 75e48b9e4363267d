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

from nmt.config import AdditiveConfig, DotConfig, GeneralConfig, ScaledDotConfig, ScorerConfig
from nmt.models.interface import Memory, Probe


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
        hidden = torch.tanh(self.query(query)[:, :, None] + keys[:, None])  # [B,Q,S,A]
        return self.v(hidden).squeeze(-1)


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

    def keys(self, memory: Memory) -> Tensor:
        return self.scorer.keys(memory.states)

    def forward(self, query: Tensor, keys: Tensor, memory: Memory, probe: Probe | None = None) -> tuple[Tensor, Tensor]:
        """[B,Q,D], [B,S,Dk] -> context [B,Q,D of the memory], weights [B,Q,S] (float32, padding exactly 0)."""
        # A softmax in bfloat16 does not sum to 1 within 1e-3.
        scores = self.scorer.score(query, keys).float()
        if memory.mask is not None:
            scores = scores.masked_fill(~memory.mask[:, None], -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        if probe is not None:
            weights = probe(self.name, weights[:, None], memory.states)[:, 0]
        return weights.to(memory.states.dtype) @ memory.states, weights
