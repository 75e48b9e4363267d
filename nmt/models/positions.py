"""Where a token stands, told to a model that cannot count: by a vector added to its embedding, by a bias on attention
that grows with the distance, or by turning queries and keys.

Shapes: see the legend in `interface.py`; Dh = D/H features of a head.
"""

from __future__ import annotations

import math
from typing import NamedTuple, assert_never

import torch
from torch import Tensor, nn

from nmt.config import TransformerDecoderConfig, TransformerEncoderConfig


class Places(NamedTuple):
    """What self-attention in all layers must know of the positions of Q queries and S keys."""

    turn: tuple[Tensor, Tensor] | None = None  # cosines and sines [Q,Dh/2] for queries and for keys that are new
    bias: Tensor | None = None  # [H,Q,S] added to the scores


class Positions(nn.Module):
    """The base of all, and itself the one that says nothing: attention then takes a sentence for a bag of words."""

    def embed(self, positions: Tensor) -> Tensor | None:
        """[Q] positions, from 0 -> [Q,D] to be added to embeddings, or nothing."""
        return None

    def places(self, queries: Tensor, keys: Tensor) -> Places:
        """[Q], [S] positions -> what attention must know of them."""
        return Places()


class Sinusoidal(Positions):
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos of the same (Vaswani et al. 2017, section 3.5).

    Made anew each time: a few microseconds, and no longest sentence.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def embed(self, positions: Tensor) -> Tensor:
        angles = waves(positions, self.width)  # [Q,D/2]
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, : self.width]


class Learned(Positions):
    """A vector for each of the first `count` positions; those beyond share the last one."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(count, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def embed(self, positions: Tensor) -> Tensor:
        return self.table(positions.clamp(max=self.table.num_embeddings - 1))


class Alibi(Positions):
    """-m_h |i - j| is added to the score of query i and key j in head h (Press et al. 2022, section 3)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.slopes: Tensor
        self.register_buffer("slopes", torch.tensor(slopes(heads)), persistent=False)  # on the device, but not saved

    def places(self, queries: Tensor, keys: Tensor) -> Places:
        distance = (queries[:, None] - keys[None]).abs()  # [Q,S]
        return Places(bias=-self.slopes.float()[:, None, None] * distance)


class Rotary(Positions):
    """Features 2i and 2i+1 of queries and keys are turned by the angle p / 10000^(2i/Dh) (Su et al. 2021, section 3.2),
    so that their product depends on the distance of two positions only."""

    def __init__(self, width: int) -> None:
        """`width` is Dh, an even number."""
        super().__init__()
        self.width = width

    def places(self, queries: Tensor, keys: Tensor) -> Places:
        angles = waves(queries, self.width)
        return Places(turn=(angles.cos(), angles.sin()))


def waves(positions: Tensor, width: int) -> Tensor:
    """[Q] positions -> angles p / 10000^(2i/width), [Q,width/2]."""
    even = torch.arange(0, width, 2, device=positions.device)
    return positions[:, None] * torch.exp(even * (-math.log(10000.0) / width))


def turned(states: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """[B,H,Q,Dh] with each pair of features turned by the angles of its position."""
    cos, sin = (part.to(states.dtype) for part in turn)
    even, odd = states[..., 0::2], states[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def slopes(heads: int) -> list[float]:
    """2^(-8h/H) for h = 1 .. H; where H is no power of two, those of the power below it, and then every other one of
    the power above it, as the authors' code has it."""
    power = 2 ** int(math.log2(heads))
    first = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    between = [2 ** (-8 * h / (2 * power)) for h in range(1, 2 * power + 1, 2)]
    return first + between[: heads - power]


def build_positions(config: TransformerEncoderConfig | TransformerDecoderConfig) -> Positions:
    match config.positions:
        case "sinusoidal":
            return Sinusoidal(config.width)
        case "learned":
            return Learned(config.max_positions, config.width)
        case "alibi":
            return Alibi(config.heads)
        case "rotary":
            return Rotary(config.width // config.heads)
        case "none":
            return Positions()
        case _:
            assert_never(config.positions)
