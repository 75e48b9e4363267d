"""Attention with many heads (Vaswani et al. 2017, section 3.2): to the sequence itself, and to another.

The fused kernels of PyTorch do the work, and weights never exist, unless a probe wants them or products are faster.
Shapes: see the legend in `interface.py`; Dh = D/H features of a head, L positions of a sequence.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from nmt.models.interface import Probe
from nmt.models.layers import Dropout
from nmt.models.positions import Places, turned


class MultiHead(nn.Module):
    """softmax(Q K' / sqrt(Dh)) V in each head (equation 1): what self- and cross-attention have in common."""

    def __init__(self, heads: int, rate: float, name: str, output: nn.Module) -> None:
        """`rate` of dropout on weights; `name` for probes; `output` mixes what the heads bring, [B,Q,D] -> [B,Q,D]."""
        super().__init__()
        self.heads, self.name = heads, name
        self.dropout = Dropout(rate)
        self.output = output

    def split(self, states: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B,L,parts*D] -> parts times [B,H,L,Dh]"""
        return states.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        allowed: Tensor | None = None,
        causal: bool = False,
        bias: Tensor | None = None,
        probe: Probe | None = None,
    ) -> Tensor:
        """[B,H,Q,Dh], [B,H,S,Dh], [B,H,S,Dh] -> [B,Q,D]. What may be looked at: where `allowed` (broadcast to
        [B,H,Q,S]) says so, or, if `causal`, by position q those up to q. `bias` [H,Q,S] is added to the scores."""
        if bias is not None and causal:
            allowed, causal = lower_triangle(query, keys), False
        rate = self.dropout.p if self.training else 0.0
        # On a CPU the fused kernel knows no dropout and takes up to three times as long as products in bfloat16.
        if probe is None and (query.device.type != "cpu" or (rate == 0.0 and query.dtype == torch.float32)):
            mask = allowed
            if bias is not None:
                mask = bias.to(query.dtype)[None]
                mask = mask if allowed is None else mask.masked_fill(~allowed, -torch.inf)
            mixed = scaled_dot_product_attention(query, keys, values, attn_mask=mask, dropout_p=rate, is_causal=causal)
            return self.output(mixed.transpose(1, 2).flatten(2))
        scores = (query @ keys.transpose(2, 3)).float() / math.sqrt(query.shape[-1])  # [B,H,Q,S]
        if bias is not None:
            scores = scores + bias
        if causal:
            allowed = lower_triangle(query, keys)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        if probe is not None:
            weights = probe(self.name, weights, values.transpose(1, 2).flatten(2))
        weights = self.dropout(weights)
        return self.output((weights.to(values.dtype) @ values).transpose(1, 2).flatten(2))


def lower_triangle(query: Tensor, keys: Tensor) -> Tensor:
    """[Q,S]: position q may look at those up to q."""
    return torch.ones(query.shape[2], keys.shape[2], dtype=torch.bool, device=query.device).tril()


class SelfAttention(MultiHead):
    """Queries, keys and values are three projections of one sequence, made by one product."""

    def __init__(self, width: int, heads: int, rate: float, name: str, *, bias: bool = True) -> None:
        super().__init__(heads, rate, name, nn.Linear(width, width, bias))
        self.qkv = nn.Linear(width, 3 * width, bias)

    def forward(
        self,
        states: Tensor,
        places: Places,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        probe: Probe | None = None,
    ) -> Tensor:
        """[B,L,D] -> [B,L,D]; `mask` [B,L] says which positions are real."""
        query, keys, values = self._project(states, places)
        allowed = None if mask is None else mask[:, None, None]
        return self.attend(query, keys, values, allowed=allowed, causal=causal, bias=places.bias, probe=probe)

    def step(self, states: Tensor, places: Places, keys: Tensor, values: Tensor, allowed: Tensor | None) -> Tensor:
        """The next position of K beams, [B,K,D] -> [B,K,D].

        `keys` and `values` [B,H,P*K,Dh] are those of all beams at all positions; the last K places are free and are
        written here. `allowed` [B,1,K,P*K] says which of them are a beam's own past (None: all are)."""
        beams = states.shape[1]
        query, keys[:, :, -beams:], values[:, :, -beams:] = self._project(states, places)
        return self.attend(query, keys, values, allowed=allowed, bias=places.bias)

    def _project(self, states: Tensor, places: Places) -> tuple[Tensor, Tensor, Tensor]:
        """[B,L,D] -> queries, keys and values [B,H,L,Dh]."""
        query, keys, values = self.split(self.qkv(states), 3)
        if places.turn is not None:
            query, keys = turned(query, places.turn), turned(keys, places.turn)
        return query, keys, values


class BasicSelfAttention(SelfAttention):
    """Self-attention without parameters: each token's vector is query, key and value, and means of them come out."""

    def __init__(self, heads: int, rate: float, name: str) -> None:
        MultiHead.__init__(self, heads, rate, name, nn.Identity())

    def _project(self, states: Tensor, places: Places) -> tuple[Tensor, Tensor, Tensor]:
        (values,) = self.split(states, 1)
        keys = values if places.turn is None else turned(values, places.turn)
        return keys, keys, values


class CrossAttention(MultiHead):
    """Queries from the decoder; keys and values from the memory, made once per sentence."""

    def __init__(self, width: int, heads: int, memory_width: int, rate: float, name: str, *, bias: bool = True) -> None:
        super().__init__(heads, rate, name, nn.Linear(width, width, bias))
        self.query = nn.Linear(width, width, bias)
        self.kv = nn.Linear(memory_width, 2 * width, bias)

    def keys(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """[B,S,D of the memory] -> keys and values [B,H,S,Dh]."""
        keys, values = self.split(self.kv(memory), 2)
        return keys.contiguous(), values.contiguous()

    def forward(
        self, states: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, probe: Probe | None = None
    ) -> Tensor:
        """[B,Q,D], [B,H,S,Dh], [B,H,S,Dh], [B,S] -> [B,Q,D]"""
        (query,) = self.split(self.query(states), 1)
        allowed = None if mask is None else mask[:, None, None]
        return self.attend(query, keys, values, allowed=allowed, probe=probe)
