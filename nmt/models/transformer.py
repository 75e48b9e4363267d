"""The transformer (Vaswani et al. 2017) as an encoder and a decoder.

Shapes: see the legend in `interface.py`; L layers, P positions written so far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nmt.config import TransformerDecoderConfig, TransformerEncoderConfig
from nmt.data.batch import Padded
from nmt.models.interface import Alignment, Decoder, Encoder, Features, Memory, Probe, Source
from nmt.models.layers import Dropout, TokenEmbedding
from nmt.models.multihead import CrossAttention, SelfAttention
from nmt.models.positions import Positions, build_positions


class Residual(nn.Module):
    """A part of a layer, around which its input flows on: x + part(norm(x)), or, as in the paper, norm(x + part(x)).

    With the norm first the path from input to output is free, and deep models train without care (Xiong et al. 2020).
    """

    def __init__(self, width: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = norm == "pre"
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.first:
            return states + self.dropout(part(self.norm(states)))
        return self.norm(states + self.dropout(part(states)))


class Placed(nn.Module):
    """Embeddings, told where they stand."""

    def __init__(self, positions: Positions, dropout: float) -> None:
        super().__init__()
        self.positions = positions
        self.dropout = Dropout(dropout)

    def forward(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """[B,Q,D], [Q] -> [B,Q,D]"""
        return self.dropout(embedded + self.positions(positions).to(embedded.dtype))


class FeedForward(nn.Module):
    """W2 relu(W1 x + b1) + b2, at each position by itself (section 3.3)."""

    def __init__(self, width: int, inner: int, rate: float) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)
        self.dropout = Dropout(rate)

    def forward(self, states: Tensor) -> Tensor:
        return self.outer(self.dropout(torch.relu(self.inner(states))))


class EncoderLayer(nn.Module):
    def __init__(self, config: TransformerEncoderConfig, number: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(config.width, config.heads, config.attention_dropout, f"encoder.{number}.self")
        self.feed_forward = FeedForward(config.width, config.feed_forward, config.activation_dropout)
        self.around_attention, self.around_feed_forward = (
            Residual(config.width, config.norm, dropout) for _ in range(2)
        )

    def forward(self, states: Tensor, mask: Tensor | None, probe: Probe | None) -> Tensor:
        states = self.around_attention(states, lambda x: self.attention(x, mask=mask, probe=probe))
        return self.around_feed_forward(states, self.feed_forward)


class TransformerEncoder(Encoder):
    def __init__(self, config: TransformerEncoderConfig, embedding: TokenEmbedding, dropout: float) -> None:
        super().__init__()
        self.embedding = embedding
        self.place = Placed(build_positions(config), dropout)
        self.layers = nn.ModuleList(EncoderLayer(config, n, dropout) for n in range(1, config.layers + 1))
        self.norm = nn.LayerNorm(config.width) if config.norm == "pre" else nn.Identity()

    def forward(self, src: Padded, probe: Probe | None = None) -> Memory:
        states, mask = self.embedding.lookup(src.ids), src.mask  # [B,S,D]
        states = self.place(states, torch.arange(states.shape[1], device=states.device))
        for layer in self.layers:
            states = layer(states, mask, probe)
        states = self.norm(states)
        if mask is not None:
            states = states * mask[:, :, None]
        return Memory(states, mask, states.sum(dim=1) / src.lengths[:, None])  # their mean as the summary


class DecoderLayer(nn.Module):
    def __init__(self, config: TransformerDecoderConfig, number: int, memory_width: int, dropout: float) -> None:
        super().__init__()
        width, heads, rate = config.width, config.heads, config.attention_dropout
        self.attention = SelfAttention(width, heads, rate, f"decoder.{number}.self")
        self.cross = CrossAttention(width, heads, memory_width, rate, f"decoder.{number}.cross")
        self.feed_forward = FeedForward(width, config.feed_forward, config.activation_dropout)
        self.around_attention, self.around_cross, self.around_feed_forward = (
            Residual(width, config.norm, dropout) for _ in range(3)
        )

    def forward(
        self,
        states: Tensor,
        kv: Tensor,
        mask: Tensor | None,
        *,
        look_back: Callable[[Tensor], Tensor],
        probe: Probe | None = None,
    ) -> Tensor:
        """[B,Q,D]. `look_back` is the self-attention, which alone differs between a known target and one step."""
        states = self.around_attention(states, look_back)
        states = self.around_cross(states, lambda x: self.cross(x, kv, mask, probe))
        return self.around_feed_forward(states, self.feed_forward)


class KVCache(NamedTuple):
    """Keys and values of all layers for the positions written so far, in storage made once for all steps."""

    storage: Tensor  # [N,L,steps,2,D]
    length: int  # P

    def reorder(self, rows: Tensor) -> KVCache:
        storage = self.storage[: len(rows)]
        storage[:, :, : self.length] = self.storage[:, :, : self.length].index_select(0, rows)
        return KVCache(storage, self.length)


class TransformerDecoder(Decoder[KVCache]):
    """A known target is read at once: causal attention needs no mask, since padding is always in the future."""

    def __init__(
        self, config: TransformerDecoderConfig, embedding: TokenEmbedding, memory_width: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.width = config.width
        self.place = Placed(build_positions(config), dropout)
        self.layers = nn.ModuleList(DecoderLayer(config, n, memory_width, dropout) for n in range(1, config.layers + 1))
        self.norm = nn.LayerNorm(config.width) if config.norm == "pre" else nn.Identity()
        self.alignment = Alignment(f"decoder.{(config.layers + 1) // 2}.cross", "input")

    def prepare(self, memory: Memory) -> tuple[Tensor, ...]:
        return tuple(layer.cross.kv(memory.states) for layer in self.layers)  # L times [B,S,2D]

    def start(self, source: Source, rows: int, steps: int) -> KVCache:
        return KVCache(source.keys[0].new_empty(rows, len(self.layers), steps, 2, self.width), 0)

    def step(self, tokens: Tensor, state: KVCache, source: Source) -> tuple[Features, KVCache]:
        sentences, length = len(source.memory.states), state.length + 1

        def look_back(layer: DecoderLayer, cache: Tensor) -> Callable[[Tensor], Tensor]:
            def rows(states: Tensor) -> Tensor:  # [B,K,D]: each beam has a past of its own
                return layer.attention.step(states.reshape(-1, 1, self.width), cache).view_as(states)

            return rows

        caches = [state.storage[:, n, :length] for n in range(len(self.layers))]  # [N,P,2,D]
        past = [look_back(layer, cache) for layer, cache in zip(self.layers, caches, strict=True)]
        here = torch.full((1,), state.length, device=tokens.device)  # where all beams stand
        features = self._read(tokens.view(sentences, -1), here, source, past, None)
        return features, state._replace(length=length)

    def decode(self, tgt_in: Tensor, source: Source, probe: Probe | None = None) -> Features:
        def look_back(layer: DecoderLayer) -> Callable[[Tensor], Tensor]:
            return lambda states: layer.attention(states, causal=True, probe=probe)

        positions = torch.arange(tgt_in.shape[1], device=tgt_in.device)
        return self._read(tgt_in, positions, source, [look_back(layer) for layer in self.layers], probe)

    def _read(
        self,
        tokens: Tensor,
        positions: Tensor,
        source: Source,
        look_back: list[Callable[[Tensor], Tensor]],
        probe: Probe | None,
    ) -> Features:
        """tokens [B,Q] at `positions` [Q], or [1] for all."""
        embedded = self.embedding.lookup(tokens)  # [B,Q,D]
        states = self.place(embedded, positions)
        for layer, kv, past in zip(self.layers, source.keys, look_back, strict=True):
            states = layer(states, kv, source.memory.mask, look_back=past, probe=probe)
        return Features(self.norm(states), None, embedded, None)
