"""`nmt match`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nmt.cli.common import ForceFile, progress
from nmt.errors import UserError


def match(
    src: Annotated[Path, typer.Argument(help="Source lines of the translation memory, best those of training.")],
    tgt: Annotated[Path, typer.Argument(help="Their translations, line by line.")],
    text: Annotated[
        Path | None, typer.Argument(help="Source lines to find matches for. [default: SRC, each line without itself]")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here, not to standard output.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Matches for each line, at most.")] = 2,
    least: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The similarity that a match must have; 1 = the same words.")
    ] = 0.0,
    force: ForceFile = False,
) -> None:
    """Let a model look up similar sentences: write their translations behind each line.

    A line becomes "line ¦ translation of the pair that is most like it ¦ translation of the next". A model trained on
    such lines learns when to follow a match, and one that copies takes words from there that the line itself does not
    have. It has to be given such lines ever after: those to translate, and dev lines, are matched with the same memory.

    Sentences are alike that have the same rare words (the cosine of their tf-idf vectors). A line for which there is
    no match stays as it is. Lines get longer, so batches need a larger data.max_tokens to hold as many of them.

    \b
    Example:
      nmt match train.en train.de -o train.matched.en
      nmt match train.en train.de dev.en -o dev.matched.en
      nmt train --src train.matched.en --tgt train.de --dev-src dev.matched.en --dev-tgt dev.de -o runs/matched
      nmt match train.en train.de test.en | nmt translate runs/matched -o test.de
    """
    from nmt.data.matches import TranslationMemory, augment
    from nmt.text.lines import Inputs, Pair, check_output, open_output, read_lines, read_parallel

    if output is not None:
        check_output(output, overwrite=force)
    pairs = [pair for pair in read_parallel(src, tgt) if isinstance(pair, Pair)]
    if not pairs:
        raise UserError(f"{src} and {tgt} are empty: there is nothing to find")
    memory = TranslationMemory([pair.src for pair in pairs], [pair.tgt for pair in pairs])
    lines = memory.sources if text is None else read_lines(text)
    told = Told()
    with open_output(output, overwrite=force) as stream, progress(Inputs([text or src]), 0, "matching") as advance:
        for line in augment(memory, lines, count, least=least, skip_same=text is None):
            stream.write(line.text + "\n")
            told.add(line.similarities)
            advance()
    print(told, file=sys.stderr)


class Told:
    """What there is to say in the end."""

    def __init__(self) -> None:
        self.lines = self.matched = self.same = 0
        self.similarity = 0.0

    def add(self, similarities: Sequence[float]) -> None:
        self.lines += 1
        if similarities:
            self.matched += 1
            self.similarity += similarities[0]
            self.same += similarities[0] == 1

    def __str__(self) -> str:
        best = f": similarity of the best {self.similarity / self.matched:.2f} on average" if self.matched else ""
        same = f", 1.00 for {self.same:,}" if self.same else ""
        return f"{self.matched:,} of {self.lines:,} lines have a match{best}{same}"
