"""The bridge from encoder to decoder: the sentence as one vector, from which a recurrent decoder starts.

Shapes: see the legend in `interface.py`; M = number of summary vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import assert_never

import torch
from torch import Tensor, nn

from nmt.config import BridgeConfig, LastBridge, MaxBridge, MeanBridge, PooledBridge, SumBridge, ZeroBridge
from nmt.models.interface import Memory


class Summary(nn.Module, ABC):
    """An aggregation operator: a sentence of any length becomes one vector of `width` features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @abstractmethod
    def forward(self, memory: Memory) -> Tensor:
        """[B,S,D] -> [B,width]"""


class Last(Summary):
    """What the encoder itself says of the whole: where its two directions ended, or for a transformer the mean."""

    def forward(self, memory: Memory) -> Tensor:
        return memory.summary


class Sum(Summary):
    def forward(self, memory: Memory) -> Tensor:
        return _filled(memory, 0.0).sum(dim=1)


class Mean(Summary):
    def forward(self, memory: Memory) -> Tensor:
        states = _filled(memory, 0.0)
        return states.sum(dim=1) / (states.shape[1] if memory.mask is None else memory.mask.sum(dim=1)[:, None])


class Max(Summary):
    """The largest value of each feature."""

    def forward(self, memory: Memory) -> Tensor:
        return _filled(memory, -torch.inf).amax(dim=1)


class Pooled(Summary):
    """M learned queries attend to the states x, by v'x, v'Wx or v'tanh(Wx), and what they bring is joined."""

    def __init__(self, config: PooledBridge, width: int) -> None:
        super().__init__(width * config.vectors)
        self.vectors = nn.Parameter(torch.randn(width, config.vectors) * width**-0.5)
        self.map = None if config.score == "dot" else nn.Linear(width, width, bias=False)
        self.bend = config.score == "mlp"

    def forward(self, memory: Memory) -> Tensor:
        states = memory.states if self.map is None else self.map(memory.states)
        scores = ((torch.tanh(states) if self.bend else states) @ self.vectors).float()  # [B,S,M]
        if memory.mask is not None:
            scores = scores.masked_fill(~memory.mask[:, :, None], -torch.inf)
        weights = torch.softmax(scores, dim=1).to(memory.states.dtype)
        return (weights.transpose(1, 2) @ memory.states).flatten(1)  # [B,M*D]


def _filled(memory: Memory, value: float) -> Tensor:
    """The states [B,S,D], `value` standing where padding is."""
    return memory.states if memory.mask is None else memory.states.masked_fill(~memory.mask[:, :, None], value)


def build_summary(config: BridgeConfig, width: int) -> Summary | None:
    """The operator for a memory of `width` features; None where nothing is to cross the bridge."""
    match config:
        case LastBridge():
            return Last(width)
        case ZeroBridge():
            return None
        case SumBridge():
            return Sum(width)
        case MeanBridge():
            return Mean(width)
        case MaxBridge():
            return Max(width)
        case PooledBridge():
            return Pooled(config, width)
        case _:
            assert_never(config)


class Bridge(nn.Module):
    """tanh(W summary + b) as the first state of each layer (Cho et al. 2014); zeros where there is no summary, and all
    that the decoder learns of the source, it learns by attention."""

    def __init__(self, summary: Summary | None, *, parts: int, layers: int, width: int) -> None:
        """`parts`: how many vectors a layer's state consists of."""
        super().__init__()
        self.summary = summary
        self.shape = (parts, layers, width)
        self.linear = None if summary is None else nn.Linear(summary.width, parts * layers * width)

    def forward(self, memory: Memory) -> Tensor:
        """-> [B,parts,L,D]"""
        if self.summary is None or self.linear is None:
            return memory.states.new_zeros(len(memory.states), *self.shape)
        return torch.tanh(self.linear(self.summary(memory))).unflatten(1, self.shape)
