"""`nmt evaluate`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nmt.cli.common import Beam, Checkpoint, Device, ForceFile, SearchSettings, load
from nmt.errors import UserError
from nmt.told import say, tell

if TYPE_CHECKING:
    from nmt.gate import Written


def evaluate(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run directory, to translate --src.")] = None,
    src: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Source lines: for RUN to translate, or for --copy.")
    ] = None,
    hyp: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Translations that are there already, instead of RUN.")
    ] = None,
    ref: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Reference translations; may be given several times.")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Also precision and recall of the source words that were copied.")
    ] = False,
    train: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Training target text for --copy to count words in. [default: RUN's own]"),
    ] = None,
    details: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead of --hyp, for --copy: what `nmt translate --details` wrote."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write the translations here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with n-gram precisions and lengths.")] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="bleu, chrf, chrf++, ter or exact; several times. [default: bleu chrf ter]"),
    ] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Ignore case in BLEU, chrF and copying.")] = False,
    tokenize: Annotated[str, typer.Option(help="How BLEU cuts words: 13a, intl, char, zh or none.")] = "13a",
    beam: Beam = None,
    checkpoint: Checkpoint = "best",
    device: Device = "auto",
    overrides: SearchSettings = None,
    force: ForceFile = False,
) -> None:
    """Compare translations with references: BLEU, chrF, TER, and how well words were copied.

    Prints a line for each metric: its value, and the signature of sacrebleu, which belongs in every report. All text
    is to be plain, not tokenized. --copy adds a table: of the words of the source that stand in the reference, the
    share that stands in the translation (recall), and the reverse (precision); overall, by how often the training
    text has them, and for numbers, names and placeholders. With --details also how well the gate of a model that
    copies knows when to.

    \b
    Examples:
      nmt evaluate runs/first --src test.en --ref test.de
      nmt evaluate --hyp output.de --ref test.de --ref test2.de --json
      nmt evaluate --hyp output.de --ref test.de --src test.en --copy --train train.de
      nmt evaluate --details output.jsonl --ref test.de --src test.en --copy --train train.de
    """
    from nmt.cli.copied import copy_json, copy_table
    from nmt.copying import copy_scores
    from nmt.evaluate import check_metrics
    from nmt.evaluate import evaluate as scores_of
    from nmt.gate import gate_scores
    from nmt.text.lines import open_output

    references = ref or []
    _check_options(run, src, hyp, references, copy=copy, train=train, details=details, output=output)
    metrics = metric or ["bleu", "chrf", "ter"]
    check_metrics(metrics, tokenize)
    texts = _read([path for path in (hyp, details, src, *references) if path is not None])
    written = None if details is None else _parsed(details, texts[details])
    # Training text is read first: that it cannot be read is to be known before the work, as with the output file.
    sources = [] if src is None else texts[src]
    training = _Training.of(run, train, sources, lowercase=lowercase) if copy else None
    hypotheses = [line.text for line in written or ()] if hyp is None else texts[hyp]
    if run is not None and src is not None:
        with nullcontext() if output is None else open_output(output, overwrite=force) as stream:
            hypotheses = _translations(run, sources, src, checkpoint, device, beam=beam, overrides=overrides or [])
            if stream is not None:
                stream.writelines(f"{text}\n" for text in hypotheses)
    scores = scores_of(
        hypotheses, [texts[path] for path in references], metrics=metrics, lowercase=lowercase, tokenize=tokenize
    )
    report: dict[str, Any] = {"lines": len(hypotheses), "scores": [score._asdict() for score in scores]}
    said = [f"{score.name} {score.value:.2f}  {score.signature}" for score in scores]
    if training is not None:
        frequency, reference = training.frequency, texts[references[0]]
        copied = copy_scores(sources, hypotheses, reference, frequency=frequency, lowercase=lowercase)
        gate = None
        if written is not None:
            gate = gate_scores(written, sources, frequency=frequency, lowercase=lowercase)
        report["copy"] = copy_json(copied, gate, None if frequency is None else training.where)
        said += copy_table(copied, gate, training.where if frequency is None else None)
    say(*(json.dumps(report, indent=2).split("\n") if as_json else said))


def _check_options(
    run: Path | None,
    src: Path | None,
    hyp: Path | None,
    references: list[Path],
    *,
    copy: bool,
    train: Path | None,
    details: Path | None,
    output: Path | None,
) -> None:
    """UserError for options that do not go together."""
    if details is not None and (run is not None or hyp is not None):
        other = "RUN" if hyp is None else "--hyp"
        raise UserError(f"--details has translations of its own, and {other} others", "Leave one of them out.")
    if details is not None and not copy:
        raise UserError("--details is for --copy, which is not there")
    if not references or (run is None) == (hyp is None and details is None) or (run is not None and src is None):
        raise UserError(
            "evaluate needs either RUN, --src and --ref, or --hyp and --ref",
            "nmt evaluate RUN --src F --ref F    or    nmt evaluate --hyp F --ref F",
        )
    if copy and src is None:
        raise UserError("--copy looks for words of the source, and there is no --src", "Name it: --src FILE.")
    if hyp is not None and src is not None and not copy:
        raise UserError("--src is for RUN or for --copy, and there is neither")
    if copy and len(references) > 1:
        raise UserError(f"--copy compares with one reference, and there are {len(references)}")
    if train is not None and not copy:
        raise UserError("--train is for --copy, which is not there")
    if output is not None and run is None:
        raise UserError("-o is for what RUN translates, and there is no RUN")


def _read(paths: list[Path]) -> dict[Path, list[str]]:
    """The lines of the files, which must be equally many."""
    from nmt.text.lines import read_lines

    texts = {path: list(read_lines(path)) for path in paths}
    first, *others = texts
    for path in others:
        if len(texts[path]) != len(texts[first]):
            counts = f"{first} has {len(texts[first])} lines, {path} has {len(texts[path])}"
            raise UserError(f"the files do not match: {counts}")
    return texts


def _parsed(path: Path, lines: list[str]) -> list[Written]:
    from nmt.gate import parse_details

    return parse_details(lines, str(path))


class _Training(NamedTuple):
    """How often the training text has the words of the source."""

    frequency: Counter[str] | None
    where: str  # the text, or why it is not known

    @classmethod
    def of(cls, run: Path | None, train: Path | None, sources: list[str], *, lowercase: bool) -> _Training:
        from nmt.copying import training_counts

        lines, where = _training_text(run, train)
        if lines is None:
            return cls(None, where)
        return cls(training_counts(sources, lines, lowercase=lowercase), where)


def _training_text(run: Path | None, train: Path | None) -> tuple[Iterator[str] | None, str]:
    """The target lines, and where they are; or None, and why."""
    from nmt.text.lines import read_lines

    if train is not None:
        return read_lines(train), str(train)
    if run is None:
        return None, "no training text is named (--train FILE)"
    from nmt.data.prepare import open_prepared
    from nmt.rundir import RunDir

    folder = RunDir(run).corpus
    if not folder.exists():
        return None, f"the run's corpus is no longer at {folder} (--train FILE names its target text)"
    corpus = open_prepared(folder).train
    return (corpus.text(i)[1] for i in range(len(corpus))), str(folder)


def _translations(
    run: Path, texts: list[str], file: Path, checkpoint: str, device: str, *, beam: int | None, overrides: list[str]
) -> list[str]:
    """What the run makes of the lines; says on standard error which it had to leave empty."""

    translator = load(run, checkpoint, device, beam=beam, overrides=overrides)
    results = translator.translate(texts)
    for number, result in enumerate(results, start=1):
        if result.problem is not None:
            tell(f"{file}, line {number}: left empty: {result.problem}")
    return [result.text for result in results]
