"""`nmt translate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.errors import UserError

if TYPE_CHECKING:
    from nmt.align.maps import Weights
    from nmt.translate import Translation, Translator

    Improve = Callable[[Iterator[Translation]], Iterator[Translation]]


def translate(
    run: Annotated[Path, typer.Argument(help="A run directory, made by `nmt train`.")],
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="[INPUT]...", help="Files to translate; standard input when none.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here, not to standard output.")] = None,
    beam: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept; 1 = greedy. [default: the run's]")] = None,
    nbest: Annotated[int, typer.Option(min=1, help="Write so many translations per line: `N ||| text ||| score`.")] = 1,
    details: Annotated[
        bool, typer.Option("--details", help="Write a JSON object per line: tokens, scores, what was copied.")
    ] = False,
    replace_unk: Annotated[
        bool, typer.Option("--replace-unk", help="Replace <unk> by the source word that it attends to most.")
    ] = False,
    dictionary: Annotated[
        Path | None, typer.Option(help="For --replace-unk: lines of a source word, a tab and its translation.")
    ] = None,
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
    if dictionary is not None and not replace_unk:
        raise UserError("--dictionary says what replaces <unk>: add --replace-unk")
    for path in [*inputs, *([reference] if reference else []), *([dictionary] if dictionary else [])]:
        if not path.is_file() and not path.is_fifo():
            raise UserError(f"{path}: there is no such file")
    translator = load(run, checkpoint, device, beam=beam, overrides=overrides or [])
    if nbest > translator.search.beam:
        raise UserError(f"--nbest {nbest} needs as many hypotheses", f"Raise the beam: --beam {nbest}.")
    improve = _replacing(translator, run, dictionary) if replace_unk else iter
    if not inputs and sys.stdin.isatty() and output is None:
        return _converse(translator, improve)
    references = _references(inputs, reference)

    problems, texts = 0, []
    with open_output(output, overwrite=force) as stream:
        lines = _Lines(inputs)
        results = improve(translator.translate(_progress(lines, inputs), nbest=nbest))
        for number, (result, copied) in enumerate(_explained(results, translator if details else None), start=1):
            if result.problem is not None:
                problems += 1
                print(f"{lines.name(number)}: left empty: {result.problem}", file=sys.stderr)
            if details:
                stream.write(_record(result, number, translator, copied))
            else:
                stream.write(_text(result, number, nbest))
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


def _replacing(translator: Translator, run: Path, dictionary: Path | None) -> Improve:
    from nmt.align.unknown import read_dictionary, replace_unknown
    from nmt.rundir import RunDir

    entries = None if dictionary is None else read_dictionary(dictionary)
    align = RunDir(run).config.align
    replace_unknown(translator, [], align)  # what does not work is told now
    return lambda results: replace_unknown(translator, results, align, entries)


def _explained(
    results: Iterator[Translation], details: Translator | None
) -> Iterator[tuple[Translation, list[Weights]]]:
    """With what each candidate copied, if the model copies and somebody wants to know."""
    from nmt.align.unknown import COPY, with_weights

    if details is None or not details.model.head.copies:
        return ((result, []) for result in results)
    return with_weights(details, results, COPY)


def _record(result: Translation, number: int, translator: Translator, copied: list[Weights]) -> str:
    """A line of JSON; of a model that copies with the source tokens, the gate, which is the probability with which
    each token (EOS last) was generated, and the probability with which each source token (EOS last) was copied."""
    src, tgt = translator.tokenizers
    candidates: list[dict[str, object]] = [
        {
            "text": text,
            "score": round(h.score, 6),
            "log_prob": round(h.log_prob, 6),
            "tokens": tgt.pieces(h.tokens, extras),
            "token_log_probs": [round(p, 6) for p in h.token_log_probs],
        }
        for text, h, extras in result.candidates
    ]
    for candidate, weights in zip(candidates, copied, strict=False):
        candidate["gate"] = [round(max(0.0, 1.0 - float(row.sum())), 4) for row in weights]
        candidate["copied"] = [[round(float(p), 4) for p in row] for row in weights]
    record: dict[str, object] = {"line": number, "text": result.text, "problem": result.problem}
    if copied:
        record["source"] = src.segment(result.source).pieces
    return json.dumps({**record, "candidates": candidates}, ensure_ascii=False) + "\n"


def _text(result: Translation, number: int, nbest: int) -> str:
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


def _converse(translator: Translator, improve: Improve) -> None:
    """A line, its translation, a line, ... until Ctrl-D."""
    print("Type a sentence to translate; Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            line = input("> ")
        except EOFError:
            return
        (result,) = improve(translator.translate([line]))
        print(result.text if result.problem is None else f"({result.problem})")
