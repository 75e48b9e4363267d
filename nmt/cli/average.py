"""`nmt average`: one checkpoint out of several."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from nmt.errors import UserError
from nmt.told import say, shell


def average(
    run: Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")],
    best: Annotated[int | None, typer.Option(help="Average so many of the best checkpoints.", min=1)] = None,
    last: Annotated[int | None, typer.Option(help="Average so many of the last checkpoints.", min=1)] = None,
    out: Annotated[str | None, typer.Option("-o", "--output", help="Name of the result.", metavar="NAME")] = None,
) -> None:
    """Average the weights of some checkpoints of a run.

    An average often translates better than each of its parts. `nmt train` makes one at its end by itself.

    \b
    Example:
      nmt average runs/rnn --last 3
      nmt translate runs/rnn input.en --checkpoint average-last-3
    """
    if best is not None and last is not None:
        raise UserError("--best and --last exclude each other: drop one")
    if out is not None and (
        not re.fullmatch(r"[\w-][\w.-]*", out) or out.isdigit() or out in ("best", "last") or out[:5] == "step-"
    ):
        raise UserError(
            f"{out} cannot be the name of an average", "letters, digits, - and _; not best, last, step-... or a number"
        )

    from nmt.config import AverageConfig
    from nmt.rundir import RunDir
    from nmt.train.checkpoint import choose, is_average, scored_checkpoints, write_average

    folder = RunDir(run)
    settings = folder.config.train
    which = "last" if last is not None else "best" if best is not None else (settings.average or AverageConfig()).which
    asked = last or best
    checkpoints = scored_checkpoints(folder)
    if not checkpoints:
        raise UserError(f"{run} has no validated checkpoint yet", "it gets one every train.validate_every steps")
    if asked is not None and asked > len(checkpoints):
        hint = "train.keep_last and train.keep_best say how many are kept"
        raise UserError(f"{run} keeps {len(checkpoints)} checkpoints, not {asked}", hint)
    chosen = choose(checkpoints, settings.metric, which, asked or (settings.average or AverageConfig()).count)
    name = out or f"average-{which}-{len(chosen)}"
    if os.path.lexists(folder.checkpoints / name) and not is_average(folder.checkpoints / name):
        raise UserError(f"{folder.checkpoints / name} is there, and is no average", "choose another name with -o")
    if out is not None and folder.pointed("best") == name:
        raise UserError(f"{name} is the checkpoint that {run} translates with", "choose another name with -o")
    write_average(folder, name, chosen)
    say(f"{folder.checkpoints / name}: average of steps {', '.join(str(c.step) for c in chosen)}")
    say(f"to use it: nmt translate {shell(run)} INPUT --checkpoint {name}")
