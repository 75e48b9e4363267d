"""Attention over the source: what is done with a scorer's scores.

Masking, softmax and the weighted sum are the same for all scorers. Shapes: see the legend in `interface.py`.
"""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nmt.config import AdditiveConfig, CustomConfig, DotConfig, GeneralConfig, ScaledDotConfig, ScorerConfig
from nmt.models.custom import build_custom
from nmt.models.interface import Memory, Probe
from nmt.models.layers import room
from nmt.models.scorers import Additive, Dot, General, ScaledDot, Scorer

MOST_KEPT = 1 << 25
"""Numbers that scorers may keep for a backward pass on a CPU, like the hidden layers of additive attention [B,T,S,A];
beyond that queries are scored in parts, and what was not kept is made again. Elsewhere `room` for more."""


def build_scorer(config: ScorerConfig, query_width: int, memory_width: int) -> Scorer:
    match config:
        case DotConfig():
            return Dot(query_width, memory_width)
        case ScaledDotConfig():
            return ScaledDot(query_width, memory_width)
        case GeneralConfig():
            return General(query_width, memory_width)
        case AdditiveConfig():
            return Additive(query_width, memory_width, config.width, coverage=config.coverage)
        case CustomConfig():
            return build_custom(config, query_width, memory_width)
        case _:
            assert_never(config)


class Attention(nn.Module):
    """Scores -> weights that sum to 1 over the real source positions -> their weighted mean of the memory."""

    def __init__(self, scorer: Scorer, name: str) -> None:
        super().__init__()
        self.scorer = scorer
        self.name = name

    def keys(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """What is scored, [B,1,S,Dk], and what is weighed, [B,1,S,D]; made once per sentence."""
        return self.scorer.keys(memory.states)[:, None], memory.states[:, None]

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        probe: Probe | None = None,
        history: Tensor | None = None,
        *,
        calls: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """[B,Q,D], [B,H,S,Dk], [B,H,S,Dv], [B,S] -> context [B,Q,H*Dv], weights [B,Q,S], the mean over the heads
        (float32, padding exactly 0).

        `history` [B,Q,S]: the sum of the weights given out before, for a scorer that uses it, and for no other.
        `calls`: how many like this one share a backward pass.
        """
        if (history is not None) != self.scorer.uses_history:
            raise ValueError("a scorer that uses history must be given it, and no other one")
        heads = keys.shape[1]
        queries = self.split(query, heads).flatten(0, 1)  # [B*H,Q,Dq]
        past = None if history is None else history[:, None].expand(-1, heads, -1, -1).flatten(0, 1)  # [B*H,Q,S]
        # A softmax in bfloat16 does not sum to 1 within 1e-3.
        scores = self._scores(queries, keys.flatten(0, 1), past, calls).unflatten(0, (-1, heads)).float()  # [B,H,Q,S]
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        if probe is not None:
            weights = probe(self.name, weights, values.transpose(1, 2).flatten(2))
        context = weights.to(values.dtype) @ values  # [B,H,Q,Dv]
        return context.transpose(1, 2).flatten(2), weights.mean(dim=1)

    def _scores(self, query: Tensor, keys: Tensor, history: Tensor | None, calls: int) -> Tensor:
        """The scorer's, in parts where what it keeps would be too much."""
        kept, most = self.scorer.kept(keys), room(MOST_KEPT, keys.device)
        past = () if history is None else (history,)  # who does not use it need not take it
        if kept * query.shape[1] * calls <= most:
            return self.scorer.score(query, keys, *past)
        rows = max(1, most // kept)
        parts = zip(query.split(rows, dim=1), *(before.split(rows, dim=1) for before in past), strict=True)
        scores = [checkpoint(self.scorer.score, some, keys, *before, use_reentrant=False) for some, *before in parts]
        return torch.cat(scores, dim=1)

    def split(self, query: Tensor, heads: int) -> Tensor:
        """[B,Q,D] -> [B,H,Q,Dq]"""
        return query[:, None]


class ManyHeads(Attention):
    """The same in H subspaces (Vaswani et al. 2017, section 3.2.2), with any scorer: each head has its own projections
    of query, keys and values; the parameters of the scorer itself are shared."""

    def __init__(self, scorer: Scorer, name: str, heads: int, query_width: int, memory_width: int) -> None:
        super().__init__(scorer, name)
        self.heads = heads
        self.query = nn.Linear(query_width, query_width, bias=False)
        self.key = nn.Linear(memory_width, query_width, bias=False)
        self.value = nn.Linear(memory_width, memory_width, bias=False)

    def keys(self, memory: Memory) -> tuple[Tensor, Tensor]:
        keys, values = (
            part(memory.states).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.key, self.value)
        )
        return self.scorer.keys(keys.flatten(0, 1)).unflatten(0, (-1, self.heads)), values

    def split(self, query: Tensor, heads: int) -> Tensor:
        return self.query(query).unflatten(-1, (heads, -1)).transpose(1, 2)


def build_attention(config: ScorerConfig, query_width: int, memory_width: int, name: str) -> Attention:
    if config.heads == 1:
        return Attention(build_scorer(config, query_width, memory_width), name)
    size = query_width // config.heads
    return ManyHeads(build_scorer(config, size, size), name, config.heads, query_width, memory_width)
