"""What an output may contain: small functions on the log-probabilities of the next token.

Each masks, in place, what is not allowed next; what is left keeps its log-probability, so that scores stay those of the
model. Rules know all sentences of a batch; a step says which of them are still there.

Shapes: B sentences still searched, K beams, C columns, P tokens, t tokens written so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from nmt.data.batch import EOS, PAD, UNK, Ids


class Columns:
    """Which token each column of the log-probabilities is. PAD, BOS, EOS and UNK are always the first four."""

    def __init__(self, tokens: Tensor | None) -> None:
        """`tokens` [B,C], PAD where there is none; None: column n is token n."""
        self.tokens = tokens

    def read(self, columns: Tensor) -> Tensor:
        """The tokens of columns [B,M]."""
        return columns if self.tokens is None else self.tokens.gather(1, columns)

    def forbid(self, log_probs: Tensor, tokens: Tensor, where: Tensor) -> None:
        """Masks `tokens` [B,K,M] in log_probs [B,K,C] where [B,K,M] says so. A token without a column needs none."""
        if self.tokens is None:
            place, here = tokens.clamp_max(log_probs.shape[-1] - 1), tokens < log_probs.shape[-1]
        else:
            same = tokens[..., None] == self.tokens[:, None, None]  # [B,K,M,C]
            place, here = same.int().argmax(dim=-1), same.any(dim=-1)
        masked = torch.where(where & here, -torch.inf, 0.0)
        log_probs += torch.zeros_like(log_probs).scatter_reduce_(2, place, masked, "amin")

    def forbid_all(self, log_probs: Tensor, tokens: Tensor) -> None:
        """Masks the tokens that [B,K,V] says, V of any length; in log_probs [B,K,C]."""
        if self.tokens is None:
            log_probs[..., : tokens.shape[-1]].masked_fill_(tokens[..., : log_probs.shape[-1]], -torch.inf)
            return
        known = self.tokens.clamp_max(tokens.shape[-1] - 1)[:, None].expand(-1, log_probs.shape[1], -1)
        there = (self.tokens < tokens.shape[-1])[:, None]
        log_probs.masked_fill_(tokens.gather(2, known) & there, -torch.inf)

    def keep_only(self, log_probs: Tensor, tokens: Tensor) -> None:
        """Masks all but one token of each sentence, `tokens` [B]. If it has no column, all are masked."""
        names = torch.arange(log_probs.shape[-1], device=tokens.device)[None] if self.tokens is None else self.tokens
        log_probs.masked_fill_((names != tokens[:, None])[:, None], -torch.inf)


class Step(NamedTuple):
    """Where search is."""

    sentences: Tensor  # [B] row numbers, in the batch that search began with, of those still searched
    written: Tensor  # [B,K,t] the tokens of each live prefix
    columns: Columns


class Rule(Protocol):
    def __call__(self, log_probs: Tensor, step: Step) -> None:
        """Masks log_probs [B,K,C] in place."""
        ...


class NoUnknown:
    """The unknown word is never written."""

    def __call__(self, log_probs: Tensor, step: Step) -> None:
        log_probs[:, :, UNK] = -torch.inf


class AtLeast:
    """No output has fewer than `least` [all sentences] tokens, EOS counted."""

    def __init__(self, least: Tensor) -> None:
        self.least = least

    def __call__(self, log_probs: Tensor, step: Step) -> None:
        early = step.written.shape[2] + 1 < self.least[step.sentences]  # [B]
        log_probs[:, :, EOS] = log_probs[:, :, EOS].masked_fill(early[:, None], -torch.inf)


class NoRepeat:
    """No `size` tokens in a row are written twice."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, log_probs: Tensor, step: Step) -> None:
        written, size = step.written, self.size
        if written.shape[2] < size:
            return
        runs = written.unfold(2, size, 1)  # [B,K,runs,size]
        latest = written[:, :, written.shape[2] - size + 1 :]  # [B,K,size-1], which the next token would end
        again = (runs[..., :-1] == latest[:, :, None]).all(dim=-1)  # [B,K,runs]
        step.columns.forbid(log_probs, runs[..., -1], again)


LIKELY = 0.01
"""Within a word that may not be said, only tokens at least so probable may follow: else it would come with whatever
letters behind it."""


class ByText:
    """Which tokens may not come next is asked of what is written so far. So rules about text are none about tokens."""

    def __init__(
        self, forbidden: Callable[[int, Sequence[int]], tuple[frozenset[int], bool]], *, likely: float = LIKELY
    ) -> None:
        """`forbidden`: the number of a sentence and what is written of it -> tokens; and whether the last word is, or
        begins as, one that may not be said."""
        self.forbidden, self.likely = forbidden, likely

    def __call__(self, log_probs: Tensor, step: Step) -> None:
        rows = zip(step.sentences.tolist(), step.written.tolist(), strict=True)
        found = [[self.forbidden(sentence, ids) for ids in beams] for sentence, beams in rows]
        numbers = {tokens: n for n, tokens in enumerate({tokens for beams in found for tokens, _ in beams})}
        table = torch.zeros(len(numbers), 1 + max((max(t, default=0) for t in numbers), default=0), dtype=torch.bool)
        for tokens, n in numbers.items():
            table[n, list(tokens)] = True
        places = torch.tensor([[numbers[tokens] for tokens, _ in beams] for beams in found])
        step.columns.forbid_all(log_probs, table[places].to(log_probs.device))
        if self.likely and any(within for beams in found for _, within in beams):
            within = torch.tensor([[within for _, within in beams] for beams in found]).to(log_probs.device)
            log_probs.masked_fill_(within[..., None] & (log_probs < math.log(self.likely)), -torch.inf)


class Prefixed:
    """Each output begins with the tokens that are given for it, perhaps none; other rules hold from there on. Scores
    count the tokens of a prefix like any others."""

    def __init__(self, prefixes: Sequence[Ids], rules: Sequence[Rule], device: torch.device) -> None:
        self.lengths = torch.tensor([len(prefix) for prefix in prefixes], device=device)
        width = max(map(len, prefixes), default=0)
        rows = [[*prefix, *[PAD] * (width - len(prefix))] for prefix in prefixes]
        self.tokens = torch.tensor(rows, dtype=torch.int64, device=device).view(len(prefixes), width)  # [all,P]
        self.rules = tuple(rules)

    def __call__(self, log_probs: Tensor, step: Step) -> None:
        position = step.written.shape[2]
        if position >= self.tokens.shape[1]:
            for rule in self.rules:
                rule(log_probs, step)
            return
        asked, forced = log_probs.clone(), position < self.lengths[step.sentences]  # [B]
        step.columns.keep_only(asked, self.tokens[step.sentences, position])
        for rule in self.rules:
            rule(log_probs, step)
        log_probs.copy_(torch.where(forced[:, None, None], asked, log_probs))
