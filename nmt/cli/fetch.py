"""`nmt fetch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.told import say, tell

if TYPE_CHECKING:
    from rich.progress import Progress


def fetch(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A corpus; without it, all are listed.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="[default: a folder in the user's cache, or NMT_CACHE]"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same name and other content in FOLDER.")
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="List the corpora with their licences.")] = False,
) -> None:
    """Download a public corpus by name.

    Each file is checked against the checksum of its text; what is there already and right is not downloaded again.
    `phrasebook` is generated instead: a small English-French-like corpus with gold word alignment. The folder is
    printed alone on standard output, so that scripts can use it.

    Without a network, the environment variable NMT_MIRROR names a folder to take the files from.

    \b
    Example:
      nmt fetch                                  (lists the corpora)
      nmt fetch multi30k
      nmt fetch phrasebook -o data/mine
      NMT_MIRROR=../shared/data nmt fetch multi30k -o corpus
    """
    from nmt.data import fetch as corpora

    if name is None or show:
        for card in corpora.read_cards().values():
            say(f"{card.name:12} {card.title}", f"{'':12} licence: {card.licence}")
        return
    bars = Bars() if sys.stderr.isatty() else None
    try:
        fetched = corpora.fetch(
            name,
            folder=output,
            overwrite=overwrite,
            report=tell,
            bar=bars.start if bars is not None else lambda _: None,
        )
    finally:
        if bars is not None:
            bars.close()
    card = fetched.card
    tell("", card.title, f"licence: {card.licence}")
    if card.citation:
        tell(f"please cite: {card.citation}")
    say(fetched.folder)


class Bars:
    """Progress bars on standard error, one per download."""

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def start(self, name: str) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        if self.progress is None:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
            self.progress = Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True), transient=True)
            self.progress.start()
        return Bar(self.progress, name)

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()


class Bar:
    """One download's bar, as pooch drives it: it sets `total`, updates, resets, updates to the total and closes."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress = progress
        self.task = progress.add_task(name, total=None)

    @property
    def total(self) -> int:
        return int(self.progress.tasks[self.task].total or 0)

    @total.setter
    def total(self, value: int) -> None:
        self.progress.update(self.task, total=value or None)

    def update(self, count: int) -> None:
        self.progress.advance(self.task, count)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        self.progress.update(self.task, visible=False)
