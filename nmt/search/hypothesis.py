"""What search returns, and how it is walked back out of the beam."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Hypothesis(NamedTuple):
    """One finished output sentence."""

    tokens: list[int]  # without BOS and EOS
    score: float  # what hypotheses are ranked by: log_prob / length ** length_penalty, EOS counted
    log_prob: float  # natural log, EOS included
    token_log_probs: list[float]  # of each token, then of EOS


class Trellis:
    """Tokens, parents and cumulative log-probabilities of every step, walked back once at the end.

    Each step is [B,K] with rows of all sentences, also of those whose search is over.
    """

    def __init__(self) -> None:
        self.tokens: list[Tensor] = []
        self.parents: list[Tensor] = []
        self.log_probs: list[Tensor] = []

    def add(self, tokens: Tensor, parents: Tensor, log_probs: Tensor) -> None:
        self.tokens.append(tokens)
        self.parents.append(parents)
        self.log_probs.append(log_probs)

    def walk_back(self, last_step: np.ndarray, beam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Follows parents from `beam` [B,K] at `last_step` [B,K] (-1: nothing written) to the start.

        Returns tokens [B,K,L] and cumulative log-probabilities [B,K,L]; entries beyond `last_step` mean nothing.
        """
        sentences = np.arange(len(beam))[:, None]
        tokens = np.zeros((*beam.shape, len(self.tokens)), dtype=np.int64)
        log_probs = np.zeros(tokens.shape, dtype=np.float32)
        # One copy from the device for all steps.
        written, parents, cumulative = (
            torch.stack(part).cpu().numpy() for part in (self.tokens, self.parents, self.log_probs)
        )
        for step in reversed(range(len(self.tokens))):
            alive = last_step >= step
            tokens[:, :, step] = written[step][sentences, beam]
            log_probs[:, :, step] = cumulative[step][sentences, beam]
            beam = np.where(alive, parents[step][sentences, beam], beam)
        return tokens, log_probs
