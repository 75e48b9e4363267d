"""What training remembers between two steps, besides weights and optimiser."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, NamedTuple

from pydantic import ConfigDict

from nmt.records import Count, Seconds

KEEPABLE = ("optimizer", "schedule")
"""What a new run may take from another besides its weights."""


class Scored(NamedTuple):
    """A checkpoint with its development score."""

    name: str
    step: int
    score: float
    loss: float | None = None  # development loss; None in runs of earlier versions


@dataclass
class TrainState:
    """All of it is JSON. Every random draw depends on (seed, batch) alone, so no generator state is here."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # what `to_json` never gave is no state

    step: Count = 0  # updates made
    batch: Count = 0  # global index of the next batch
    pairs: Count = 0  # sentence pairs seen; divided by the corpus size: epochs
    tokens: Count = 0  # label tokens seen
    seconds: Seconds = 0.0  # wall-clock time of training, validations included
    best: float | None = None  # best development score
    best_loss: float | None = None  # the development loss then
    stale: Count = 0  # validations since then
    plateau_scale: float = 1.0
    plateau_stale: Count = 0
    schedule_start: Count = 0  # updates made elsewhere before, which the schedule counts
    checkpoints: list[Scored] = field(default_factory=list)  # validated ones that are kept, oldest first
    window: list[float] = field(default_factory=list)  # sums since the last report

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


LITTLE_BLEU = 1.0
"""Below it translations have little to do with their references, and BLEU does not tell one model from another."""


def improves(
    metric: str, score: float, best: float | None, *, loss: float | None = None, best_loss: float | None = None
) -> bool:
    """Whether `score` is better than `best`: lower for a loss, higher for the others, and at the same score whether the
    development loss is lower."""
    return best is None or _quality(metric, score, loss) > _quality(metric, best, best_loss)


def ranked(metric: str, checkpoints: list[Scored]) -> list[Scored]:
    """Best first; of equals, the earlier."""
    return sorted(checkpoints, key=lambda c: (*(-part for part in _quality(metric, c.score, c.loss)), c.step))


def _quality(metric: str, score: float, loss: float | None) -> tuple[float, float]:
    """More is better."""
    if metric == "loss":
        return -score, 0.0
    return (0.0 if metric == "bleu" and score < LITTLE_BLEU else score), (-inf if loss is None else -loss)
