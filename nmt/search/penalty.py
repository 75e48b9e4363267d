"""How hypotheses of different lengths compare: log p is a sum, and so the shorter ones would win."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from nmt.config import AveragePenalty, GnmtPenalty, LengthPenaltyConfig, NoPenalty, RewardPenalty


class LengthPenalty(Protocol):
    def __call__(self, log_prob: Tensor, length: Tensor | int) -> Tensor:
        """The score of outputs of these log-probabilities and lengths, EOS counted (>= 1). It has to rise with
        log_prob and, log_prob being fixed, to be monotonic in the length."""
        ...


def length_penalty(config: LengthPenaltyConfig) -> LengthPenalty:
    match config:
        case NoPenalty():
            return lambda log_prob, length: log_prob
        case AveragePenalty(alpha=alpha):
            return lambda log_prob, length: log_prob / length**alpha
        case GnmtPenalty(alpha=alpha):
            return lambda log_prob, length: log_prob / ((5 + length) / 6) ** alpha
        case RewardPenalty(reward=reward):
            return lambda log_prob, length: log_prob + reward * length


def best_possible(penalty: LengthPenalty, log_prob: Tensor, length: Tensor | int, limit: Tensor) -> Tensor:
    """The best score that a live prefix can still reach: its log-probability at least stays as it is, and it will have
    `length` to `limit` tokens."""
    return penalty(log_prob, length).maximum(penalty(log_prob, limit))
