"""A running mean of the weights, which is smoother than they are and often translates better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nmt.errors import UserError


class RunningMean:
    """m <- d m + (1 - d) w after each update (Polyak and Juditsky 1992, with exponential weights), d being `decay`, but
    (1 + n) / (10 + n) after the first n updates, so that the random weights of the start are soon forgotten.

    With decay 0 it is the weights themselves, and costs nothing.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = dict(model.named_parameters()) if decay else {}
        self.means = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After update number `step`, from 1."""
        if self.weights:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.means.values()), list(self.weights.values()), 1.0 - decay)

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Within it the model has the means for its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        # Values trade places, not storage: cuDNN wants the weights of a recurrent layer in one piece, as they are.
        for name, weight in self.weights.items():
            held = weight.detach().clone()
            weight.copy_(self.means[name])
            self.means[name].copy_(held)

    def raw(self) -> Mapping[str, Tensor]:
        """The weights that training goes on with, to be stored beside the means; call it within `judged`."""
        return {f"{name}.raw": tensor for name, tensor in self.means.items()}

    @torch.no_grad()
    def restore(self, stored: Mapping[str, Tensor]) -> None:
        """From a model that has the means for its weights, and what `raw` gave."""
        for name, weight in self.weights.items():
            if f"{name}.raw" not in stored:
                raise UserError(f"the checkpoint has no weights beside their running mean, such as {name}.raw")
            self.means[name].copy_(weight)
            weight.copy_(stored[f"{name}.raw"])
