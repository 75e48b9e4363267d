"""Heads: from what a decoder says to a distribution over the next token, of the vocabulary or of the source's words.

Shapes: see the legend in `interface.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nmt.data.batch import PAD, UNK
from nmt.models import softmax
from nmt.models.attention import Attention
from nmt.models.interface import Features, Forced, Head, Memory, Probe, Source, Subset, TokenLosses
from nmt.models.layers import room

ROWS = 256
"""Target positions whose distributions exist at a time on a CPU where two are compared; elsewhere `room` for more."""


def divergence(head: Head, one: Forced, other: Forced) -> tuple[Tensor, Tensor]:
    """`Head.divergence` by the head's own log-probabilities, some sentences at a time, and again for backward."""
    device, length = one.labels.device, one.labels.shape[1]
    sentences = torch.arange(len(one.labels), device=device).split(max(1, room(ROWS, device) // length))
    parts = [
        checkpoint(
            _divergence, head, one.select(some), other.select(some), use_reentrant=False, preserve_rng_state=False
        )
        for some in sentences
    ]
    there, back = zip(*parts, strict=True)
    return torch.cat(there), torch.cat(back)


def _divergence(head: Head, one: Forced, other: Forced) -> tuple[Tensor, Tensor]:
    # What nothing supports has no probability; here it has 1e-38, as in the losses, so that differences are finite.
    p, q = (head.log_probs(said.features, said.source).clamp_min(math.log(LEAST)) for said in (one, other))
    apart = (p - q) * (one.labels != PAD)[:, :, None]
    return (p.exp() * apart).sum(dim=-1), -(q.exp() * apart).sum(dim=-1)


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
        self.softmax = softmax.CrossEntropy()
        self.packed: nn.Module | None = None  # W and b once more, see `packed.pack`

    def losses(self, features: Features, labels: Tensor, source: Source, smoothing: float) -> TokenLosses:
        return smoothed(*self.cross_entropy(features, labels), labels, smoothing)

    def fusible(self) -> Iterable[nn.Module]:
        return self.softmax.children()

    def divergence(self, one: Forced, other: Forced) -> tuple[Tensor, Tensor]:
        p, q = (self._projected(said.features).flatten(0, 1) for said in (one, other))
        real = one.labels != PAD
        there, back = softmax.divergence(p, q, self.weight, self.bias)  # [B*T] each
        return there.view_as(real) * real, back.view_as(real) * real

    def cross_entropy(self, features: Features, labels: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(label) and the mean of -log p over the vocabulary, [B,T] each, padding included."""
        hidden = self._projected(features).flatten(0, 1)
        nll, uniform = self.softmax(hidden, self.weight, self.bias, labels.flatten())  # [B*T] each
        return nll.view_as(labels), uniform.view_as(labels)

    def subset(self, tokens: Tensor) -> Subset:
        absent = (tokens == PAD) | (tokens >= len(self.bias))  # what fills up, and words of the source beyond V
        absent[:, PAD] = False
        known = tokens.masked_fill(absent, PAD)
        return Subset(tokens, self.weight[known], self.bias[known].masked_fill(absent, -torch.inf))

    def log_probs(self, features: Features, source: Source, subset: Subset | None = None) -> Tensor:
        hidden = self._projected(features)
        if subset is None:
            packed = self.packed
            logits = nn.functional.linear(hidden, self.weight, self.bias) if packed is None else packed(hidden)
        else:
            logits = torch.baddbmm(subset.bias[:, None], hidden, subset.weights.transpose(1, 2))  # [B,Q,C]
        return torch.log_softmax(logits.float(), dim=-1)

    def _projected(self, features: Features) -> Tensor:
        return features.hidden if self.project is None else self.project(features.hidden)


class Mixture(NamedTuple):
    """How probability is shared between generating and copying: with the sum of a row of `copied`, they make 1."""

    log_generate: Tensor  # [B,Q,1] log-probability of taking the next token from the vocabulary
    copied: Tensor  # [B,Q,S] probability of copying each source position


class Gate(nn.Module):
    """sigmoid(w' [hidden; context; embedded] + b), the probability of generating (See et al. 2017, equation 8)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, features: Features, context: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [B,Q,1] of generating and of copying; `context` [B,Q,D] is what the pointer brought."""
        score = self.linear(torch.cat([features.hidden, context, features.embedded], dim=-1)).float()
        return nn.functional.logsigmoid(score), nn.functional.logsigmoid(-score)


class CopyHead(Head):
    """p(y) = g softmax(W h + b)[y] + (1 - g) sum of a_s over the source positions s that hold y.

    The words of the source that the vocabulary lacks have ids from V on in this sentence, `Source.copy_ids`; those in
    it are made both ways. a is the decoder's attention, or one of the head's own. The gate g is

    fixed: 1/2, the plain average of two distributions;
    learned: see `Gate` (pointer-generator networks, See et al. 2017);
    sentinel: the weight of one more slot, a learned vector beside the memory, for which the head's own attention has
      one softmax (Merity et al. 2016).

    Everything that a loss is made of stays in log space, and a label that nothing supports costs 87 nats, the
    logarithm of the least number of its type, not infinitely many.
    """

    copies = True

    def __init__(
        self,
        vocabulary: VocabHead,
        pointer: Attention | None,
        gate: Literal["fixed", "learned", "sentinel"],
        *,
        gate_width: int,
        memory_width: int,
    ) -> None:
        """`pointer`: None = what the decoder points with. `gate_width` = hidden + memory + embedding."""
        super().__init__()
        self.vocabulary = vocabulary
        self.pointer = pointer
        self.gate = Gate(gate_width) if gate == "learned" else None
        self.sentinel = nn.Parameter(torch.randn(memory_width) * memory_width**-0.5) if gate == "sentinel" else None

    def prepare(self, memory: Memory) -> tuple[Tensor, ...]:
        if self.pointer is None:
            return ()
        if self.sentinel is not None:
            slot = self.sentinel.to(memory.states.dtype).expand(len(memory.states), 1, -1)
            memory = memory._replace(states=torch.cat([memory.states, slot], dim=1))  # [B,S+1,D]
        return self.pointer.keys(memory)

    def look(self, features: Features, source: Source, probe: Probe) -> None:
        probe("head.copy", self.mixture(features, source).copied[:, None], source.memory.states)

    def losses(self, features: Features, labels: Tensor, source: Source, smoothing: float) -> TokenLosses:
        mixture = self.mixture(features, source)
        in_vocabulary = labels < len(self.vocabulary.bias)
        nll, uniform = self.vocabulary.cross_entropy(features, labels.where(in_vocabulary, UNK))
        here = _copy_ids(source)[:, None, :] == labels[:, :, None]  # [B,T,S]
        copied = (mixture.copied * here).sum(dim=-1)  # [B,T]
        generated = (mixture.log_generate[:, :, 0] - nll).masked_fill(~in_vocabulary, -torch.inf)
        log_copied = _log(copied).where(in_vocabulary, _finite_log(copied))
        return smoothed(-torch.logaddexp(generated, log_copied), uniform, labels, smoothing)

    def fusible(self) -> Iterable[nn.Module]:
        return self.vocabulary.fusible()

    def divergence(self, one: Forced, other: Forced) -> tuple[Tensor, Tensor]:
        return divergence(self, one, other)

    def subset(self, tokens: Tensor) -> Subset:
        return self.vocabulary.subset(tokens)

    def log_probs(self, features: Features, source: Source, subset: Subset | None = None) -> Tensor:
        log_generate, copied = self.mixture(features, source)
        copy_ids = _copy_ids(source)
        if subset is not None:
            generated = self.vocabulary.log_probs(features, source, subset) + log_generate  # [B,Q,C]
            held = copy_ids[:, :, None] == subset.tokens[:, None]  # [B,S,C]
            return torch.logaddexp(generated, _log(copied @ held.to(copied.dtype)))
        generated = self.vocabulary.log_probs(features, source) + log_generate  # [B,Q,V]
        log_probs = nn.functional.pad(generated, (0, source.extras), value=-torch.inf)  # [B,Q,V+E]
        # Positions that hold the same word say the same, their sum, and so may write to one place in any order; a
        # gradient is to come back from there once.
        same = copy_ids[:, :, None] == copy_ids[:, None, :]  # [B,S,S]
        copied = copied @ same.to(copied.dtype)
        places = copy_ids[:, None, :].expand_as(copied)
        both = torch.logaddexp(log_probs.gather(2, places), _log(copied))  # [B,Q,S]
        first = ~same.tril(-1).any(dim=-1)  # [B,S]
        return log_probs.scatter(2, places, both.where(first[:, None], both.detach()))

    def mixture(self, features: Features, source: Source) -> Mixture:
        memory = source.memory
        if self.pointer is not None and self.sentinel is not None:
            mask = None if memory.mask is None else nn.functional.pad(memory.mask, (0, 1), value=True)
            _, weights = self.pointer(features.hidden, *source.pointer_keys, mask)  # [B,Q,S+1]
            return Mixture(_finite_log(weights[:, :, -1:]), weights[:, :, :-1])
        context = features.context
        if self.pointer is not None:
            context, weights = self.pointer(features.hidden, *source.pointer_keys, memory.mask)
        elif features.weights is not None:
            weights = features.weights
        else:
            raise ValueError("the decoder does not say where it looks, so its head cannot point there")
        if self.gate is None:
            return Mixture(weights.new_full((*weights.shape[:2], 1), math.log(0.5)), weights / 2)
        if context is None:
            context = weights.to(memory.states.dtype) @ memory.states
        log_generate, log_copy = self.gate(features, context)
        return Mixture(log_generate, weights * log_copy.exp())


LEAST = torch.finfo(torch.float32).tiny
"""The least number that float32 represents in full: whose logarithm is -87, and whose inverse is not infinite."""


def _log(probabilities: Tensor) -> Tensor:
    """The logarithm, minus infinity where nothing is left, with gradient 0 there."""
    return _finite_log(probabilities).where(probabilities >= LEAST, -torch.inf)


def _finite_log(probabilities: Tensor) -> Tensor:
    """The logarithm, of what is less as of the least number, with gradient 0 there."""
    return probabilities.clamp_min(LEAST).log()


def _copy_ids(source: Source) -> Tensor:
    if source.copy_ids is None:
        raise ValueError("a head that copies needs batches that say what can be copied: Batch.copy_ids")
    return source.copy_ids


def smoothed(nll: Tensor, uniform: Tensor, labels: Tensor, smoothing: float) -> TokenLosses:
    """Label smoothing (Szegedy et al. 2016): a share of the target is spread evenly over the vocabulary.

    `nll` [B,T] is -log p(label), `uniform` [B,T] the mean of -log p over the vocabulary; padding becomes 0."""
    real = labels != PAD
    nll = nll * real
    return TokenLosses(nll, (1 - smoothing) * nll + smoothing * uniform * real)
