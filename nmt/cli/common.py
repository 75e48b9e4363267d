"""What several commands have: options, the translator of a run, a bar of progress, the word on what is kept."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from nmt.errors import UserError
from nmt.told import tell

if TYPE_CHECKING:
    from nmt.config import SearchConfig
    from nmt.text.direction import Direction
    from nmt.text.lines import Inputs
    from nmt.text.partial import Output
    from nmt.translate import Translator

T = TypeVar("T")

Beam = Annotated[int | None, typer.Option(min=1, help="Hypotheses kept; 1 = greedy. [default: the run's]")]
Checkpoint = Annotated[str, typer.Option(help="best, last, a step, or a name that `nmt info` lists.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
SearchSettings = Annotated[
    list[str] | None, typer.Option("--set", metavar="search.KEY=VALUE", help="Change a setting of the search.")
]


def _sentences(texts: list[str] | None) -> list[str] | None:
    """The lines of the texts of an option."""
    return texts and [line for text in texts for line in text.split("\n")]


Sentences = Annotated[
    list[str] | None,
    typer.Option(
        "--text", metavar="SENTENCE", callback=_sentences, help="A source sentence, instead of files; may be repeated."
    ),
]
StrictSide = Annotated[
    bool, typer.Option("--strict", help="Stop if the text is in the language that the run translates into.")
]
ForceFile = Annotated[bool, typer.Option("--force", help="Overwrite the output file.")]


def load(
    run: Path,
    checkpoint: str,
    device: str,
    *,
    beam: int | None,
    overrides: Sequence[str],
    others: Sequence[Path] = (),
    shortlist: Path | None = None,
) -> Translator:
    """The run's translator with settings of the search changed on the command line."""
    from nmt.config import SearchConfig
    from nmt.rundir import RunDir
    from nmt.translate import Translator

    wrong = [o for o in overrides if not o.startswith("search.")]
    if wrong:
        meant = wrong[0].split(".")[0].partition("=")[0] in SearchConfig.model_fields
        raise UserError(
            f"--set {wrong[0]}: only settings of `search` may change here, the others are the model's",
            f"write: --set search.{wrong[0]}" if meant else None,
        )
    folder = RunDir(run)
    changes = [*overrides, *([] if beam is None else [f"search.beam={beam}"])]
    search = folder.config_with(changes).search
    _check_sense(search, beam, overrides)
    return Translator.load(run, others=others, checkpoint=checkpoint, device=device, search=search, shortlist=shortlist)


def _check_sense(search: SearchConfig, beam: int | None, overrides: Sequence[str]) -> None:
    """UserError for settings that would be recorded and not done."""
    if beam is not None and search.sampling is not None:
        raise UserError("--beam searches, and search.sampling draws", "drop one of them: --set search.sampling=null")
    if beam is not None and any(override.startswith("search.beam=") for override in overrides):
        raise UserError("--beam and --set search.beam both say how many hypotheses are kept", "drop one of them")
    if search.mbr is not None and search.outputs == 1:
        raise UserError(
            "search.mbr chooses among the beam, and that is of 1", "widen it: --beam 5; or draw: search.sampling.count"
        )


def what_decides(translator: Translator, runs: Sequence[Path], checkpoint: str, lines: Inputs) -> dict[str, Any]:
    """What decides which translations are written, whatever the command, for `--continue` to compare."""
    from nmt.rundir import MODEL, RunDir
    from nmt.text.partial import fingerprint
    from nmt.version import __version__

    chosen = [RunDir(run).checkpoint(checkpoint) for run in runs]
    return {
        "nmt": __version__,
        "checkpoints": [{"name": one.name, "sha256": fingerprint(one / MODEL)} for one in chosen],
        "device": str(translator.device),
        "search": translator.search.model_dump(mode="json"),
        "inputs": list(map(str, lines.paths)),
    }


@contextlib.contextmanager
def noticing_unlike(run: Path, lines: Inputs) -> Iterator[Callable[[Iterable[bytes | str], int], None]]:
    """A function to call with lines, and how many were before them; at the end it is told, once, how many of them are
    unlike the text that the run learned from."""
    from nmt.rundir import RunDir
    from nmt.text.shape import Unlike

    unlike = Unlike(RunDir(run).facts.get("source"))
    try:
        yield unlike.hear
    finally:
        if unlike.first is not None:
            name, line = lines.place(unlike.first[0])
            tell(
                f"{unlike.count:,} line{'s' * (unlike.count != 1)} of several sentences, or far longer than any that "
                f"{run} learned from (the first: {name}, line {line}: {unlike.first[1]})",
                "What is unlike the training text is translated worse: put one sentence on each line.",
            )


@contextlib.contextmanager
def telling_what_is_kept(out: Output) -> Iterator[None]:
    """Of an output that is interrupted."""
    try:
        yield
    except BaseException:
        if out.kept:
            tell(f"The first {out.kept:,} lines are kept: --continue goes on after them.")
        raise


@contextlib.contextmanager
def progress(lines: Inputs, done: int) -> Iterator[Callable[[], object]]:
    """A function to call after each line: it moves a bar on standard error when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    from nmt.text.lines import count_lines

    with Progress(console=Console(stderr=True), transient=True) as bar:
        total = sum(map(count_lines, lines.paths)) if lines.are_files else None
        task = bar.add_task("translating", total=total, completed=done)
        yield lambda: bar.advance(task)


def tracked(items: Iterable[T], doing: str, total: int) -> Iterator[T]:
    """The items, with a bar on standard error that moves as they come, when that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, doing, total=total, console=console, transient=True, disable=not console.is_terminal)


def first_lines(*paths: Path) -> Iterable[bytes]:
    """What the language of files can be told by, before any work; nothing of what can be read but once."""
    from nmt.text.lines import Inputs

    lines = Inputs(paths)
    return islice(lines, 1000) if lines.are_files else ()


def check_direction(
    run: Path, lines: Iterable[str | bytes], *, strict: bool = False, direction: Direction | None = None
) -> None:
    """Tells, once, that a text is in the language of the run's target side; with `strict` that is a UserError.

    `direction`: what has heard the lines before these."""
    from nmt.rundir import RunDir

    direction = direction or RunDir(run).direction
    if not direction.hear(lines):
        return
    what = f"the text is spelled like the language that {run} translates into, not like the one it translates from"
    hint = "Is this the run of the other direction, or the other file?"
    if strict:
        raise UserError(what, hint)
    tell(f"warning: {what}. {hint}")


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """A line on standard error that says what is being worked out, when that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(what) if console.is_terminal else contextlib.nullcontext():
        yield
