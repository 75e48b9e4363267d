"""`nmt init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmt.errors import UserError
from nmt.told import say, shell

PRESETS = Path(__file__).parents[1] / "presets"


def init(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A preset; without it, all are listed.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="[default: NAME.yaml in this folder]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a preset configuration file to start from.

    \b
    Example:
      nmt init                      (lists the presets)
      nmt init rnn -o my.yaml       (then put your files' names in it)
      nmt train my.yaml -o runs/my
    """
    from nmt.text.lines import open_output

    presets = {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted(PRESETS.glob("*.yaml"), key=lambda path: path.stem)
    }
    if name is None:
        for preset, text in presets.items():
            say(f"{preset:10}  {text.splitlines()[0].removeprefix('# ')}")
        return
    if name not in presets:
        raise UserError(f"there is no preset `{name}`", f"There are: {', '.join(presets)}.")
    path = output or Path(f"{name}.yaml")
    with open_output(path, overwrite=force) as file:
        file.write(presets[name])
    command = shell("nmt", "train", path, "-o", f"runs/{path.stem}")
    say(f"{path} written. Put the names of your files under `data:`, then: {command}")
