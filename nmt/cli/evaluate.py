"""`nmt evaluate`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nmt.cli.common import Beam, Checkpoint, Device, ForceFile, SearchSettings, check_direction, load, waiting
from nmt.errors import UserError
from nmt.told import say, tell

if TYPE_CHECKING:
    from nmt.gate import Written


def evaluate(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Run directories, to translate --src.")
    ] = None,
    src: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Source lines: for RUN to translate, or for --copy and --worst.")
    ] = None,
    hyp: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Translations that are there already; several times for several systems."),
    ] = None,
    ref: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Reference translations; may be given several times.")
    ] = None,
    worst: Annotated[
        int, typer.Option(metavar="N", min=0, help="Also the N lines with the lowest chrF of their own.")
    ] = 0,
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

    Prints each metric as soon as it is there: its value, the signature of sacrebleu, which belongs in every report,
    which way is good, and how sure the value is. Of several systems, runs or --hyp, it prints a table, with tests of
    each against the first. All text is to be plain, not tokenized. --copy adds a table: of the words of the source that
    stand in the reference, the share that stands in the translation (recall), and the reverse (precision); overall, by
    how often the training text has them, and for numbers, names and placeholders. With --details also how well the
    gate of a model that copies knows when to. TER comes last, and is left out where a line has more than 500 words. A
    line of --src or --hyp that is not UTF-8 counts as empty, and a message has its number.

    \b
    Examples:
      nmt evaluate runs/first --src test.en --ref test.de --worst 10
      nmt evaluate --hyp output.de --ref test.de --ref test2.de --json
      nmt evaluate --hyp old.de --hyp new.de --ref test.de
      nmt evaluate --hyp output.de --ref test.de --src test.en --copy --train train.de
      nmt evaluate --details output.jsonl --ref test.de --src test.en --copy --train train.de
    """
    from nmt.evaluate import check_metrics, without_ter
    from nmt.text.lines import open_output

    runs, hyps, references = runs or [], hyp or [], ref or []
    _check_options(runs, src, hyps, references, copy=copy, worst=worst, train=train, details=details, output=output)
    metrics = sorted(metric or ["bleu", "chrf", "ter"], key=lambda name: name == "ter")
    check_metrics(metrics, tokenize)
    texts = _read([path for path in (*hyps, details, src, *references) if path is not None], details, src, references)
    written = None if details is None else _parsed(details, texts[details])
    # Training text is read first: that it cannot be read is to be known before the work, as with the output file.
    sources = [] if src is None else texts[src]
    training = _Training.of(runs[0] if runs else None, train, sources, lowercase=lowercase) if copy else None
    learned = [_learned(run, sources) for run in runs]
    systems: list[tuple[str, list[str]]] = []
    with nullcontext() if output is None else open_output(output, overwrite=force) as stream:
        for run in runs:
            found = _translations(run, sources, str(src), checkpoint, device, beam=beam, overrides=overrides or [])
            systems.append((str(run), found))
            if stream is not None:
                stream.writelines(f"{text}\n" for text in found)
    systems += [(str(path), texts[path]) for path in hyps]
    if written is not None:
        systems.append((str(details), [line.text for line in written]))
    metrics, left_out = without_ter(metrics, [*systems, *((str(path), texts[path]) for path in references)])
    if left_out is not None:
        tell(left_out)
    judge = _Judge(systems, None if src is None else sources, [texts[path] for path in references], lowercase)
    if not lowercase and any(line != line.lower() for path in references for line in texts[path]):
        _tell_lower_case(runs)

    report = judge.scores(metrics, tokenize, quiet=as_json)
    for system, count in zip(report["systems"], learned, strict=False):
        system["lines_in_training"] = count
    if worst:
        report["worst"] = judge.worst(worst, quiet=as_json)
    if training is not None:
        report["copy"] = judge.copied(training, written, quiet=as_json)
    if as_json:
        say(*json.dumps(report, indent=2).split("\n"))


def _tell_lower_case(runs: Sequence[Path]) -> None:
    """Of runs whose outputs cannot equal references with capitals."""
    from nmt.rundir import RunDir

    for run in runs:
        if RunDir(run).config.tokenizer.lowercase:
            tell(f"{run} writes lower case only, and the references have capitals: --lowercase compares without case")


class _Judge(NamedTuple):
    """What is compared, and with what. Each method prints, unless `quiet`, and gives the same for JSON."""

    systems: list[tuple[str, list[str]]]
    sources: list[str] | None
    references: list[list[str]]
    lowercase: bool

    def scores(self, metrics: list[str], tokenize: str, *, quiet: bool) -> dict[str, Any]:
        from nmt.cli.scored import last_words, score_json, score_lines
        from nmt.evaluate import METRICS, compare

        names, outputs = [name for name, _ in self.systems], [lines for _, lines in self.systems]
        compared = []
        for metric in metrics:
            with waiting(f"{METRICS[metric]} of {len(outputs[0]):,} lines"):
                found = compare(metric, outputs, self.references, lowercase=self.lowercase, tokenize=tokenize)
            compared.append(found)
            if not quiet:
                say(*score_lines(found, names, len(outputs[0])))
                sys.stdout.flush()
        if len(names) > 1 and not quiet:
            say(*last_words(names))
        return {"lines": len(outputs[0]), **score_json(compared, names)}

    def worst(self, count: int, *, quiet: bool) -> list[dict[str, Any]]:
        from nmt.cli.scored import worst_json, worst_table
        from nmt.evaluate import worst_lines

        several = len(self.references) > 1
        given = [] if self.sources is None else [("source", self.sources)]
        given += [(f"reference {n}" if several else "reference", r) for n, r in enumerate(self.references, start=1)]
        found = []
        for name, lines in self.systems:
            worst = worst_lines(lines, self.references, count, lowercase=self.lowercase)
            texts = [*given, ("output", lines)]
            if not quiet:
                say(*worst_table(worst, texts, name if len(self.systems) > 1 else None))
            found.append({"system": name, "lines": worst_json(worst, texts)})
        return found

    def copied(self, training: _Training, written: list[Written] | None, *, quiet: bool) -> dict[str, Any]:
        from nmt.cli.copied import copy_json, copy_table
        from nmt.copying import copy_scores
        from nmt.gate import gate_scores

        assert self.sources is not None
        ((_, output),), (reference,) = self.systems, self.references
        frequency = training.frequency
        copied = copy_scores(self.sources, output, reference, frequency=frequency, lowercase=self.lowercase)
        gate = None
        if written is not None:
            gate = gate_scores(written, self.sources, frequency=frequency, lowercase=self.lowercase)
        if not quiet:
            say(*copy_table(copied, gate, training.where if frequency is None else None))
        return copy_json(copied, gate, None if frequency is None else training.where)


def _check_options(
    runs: list[Path],
    src: Path | None,
    hyps: list[Path],
    references: list[Path],
    *,
    copy: bool,
    worst: int,
    train: Path | None,
    details: Path | None,
    output: Path | None,
) -> None:
    """UserError for options that do not go together."""
    if details is not None and (runs or hyps):
        other = "--hyp" if hyps else "RUN"
        raise UserError(f"--details has translations of its own, and {other} others", "Leave one of them out.")
    if details is not None and not copy:
        raise UserError("--details is for --copy, which is not there")
    if not references or not (runs or hyps or details) or (runs and src is None):
        raise UserError(
            "evaluate needs either RUN, --src and --ref, or --hyp and --ref",
            "nmt evaluate RUN --src F --ref F    or    nmt evaluate --hyp F --ref F",
        )
    if copy and src is None:
        raise UserError("--copy looks for words of the source, and there is no --src", "Name it: --src FILE.")
    if src is not None and not (runs or copy or worst):
        raise UserError("--src is for RUN, for --copy or for --worst, and there is none of them")
    if copy and len(runs) + len(hyps) > 1:
        raise UserError(f"--copy is of one system, and there are {len(runs) + len(hyps)}")
    if copy and len(references) > 1:
        raise UserError(f"--copy compares with one reference, and there are {len(references)}")
    if train is not None and not copy:
        raise UserError("--train is for --copy, which is not there")
    if output is not None and len(runs) != 1:
        raise UserError(f"-o is for what one RUN translates, and there are {len(runs) or 'none'}")


def _read(paths: list[Path], details: Path | None, src: Path | None, references: list[Path]) -> dict[Path, list[str]]:
    """The lines of the files, which must be equally many. In those that are scored a byte order mark counts, as it does
    to sacrebleu. A line of the source or of a system that is not text counts as empty; a reference must be whole."""
    from nmt.text.lines import check_inputs, read_lines

    check_inputs(*(path for path in paths if path != details))
    check_inputs(details, record=True)

    def read(path: Path) -> Iterator[str]:
        told = None if path in references else lambda message: tell(f"left empty: {message}")
        return read_lines(path, record=path == details, keep_mark=path not in (details, src), tell=told)

    texts = {path: list(read(path)) for path in paths}
    first, *others = texts
    if not texts[first]:
        raise UserError(f"{first} has no lines: there is nothing to score")
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


def _learned(run: Path, sources: list[str]) -> int | None:
    """How many of the lines the run was trained on, which it says; None where its corpus is gone, or damaged."""
    from nmt.data.prepare import open_prepared
    from nmt.rundir import RunDir

    folder = RunDir(run).corpus
    if not folder.exists():
        return None
    try:
        corpus, lines = open_prepared(folder).train, {line.strip() for line in sources} - {""}
    except UserError as error:
        tell(f"whether {run} was trained on these lines is not known: {error.message}")
        return None
    with waiting(f"looking for the lines in the training text of {run}"):
        seen = {line for i in range(len(corpus)) if (line := corpus.text(i)[0].strip()) in lines}
    count = sum(line.strip() in seen for line in sources)
    if count:
        tell(
            f"warning: {count:,} of {len(sources):,} source lines are in the training text of {run}: what it learned "
            "by heart says little about other text"
        )
    return count


def _translations(
    run: Path, texts: list[str], name: str, checkpoint: str, device: str, *, beam: int | None, overrides: list[str]
) -> list[str]:
    """What the run makes of the lines; says on standard error which it had to leave empty."""
    check_direction(run, texts)
    translator = load(run, checkpoint, device, beam=beam, overrides=overrides)
    results = translator.translate(texts)
    for number, result in enumerate(results, start=1):
        if result.problem is not None:
            tell(f"{name}, line {number}: left empty: {result.problem}")
    return [result.text for result in results]
