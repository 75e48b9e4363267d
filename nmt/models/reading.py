"""Reading attention: a probe that keeps it, and which part of it says where a target word came from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from nmt.models.interface import Alignment

Read = Literal["output", "input"]


class Reading(NamedTuple):
    """Which of a model's weights are read, and for whom."""

    name: str  # of the attention, as a probe hears it
    heads: tuple[int, ...] | None  # to average, counted from 1; None: all of them
    read: Read
    """Which of the forced steps speaks for a target word (the decoder reads BOS y1 .. yJ and writes y1 .. yJ EOS):
    "output", the step that writes it, or "input", the next one, which reads it. An encoder has no steps."""

    @classmethod
    def of(cls, alignment: Alignment) -> Self:
        name, read, head = alignment
        return cls(name, None if head is None else (head,), read)

    @property
    def within(self) -> Literal["src", "tgt"] | None:
        """The side that looks at itself; None where the target looks at the source."""
        if not self.name.endswith(".self"):
            return None
        return "src" if self.name.startswith("encoder.") else "tgt"

    def weights(self, recorded: Mapping[str, Tensor]) -> Tensor:
        """[B,Q,S] the mean over heads of what a `Recorder` kept. Raises ValueError if there is no such attention or
        head."""
        if self.name not in recorded:
            raise ValueError(f"the model has no attention called {self.name!r}")
        heads = recorded[self.name]  # [B,H,Q,S]
        if self.heads is not None:
            if not all(1 <= head <= heads.shape[1] for head in self.heads):
                raise ValueError(f"{self.name} has {heads.shape[1]} heads, counted from 1: {self.heads}")
            heads = heads[:, [head - 1 for head in self.heads]]
        return heads.mean(dim=1)


COPY = Reading("head.copy", None, "output")
"""What a copying head says: see `interface.Probe`."""


class Recorder:
    """A probe that changes nothing and keeps the weights of every attention, or of those in `names`."""

    def __init__(self, names: Collection[str] | None = None) -> None:
        self._names = names
        self._parts: dict[str, list[Tensor]] = {}

    def __call__(self, name: str, weights: Tensor, values: Tensor) -> Tensor:
        if self._names is None or name in self._names:
            self._parts.setdefault(name, []).append(weights.detach().float())
        return weights

    def weights(self) -> dict[str, Tensor]:
        """By name: [B,H,Q,S] float32, the target positions of a stepwise decoder joined along Q."""
        return {name: torch.cat(parts, dim=2) for name, parts in self._parts.items()}
