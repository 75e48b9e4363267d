"""`nmt evaluate`."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from nmt.errors import UserError


def evaluate(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run directory, to translate --src.")] = None,
    src: Annotated[Path | None, typer.Option(metavar="FILE", help="Source lines for RUN to translate.")] = None,
    hyp: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Translations that are there already, instead of RUN.")
    ] = None,
    ref: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Reference translations; may be given several times.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write the translations here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with n-gram precisions and lengths.")] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="bleu, chrf, chrf++ or ter; several times. [default: bleu chrf ter]"),
    ] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Ignore case in BLEU and chrF.")] = False,
    tokenize: Annotated[str, typer.Option(help="How BLEU cuts words: 13a, intl, char, zh or none.")] = "13a",
    beam: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept; 1 = greedy. [default: the run's]")] = None,
    checkpoint: Annotated[str, typer.Option(help="best, last, a step, or a name that `nmt info` lists.")] = "best",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="search.KEY=VALUE", help="Change a setting of the search.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
) -> None:
    """Compare translations with references: BLEU, chrF, TER.

    Prints a line for each metric: its value, and the signature of sacrebleu, which belongs in every report. All text
    is to be plain, not tokenized.

    \b
    Examples:
      nmt evaluate runs/first --src test.en --ref test.de
      nmt evaluate --hyp output.de --ref test.de --ref test2.de --json
    """
    from nmt.evaluate import check_metrics
    from nmt.evaluate import evaluate as scores_of
    from nmt.text.lines import open_output, read_lines

    lines = hyp or src
    if lines is None or not ref or (hyp is None) != (run is not None) or (run is None) != (src is None):
        raise UserError(
            "evaluate needs either RUN, --src and --ref, or --hyp and --ref",
            "nmt evaluate RUN --src F --ref F    or    nmt evaluate --hyp F --ref F",
        )
    if output is not None and run is None:
        raise UserError("-o is for what RUN translates, and there is no RUN")
    metrics = metric or ["bleu", "chrf", "ter"]
    check_metrics(metrics, tokenize)
    texts = list(read_lines(lines))
    references = [list(read_lines(path)) for path in ref]
    for path, reference in zip(ref, references, strict=True):
        if len(reference) != len(texts):
            raise UserError(f"the files do not match: {lines} has {len(texts)} lines, {path} has {len(reference)}")
    if run is not None:
        # The output file is opened first: that it cannot be written is to be known before the work.
        with nullcontext() if output is None else open_output(output, overwrite=force) as stream:
            texts = _translations(run, texts, lines, checkpoint, device, beam=beam, overrides=overrides or [])
            if stream is not None:
                stream.writelines(f"{text}\n" for text in texts)
    scores = scores_of(texts, references, metrics=metrics, lowercase=lowercase, tokenize=tokenize)
    if as_json:
        typer.echo(json.dumps({"lines": len(texts), "scores": [score._asdict() for score in scores]}, indent=2))
    else:
        for score in scores:
            typer.echo(f"{score.name} {score.value:.2f}  {score.signature}")


def _translations(
    run: Path, texts: list[str], file: Path, checkpoint: str, device: str, *, beam: int | None, overrides: list[str]
) -> list[str]:
    """What the run makes of the lines; says on standard error which it had to leave empty."""
    from nmt.cli.translate import load

    translator = load(run, checkpoint, device, beam=beam, overrides=overrides)
    results = list(translator.translate(texts))
    for number, result in enumerate(results, start=1):
        if result.problem is not None:
            print(f"{file}, line {number}: left empty: {result.problem}", file=sys.stderr)
    return [result.text for result in results]
