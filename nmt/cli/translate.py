"""`nmt translate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.errors import UserError

if TYPE_CHECKING:
    from nmt.translate import Translation, Translator


def translate(
    run: Annotated[Path, typer.Argument(help="A run directory, made by `nmt train`.")],
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="[INPUT]...", help="Files to translate; standard input when none.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here, not to standard output.")] = None,
    beam: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept; 1 = greedy. [default: the run's]")] = None,
    nbest: Annotated[int, typer.Option(min=1, help="Write so many translations per line: `N ||| text ||| score`.")] = 1,
    details: Annotated[bool, typer.Option("--details", help="Write a JSON object per line: tokens, scores.")] = False,
    reference: Annotated[Path | None, typer.Option(help="Also compare with this file and print BLEU and chrF.")] = None,
    checkpoint: Annotated[str, typer.Option(help="best, last, a step, or a name that `nmt info` lists.")] = "best",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="search.KEY=VALUE", help="Change a setting of the search.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 if any line could not be translated.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
) -> None:
    """Translate files, or what is typed. One line in, one line out, in order.

    An empty line stays empty. A line that is not UTF-8 or far too long becomes an empty line and a message with its
    number; all others are translated.

    \b
    Examples:
      nmt translate runs/first input.en -o output.de
      nmt translate runs/first input.en --reference input.de --beam 10
      echo "a man rides a horse" | nmt translate runs/first
    """
    from nmt.text.lines import open_output

    inputs = inputs or []
    for path in [*inputs, *([reference] if reference else [])]:
        if not path.is_file() and not path.is_fifo():
            raise UserError(f"{path}: there is no such file")
    translator = load(run, checkpoint, device, beam=beam, overrides=overrides or [])
    if nbest > translator.search.beam:
        raise UserError(f"--nbest {nbest} needs as many hypotheses", f"Raise the beam: --beam {nbest}.")
    if not inputs and sys.stdin.isatty() and output is None:
        return _converse(translator)
    references = _references(inputs, reference)

    problems, texts = 0, []
    with open_output(output, overwrite=force) as stream:
        lines = _Lines(inputs)
        results = translator.translate(_progress(lines, inputs), nbest=nbest)
        for number, result in enumerate(results, start=1):
            if result.problem is not None:
                problems += 1
                print(f"{lines.name(number)}: left empty: {result.problem}", file=sys.stderr)
            stream.write(_formatted(result, number, nbest, translator if details else None))
            if references is not None:
                texts.append(result.text)
    if references is not None:
        from nmt.evaluate import evaluate

        for score in evaluate(texts, [references], metrics=("bleu", "chrf")):
            print(f"{score.name} {score.value:.2f}  {score.signature}", file=sys.stderr)
    if problems and strict:
        raise UserError(f"{problems} of the lines could not be translated (see above)")
    return None


def load(run: Path, checkpoint: str, device: str, *, beam: int | None, overrides: list[str]) -> Translator:
    """The run's translator with settings of the search changed on the command line."""
    from nmt.rundir import RunDir
    from nmt.settings import load_config
    from nmt.translate import Translator

    wrong = [o for o in overrides if not o.startswith("search.")]
    if wrong:
        raise UserError(f"--set {wrong[0]}: only settings of `search` may change here, the others are the model's")
    folder = RunDir(run)
    changes = [*overrides, *([] if beam is None else [f"search.beam={beam}"])]
    search = load_config(folder.path / "config.yaml", changes).search
    return Translator.load(run, checkpoint=checkpoint, device=device, search=search)


class _Lines:
    """The lines of several inputs as one stream that remembers where each came from."""

    def __init__(self, inputs: list[Path]) -> None:
        self.inputs = inputs
        self.starts: list[int] = []  # number of the first line of each file

    def __iter__(self) -> Iterator[bytes]:
        from nmt.text.lines import raw_lines

        number = 1
        sources: list[Path | None] = [*self.inputs] or [None]
        for path in sources:
            self.starts.append(number)
            for line in raw_lines(path):
                yield line
                number += 1

    def name(self, number: int) -> str:
        """`file, line n` of the line that is `number`-th of all."""
        which = max(n for n, start in enumerate(self.starts) if start <= number)
        name = str(self.inputs[which]) if self.inputs else "standard input"
        return f"{name}, line {number - self.starts[which] + 1}"


def _progress(lines: _Lines, inputs: list[Path]) -> Iterator[bytes]:
    """The lines, with a bar on standard error when that is a terminal."""
    if not sys.stderr.isatty():
        yield from lines
        return
    from rich.console import Console
    from rich.progress import track

    from nmt.text.lines import count_lines

    # A pipe, like standard input, can be read only once.
    total = sum(map(count_lines, inputs)) if inputs and all(path.is_file() for path in inputs) else None
    yield from track(lines, "translating", total=total, console=Console(stderr=True), transient=True)


def _formatted(result: Translation, number: int, nbest: int, details: Translator | None) -> str:
    if details is not None:
        pieces = details.tokenizers[1].pieces
        candidates = [
            {
                "text": text,
                "score": round(h.score, 6),
                "log_prob": round(h.log_prob, 6),
                "tokens": pieces(h.tokens, extras),
                "token_log_probs": [round(p, 6) for p in h.token_log_probs],
            }
            for text, h, extras in result.candidates
        ]
        record = {"line": number, "text": result.text, "problem": result.problem, "candidates": candidates}
        return json.dumps(record, ensure_ascii=False) + "\n"
    if nbest > 1:
        return "".join(f"{number} ||| {text} ||| {h.score:.6f}\n" for text, h, _ in result.candidates)
    return result.text + "\n"


def _references(inputs: list[Path], reference: Path | None) -> list[str] | None:
    """The reference lines, checked against the number of input lines before any work."""
    if reference is None:
        return None
    from nmt.text.lines import count_lines, read_lines

    if not inputs or not all(path.is_file() for path in inputs):
        raise UserError("--reference needs input files to compare line by line, not standard input or a pipe")
    references = list(read_lines(reference))
    lines = sum(map(count_lines, inputs))
    if lines != len(references):
        names = " and ".join(map(str, inputs))
        raise UserError(f"{reference} has {len(references)} lines, {names} {lines}: they must be the same")
    return references


def _converse(translator: Translator) -> None:
    """A line, its translation, a line, ... until Ctrl-D."""
    print("Type a sentence to translate; Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            line = input("> ")
        except EOFError:
            return
        (result,) = translator.translate([line])
        print(result.text if result.problem is None else f"({result.problem})")
