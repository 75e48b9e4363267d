"""`nmt init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmt.errors import UserError

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
    presets = {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted(PRESETS.glob("*.yaml"), key=lambda path: path.stem)
    }
    if name is None:
        for preset, text in presets.items():
            typer.echo(f"{preset:10}  {text.splitlines()[0].removeprefix('# ')}")
        return
    if name not in presets:
        raise UserError(f"there is no preset `{name}`", f"There are: {', '.join(presets)}.")
    path = output or Path(f"{name}.yaml")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(presets[name])
    except FileExistsError as error:
        raise UserError(
            f"{path}: exists already", "Choose another name with -o, or overwrite it with --force."
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    typer.echo(f"{path} written. Put the names of your files under `data:`, then: nmt train {path} -o runs/{path.stem}")
