"""`nmt pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmt.cli.common import Checkpoint
from nmt.told import say, shell


def pack(
    run: Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="The run to make.")],
    checkpoint: Checkpoint = "best",
) -> None:
    """Make a small run to give away: it translates, and holds no text.

    FOLDER gets one checkpoint without what only training needs, the tokenizers and the settings: no training text, no
    sample sentences, no names of files or folders. Every command takes it for a run, but for `nmt train --resume`;
    `nmt train --init-from` starts from its weights. Subwords and words of the vocabulary are those of the text, though.

    \b
    Example:
      nmt pack runs/first -o first
      nmt translate first input.en -o output.de
    """
    from nmt.files import writing
    from nmt.rundir import RunDir
    from nmt.train.pack import pack as pack_run

    with writing(output, "repeat the command"):
        packed = pack_run(RunDir(run), output, checkpoint)
    size, before = (sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in (output, run))
    say(f"{output}: {size / 1e6:,.1f} MB of {before / 1e6:,.1f}: checkpoint {packed.pointed('best')}")
    say(f"to use it: {shell('nmt', 'translate', output, 'INPUT', '-o', 'OUTPUT')}")
