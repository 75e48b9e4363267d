"""`nmt backtranslate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.cli.common import (
    Beam,
    Checkpoint,
    Device,
    SearchSettings,
    StrictSide,
    check_direction,
    first_lines,
    load,
    noticing_unlike,
    progress,
    telling_what_is_kept,
    what_decides,
)
from nmt.errors import UserError
from nmt.told import shell, tell

if TYPE_CHECKING:
    from nmt.backtranslate import Summary
    from nmt.text.lines import Inputs

TAG = "<bt>"


def backtranslate(
    run: Annotated[Path, typer.Argument(help="A run of the reverse direction: from the target language.")],
    mono: Annotated[list[Path], typer.Argument(metavar="MONO", help="Text in the target language, plain or gzip.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the pairs are written.")],
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw each translation by chance instead of searching for the best.")
    ] = False,
    beam: Beam = None,
    checkpoint: Checkpoint = "best",
    device: Device = "auto",
    overrides: SearchSettings = None,
    strict: StrictSide = False,
    resume: Annotated[bool, typer.Option("--continue", help="Go on where this command was interrupted.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is in FOLDER.")] = False,
) -> None:
    """Make training pairs of a text in the target language alone.

    To learn English to German better, take a model from German to English and German text. This writes
    FOLDER/mono.src, its translations, and FOLDER/mono.tgt, the text, line by line, and says how to train on them
    beside the real pairs. Left out and counted are lines that are empty or cannot be translated, and translations
    that loop, that copy the line, or that are far longer or shorter than it; FOLDER/mono.jsonl has them all.

    Beam search suits small corpora. With much text, --sample gives more varied sources, which teach more, and
    --set search.sampling.top_k=10 draws from likely words only. An interrupted command goes on with --continue.

    \b
    Example:
      nmt train --src train.de --tgt train.en -o runs/de-en
      nmt backtranslate runs/de-en news.de.gz -o bt
      nmt train --src train.en --tgt train.de -o runs/en-de \\
        --set 'data.more=[{src: bt/mono.src, tgt: bt/mono.tgt, tag: <bt>}]'
    """
    from nmt.text.lines import Inputs, check_inputs

    check_inputs(*mono)
    if sample and beam is not None:
        raise UserError("--sample draws and --beam searches: choose one of them")
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file, not a folder", "Choose another name.")
    lines = Inputs(mono)
    check_direction(run, first_lines(*mono), strict=strict)
    drawn = ["search.mbr=null", "search.coverage_penalty=0", "search.sampling.count=1"] if sample else []
    translator = load(run, checkpoint, device, beam=beam, overrides=[*drawn, *(overrides or [])])

    from nmt.backtranslate import PAIRS, RECORD, translate_lines, write_pairs
    from nmt.files import check_apart
    from nmt.text.lines import check_output
    from nmt.text.partial import PartialFile, open_resumable, partial_files

    check_apart([output / name for name in (*PAIRS, RECORD)], mono)
    for name in (*PAIRS, RECORD):
        if (output / name).is_symlink():
            raise UserError(
                f"{output / name} is a link, and what it leads to might be lost", "Choose another folder with -o."
            )
    begun = resume and partial_files(output / RECORD)[0].exists()
    for name in PAIRS:
        check_output(output / name, overwrite=force or begun)
    output.mkdir(parents=True, exist_ok=True)
    made_by = what_decides(translator, [run], checkpoint, lines)
    with open_resumable(output / RECORD, made_by, resume=resume, overwrite=force) as out:
        assert isinstance(out, PartialFile)
        unlike = noticing_unlike(run, lines)
        with telling_what_is_kept(out), progress(lines, out.done.lines) as advance, unlike as notice:
            for number, line in enumerate(translate_lines(translator, lines, out), start=out.done.lines):
                notice([line.tgt], number)
                advance()
        summary = write_pairs(out.partial, output)
    _tell(summary, lines)
    if not summary.kept:
        raise UserError(f"{output} has no pairs: no line is left", f"{output / RECORD} says of each line why.")
    _tell_how_to_train(run, output)


def _tell(summary: Summary, lines: Inputs) -> None:
    total = summary.kept + sum(summary.left_out.values())
    tell(f"{summary.kept:,} of {total:,} lines make a pair")
    for reason, count in summary.left_out.items():
        number, problem = summary.first[reason]
        name, line = lines.place(number)
        why = "" if problem is None else f": {problem}"
        tell(f"  left out, {reason}: {count:,} (the first: {name}, line {line}{why})")


def _tell_how_to_train(run: Path, output: Path) -> None:
    """The settings that add the pairs to those that the reverse model learned from, turned round."""
    from nmt.backtranslate import PAIRS
    from nmt.rundir import RunDir

    src, tgt = (json.dumps(str((output / name).resolve()), ensure_ascii=False) for name in PAIRS)
    more = f"{{src: {src}, tgt: {tgt}, tag: {TAG}}}"
    data = RunDir(run).config.data
    options = {"--src": data.tgt or "SOURCE", "--tgt": data.src or "TARGET"}
    if data.dev_src is not None and data.dev_tgt is not None:
        options |= {"--dev-src": data.dev_tgt, "--dev-tgt": data.dev_src}
    command = ["nmt", "train", *(word for option in options.items() for word in option)]
    command += ["--set", f"data.more=[{more}]", "-o", str(run.parent / "with-bt")]
    tell("To learn from them, in a configuration file:", "", "data:", "  more:", f"    - {more}", "")
    tell("or on the command line:", "", shell(*command))
