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


def split(states: Tensor, heads: int) -> Tensor:
    """[B,L,D] -> [B,H,L,Dh]"""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(states: Tensor) -> Tensor:
    """[B,H,L,Dh] -> [B,L,D]"""
    return states.transpose(1, 2).flatten(2)


class MultiHead(nn.Module):
    """softmax(Q K' / sqrt(Dh)) V in each head (equation 1): what self- and cross-attention have in common."""

    def __init__(self, width: int, heads: int, rate: float, name: str) -> None:
        super().__init__()
        self.heads, self.name = heads, name
        self.dropout = Dropout(rate)
        self.output = nn.Linear(width, width)

    def attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        probe: Probe | None = None,
    ) -> Tensor:
        """[B,Q,D], [B,S,D], [B,S,D] -> [B,Q,D]. `mask` [B,S]: which positions may be looked at; `causal`: position q
        may look at those up to q."""
        q, k, v = (split(states, self.heads) for states in (query, keys, values))  # [B,H,.,Dh]
        allowed = None if mask is None else mask[:, None, None]  # [B,1,1,S]
        rate = self.dropout.p if self.training else 0.0
        # On a CPU the fused kernel knows no dropout and takes up to three times as long as products in bfloat16.
        if probe is None and (q.device.type != "cpu" or (rate == 0.0 and q.dtype == torch.float32)):
            mixed = scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=rate, is_causal=causal)
            return self.output(merge(mixed))
        scores = (q @ k.transpose(2, 3)).float() / math.sqrt(q.shape[-1])  # [B,H,Q,S]
        if causal:
            allowed = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        weights = self.dropout(torch.softmax(scores, dim=-1))
        if probe is not None:
            weights = probe(self.name, weights, values)
        return self.output(merge(weights.to(v.dtype) @ v))


class SelfAttention(MultiHead):
    """Queries, keys and values are three projections of one sequence, made by one product."""

    def __init__(self, width: int, heads: int, rate: float, name: str) -> None:
        super().__init__(width, heads, rate, name)
        self.qkv = nn.Linear(width, 3 * width)

    def forward(
        self, states: Tensor, *, mask: Tensor | None = None, causal: bool = False, probe: Probe | None = None
    ) -> Tensor:
        """[B,L,D] -> [B,L,D]"""
        query, keys, values = self.qkv(states).chunk(3, dim=-1)
        return self.attend(query, keys, values, mask=mask, causal=causal, probe=probe)

    def step(self, states: Tensor, cache: Tensor) -> Tensor:
        """One position, [N,1,D] -> [N,1,D]. `cache` [N,P,2,D] has the keys and values of the P - 1 positions before
        it; its own are written into the last place."""
        query, keys, values = self.qkv(states).chunk(3, dim=-1)
        cache[:, -1, 0], cache[:, -1, 1] = keys[:, 0], values[:, 0]
        return self.attend(query, cache[:, :, 0], cache[:, :, 1])


class CrossAttention(MultiHead):
    """Queries from the decoder; keys and values from the memory, made once per sentence."""

    def __init__(self, width: int, heads: int, memory_width: int, rate: float, name: str) -> None:
        super().__init__(width, heads, rate, name)
        self.query = nn.Linear(width, width)
        self.kv = nn.Linear(memory_width, 2 * width)

    def forward(self, states: Tensor, kv: Tensor, mask: Tensor | None, probe: Probe | None = None) -> Tensor:
        """[B,Q,D], [B,S,2D] -> [B,Q,D]"""
        keys, values = kv.chunk(2, dim=-1)
        return self.attend(self.query(states), keys, values, mask=mask, probe=probe)
