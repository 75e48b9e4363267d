"""What ends training: a signal, the last step, the clock, or patience."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Self

from nmt.config import TrainConfig
from nmt.train.state import TrainState

HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""What a terminal that is closed sends, perhaps twice: itself, and by way of the shell. Not every system has it."""


class Signals:
    """Within it SIGINT, SIGTERM and SIGHUP are noted in `caught` (0: none yet).

    After the first, another SIGINT or SIGTERM acts as usual, another SIGHUP not at all. Where SIGHUP is ignored, as
    under nohup, it stays so.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._before = {number: signal.signal(number, self._note) for number in _to_note()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore(self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = self.caught or number
        self._restore(self._before.keys() - {HANGUP})

    def _restore(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            signal.signal(number, self._before.pop(number))  # type: ignore[arg-type]


def _to_note() -> list[int]:
    ends: list[int] = [signal.SIGINT, signal.SIGTERM]
    return ends if HANGUP is None or signal.getsignal(HANGUP) == signal.SIG_IGN else [*ends, HANGUP]


def reason_to_stop(state: TrainState, settings: TrainConfig, *, caught: int, out_of_time: bool) -> str | None:
    """What to tell the person, if training is to stop after the step at hand; `caught` is a signal's number, or 0."""
    if caught:
        return "interrupted"
    if out_of_time and state.step < settings.steps:
        return f"out of time at step {state.step} of {settings.steps} (go on: --resume)"
    if state.step >= settings.steps:
        return f"done: {state.step} steps (more: {how_to_train_longer(settings)})"
    if settings.patience is not None and state.stale >= settings.patience:
        return (
            f"stopped at step {state.step}: {state.stale} validations without a better {settings.metric} "
            f"(go on all the same: --resume --set train.patience=N, above {state.stale})"
        )
    return None


def how_to_train_longer(settings: TrainConfig) -> str:
    """Than `settings.steps`: what a person can do, by the schedule."""
    if settings.schedule.kind != "linear":
        return "--resume --set train.steps=N"
    if settings.schedule.steps > settings.steps:
        return f"--resume --set train.steps=N, {settings.schedule.steps} at most"
    return "a new run, --init-from RUN, as the rate has come down to nothing"
