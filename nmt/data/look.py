"""A look at the text to learn from, before anything is made of it: what can be read, what is held out."""

from __future__ import annotations

import hashlib
import os
import sys
import unicodedata
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from nmt.config import Config
from nmt.errors import UserError
from nmt.limits import LINE_BYTES
from nmt.settings.paths import check_files
from nmt.text.lines import BadPair, Pair, read_parallel
from nmt.text.links import Links, link_pairs
from nmt.text.survey import same_script

MOST_HELD_OUT = 1000
SHARE_HELD_OUT = 0.02
MOST_EMPTY = 0.1
"""Share of pairs with an empty side beyond which the files are taken not to belong together."""

FIRST_LINES = 1000
"""Looked at to know what kind of text it is."""

Report = Callable[[str], None]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class _Text:
    """Two files, to be read again and again."""

    src: Path
    tgt: Path
    links: Path | None
    drop_bad: bool
    progress: Progress
    lines: int | None = None  # None: not read yet

    def __str__(self) -> str:
        return f"{self.src} and {self.tgt}"

    def read(self, doing: str) -> Iterator[Pair | BadPair]:
        """All pairs; `doing` is what for, to be shown meanwhile."""
        task = self.progress.add_task(f"{doing}: {self.src.name}", total=self.lines)
        pairs = read_parallel(self.src, self.tgt, drop_bad=self.drop_bad)
        if self.links is not None:
            pairs = link_pairs(pairs, self.links)
        try:
            yield from self.progress.track(pairs, total=self.lines, task_id=task, update_period=0.5)
        finally:
            self.progress.remove_task(task)


@dataclass(frozen=True)
class TextPart:
    """The pairs of a text that serve one purpose: those with certain source lines, those without, or all."""

    name: str
    text: _Text
    lines: int  # of the whole text
    bad: int
    endless: int  # pairs with a line of more than LINE_BYTES
    hashes: frozenset[int] = frozenset()
    wanted: bool = False
    weight: float = 1.0
    tag: str | None = None

    def tagged(self) -> Iterator[tuple[str, str, Links]]:
        for _, src, tgt, links in self.pairs("tokenizing"):  # links are of the first text only, which has no tag
            yield (src if self.tag is None or not src.strip() else f"{self.tag} {src}"), tgt, links

    def pairs(self, doing: str) -> Iterator[Pair]:
        for pair in self.text.read(doing):
            if isinstance(pair, Pair) and (bool(self.hashes) and _hash(pair.src) in self.hashes) == self.wanted:
                yield pair


class _Survey(NamedTuple):
    hashes: Hashes  # of the source lines of the pairs with text on both sides
    lines: int
    bad: int
    endless: int


class Text(NamedTuple):
    """Text that has been looked at: it can be read, and each line has its partner."""

    train: list[TextPart]
    dev: TextPart
    pairs: int  # with text on both sides, all corpora together, those held out included
    progress: Progress

    def first_lines(self) -> tuple[list[str], list[str]]:
        """Both sides of some training pairs."""
        pairs = list(islice(self.train[0].pairs("looking"), FIRST_LINES))
        return [pair.src for pair in pairs], [pair.tgt for pair in pairs]

    def two_scripts(self) -> bool:
        """Whether its sides are written in different letters."""
        return not same_script(*self.first_lines())


def look(config: Config, report: Report) -> Text:
    """Checks all the text that `config.data` names, and decides what is held out of it. Raises UserError if it cannot
    be used."""
    progress = _progress()
    with progress:
        return _split(config, progress, report)


def choose_held_out(hashes: Hashes) -> frozenset[int]:
    """Which source lines to hold out of training, with all pairs that have them.

    `hashes` [n] are those of the source lines of all pairs. Chosen are the lowest hashes, so that neither order nor
    chance decides, up to 1,000 pairs and 2 % of all; but at least one source line, if need be the one with the fewest
    pairs. The result is empty where all source lines are equal.
    """
    lines, counts = np.unique(hashes, return_counts=True)
    if len(lines) < 2:
        return frozenset()
    wanted = min(MOST_HELD_OUT, int(len(hashes) * SHARE_HELD_OUT))
    fitting = counts <= wanted  # a very frequent line may not take all the room
    chosen = lines[fitting][np.cumsum(counts[fitting]) <= wanted]
    return frozenset(chosen.tolist() or [int(lines[np.argmin(counts)])])


def _split(config: Config, progress: Progress, report: Report) -> Text:
    """Checks all the text, and says which of it is for training and which for development."""
    data = config.data
    if data.src is None or data.tgt is None:
        raise UserError(
            "there is no text to prepare: data.src and data.tgt are not set",
            "Name the files with --src and --tgt, or in a configuration file.",
        )
    check_files(config)

    def survey_of(src: str, tgt: str, links: str | None = None) -> tuple[_Text, _Survey]:
        text = _Text(Path(src), Path(tgt), None if links is None else Path(links), data.bad_lines == "drop", progress)
        survey = _survey(text, report)
        return replace(text, lines=survey.lines), survey

    text, survey = survey_of(data.src, data.tgt, data.links)
    pairs = len(survey.hashes)
    if data.dev_src is not None and data.dev_tgt is not None:
        held_out: frozenset[int] = frozenset()
        dev_text, dev_survey = survey_of(data.dev_src, data.dev_tgt)
        if os.path.samefile(data.src, data.dev_src):
            report(f"{data.dev_src} is training and development text: its scores say nothing about other text")
        dev = TextPart("development", dev_text, *dev_survey[1:])
    else:
        held_out = _hold_out(text, survey, report)
        # What is not UTF-8 is counted with the training part, for it cannot be told where it would have gone.
        dev = TextPart("development", text, survey.lines, 0, 0, held_out, wanted=True)
    train = [TextPart("training", text, *survey[1:], held_out)]
    for more in data.more:
        text, survey = survey_of(more.src, more.tgt)
        pairs += len(survey.hashes)
        train.append(TextPart("training", text, *survey[1:], held_out, weight=more.weight, tag=more.tag))
    return Text(train, dev, pairs, progress)


def _hold_out(text: _Text, survey: _Survey, report: Report) -> frozenset[int]:
    held_out = choose_held_out(survey.hashes)
    if not held_out:
        raise UserError(
            f"{text.src}: all source lines are the same, so none can be held out for development",
            "Give development files: --dev-src and --dev-tgt.",
        )
    count = int(np.isin(survey.hashes, np.array(list(held_out), np.uint64)).sum())
    report(f"no development files: held out {count:,} of {so_many(len(survey.hashes))}, by a hash of the source line")
    return held_out


def _survey(text: _Text, report: Report) -> _Survey:
    """Reads the text once. Raises UserError if it cannot be used."""
    for path in (text.src, text.tgt, text.links):
        if path is not None and not path.is_file():
            raise UserError(f"{path} is not a plain file", "It is read more than once: write the text to a file first.")
    one_file = os.path.samefile(text.src, text.tgt)
    if one_file:
        report(f"{text.src} is both sides: what is learned from it is to copy")
    hashes = array("Q")
    total = bad = endless = empty = first_empty = same = 0
    for total, pair in enumerate(text.read("reading"), start=1):  # noqa: B007
        if isinstance(pair, BadPair):
            if bad + endless == 0:
                report(f"left out: {pair.reason}")
            bad, endless = bad + (not pair.too_long), endless + pair.too_long
        elif has_text(pair):
            hashes.append(_hash(pair.src))
            same += pair.src == pair.tgt
        else:
            first_empty = first_empty or pair.number
            empty += 1
    if total == 0:
        raise UserError(f"{text} are empty")
    check_empty(text, empty, total, f"The first is line {first_empty}. Do the files belong together?")
    if not hashes:
        more = f", {endless:,} with a line of more than {LINE_BYTES:,} bytes" if endless else ""
        raise UserError(f"{text}: no pair is left: {bad:,} with a line that is not UTF-8{more}")
    if same > len(hashes) / 2 and not one_file:
        report(f"{text}: {same:,} of {so_many(len(hashes))} are the same on both sides: is this the right target?")
    return _Survey(np.array(hashes, np.uint64), total, bad, endless)


def check_empty(text: _Text, empty: int, total: int, hint: str) -> None:
    """UserError if so many pairs have an empty side that the files cannot belong together."""
    if empty > MOST_EMPTY * total:
        raise UserError(f"{text}: {empty:,} of {so_many(total)} have an empty side, more than {MOST_EMPTY:.0%}", hint)


def so_many(count: int) -> str:
    """So many pairs, in words."""
    return f"{count:,} pair" + "s" * (count != 1)


def has_text(pair: Pair) -> bool:
    """Whether both sides have."""
    return bool(pair.src.strip()) and bool(pair.tgt.strip())


def same_line(line: str) -> str:
    """The line as those of the same words have it: white space, and how letters are coded, make no difference."""
    return " ".join(unicodedata.normalize("NFC", line).split())


def _hash(line: str) -> int:
    return int.from_bytes(hashlib.sha256(same_line(line).encode()).digest()[:8], "little")


def _progress() -> Progress:
    """A passing bar on the terminal, or nothing where there is none."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),  # it has names of files
        BarColumn(),
        "{task.completed:,.0f} pairs",
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
