"""Where a token stands, told to a model that cannot count: vectors that are added to its embedding.

Shapes: see the legend in `interface.py`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import assert_never

import torch
from torch import Tensor, nn

from nmt.config import TransformerDecoderConfig, TransformerEncoderConfig


class Positions(nn.Module, ABC):
    @abstractmethod
    def forward(self, positions: Tensor) -> Tensor:
        """[Q] positions, from 0 -> [Q,D]"""


class Sinusoidal(Positions):
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos of the same (Vaswani et al. 2017, section 3.5).

    Made anew each time: a few microseconds, and no longest sentence.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, positions: Tensor) -> Tensor:
        even = torch.arange(0, self.width, 2, device=positions.device)
        angles = positions[:, None] * torch.exp(even * (-math.log(10000.0) / self.width))  # [Q,D/2]
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, : self.width]


class Learned(Positions):
    """A vector for each of the first `count` positions; those beyond share the last one."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(count, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, positions: Tensor) -> Tensor:
        return self.table(positions.clamp(max=self.table.num_embeddings - 1))


def build_positions(config: TransformerEncoderConfig | TransformerDecoderConfig) -> Positions:
    match config.positions:
        case "sinusoidal":
            return Sinusoidal(config.width)
        case "learned":
            return Learned(config.max_positions, config.width)
        case _:
            assert_never(config.positions)
