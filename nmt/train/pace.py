"""How fast training goes on this machine: how long it will take, signs of life, and a word when it slows down."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from nmt.config import TrainConfig
from nmt.told import shell, span
from nmt.train.metrics import Console

ENOUGH_STEPS = 10
"""After so many, the time of all others is estimated; the first, which is slow, is left out of it."""
FIRST_SIGNS = 10.0
"""Seconds between signs of life at first; later on a fifth of the time that has gone by."""
SPAN = 20.0
"""Seconds over which speed is measured."""
ENOUGH_SPANS = 5
"""Before speeds are compared with their median."""


class Pace:
    """Measures the training of one session, and tells the person at the console. `budget` is in seconds."""

    def __init__(
        self,
        console: Console,
        settings: TrainConfig,
        run: Path,
        *,
        device: str = "cpu",
        budget: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._settings, self._name = console, settings, shell(run)
        self._device, self._budget, self._clock = device, budget, clock
        self._began = self._start = clock()  # of the session, of what is measured
        self._made = self._tokens = 0
        self._per_step = 0.0
        self._validated = self._slow = False
        self._speeds: list[float] = []
        self._due = self._began + FIRST_SIGNS

    def advance(self, step: int, tokens: int) -> None:
        """After update number `step`, of so many label tokens."""
        now = self._clock()
        self._made += 1
        self._tokens += tokens
        if self._made == 1:
            self._warm = now
        if self._made == ENOUGH_STEPS:
            self._per_step = (now - self._warm) / (ENOUGH_STEPS - 1)
            self._estimate(step)
        if now - self._start >= SPAN:
            self._compare(self._tokens / (now - self._start))
            self._start, self._tokens = now, 0

    def due(self) -> bool:
        """Whether nothing has been shown for a while; what is shown now counts."""
        now = self._clock()
        if now < self._due:
            return False
        self._due = now + max(FIRST_SIGNS, (now - self._began) / 5)
        return True

    def validated(self, step: int, seconds: float) -> None:
        """After a validation of so many seconds, which count as none of an update's."""
        left, every = self._settings.steps - step, self._settings.validate_every
        if not self._validated and self._per_step and left > 0:
            total = left * self._per_step + -(-left // every) * seconds
            self._console.say(f"  {self._in_all(total)} are left, with a validation of {span(seconds)} now and then")
        self._validated = True
        self._start, self._tokens = self._clock(), 0

    def _estimate(self, step: int) -> None:
        every, steps = self._settings.validate_every, self._settings.steps
        left = steps - step
        if left <= 0:
            return
        first = min(every - step % every, left)
        all_of_them = f"all {steps:,} steps" if step == ENOUGH_STEPS else f"the {left:,} steps that are left"
        self._console.say(
            f"on this machine: {self._in_all(left * self._per_step)} for {all_of_them}, validations apart; "
            f"{span(first * self._per_step)} to the {'first' if step < every else 'next'} translations, at step "
            f"{step + first:,}",
            f"from then on the run can be used while it learns: nmt translate {self._name} INPUT; Ctrl-C saves",
        )

    def _in_all(self, seconds: float) -> str:
        if self._budget is not None and seconds > self._budget:
            return f"about {span(seconds)} (--max-time ends it before)"
        less = " or less, as it stops when it gets no better," if self._settings.patience is not None else ""
        return f"about {span(seconds)}{less}"

    def _compare(self, speed: float) -> None:
        self._speeds.append(speed)
        usual = statistics.median(self._speeds)
        slow = len(self._speeds) > ENOUGH_SPANS and speed < usual / 2
        if slow and not self._slow:
            self._console.say(
                f"slow: {speed:,.0f} target tokens/s in the last {SPAN:.0f} seconds, where {usual:,.0f} is usual. "
                f"Another program is perhaps using the same {'cores' if self._device == 'cpu' else self._device}: "
                f"wait for it{self._fewer_threads()}"
            )
        self._slow = slow

    def _fewer_threads(self) -> str:
        threads = torch.get_num_threads()
        if self._device != "cpu" or threads == 1:
            return ""
        fewer = f"OMP_NUM_THREADS={threads // 2} nmt train {self._name} --resume"
        return f", or go on with fewer threads: Ctrl-C, then {fewer}"
