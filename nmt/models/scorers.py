"""Scorers: the one part that differs between the attentions of the literature.

Shapes: see the legend in `interface.py`; A features of a hidden layer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Scorer(nn.Module, ABC):
    """How well each source position answers each query."""

    uses_history: bool = False
    """Whether `score` is given the attention of earlier steps, which makes a decoder go step by step."""

    def __init__(self, query_width: int, memory_width: int) -> None:
        """The widths D of the queries and of the states."""
        super().__init__()

    def keys(self, states: Tensor) -> Tensor:
        """What is computed once per sentence: [B,S,D] -> [B,S,Dk]. By default the states themselves."""
        return states

    @abstractmethod
    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        """[B,Q,D], [B,S,Dk] -> [B,Q,S], any real numbers. `history` [B,Q,S] is the sum of the weights that each
        position got in the steps before the query's (float32, the mean over heads); None unless `uses_history`."""

    def kept(self, keys: Tensor) -> int:
        """How many numbers the backward pass needs of each query beyond what goes in and comes out."""
        return 0


class Dot(Scorer):
    """q . k (Luong et al. 2015, "dot")."""

    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        return query @ keys.transpose(1, 2)


class ScaledDot(Scorer):
    """q . k / sqrt(D) (Vaswani et al. 2017, equation 1)."""

    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        return query @ keys.transpose(1, 2) / math.sqrt(query.shape[-1])


class General(Scorer):
    """q' W k, the bilinear form (Luong et al. 2015, "general"). W is applied to the memory, once per sentence."""

    def __init__(self, query_width: int, memory_width: int) -> None:
        super().__init__(query_width, memory_width)
        self.bilinear = nn.Linear(memory_width, query_width, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        return self.bilinear(states)

    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        return query @ keys.transpose(1, 2)


class Additive(Scorer):
    """v' tanh(W q + U k + b) (Bahdanau et al. 2015, appendix A.1.2); with coverage v' tanh(W q + U k + w c + b), where
    c is the attention that the position got in earlier steps (See et al. 2017, equations 10 and 11)."""

    def __init__(self, query_width: int, memory_width: int, width: int, *, coverage: bool) -> None:
        super().__init__(query_width, memory_width)
        self.query = nn.Linear(query_width, width, bias=False)
        self.memory = nn.Linear(memory_width, width)
        self.v = nn.Linear(width, 1, bias=False)
        self.uses_history = coverage
        self.coverage = nn.Parameter(torch.empty(width, 1).uniform_(-1, 1) * width**-0.5) if coverage else None

    def keys(self, states: Tensor) -> Tensor:
        return self.memory(states)

    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        hidden = self.query(query)[:, :, None] + keys[:, None]  # [B,Q,S,A]
        if history is not None and self.coverage is not None:
            hidden = hidden + nn.functional.linear(history[..., None].to(hidden.dtype), self.coverage)
        return self.v(torch.tanh(hidden)).squeeze(-1)

    def kept(self, keys: Tensor) -> int:
        return keys.numel()
