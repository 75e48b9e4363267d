"""A linear layer and the softmax over the vocabulary as one: logits never exist beyond a chunk, in either direction.

Training spends a third of its time here: gradients are written out, and backward makes each chunk's logits again.
Shapes: see the legend in `interface.py`; N target positions, R of them in a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nmt.models.layers import room

CHUNK = 1 << 21
"""Logits that exist at a time on a CPU, a compromise: matrix products want many rows, the passes over them a warm
cache. Elsewhere `room` for more."""
ROWS = 64
"""Rows of a chunk come in multiples of this. A CPU's bfloat16 kernels are slower for what is left over after blocks of
32, and are written anew, which takes longer than the product, for each number of rows that a batch has."""


class CrossEntropy(nn.Module):
    """-log p(label) and the mean of -log p over the vocabulary, where p = softmax(W h + b).

    Its two parts are what stands between the products, modules of their own so that a compiler can make of each one
    pass over the logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.likelihood, self.slope = Likelihood(), Slope()

    def forward(self, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """`hidden` [N,D], `weight` [V,D], `bias` [V], `labels` [N] -> [N] each, float32; products in the type of
        autocast."""
        filled = _filled(hidden.to(_dtype(hidden)))
        labels = nn.functional.pad(labels, (0, len(filled) - len(hidden)))
        parts = (self.likelihood, self.slope)
        nll, uniform = _CrossEntropy.apply(filled, weight, bias, labels, *parts)  # type: ignore[no-untyped-call]
        return nll[: len(hidden)], uniform[: len(hidden)]


def divergence(one: Tensor, other: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q) and KL(q || p), [N] each and float32, p being the softmax of W one + b and q that of W other + b.

    `one` and `other` [N,D], `weight` [V,D], `bias` [V]; products in the type of autocast.
    """
    dtype, positions = _dtype(one), len(one)
    one, other = _filled(one.to(dtype)), _filled(other.to(dtype))
    there, back = _Divergence.apply(one, other, weight, bias)  # type: ignore[no-untyped-call]
    return there[:positions], back[:positions]


class Likelihood(nn.Module):
    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[R,V], [R] -> -log p(label), the mean of -log p, and log sum exp of the logits, [R] each."""
        log_probs, lse = _normalised(logits)
        return -log_probs.gather(1, labels[:, None])[:, 0], -log_probs.mean(dim=-1), lse


class Slope(nn.Module):
    def forward(self, logits: Tensor, lse: Tensor, labels: Tensor, of_label: Tensor, of_mean: Tensor) -> Tensor:
        """[R,V] and what is known of each row -> the gradient [R,V] of the logits, float32."""
        d_logits = logits.float().sub_(lse[:, None]).exp_().mul_((of_label + of_mean)[:, None])
        d_logits.sub_(of_mean[:, None] / logits.shape[1])
        return d_logits.scatter_add_(1, labels[:, None], -of_label[:, None])


class _CrossEntropy(torch.autograd.Function):
    """With z = W h + b, lse = log sum exp z: -log p(y) = lse - z_y, and the mean over the vocabulary of -log p is
    lse - mean z. dz = (a + u) softmax(z) - a onehot(y) - u / V, where a and u are the gradients that reach the two
    results.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: Tensor,
        likelihood: Likelihood,
        slope: Slope,
    ) -> tuple[Tensor, Tensor]:
        w, b = weight.to(hidden.dtype), bias.to(hidden.dtype)
        lse, of_label, of_mean = (hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(3))
        for part in _chunks(hidden, weight):
            of_label[part], of_mean[part], lse[part] = likelihood(torch.addmm(b, hidden[part], w.T), labels[part])
        ctx.save_for_backward(hidden, weight, bias, labels, lse)
        ctx.slope = slope
        return of_label, of_mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, labels, lse = ctx.saved_tensors
        of_label, of_mean = gradients
        w, b = weight.to(hidden.dtype), bias.to(hidden.dtype)
        d_hidden = torch.empty_like(hidden)
        d_weight, d_bias = (torch.zeros_like(tensor, dtype=torch.float32) for tensor in (weight, bias))
        for part in _chunks(hidden, weight):
            logits = torch.addmm(b, hidden[part], w.T)
            d_logits = ctx.slope(logits, lse[part], labels[part], of_label[part], of_mean[part])
            d_hidden[part] = _into_layer(d_logits, hidden[part], w, d_weight, d_bias)
        return d_hidden, d_weight.to(weight.dtype), d_bias.to(bias.dtype), None, None, None


class _Divergence(torch.autograd.Function):
    """With d = log p - log q: KL(p || q) = sum p d and KL(q || p) = - sum q d. Where a and b are the gradients that
    reach the two results, dz = a p (d - KL(p || q)) + b (p - q) for the logits of p, and
    b q (- d - KL(q || p)) + a (q - p) for those of q.
    """

    @staticmethod
    def forward(ctx: Any, one: Tensor, other: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        w, b = weight.to(one.dtype), bias.to(one.dtype)
        there, back, lse, lse_other = (one.new_empty(len(one), dtype=torch.float32) for _ in range(4))
        for part in _chunks(one, weight):
            p, lse[part] = _normalised(torch.addmm(b, one[part], w.T))
            q, lse_other[part] = _normalised(torch.addmm(b, other[part], w.T))
            apart = p - q
            there[part] = p.exp_().mul_(apart).sum(dim=-1)
            back[part] = -q.exp_().mul_(apart).sum(dim=-1)
        ctx.save_for_backward(one, other, weight, bias, there, back, lse, lse_other)
        return there, back

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one, other, weight, bias, there, back, lse, lse_other = ctx.saved_tensors
        of_there, of_back = (gradient[:, None] for gradient in gradients)
        w, b = weight.to(one.dtype), bias.to(one.dtype)
        d_one, d_other = torch.empty_like(one), torch.empty_like(other)
        d_weight, d_bias = (torch.zeros_like(tensor, dtype=torch.float32) for tensor in (weight, bias))
        for part in _chunks(one, weight):
            p = torch.addmm(b, one[part], w.T).float().sub_(lse[part, None])  # [R,V]
            q = torch.addmm(b, other[part], w.T).float().sub_(lse_other[part, None])
            apart = p - q
            p.exp_()
            q.exp_()
            more = p - q
            a, u = of_there[part], of_back[part]
            p.mul_((apart - there[part, None]).mul_(a)).addcmul_(more, u)
            q.mul_((apart + back[part, None]).mul_(-u)).addcmul_(more, a, value=-1)
            d_one[part] = _into_layer(p, one[part], w, d_weight, d_bias)
            d_other[part] = _into_layer(q, other[part], w, d_weight, d_bias)
        return d_one, d_other, d_weight.to(weight.dtype), d_bias.to(bias.dtype)


def _dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _filled(hidden: Tensor) -> Tensor:
    """[N,D] with zeros behind up to a multiple of ROWS, where that is faster."""
    if hidden.device.type != "cpu" or hidden.dtype != torch.bfloat16:
        return hidden
    return nn.functional.pad(hidden, (0, 0, 0, -len(hidden) % ROWS))


def _chunks(hidden: Tensor, weight: Tensor) -> Iterator[slice]:
    rows = max(1, room(CHUNK, hidden.device) // len(weight))
    rows -= rows % ROWS if rows > ROWS else 0
    return (slice(start, start + rows) for start in range(0, len(hidden), rows))


def _normalised(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities [R,V] and what was taken from the logits for them, [R]."""
    logits = logits.float()
    log_probs = torch.log_softmax(logits, dim=-1)
    return log_probs, logits[:, 0] - log_probs[:, 0]


def _into_layer(d_logits: Tensor, hidden: Tensor, weight: Tensor, d_weight: Tensor, d_bias: Tensor) -> Tensor:
    """Adds to the layer's gradients, and gives that of `hidden` [R,D]."""
    d_bias += d_logits.sum(dim=0)
    d_logits = d_logits.to(hidden.dtype)
    d_weight += d_logits.T @ hidden
    return d_logits @ weight
