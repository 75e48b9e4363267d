"""`nmt evaluate`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nmt.errors import UserError

if TYPE_CHECKING:
    from nmt.copying import CopyScores


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
    beam: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept; 1 = greedy. [default: the run's]")] = None,
    checkpoint: Annotated[str, typer.Option(help="best, last, a step, or a name that `nmt info` lists.")] = "best",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="search.KEY=VALUE", help="Change a setting of the search.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
) -> None:
    """Compare translations with references: BLEU, chrF, TER, and how well words were copied.

    Prints a line for each metric: its value, and the signature of sacrebleu, which belongs in every report. All text
    is to be plain, not tokenized. --copy adds a table: of the words of the source that stand in the reference, the
    share that stands in the translation (recall), and the reverse (precision); overall, by how often the training
    text has them, and for numbers, names and placeholders.

    \b
    Examples:
      nmt evaluate runs/first --src test.en --ref test.de
      nmt evaluate --hyp output.de --ref test.de --ref test2.de --json
      nmt evaluate --hyp output.de --ref test.de --src test.en --copy --train train.de
    """
    from nmt.copying import copy_scores
    from nmt.evaluate import check_metrics
    from nmt.evaluate import evaluate as scores_of
    from nmt.text.lines import open_output

    references = ref or []
    _check_options(run, src, hyp, references, copy=copy, train=train, output=output)
    metrics = metric or ["bleu", "chrf", "ter"]
    check_metrics(metrics, tokenize)
    texts = _read([path for path in (hyp, src, *references) if path is not None])
    # Training text is read first: that it cannot be read is to be known before the work, as with the output file.
    sources = [] if src is None else texts[src]
    training = _Training.of(run, train, sources, lowercase=lowercase) if copy else None
    hypotheses = [] if hyp is None else texts[hyp]
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
        reference = texts[references[0]]
        copied = copy_scores(sources, hypotheses, reference, frequency=training.frequency, lowercase=lowercase)
        report["copy"] = _as_json(copied, training)
        said += _as_table(copied, training)
    typer.echo(json.dumps(report, indent=2) if as_json else "\n".join(said))


def _check_options(
    run: Path | None,
    src: Path | None,
    hyp: Path | None,
    references: list[Path],
    *,
    copy: bool,
    train: Path | None,
    output: Path | None,
) -> None:
    """UserError for options that do not go together."""
    if not references or (run is None) == (hyp is None) or (run is not None and src is None):
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

    prepared = RunDir(run).config.data.prepared
    folder = run / "data" if prepared is None else Path(prepared)
    if not folder.exists():
        return None, f"the run's corpus is no longer at {folder} (--train FILE names its target text)"
    corpus = open_prepared(folder).train
    return (corpus.text(i)[1] for i in range(len(corpus))), str(folder)


def _as_json(copied: CopyScores, training: _Training) -> dict[str, Any]:
    return {
        "training": None if training.frequency is None else training.where,
        "rows": {
            name: {"recall": row.recall, "precision": row.precision, "spurious": row.spurious, **row._asdict()}
            for name, row in copied.rows.items()
        },
        "placeholders": {"in_source": copied.placeholders, "kept": copied.kept},
    }


def _as_table(copied: CopyScores, training: _Training) -> list[str]:
    """The rows with aligned columns, and what is to be said about them."""
    lines = [f"{'copied':<14}{'recall':>8}{'precision':>11}{'right':>9}{'in reference':>14}{'in output':>11}"]
    for name, row in copied.rows.items():
        recall, precision = ("none" if share is None else f"{share:.4f}" for share in (row.recall, row.precision))
        counts = f"{row.right:>9}{row.in_reference:>14}{row.in_output:>11}"
        lines.append(f"{name:<14}{recall:>8}{precision:>11}{counts}")
    if copied.placeholders:
        lines.append(
            f"{copied.kept} of {copied.placeholders} placeholders are as often in the output as in the source."
        )
    if training.frequency is None:
        lines.append(f"No rows by training frequency: {training.where}.")
    return lines


def _translations(
    run: Path, texts: list[str], file: Path, checkpoint: str, device: str, *, beam: int | None, overrides: list[str]
) -> list[str]:
    """What the run makes of the lines; says on standard error which it had to leave empty."""
    from nmt.cli.translate import load

    translator = load(run, checkpoint, device, beam=beam, overrides=overrides)
    results = translator.translate(texts)
    for number, result in enumerate(results, start=1):
        if result.problem is not None:
            print(f"{file}, line {number}: left empty: {result.problem}", file=sys.stderr)
    return [result.text for result in results]
