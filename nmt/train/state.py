"""What training remembers between two steps, besides weights and optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

KEEPABLE = ("optimizer", "schedule")
"""What a new run may take from another besides its weights."""


class Scored(NamedTuple):
    """A checkpoint with its development score."""

    name: str
    step: int
    score: float


@dataclass
class TrainState:
    """All of it is JSON. Every random draw depends on (seed, batch) alone, so no generator state is here."""

    step: int = 0  # updates made
    batch: int = 0  # global index of the next batch
    pairs: int = 0  # sentence pairs seen; divided by the corpus size: epochs
    tokens: int = 0  # label tokens seen
    seconds: float = 0.0  # wall-clock time of training, validations included
    best: float | None = None  # best development score
    stale: int = 0  # validations since then
    plateau_scale: float = 1.0
    plateau_stale: int = 0
    schedule_start: int = 0  # updates made elsewhere before, which the schedule counts
    checkpoints: list[Scored] = field(default_factory=list)  # validated ones that are kept, oldest first
    window: list[float] = field(default_factory=list)  # sums since the last report

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainState:
        """TypeError on values that `to_json` never gave."""
        state = cls(**values)
        state.checkpoints = [Scored(*entry) for entry in state.checkpoints]
        return state


def improves(metric: str, score: float, best: float | None) -> bool:
    """Whether `score` is better than `best`: lower for a loss, higher for the others."""
    return best is None or (score < best if metric == "loss" else score > best)


def ranked(metric: str, checkpoints: list[Scored]) -> list[Scored]:
    """Best first; of equals, the earlier."""
    return sorted(checkpoints, key=lambda c: (c.score if metric == "loss" else -c.score, c.step))
