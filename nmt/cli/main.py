"""The command `nmt`: a table of subcommands, each loaded only when it is asked for, and how errors reach the user."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from nmt.errors import UserError
from nmt.files import REFUSALS, check_apart
from nmt.limits import LESS_MEMORY, is_out_of_memory
from nmt.told import is_text, open_streams, say, tell
from nmt.version import __version__


class Entry(NamedTuple):
    panel: str
    target: str  # module:attribute, a function for one command or a typer.Typer for a group of them
    help: str


COMMANDS = {
    "init": Entry("Train", "nmt.cli.init:init", "Write a preset configuration file to start from."),
    "train": Entry("Train", "nmt.cli.train:train", "Learn to translate from two text files."),
    "average": Entry("Train", "nmt.cli.average:average", "Average the weights of some checkpoints of a run."),
    "translate": Entry("Translate", "nmt.cli.translate:translate", "Translate a file, or what is typed."),
    "rerank": Entry("Translate", "nmt.cli.rerank:rerank", "Choose among several translations with a reverse model."),
    "shortlist": Entry("Translate", "nmt.cli.shortlist:shortlist", "Say which words may become which, to be faster."),
    "score": Entry("Translate", "nmt.cli.score:score", "Say how probable given translations are."),
    "evaluate": Entry(
        "Translate", "nmt.cli.evaluate:evaluate", "Compare translations with references: BLEU, chrF, TER."
    ),
    "align": Entry("Look", "nmt.cli.align:align", "Write which source word each target word came from."),
    "aer": Entry("Look", "nmt.cli.aer:aer", "Compare word alignments with gold: alignment error rate."),
    "plot": Entry("Look", "nmt.cli.plot:plot", "Draw attention as pictures."),
    "report": Entry("Look", "nmt.cli.report:report", "Write the page of a run: curves, samples, attention."),
    "backtranslate": Entry(
        "Data", "nmt.cli.backtranslate:backtranslate", "Make training pairs of text in the target language alone."
    ),
    "split": Entry("Data", "nmt.cli.split:split", "Set development and test text aside from two text files."),
    "fetch": Entry("Data", "nmt.cli.fetch:fetch", "Download a public corpus by name."),
    "prepare": Entry("Data", "nmt.cli.prepare:prepare", "Turn text into a tokenizer and a corpus, ahead of training."),
    "pack": Entry("Tools", "nmt.cli.pack:pack", "Make a small run to give away: it translates, and holds no text."),
    "info": Entry("Tools", "nmt.cli.info:info", "Say what is in a run directory."),
    "schema": Entry("Tools", "nmt.cli.schema:schema", "Print the JSON schema of configuration files, for editors."),
    "bench": Entry("Tools", "nmt.cli.bench:bench", "Measure the speed of training and translating on this machine."),
}
"""In the order of the help page."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(TyperGroup):
    """A group that knows its commands from the table, so that the help page imports none of them."""

    def invoke(self, ctx: Any) -> Any:
        _check_arguments()
        return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, COMMANDS))
        for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
            rows = [(name.ljust(width), entry.help) for name, entry in COMMANDS.items() if entry.panel == panel]
            with formatter.section(panel):
                formatter.write_dl(rows)


def load_command(name: str) -> Any:
    """The click command behind a name of the table."""
    module, attribute = COMMANDS[name].target.split(":")
    target = getattr(import_module(module), attribute)
    if isinstance(target, typer.Typer):
        app = target
        app.rich_markup_mode = None
    else:
        app = _typer()
        app.command(name, context_settings=CONTEXT)(_apart(target))
    command = typer.main.get_command(app)
    command.name = name
    return command


OUTPUTS = ("output", "out", "save_tgt")
"""Parameters that name what is written; every other path is read."""


def _apart(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, which refuses first of all to write one of the files that it reads."""

    @wraps(command)
    def checked(**arguments: Any) -> Any:
        paths = [
            (name, path)
            for name, value in arguments.items()
            for path in (value if isinstance(value, list) else [value])
            if isinstance(path, Path)
        ]
        check_apart([p for name, p in paths if name in OUTPUTS], [p for name, p in paths if name not in OUTPUTS])
        return command(**arguments)

    return checked


def _typer(cls: type[TyperGroup] | None = None) -> typer.Typer:
    # Plain help and plain tracebacks: rich would take [words in brackets] for markup, and costs 0.1 s.
    return typer.Typer(
        cls=cls,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
        no_args_is_help=True,
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"nmt {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Neural machine translation from two text files: train, translate, and see which word came from which.

    \b
    Line N of one file translates line N of the other. Then, for a start:
      nmt train --src train.en --tgt train.de -o runs/first
      nmt translate runs/first input.en -o output.de
      nmt plot runs/first input.en -o pictures

    `nmt COMMAND --help` explains each command, with an example.
    """


def main() -> Any:
    """The click command group."""
    app = _typer(Commands)
    app.callback()(_root)
    group: Any = typer.main.get_command(app)
    group.commands = dict.fromkeys(COMMANDS)  # names only: from these it suggests the nearest one
    return group


def _check_arguments() -> None:
    """UserError for an argument, or a current folder, that is not UTF-8: settings and records hold their names."""
    try:
        here = os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the folder that you are in is not there any more", "go to another: cd FOLDER") from error
    for text in (*sys.argv[1:], here):
        if not is_text(text):
            raise UserError(
                f"{os.fsencode(text)!r} is not UTF-8",
                "Is the terminal set to UTF-8? A file needs another name, or a link whose name is UTF-8: ln -s",
            )


def run() -> None:
    """The console entry. Exit codes: 0, 2 = the user's to put right, 130 = Ctrl-C; a bug keeps its traceback."""
    open_streams()
    try:
        try:
            main()(prog_name="nmt")
        finally:
            sys.stdout.flush()
    except UserError as error:
        _tell(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has had enough, as in `nmt translate ... | head`
        _drop_output()
        sys.exit(1)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        _tell(UserError("out of memory", LESS_MEMORY))
        sys.exit(2)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        forbidden = error.errno in (errno.EACCES, errno.EPERM)  # to read or to write, who knows
        _tell(
            UserError(f"{error.filename or 'output'}: {error.strerror}", None if forbidden else REFUSALS[error.errno])
        )
        if error.filename is None:
            _drop_output()
        sys.exit(2)


def _tell(error: UserError) -> None:
    """Lines of a message are indented but for the first, so that a line feed in a name begins none; a hint has names as
    a shell takes them."""
    first, *more = f"error: {error.message}".split("\n  ")
    tell(first, *(f"  {line}" for line in more))
    if error.hint is not None:
        tell(*error.hint.split("\n"))


def _drop_output() -> None:
    """What still waits to be written would fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
