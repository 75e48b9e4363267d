"""`nmt split`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmt.told import say, shell, tell


def split(
    src: Annotated[Path, typer.Argument(help="The text, a sentence per line, plain or gzip.")],
    tgt: Annotated[Path, typer.Argument(help="Its translation: line N translates line N of SRC.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="The folder to make.")],
    dev: Annotated[int, typer.Option(min=0, help="Pairs for development: they choose the best checkpoint.")] = 1000,
    test: Annotated[int, typer.Option(min=0, help="Pairs for the test, at the very end.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another choice of pairs.")] = 1,
) -> None:
    """Split a parallel text into training, development and test text.

    A model is judged on text that it has not learned from. So all pairs that have a source line in common, or a target
    line, come into one part. FOLDER gets train, dev and test with the suffixes of SRC and TGT: train.en, train.de, ...

    \b
    Example:
      nmt split all.en all.de -o parts
      nmt train --src parts/train.en --tgt parts/train.de --dev-src parts/dev.en --dev-tgt parts/dev.de -o runs/first
      nmt evaluate runs/first --src parts/test.en --ref parts/test.de
    """
    from nmt.data.split import split as split_text
    from nmt.files import writing
    from nmt.text.lines import check_inputs

    check_inputs(src, tgt, again=True)
    sizes = {name: size for name, size in (("dev", dev), ("test", test)) if size}
    with writing(output, "repeat the command"):
        parts = {part.name: part for part in split_text(src, tgt, output, sizes=sizes, seed=seed, report=tell)}
    for name, part in parts.items():
        fewer = part.pairs < sizes.get(name, 0)
        why = f", not {sizes[name]:,}: the others have lines in common with too many" if fewer else ""
        say(f"{name}: {part.pairs:,} pairs{why}: {shell(part.src, part.tgt)}")
    words: list[str | Path] = ["nmt", "train", "--src", parts["train"].src, "--tgt", parts["train"].tgt]
    if "dev" in parts:
        words += ["--dev-src", parts["dev"].src, "--dev-tgt", parts["dev"].tgt]
    say(f"next: {shell(*words, '-o', 'runs/first')}")
    if "test" in parts:
        say(f"then: {shell('nmt', 'evaluate', 'runs/first', '--src', parts['test'].src, '--ref', parts['test'].tgt)}")
