"""The transformer (Vaswani et al. 2017) as an encoder and a decoder.

Shapes: see the legend in `interface.py`; L layers, P positions written, Dh = D/H features of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, assert_never, cast

import torch
from torch import Tensor, nn

from nmt.config import DecoderPointer, TransformerDecoderConfig, TransformerEncoderConfig
from nmt.data.batch import Padded
from nmt.models.interface import Alignment, Decoder, Encoder, Features, Memory, Probe, Source
from nmt.models.layers import Dropout, TokenEmbedding
from nmt.models.multihead import BasicSelfAttention, CrossAttention, SelfAttention
from nmt.models.positions import Places, Positions, build_positions


class Residual(nn.Module):
    """A part of a layer, around which its input flows on: x + part(norm(x)), or, as in the paper, norm(x + part(x)).

    With the norm first the path from input to output is free, and deep models train without care (Xiong et al. 2020).
    """

    def __init__(self, config: TransformerEncoderConfig, dropout: float) -> None:
        super().__init__()
        self.norm = build_norm(config)
        self.first = config.norm == "pre"
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.first:
            return states + self.dropout(part(self.norm(states)))
        return self.norm(states + self.dropout(part(states)))


class Placed(nn.Module):
    """Embeddings, told where they stand if a vector tells it."""

    def __init__(self, positions: Positions, dropout: float) -> None:
        super().__init__()
        self.positions = positions
        self.dropout = Dropout(dropout)

    def forward(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """[B,Q,D], [Q] -> [B,Q,D]"""
        vectors = self.positions.embed(positions)
        return self.dropout(embedded if vectors is None else embedded + vectors.to(embedded.dtype))


class FeedForward(nn.Module):
    """W2 f(W1 x + b1) + b2, at each position by itself (section 3.3), f being ReLU or GELU; or SwiGLU, which is
    W2 (silu(W1 x) * (W3 x)) (Shazeer 2020)."""

    def __init__(self, config: TransformerEncoderConfig) -> None:
        super().__init__()
        self.activation = config.activation
        inner = config.feed_forward
        self.inner = nn.Linear(config.width, 2 * inner if self.activation == "swiglu" else inner, config.bias)
        self.outer = nn.Linear(inner, config.width, config.bias)
        self.dropout = Dropout(config.activation_dropout)

    def forward(self, states: Tensor) -> Tensor:
        return self.outer(self.dropout(self._activated(self.inner(states))))

    def _activated(self, inner: Tensor) -> Tensor:
        match self.activation:
            case "relu":
                return torch.relu(inner)
            case "gelu":
                return nn.functional.gelu(inner)
            case "swiglu":
                gate, values = inner.chunk(2, dim=-1)
                return nn.functional.silu(gate) * values
            case _:
                assert_never(self.activation)


def build_norm(config: TransformerEncoderConfig) -> nn.Module:
    return nn.LayerNorm(config.width) if config.normalization == "layer" else nn.RMSNorm(config.width)


def build_self_attention(config: TransformerEncoderConfig, name: str) -> SelfAttention:
    if config.attention == "basic":
        return BasicSelfAttention(config.heads, config.attention_dropout, name)
    return SelfAttention(config.width, config.heads, config.attention_dropout, name, bias=config.bias)


class EncoderLayer(nn.Module):
    def __init__(self, config: TransformerEncoderConfig, number: int, dropout: float) -> None:
        super().__init__()
        self.attention = build_self_attention(config, f"encoder.{number}.self")
        self.around_attention = Residual(config, dropout)
        self.feed_forward = FeedForward(config) if config.feed_forward else None
        self.around_feed_forward = Residual(config, dropout) if config.feed_forward else None

    def forward(self, states: Tensor, places: Places, mask: Tensor | None, probe: Probe | None) -> Tensor:
        states = self.around_attention(states, lambda x: self.attention(x, places, mask=mask, probe=probe))
        if self.feed_forward is None or self.around_feed_forward is None:
            return states
        return self.around_feed_forward(states, self.feed_forward)


class TransformerEncoder(Encoder):
    def __init__(self, config: TransformerEncoderConfig, embedding: TokenEmbedding, dropout: float) -> None:
        super().__init__()
        self.embedding, self.spells = embedding, embedding.ngrams is not None
        self.place = Placed(build_positions(config), dropout)
        self.layers = nn.ModuleList(EncoderLayer(config, n, dropout) for n in range(1, config.layers + 1))
        self.norm = build_norm(config) if config.norm == "pre" else nn.Identity()

    def forward(self, src: Padded, probe: Probe | None = None) -> Memory:
        states, mask = self.embedding.lookup(src.ids, src.spelled), src.mask  # [B,S,D]
        positions = torch.arange(states.shape[1], device=states.device)
        states, places = self.place(states, positions), self.place.positions.places(positions, positions)
        for layer in self.layers:
            states = layer(states, places, mask, probe)
        states = self.norm(states)
        if mask is not None:
            states = states * mask[:, :, None]
        return Memory(states, mask, states.sum(dim=1) / src.lengths[:, None])  # their mean as the summary

    def fusible(self) -> Iterable[nn.Module]:
        return self.layers


class DecoderLayer(nn.Module):
    def __init__(self, config: TransformerDecoderConfig, number: int, memory_width: int, dropout: float) -> None:
        super().__init__()
        width, heads, rate = config.width, config.heads, config.attention_dropout
        self.attention = build_self_attention(config, f"decoder.{number}.self")
        self.around_attention = Residual(config, dropout)
        self.cross = CrossAttention(width, heads, memory_width, rate, f"decoder.{number}.cross", bias=config.bias)
        self.around_cross = Residual(config, dropout)
        self.feed_forward = FeedForward(config) if config.feed_forward else None
        self.around_feed_forward = Residual(config, dropout) if config.feed_forward else None

    def forward(
        self,
        states: Tensor,
        places: Places,
        past: Past | None,
        keys: tuple[Tensor, Tensor],
        mask: Tensor | None,
        probe: Probe | None = None,
    ) -> Tensor:
        """[B,Q,D]: a known target, or, after a `past`, one step. `keys` are those of the memory, and its values."""

        def look_back(states: Tensor) -> Tensor:
            if past is None:
                return self.attention(states, places, causal=True, probe=probe)
            return self.attention.step(states, places, *past)

        states = self.around_attention(states, look_back)
        states = self.around_cross(states, lambda x: self.cross(x, *keys, mask, probe))
        if self.feed_forward is None or self.around_feed_forward is None:
            return states
        return self.around_feed_forward(states, self.feed_forward)


class Past(NamedTuple):
    """What self-attention looks back at in one step: see `SelfAttention.step`."""

    keys: Tensor  # [B,H,P*K,Dh]
    values: Tensor  # [B,H,P*K,Dh]
    allowed: Tensor | None  # [B,1,K,P*K]


class Listener:
    """A probe that keeps the weights [B,Q,S] of one head (from 1), or the mean over all; another may come before it."""

    def __init__(self, head: int | None, other: Probe | None) -> None:
        self.head, self.other = head, other
        self.weights: Tensor | None = None

    def __call__(self, name: str, weights: Tensor, values: Tensor) -> Tensor:
        if self.other is not None:
            weights = self.other(name, weights, values)
        self.weights = weights.mean(dim=1) if self.head is None else weights[:, self.head - 1]
        return weights


class KVCache(NamedTuple):
    """Keys and values of all layers, of all beams at all positions, in storage made once for all steps.

    Nothing moves when beams change places: each beam has a list of which beam of its sentence wrote each position of
    its past, and attends to those only. That costs scores of K times as many positions, which are small beside the
    projections, and saves a copy of the whole cache at every step.
    """

    keys: Tensor  # [L,B,H,steps*K,Dh]: sentences and heads of a layer lie together, as batched products want them
    values: Tensor  # [L,B,H,steps*K,Dh]
    writers: Tensor  # [B,K,P] the beams that wrote the P positions of each beam's past

    @property
    def position(self) -> int:
        """How many positions are written, which is the next one's number."""
        return self.writers.shape[2]

    def reorder(self, rows: Tensor) -> KVCache:
        sentences, beams, _ = self.writers.shape
        keys, values = self.keys, self.values
        if len(rows) < sentences * beams:
            kept = rows[::beams] // beams
            keys, values = keys.index_select(1, kept), values.index_select(1, kept)
        return KVCache(keys, values, self.writers.flatten(0, 1).index_select(0, rows).unflatten(0, (-1, beams)))

    def next(self) -> KVCache:
        """The same with room for a position that each beam writes for itself."""
        sentences, beams, _ = self.writers.shape
        own = torch.arange(beams, device=self.writers.device)[:, None].expand(sentences, -1, 1)
        return self._replace(writers=torch.cat([self.writers, own], dim=2))

    def layers(self) -> list[Past]:
        """What each layer attends to: all that is written, of which a beam sees its own past."""
        used, own = self.position * self.writers.shape[1], self._own()
        return [
            Past(self.keys[number, :, :, :used], self.values[number, :, :, :used], own)
            for number in range(len(self.keys))
        ]

    def _own(self) -> Tensor | None:
        """[B,1,K,P*K] what is a beam's own past; None when there is one beam."""
        beams = self.writers.shape[1]
        if beams == 1:
            return None
        own = self.writers[:, :, :, None] == torch.arange(beams, device=self.writers.device)  # [B,K,P,K]
        return own.flatten(2)[:, None]


class TransformerDecoder(Decoder[KVCache]):
    """A known target is read at once: causal attention needs no mask, since padding is always in the future."""

    def __init__(
        self,
        config: TransformerDecoderConfig,
        embedding: TokenEmbedding,
        memory_width: int,
        dropout: float,
        pointer: DecoderPointer | None = None,
        *,
        guided: bool = False,
    ) -> None:
        """`pointer`: whose weights are given out as `Features.weights`; nobody's by default. `guided`: it is taught to
        align, so it knows best where words come from."""
        super().__init__()
        self.embedding = embedding
        self.width = config.width
        self.place = Placed(build_positions(config), dropout)
        layers = nn.ModuleList(DecoderLayer(config, n, memory_width, dropout) for n in range(1, config.layers + 1))
        self.layers = cast("Sequence[DecoderLayer]", layers)
        self.norm = build_norm(config) if config.norm == "pre" else nn.Identity()
        # The last layer but one, as in Garg et al. 2019; that the step which writes a word knows best was measured.
        usual = max(1, config.layers - 1)
        self.pointer = pointer
        self.pointing = f"decoder.{usual if pointer is None or pointer.layer is None else pointer.layer}.cross"
        self.alignment = Alignment(f"decoder.{usual}.cross", "output")
        if guided and pointer is not None:
            self.alignment = Alignment(self.pointing, "output", pointer.head)

    def fusible(self) -> Iterable[nn.Module]:
        return self.layers

    def prepare(self, memory: Memory) -> tuple[Tensor, ...]:
        return tuple(part for layer in self.layers for part in layer.cross.keys(memory.states))  # 2L times [B,H,S,Dh]

    def start(self, source: Source, rows: int, steps: int) -> KVCache:
        sentences, heads, _, width = source.keys[0].shape
        beams = rows // sentences
        keys, values = (
            source.keys[0].new_empty(len(self.layers), sentences, heads, steps * beams, width) for _ in range(2)
        )
        nothing = torch.empty(sentences, beams, 0, dtype=torch.int64, device=keys.device)
        return KVCache(keys, values, nothing)

    def step(self, tokens: Tensor, state: KVCache, source: Source) -> tuple[Features, KVCache]:
        tokens = tokens.view(len(source.memory.states), -1)  # [B,K]
        here = torch.full((1,), state.position, device=tokens.device)  # where all beams stand
        state = state.next()
        written = torch.arange(state.position, device=tokens.device).repeat_interleave(tokens.shape[1])  # [P*K]
        places = self.place.positions.places(here, written)
        return self._read(tokens, here, places, state.layers(), source), state

    def decode(self, tgt_in: Tensor, source: Source, probe: Probe | None = None) -> Features:
        positions = torch.arange(tgt_in.shape[1], device=tgt_in.device)
        places = self.place.positions.places(positions, positions)
        return self._read(tgt_in, positions, places, [None] * len(self.layers), source, probe)

    def _read(
        self,
        tokens: Tensor,
        positions: Tensor,
        places: Places,
        pasts: Sequence[Past | None],
        source: Source,
        probe: Probe | None = None,
    ) -> Features:
        """tokens [B,Q] at `positions` [Q], or [1] for all; `pasts` as the layers have them."""
        embedded = self.embedding.lookup(tokens)  # [B,Q,D]
        states = self.place(embedded, positions)
        keys = zip(source.keys[::2], source.keys[1::2], strict=True)
        listener = None if self.pointer is None else Listener(self.pointer.head, probe)
        for layer, past, pair in zip(self.layers, pasts, keys, strict=True):
            heard_by = listener if listener is not None and layer.cross.name == self.pointing else probe
            states = layer(states, places, past, pair, source.memory.mask, heard_by)
        return Features(self.norm(states), None, embedded, None if listener is None else listener.weights)
