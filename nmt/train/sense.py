"""Settings that each may be what they are, but not together: they would be recorded and not done.

New runs are asked; what an old one has stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nmt.config import Config
from nmt.errors import UserError

LOWEST_PEAK = 1e-6
"""A rate at which nothing is learned."""


def check_sense(config: Config, said: Mapping[str, Any], done: int = 0) -> None:
    """UserError for settings that contradict each other. `said` is what the user says, nested; `done` are the updates
    that the schedule counts already."""
    train, schedule = config.train, config.train.schedule
    if schedule.kind == "linear" and done + train.steps > schedule.steps:
        raise UserError(
            f"--keep schedule goes on after update {done}, but the linear schedule comes down to nothing at "
            f"{schedule.steps}, and train.steps is {train.steps}",
            "drop `schedule` from --keep: the rate then starts anew",
        )
    if schedule.kind == "plateau" and train.patience is not None and train.patience <= schedule.patience:
        raise UserError(
            f"train.patience is {train.patience}: training would end before the rate is ever lowered, which "
            f"train.schedule.patience does after {schedule.patience} validations without a better score",
            "raise the one or lower the other",
        )
    tokenizer = said.get("tokenizer") or {}
    unused = [key for key in ("size", "model", "byte_fallback") if key in tokenizer]
    if getattr(config.tokenizer, "path", None) is not None and unused:
        names = ", ".join(f"tokenizer.{key}" for key in unused)
        raise UserError(
            f"tokenizer.path names a model that is there already: {names} would say how to learn one",
            "drop the one or the other",
        )


def remarks(config: Config) -> list[str]:
    """What is right, but may not be what is meant."""
    train, found = config.train, []
    if train.schedule.warmup >= train.steps:
        found.append(
            f"train.schedule.warmup is {train.schedule.warmup:,}, and train.steps {train.steps:,}: "
            "the rate never gets to where it is to go"
        )
    if train.peak < LOWEST_PEAK:
        noam = "; with noam it is a factor, 1.0 in the paper" if train.schedule.kind == "noam" else ""
        found.append(f"train.optimizer.lr is {train.optimizer.lr:g}: the rate stays below {train.peak:.1g}{noam}")
    return found
