"""Numbers of training: summed on the device, read only when reported, recorded as JSON lines, shown."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

import torch
from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from nmt.align.maps import AttentionMap
from nmt.errors import UserError
from nmt.files import write_atomically
from nmt.report import parse_line, record_lines, write_report
from nmt.rundir import RunDir
from nmt.told import visible
from nmt.train.trouble import diverged

Values = Mapping[str, float | int | str]

RECORDS = ("metrics", "samples", "attention")
"""The files NAME.jsonl of a run that grow as it is trained."""


class Window:
    """Sums since the last report. Adding costs no synchronisation; reading costs one."""

    def __init__(self, device: torch.device, saved: Sequence[float] = ()) -> None:
        """`saved` is what `save` gave before training was interrupted."""
        sums, (self.tokens, self.steps) = (saved[:3], map(int, saved[3:])) if saved else ((0.0, 0.0, 0.0), (0, 0))
        self.sums = torch.tensor(sums, device=device)
        self.restart_clock()

    def add(self, sums: Tensor, tokens: int) -> None:
        """`sums` [3]: objective, negative log-likelihood, gradient norm, as `train_step` returns them."""
        self.sums += sums
        self.tokens += tokens
        self.steps += 1
        self._timed_tokens += tokens

    def restart_clock(self) -> None:
        """Begins to measure speed anew, so that a validation does not count."""
        self._start, self._timed_tokens = time.perf_counter(), 0

    def save(self) -> list[float]:
        """For `TrainState.window`; UserError where training has gone wrong."""
        return [*self._read(), self.tokens, self.steps]

    def report(self) -> dict[str, float | int]:
        """Means since the last report, per label token and per step; then begins anew."""
        self._read()
        values = self.means()
        self.sums.zero_()
        self.tokens = self.steps = 0
        self.restart_clock()
        return values

    def means(self) -> dict[str, float | int]:
        """The same so far, whatever the numbers are; nothing begins anew."""
        objective, nll, norm = self.sums.tolist()
        speed = self._timed_tokens / (time.perf_counter() - self._start)
        return {
            "loss": objective / self.tokens,
            "nll": nll / self.tokens,
            "grad_norm": norm / self.steps,
            "tokens_per_second": round(speed, 1),
        }

    def _read(self) -> list[float]:
        values: list[float] = self.sums.tolist()
        if not all(map(math.isfinite, values)):
            raise diverged("a gradient" if all(map(math.isfinite, values[:2])) else "a loss")
        return values


class Sink(Protocol):
    def write(self, step: int, values: Values) -> None: ...
    def close(self) -> None: ...


class JsonLines:
    """The record: one JSON object per line, `step` first."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({"step": step, **values}, ensure_ascii=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Returns once all of it is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Scalars for TensorBoard; what an interrupted run wrote after `start` is hidden."""

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=start + 1)

    def write(self, step: int, values: Values) -> None:
        for name, value in values.items():
            if not isinstance(value, str):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Page:
    """report.html: written at the start, at each validation, at some of the reports, and at the end.

    At so few of the reports that it takes at most a fiftieth of the time, however long the record has become. A record
    that someone has damaged meanwhile is told, and training goes on.
    """

    def __init__(self, run: RunDir, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._draw()

    def write(self, step: int, values: Values) -> None:
        if "dev_loss" in values or time.monotonic() >= self._due:
            self._draw()

    def _draw(self) -> None:
        start = time.monotonic()
        draw_page(self._run, self._say, training=True)
        end = time.monotonic()
        self._due = end + max(10.0, 50 * (end - start))

    def close(self) -> None:
        draw_page(self._run, self._say, training=False)


def draw_page(run: RunDir, say: Callable[[str], None], *, training: bool) -> None:
    """Writes report.html, or says of which record it cannot be made."""
    try:
        write_report(run, training=training)
    except UserError as error:
        say(f"report.html is not written: {error.message}")


class Unheard:
    """A stream that takes no harm when nobody is left to read it: its terminal was closed, or its pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _unheard():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _unheard():
            self._stream.flush()


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EPIPE):
            raise


class Console:
    """What the person sees, on stderr: a progress bar on a terminal, plain lines elsewhere.

    Should the person leave, training goes on: that its terminal is gone is told by a signal, see `Signals`.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        stream: Any = Unheard(file or sys.stderr)
        self._out = RichConsole(file=stream, highlight=False, markup=False, soft_wrap=True)
        self._bar: Progress | None = None

    def start(self, step: int, total: int) -> None:
        """Shows the bar, if this is a terminal."""
        if self._out.is_terminal:
            self._bar = Progress(
                TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[note]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
                console=self._out,
                refresh_per_second=4,
                transient=True,
            )
            self._task = self._bar.add_task("train", total=total, completed=step, note="")
            self._bar.start()

    def advance(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def note(self, text: str) -> None:
        """What the bar says beside itself, until something else is said there."""
        if self._bar is not None:
            self._bar.update(self._task, note=text)

    def write(self, step: int, values: Values) -> None:
        """A report of training: on the bar, or as a line."""
        note = (
            f"loss {values['loss']:.3f}  {float(values['tokens_per_second']):,.0f} tokens/s"
            if "tokens_per_second" in values
            else ""
        )
        if self._bar is not None and note:
            self.note(note)
        elif note:
            self.say(f"step {step}  epoch {float(values['epoch']):.2f}  {note}  lr {float(values['lr']):.2e}")

    def say(self, *lines: str) -> None:
        """Lines that stay; plain text, never markup."""
        self._out.print(*map(visible, lines), sep="\n")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Reporter:
    """Everything that is told what training measures; a context manager, to be closed in any case."""

    def __init__(self, run: RunDir, console: Console, *, step: int, total: int) -> None:
        folder = run.path
        for name in RECORDS:
            cut_back(folder / f"{name}.jsonl", step, console.say)
        self.console = console
        self._metrics, self._samples, self._attention = (JsonLines(folder / f"{name}.jsonl") for name in RECORDS)
        self._sinks: list[Sink] = [self._metrics, console]
        if find_spec("tensorboard") is not None:
            self._sinks.append(TensorBoard(folder / "tensorboard", step))
        self._sinks.append(Page(run, console.say))  # the last, as it reads what the others have written
        console.start(step, total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A full disk is told once: what fails to close after an error is a consequence of it.
        for sink in (self._samples, self._attention, *self._sinks):
            with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():
                sink.close()

    def write(self, step: int, values: Values) -> None:
        for sink in self._sinks:
            sink.write(step, values)

    def sync(self) -> None:
        """Returns once all records are on the disk: before a checkpoint that speaks of them."""
        for record in (self._metrics, self._samples, self._attention):
            record.sync()

    def samples(self, step: int, samples: Iterable[Mapping[str, str]], maps: Iterable[AttentionMap]) -> None:
        """Sample translations: into samples.jsonl and before the person's eyes; their attention: attention.jsonl."""
        for attention in maps:
            weights = [[round(weight, 4) for weight in row] for row in attention.weights.tolist()]
            self._attention.write(step, {"src": attention.src, "tgt": attention.tgt, "weights": weights})
        for sample in samples:
            self._samples.write(step, sample)
            self.console.say(*(f"  {name:<10} {text}" for name, text in sample.items()))


def cut_back(path: Path, step: int, say: Callable[[str], None]) -> None:
    """Drops the lines of a record after `step`, what a crash or a full disk left of a line, and, saying so, lines that
    are damaged."""
    kept = []
    for line, where in record_lines(path):
        try:
            entry = parse_line(path.stem, line, where)
        except UserError as error:
            say(f"{error.message}: the line is dropped")
            continue
        if entry["step"] <= step:
            kept.append(line.decode("utf-8") + "\n")
    if path.exists():
        write_atomically(path, "".join(kept))
