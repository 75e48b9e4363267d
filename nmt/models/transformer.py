"""The transformer (Vaswani et al. 2017) as an encoder and a decoder.

Shapes: see the legend in `interface.py`; L layers, P positions written, Dh = D/H features of a head.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from nmt.config import TransformerDecoderConfig, TransformerEncoderConfig
from nmt.data.batch import Padded
from nmt.models.interface import Alignment, Decoder, Encoder, Features, Memory, Probe, Source
from nmt.models.layers import Dropout, TokenEmbedding
from nmt.models.multihead import CrossAttention, SelfAttention
from nmt.models.positions import Positions, build_positions

LookBack = Callable[[Tensor], Tensor]


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
        keys: tuple[Tensor, Tensor],
        mask: Tensor | None,
        *,
        look_back: LookBack,
        probe: Probe | None = None,
    ) -> Tensor:
        """[B,Q,D]. `look_back` is the self-attention, which alone differs between a known target and one step; `keys`
        are those of the memory, and its values."""
        states = self.around_attention(states, look_back)
        states = self.around_cross(states, lambda x: self.cross(x, *keys, mask, probe))
        return self.around_feed_forward(states, self.feed_forward)


class KVCache(NamedTuple):
    """Keys and values of all layers, of all beams at all positions, in storage made once for all steps.

    Nothing moves when beams change places: each beam has a list of which beam of its sentence wrote each position of
    its past, and attends to those only. That costs scores of K times as many positions, which are small beside the
    projections, and saves a copy of the whole cache at every step.
    """

    keys: Tensor  # [B,L,H,steps*K,Dh]
    values: Tensor  # [B,L,H,steps*K,Dh]
    writers: Tensor  # [B,K,P] the beams that wrote the P positions of each beam's past

    @property
    def position(self) -> int:
        """P, the next position to be written."""
        return self.writers.shape[2]

    def reorder(self, rows: Tensor) -> KVCache:
        sentences, beams, _ = self.writers.shape
        keys, values = self.keys, self.values
        if len(rows) < sentences * beams:
            kept = rows[::beams] // beams
            keys, values = keys.index_select(0, kept), values.index_select(0, kept)
        return KVCache(keys, values, self.writers.flatten(0, 1).index_select(0, rows).unflatten(0, (-1, beams)))

    def next(self) -> KVCache:
        """The same with room for a position that each beam writes for itself."""
        sentences, beams, _ = self.writers.shape
        own = torch.arange(beams, device=self.writers.device)[:, None].expand(sentences, -1, 1)
        return self._replace(writers=torch.cat([self.writers, own], dim=2))

    def layer(self, number: int) -> tuple[Tensor, Tensor]:
        """[B,H,P*K,Dh] each: what a layer attends to."""
        used = self.position * self.writers.shape[1]
        return self.keys[:, number, :, :used], self.values[:, number, :, :used]

    def allowed(self) -> Tensor | None:
        """[B,1,K,P*K] which of them are a beam's own past; None when there is one beam."""
        beams = self.writers.shape[1]
        if beams == 1:
            return None
        own = self.writers[:, :, :, None] == torch.arange(beams, device=self.writers.device)  # [B,K,P,K]
        return own.flatten(2)[:, None]


class TransformerDecoder(Decoder[KVCache]):
    """A known target is read at once: causal attention needs no mask, since padding is always in the future."""

    def __init__(
        self, config: TransformerDecoderConfig, embedding: TokenEmbedding, memory_width: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.width = config.width
        self.place = Placed(build_positions(config), dropout)
        layers = nn.ModuleList(DecoderLayer(config, n, memory_width, dropout) for n in range(1, config.layers + 1))
        self.layers = cast("Sequence[DecoderLayer]", layers)
        self.norm = nn.LayerNorm(config.width) if config.norm == "pre" else nn.Identity()
        # The last layer but one, as in Garg et al. 2019; that the step which writes a word knows best was measured.
        self.alignment = Alignment(f"decoder.{max(1, config.layers - 1)}.cross", "output")

    def prepare(self, memory: Memory) -> tuple[Tensor, ...]:
        return tuple(part for layer in self.layers for part in layer.cross.keys(memory.states))  # 2L times [B,H,S,Dh]

    def start(self, source: Source, rows: int, steps: int) -> KVCache:
        sentences, heads, _, width = source.keys[0].shape
        beams = rows // sentences
        keys, values = (
            source.keys[0].new_empty(sentences, len(self.layers), heads, steps * beams, width) for _ in range(2)
        )
        nothing = torch.empty(sentences, beams, 0, dtype=torch.int64, device=keys.device)
        return KVCache(keys, values, nothing)

    def step(self, tokens: Tensor, state: KVCache, source: Source) -> tuple[Features, KVCache]:
        here = torch.full((1,), state.position, device=tokens.device)  # where all beams stand
        state = state.next()
        allowed = state.allowed()

        def look_back(number: int, layer: DecoderLayer) -> LookBack:
            keys, values = state.layer(number)
            return lambda states: layer.attention.step(states, keys, values, allowed)

        tokens = tokens.view(len(source.memory.states), -1)  # [B,K]
        return self._read(tokens, here, source, list(itertools.starmap(look_back, enumerate(self.layers)))), state

    def decode(self, tgt_in: Tensor, source: Source, probe: Probe | None = None) -> Features:
        def look_back(layer: DecoderLayer) -> LookBack:
            return lambda states: layer.attention(states, causal=True, probe=probe)

        positions = torch.arange(tgt_in.shape[1], device=tgt_in.device)
        return self._read(tgt_in, positions, source, [look_back(layer) for layer in self.layers], probe)

    def _read(
        self,
        tokens: Tensor,
        positions: Tensor,
        source: Source,
        look_back: list[LookBack],
        probe: Probe | None = None,
    ) -> Features:
        """tokens [B,Q] at `positions` [Q], or [1] for all."""
        embedded = self.embedding.lookup(tokens)  # [B,Q,D]
        states = self.place(embedded, positions)
        keys = zip(source.keys[::2], source.keys[1::2], strict=True)
        for layer, pair, past in zip(self.layers, keys, look_back, strict=True):
            states = layer(states, pair, source.memory.mask, look_back=past, probe=probe)
        return Features(self.norm(states), None, embedded, None)
