"""Heads: from what a decoder says to a distribution over the next token.

Shapes: see the legend in `interface.py`; R rows of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nmt.data.batch import PAD
from nmt.models.interface import Features, Head, Source, TokenLosses

CHUNK = 1 << 20
"""Logits that exist at a time, a compromise: matrix products want many rows, the passes over them a warm cache."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Cross entropy of a linear layer's softmax whose logits never exist beyond a chunk, in either direction.

    With z = W h + b, lse = log sum exp z: -log p(y) = lse - z_y, and the mean over the vocabulary of -log p is
    lse - mean z. Backward makes each chunk's logits again, from which dz = (a + u) softmax(z) - a onehot(y) - u / V,
    where a and u are the gradients that reach the two results.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        rows = max(1, CHUNK // len(weight))
        low, w, b = hidden.to(dtype), weight.to(dtype), bias.to(dtype)
        lse, of_label, of_mean = (hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(3))
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = torch.addmm(b, low[part], w.T).float()  # [R,V]
            log_probs = torch.log_softmax(logits, dim=-1)
            of_label[part] = -log_probs.gather(1, labels[part, None])[:, 0]
            of_mean[part] = -log_probs.mean(dim=-1)
            lse[part] = logits[:, 0] - log_probs[:, 0]
        ctx.save_for_backward(hidden, weight, bias, labels, lse)
        ctx.rows, ctx.dtype = rows, dtype
        return of_label, of_mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        hidden, weight, bias, labels, lse = ctx.saved_tensors
        of_label, of_mean = gradients
        dtype = ctx.dtype
        low, w, b = hidden.to(dtype), weight.to(dtype), bias.to(dtype)
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight, dtype=torch.float32)
        d_bias = torch.zeros_like(bias, dtype=torch.float32)
        for start in range(0, len(hidden), ctx.rows):
            part = slice(start, start + ctx.rows)
            d_logits = torch.addmm(b, low[part], w.T).float()  # [R,V]
            d_logits.sub_(lse[part, None]).exp_().mul_((of_label[part] + of_mean[part])[:, None])
            d_logits.sub_(of_mean[part, None] / len(weight))
            d_logits.scatter_add_(1, labels[part, None], -of_label[part, None])
            d_bias += d_logits.sum(dim=0)
            d_logits = d_logits.to(dtype)
            d_hidden[part] = d_logits @ w
            d_weight += d_logits.T @ low[part]
        return d_hidden, d_weight.to(weight.dtype), d_bias.to(bias.dtype), None, None


class VocabHead(Head):
    """softmax(W h + b) over the target vocabulary. W may be the target embedding, behind a projection to its width."""

    def __init__(self, width: int, size: int, table: nn.Embedding | None) -> None:
        super().__init__()
        tied = table is not None and table.embedding_dim != width
        self.project = nn.Linear(width, table.embedding_dim, bias=False) if tied and table is not None else None
        self.weight = table.weight if table is not None else nn.Parameter(torch.empty(size, width))
        if table is None:
            nn.init.normal_(self.weight, std=width**-0.5)
        self.bias = nn.Parameter(torch.zeros(size))

    def losses(self, features: Features, labels: Tensor, source: Source, smoothing: float) -> TokenLosses:
        hidden = self._projected(features)
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        nll, uniform = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden.flatten(0, 1), self.weight, self.bias, labels.flatten(), dtype
        )  # [B*T] each
        real = labels != PAD
        nll = nll.view_as(labels) * real
        # Label smoothing (Szegedy et al. 2016): a share of the target is spread evenly over the vocabulary.
        objective = (1 - smoothing) * nll + smoothing * uniform.view_as(labels) * real
        return TokenLosses(nll, objective)

    def log_probs(self, features: Features, source: Source) -> Tensor:
        logits = nn.functional.linear(self._projected(features), self.weight, self.bias)
        return torch.log_softmax(logits.float(), dim=-1)

    def _projected(self, features: Features) -> Tensor:
        return features.hidden if self.project is None else self.project(features.hidden)
