"""Attention over the source: scorers, and what is done with their scores.

A scorer is the one part that differs between the attentions of the literature; masking, softmax and the weighted sum
are the same for all and live in `Attention`. Shapes: see the legend in `interface.py`.
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
import sys
from abc import ABC, abstractmethod
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nmt.config import AdditiveConfig, CustomConfig, DotConfig, GeneralConfig, ScaledDotConfig, ScorerConfig
from nmt.errors import UserError
from nmt.models.interface import Memory, Probe

MOST_HIDDEN = 1 << 25
"""Numbers in the hidden layer of additive attention, [B,Q,S,A], that exist at a time; beyond that queries are scored in
parts, whose hidden layers are made again for the backward pass."""


class Scorer(nn.Module, ABC):
    """How well each source position answers each query."""

    uses_history: bool = False
    """Whether `score` is given the attention of earlier steps, which makes a decoder go step by step."""

    def __init__(self, query_width: int, memory_width: int) -> None:
        """The widths D of the queries and of the states."""
        super().__init__()

    def keys(self, states: Tensor) -> Tensor:
        """What is computed once per sentence: [B,S,D] -> [B,S,Dk]. By default the states themselves."""
        return states

    @abstractmethod
    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        """[B,Q,D], [B,S,Dk] -> [B,Q,S], any real numbers. `history` [B,Q,S] is the sum of the weights that each
        position got in the steps before the query's (float32, the mean over heads); None unless `uses_history`."""


class Dot(Scorer):
    """q . k (Luong et al. 2015, "dot")."""

    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        return query @ keys.transpose(1, 2)


class ScaledDot(Scorer):
    """q . k / sqrt(D) (Vaswani et al. 2017, equation 1)."""

    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        return query @ keys.transpose(1, 2) / math.sqrt(query.shape[-1])


class General(Scorer):
    """q' W k, the bilinear form (Luong et al. 2015, "general"). W is applied to the memory, once per sentence."""

    def __init__(self, query_width: int, memory_width: int) -> None:
        super().__init__(query_width, memory_width)
        self.bilinear = nn.Linear(memory_width, query_width, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        return self.bilinear(states)

    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        return query @ keys.transpose(1, 2)


class Additive(Scorer):
    """v' tanh(W q + U k + b) (Bahdanau et al. 2015, appendix A.1.2); with coverage v' tanh(W q + U k + w c + b), where
    c is the attention that the position got in earlier steps (See et al. 2017, equations 10 and 11)."""

    def __init__(self, query_width: int, memory_width: int, width: int, *, coverage: bool) -> None:
        super().__init__(query_width, memory_width)
        self.query = nn.Linear(query_width, width, bias=False)
        self.memory = nn.Linear(memory_width, width)
        self.v = nn.Linear(width, 1, bias=False)
        self.uses_history = coverage
        self.coverage = nn.Parameter(torch.empty(width, 1).uniform_(-1, 1) * width**-0.5) if coverage else None

    def keys(self, states: Tensor) -> Tensor:
        return self.memory(states)

    def score(self, query: Tensor, keys: Tensor, history: Tensor | None = None) -> Tensor:
        query = self.query(query)
        rows = max(1, MOST_HIDDEN // (keys.numel() or 1))  # queries whose hidden layers may exist together
        if query.shape[1] <= rows:
            return self._scores(query, keys, history)
        queries = query.split(rows, dim=1)
        past = [None] * len(queries) if history is None else history.split(rows, dim=1)
        parts = [
            checkpoint(self._scores, some, keys, before, use_reentrant=False)
            for some, before in zip(queries, past, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def _scores(self, query: Tensor, keys: Tensor, history: Tensor | None) -> Tensor:
        hidden = query[:, :, None] + keys[:, None]  # [B,Q,S,A]
        if history is not None and self.coverage is not None:
            hidden = hidden + nn.functional.linear(history[..., None].to(hidden.dtype), self.coverage)
        return self.v(torch.tanh(hidden)).squeeze(-1)


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


def build_custom(config: CustomConfig, query_width: int, memory_width: int) -> Scorer:
    """The user's own scorer, tried out once; UserError where it does not keep the contract of `Scorer`."""
    said, options = f"attention.scorer: {config.scorer}", config.options
    cls = _find_class(config.scorer, said)
    if not issubclass(cls, Scorer) or inspect.isabstract(cls):
        lacks = "is no subclass of nmt.models.attention.Scorer" if not issubclass(cls, Scorer) else "has no `score`"
        raise UserError(f"{said} {lacks}", "derive it from Scorer and write `score`; nmt/README.md has an example")
    try:
        inspect.signature(cls).bind(query_width, memory_width, **options)
    except TypeError as error:
        takes = f"its parameters are {inspect.signature(cls)}"
        raise UserError(
            f"{said} cannot be made of (query_width, memory_width) and attention.options {options}: {error}", takes
        ) from error
    scorer = cls(query_width, memory_width, **options).eval()
    query, states = torch.zeros(2, 3, query_width), torch.zeros(2, 4, memory_width)
    with torch.no_grad():
        keys = scorer.keys(states)
        _check_result(f"{said}: keys() of states [2, 4, {memory_width}]", keys, (2, 4, None))
        scores = scorer.score(query, keys, *([torch.zeros(2, 3, 4)] if scorer.uses_history else []))
    _check_result(f"{said}: score() of a query [2, 3, {query_width}] and keys {list(keys.shape)}", scores, (2, 3, 4))
    return scorer.train()


def _find_class(path: str, said: str) -> type:
    """The class `module:Class`, looked for in the current folder first, as `python -m` does."""
    name, _, attribute = path.partition(":")
    here = os.getcwd()
    importlib.invalidate_caches()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            missing = f"{said}: {name} imports {error.name}, which is not there"
            raise UserError(missing, f"install {error.name}") from error
        raise UserError(
            f"{said}: there is no module {error.name}, neither in {here} nor among those installed",
            "run nmt in the folder that holds it, or name that folder in PYTHONPATH",
        ) from error
    finally:
        sys.path.remove(here)
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        there = [key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == name]
        raise UserError(
            f"{said}: {module.__file__} has no class {attribute}", f"its classes: {', '.join(there) or 'none'}"
        )
    return found


def _check_result(said: str, result: object, shape: tuple[int | None, ...]) -> None:
    wanted = "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
    if not isinstance(result, Tensor) or not result.is_floating_point():
        found = str(result.dtype) if isinstance(result, Tensor) else type(result).__name__
        raise UserError(f"{said} gives {found}", f"it must be a tensor of floating-point numbers {wanted}")
    if result.ndim != len(shape) or any(w not in (None, size) for w, size in zip(shape, result.shape, strict=True)):
        raise UserError(f"{said} gives {list(result.shape)}", f"it must be {wanted}")


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
    ) -> tuple[Tensor, Tensor]:
        """[B,Q,D], [B,H,S,Dk], [B,H,S,Dv], [B,S] -> context [B,Q,H*Dv], weights [B,Q,S], the mean over the heads
        (float32, padding exactly 0).

        `history` [B,Q,S]: the sum of the weights given out before, for a scorer that uses it, and for no other.
        """
        if (history is not None) != self.scorer.uses_history:
            raise ValueError("a scorer that uses history must be given it, and no other one")
        heads = keys.shape[1]
        queries = self.split(query, heads).flatten(0, 1)  # [B*H,Q,Dq]
        past = [] if history is None else [history[:, None].expand(-1, heads, -1, -1).flatten(0, 1)]  # [B*H,Q,S]
        # A softmax in bfloat16 does not sum to 1 within 1e-3.
        scores = self.scorer.score(queries, keys.flatten(0, 1), *past).unflatten(0, (-1, heads)).float()  # [B,H,Q,S]
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        if probe is not None:
            weights = probe(self.name, weights, values.transpose(1, 2).flatten(2))
        context = weights.to(values.dtype) @ values  # [B,H,Q,Dv]
        return context.transpose(1, 2).flatten(2), weights.mean(dim=1)

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
