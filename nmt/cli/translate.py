"""`nmt translate`."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nmt.cli.common import (
    Beam,
    Checkpoint,
    Device,
    ForceFile,
    SearchSettings,
    Sentences,
    check_direction,
    load,
    noticing_unlike,
    progress,
    telling_what_is_kept,
    what_decides,
)
from nmt.errors import UserError
from nmt.told import span, tell

if TYPE_CHECKING:
    from nmt.candidates import Translation
    from nmt.details import Details, Wanted
    from nmt.text.direction import Direction
    from nmt.text.lines import Inputs
    from nmt.text.partial import Output
    from nmt.translate import Translator

    Improve = Callable[[Iterable[Translation]], Iterable[Translation]]


def translate(
    run: Annotated[Path, typer.Argument(help="A run directory, made by `nmt train`.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[INPUT]...", help="Files to translate; standard input when none."),
    ] = None,
    text: Sentences = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here, not to standard output.")] = None,
    beam: Beam = None,
    nbest: Annotated[
        int, typer.Option(min=1, help="Write so many different translations per line: `N ||| text ||| score`.")
    ] = 1,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Another run with the same tokenizer, to take the mean with; repeatable."),
    ] = None,
    shortlist: Annotated[
        Path | None, typer.Option(help="Write only what this file lets a sentence have: see `nmt shortlist`.")
    ] = None,
    prefix: Annotated[
        Path | None,
        typer.Option(help="Line N of this file is what the translation of line N begins with, as it is."),
    ] = None,
    details: Annotated[
        bool,
        typer.Option("--details", help="Write a JSON object per line: tokens, scores, links (source first), copies."),
    ] = False,
    flag: Annotated[
        bool, typer.Option("--flag", help="Name lines that look wrong: loops, copied source, low confidence and more.")
    ] = False,
    replace_unk: Annotated[
        bool, typer.Option("--replace-unk", help="Replace <unk> by the source word that it attends to most.")
    ] = False,
    dictionary: Annotated[
        Path | None, typer.Option(help="For --replace-unk: lines of a source word, a tab and its translation.")
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Also compare with this file and print BLEU and chrF.")] = None,
    checkpoint: Checkpoint = "best",
    device: Device = "auto",
    overrides: SearchSettings = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 2 if a line could not be translated, or the language is the other one."
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--continue", help="Go on with the output file where this command was interrupted.")
    ] = False,
    force: ForceFile = False,
) -> None:
    """Translate files, or what is typed. One line in, one line out, in order.

    An empty line stays empty. A line that is not UTF-8 or far too long becomes an empty line and a message with its
    number; all others are translated. An output file is called OUTPUT.partial until all is done; should it be
    interrupted, the same command with --continue goes on after the last whole 2,048 lines. Without files, on a
    terminal, each line is translated as soon as it is typed, with the same options.

    \b
    Examples:
      nmt translate runs/first input.en -o output.de
      nmt translate runs/first input.en -o output.de --continue
      nmt translate runs/first input.en --reference input.de --beam 10
      nmt translate runs/first input.en --details --flag -o output.jsonl
      nmt translate runs/first input.en --set search.sampling.count=32 --set search.mbr.utility=chrf
      nmt translate runs/first --text "a man rides a horse" --nbest 5
      echo "a man rides a horse" | nmt translate runs/first
    """
    from nmt.rundir import RunDir
    from nmt.text.lines import Given, Inputs, check_inputs, is_stdout
    from nmt.text.partial import open_resumable

    began = time.monotonic()
    if text and inputs:
        raise UserError("--text is translated instead of files: leave out the one or the other")
    lines = Given(text, "--text") if text else Inputs(inputs or [])
    if dictionary is not None and not replace_unk:
        raise UserError("--dictionary says what replaces <unk>: add --replace-unk")
    check_inputs(*lines.paths, reference, prefix)
    check_inputs(dictionary, shortlist, record=True)
    if resume and not lines.are_files:
        raise UserError("--continue needs input files: standard input or a pipe cannot be read from the start again")
    if resume and reference is not None:
        raise UserError(
            "--continue sees only the lines that are left, too few for --reference",
            "Leave it out, and compare when all is done: nmt evaluate --hyp OUTPUT --ref REFERENCE.",
        )
    translator = load(
        run, checkpoint, device, beam=beam, overrides=overrides or [], others=ensemble or [], shortlist=shortlist
    )
    if nbest > translator.search.outputs:
        more = f"Raise the beam: --beam {nbest}"
        if translator.search.sampling is not None:
            more = f"Draw more: --set search.sampling.count={nbest}"
        raise UserError(f"--nbest {nbest} needs as many hypotheses", f"{more}.")
    improve = _replacing(translator, run, dictionary) if replace_unk else list
    prefixes = _partners(lines, prefix, "--prefix")
    job = _Job(
        translator,
        improve,
        _wanted(translator, run, details, flag),
        nbest,
        details,
        prefixes,
        run,
        RunDir(run).direction,
    )
    typed = not inputs and not text and sys.stdin.isatty()
    references = _partners(lines, reference, "--reference")
    options = {"nbest": nbest, "details": details, "flag": flag, "replace_unk": replace_unk}
    files = {"dictionary": dictionary, "shortlist": shortlist, "prefix": prefix}
    made_by = {} if output is None else _made_by(job, [run, *(ensemble or [])], checkpoint, files, lines, options)

    texts = []
    with open_resumable(output, made_by, resume=resume, overwrite=force) as out:
        for translated in _translated(job, lines, out, typed):
            if references is not None:
                texts.append(translated)
    if not is_stdout(output) and sys.stderr.isatty():
        tell(f"{out.done.lines:,} lines in {output}, after {span(time.monotonic() - began)}")
    if references is not None:
        from nmt.evaluate import evaluate

        for score in evaluate(texts, [references], metrics=("bleu", "chrf")):
            tell(f"{score.name} {score.value:.2f}  {score.signature}")
    if out.done.few:
        tell(f"{out.done.few:,} of {out.done.lines:,} lines have fewer than {nbest} translations that differ")
    if flag and not details:
        tell(f"{out.done.flagged:,} of {out.done.lines:,} lines flagged")
    if job.direction.turned and strict:
        raise UserError("the text is not in the language that the run translates from (see above)")
    if out.done.problems and strict:
        raise UserError(f"{out.done.problems} of the lines could not be translated (see above)")


class _Job(NamedTuple):
    """How lines are translated, and what is written about each."""

    translator: Translator
    improve: Improve
    wanted: Wanted
    nbest: int
    details: bool
    prefixes: list[str] | None
    run: Path
    direction: Direction


def _wanted(translator: Translator, run: Path, details: bool, flag: bool) -> Wanted:
    from nmt.details import Wanted, source_reading
    from nmt.rundir import RunDir

    attention = source_reading(translator, RunDir(run).config.align) if details or flag else None
    return Wanted(attention, copied=details and translator.model.copies, flags=flag)


def _translated(job: _Job, lines: Inputs, out: Output, typed: bool) -> Iterator[str]:
    """Writes what the lines give, from where the output is; the text of each line. `typed`: somebody types them."""
    from nmt.details import with_details
    from nmt.text.windows import PATIENCE, windows
    from nmt.translate import WINDOW

    rest = iter(lines)
    out.skip(rest)
    number = out.done.lines
    # What is in a file is there: all windows of it are full, whatever its disk does, and so always the same.
    cut = _asked_for(rest) if typed else windows(rest, WINDOW, math.inf if lines.are_files else PATIENCE)
    bar = contextlib.nullcontext(lambda: None) if typed else progress(lines, number)
    unlike = noticing_unlike(job.run, lines)
    with contextlib.closing(cut), telling_what_is_kept(out), bar as advance, unlike as notice:
        for window in cut:
            check_direction(job.run, window, direction=job.direction)
            notice(window, number)
            begin = None if job.prefixes is None else job.prefixes[number : number + len(window)]
            results = job.improve(job.translator.translate(window, nbest=job.nbest, prefixes=begin, first=number))
            for result, details in with_details(job.translator, list(results), job.wanted):
                number += 1
                _write(job, lines, out, number, result, details)
                yield result.text
                advance()
            out.end_window(window, whole=len(window) == WINDOW or not lines.are_files)


def _write(job: _Job, lines: Inputs, out: Output, number: int, result: Translation, details: Details) -> None:
    """All about one line, the `number`-th of all, from 1."""
    name, line = lines.place(number)
    if result.problem is not None:
        out.done.problems += 1
        tell(f"{name}, line {line}: left empty: {result.problem}")
    out.done.few += 0 < len(result.candidates) < job.nbest
    if details.flags:
        out.done.flagged += 1
        if not job.details:
            tell(f"{name}, line {line}: {', '.join(details.flags)}")
    if job.details:
        from nmt.details import record

        place = {"file": name, "line": line} if len(lines.paths) > 1 else {"line": line}
        entry = {**place, **record(job.translator, result, details, job.wanted)}
        out.stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
    elif job.nbest > 1:
        # A line without candidates has a row all the same: who takes the first row of each number loses no line.
        rows = [(text, h.score) for text, h, _ in result.candidates] or [("", 0.0)]
        out.stream.writelines(f"{number} ||| {text} ||| {score:.6f}\n" for text, score in rows)
    else:
        out.stream.write(result.text + "\n")


def _made_by(
    job: _Job,
    runs: Sequence[Path],
    checkpoint: str,
    files: dict[str, Path | None],
    lines: Inputs,
    options: dict[str, Any],
) -> dict[str, Any]:
    from nmt.rundir import RunDir
    from nmt.text.partial import fingerprint

    return {
        **what_decides(job.translator, runs, checkpoint, lines),
        "align": [RunDir(run).config.align.model_dump(mode="json") for run in runs],
        "output": options,
        **{name: None if path is None else fingerprint(path) for name, path in files.items()},
    }


def _replacing(translator: Translator, run: Path, dictionary: Path | None) -> Improve:
    from nmt.rundir import RunDir
    from nmt.unknown import read_dictionary, replace_unknown, unusable

    entries = None if dictionary is None else read_dictionary(dictionary)
    align = RunDir(run).config.align
    replace_unknown(translator, [], align)  # what does not work is told now
    search = translator.search
    if search.ban or search.no_repeat_words:
        rule = "search.ban" if search.ban else "search.no_repeat_words"
        raise UserError(
            f"--replace-unk and {rule} exclude each other: what replaces <unk> may be what the rule is against",
            "Drop one of them; search.no_unk writes no unknown word.",
        )
    if entries and (idle := unusable(entries, translator.tokenizers[0])):
        tell(
            f"{dictionary}: {len(idle):,} of {len(entries):,} entries are not one word, and replace nothing: {idle[0]}"
        )
    return lambda results: replace_unknown(translator, results, align, entries)


def _partners(inputs: Inputs, path: Path | None, option: str) -> list[str] | None:
    """The lines of a file that has one for each line of the input, which is checked before any work."""
    if path is None:
        return None
    from nmt.text.lines import count_lines, read_lines

    if not inputs.are_files:
        raise UserError(f"{option} needs input files to go with line by line, not standard input or a pipe")
    partners = list(read_lines(path))
    lines = sum(map(count_lines, inputs.paths))
    if lines != len(partners):
        names = " and ".join(map(str, inputs.paths))
        raise UserError(f"{path} has {len(partners)} lines, {names} {lines}: they must be the same")
    return partners


def _asked_for(lines: Iterator[bytes]) -> Generator[list[bytes], None, None]:
    """A line at a time, with a prompt before each, until Ctrl-D."""
    tell("Type a sentence to translate; Ctrl-D ends.")
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = next(lines, None)
        if line is None:
            print(file=sys.stderr)
            return
        yield [line]
