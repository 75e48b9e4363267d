"""`nmt report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmt.told import say


def report(run: Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")]) -> None:
    """Write the page of a run, RUN/report.html, and print its name.

    It shows curves of training, sample translations with their attention at each validation, data, settings and
    machine, in one file that needs no network. `nmt train` writes it, too; this writes it again, also for a run that
    has none.

    \b
    Example:
      nmt report runs/rnn
    """
    from nmt.report import write_report
    from nmt.rundir import RunDir

    say(write_report(RunDir(run), training=False))
