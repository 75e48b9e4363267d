"""`nmt align`."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from nmt.cli.common import Checkpoint, Device, check_direction, first_lines, load
from nmt.cli.pairs import readable_pairs
from nmt.errors import UserError
from nmt.told import tell

if TYPE_CHECKING:
    from nmt.align.extract import Level, Read, Reading
    from nmt.align.maps import AttentionMap
    from nmt.text.links import Links
    from nmt.translate import Translator


def align(
    run: Annotated[Path, typer.Argument(help="A run directory, made by `nmt train`.")],
    src: Annotated[Path, typer.Argument(help="Source lines.")],
    tgt: Annotated[
        Path | None, typer.Argument(help="Their translations, line by line; without it the run translates first.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here, not to standard output.")] = None,
    form: Annotated[
        Literal["pharaoh", "json", "npz"],
        typer.Option("--format", help="Links, or all weights as JSON lines or as a NumPy archive."),
    ] = "pharaoh",
    level: Annotated[Literal["words", "pieces"], typer.Option(help="What is counted: words, or tokens.")] = "words",
    attention: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask this attention, like decoder.2.cross. [default: the run's]")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Average these heads, counted from 1. [default: the run's, or all]"),
    ] = None,
    read: Annotated[
        Literal["output", "input"] | None,
        typer.Option(help="Ask the step that writes a word, or the next, which reads it. [default: the run's]"),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="No link where the greatest weight is smaller.")] = 0.0,
    reverse: Annotated[
        Path | None, typer.Option(metavar="RUN2", help="A run from target to source (its best): link from both sides.")
    ] = None,
    symmetrize: Annotated[
        str | None, typer.Option(metavar="METHOD", help="How to join the two directions. [default: gdfa-atools]")
    ] = None,
    save_tgt: Annotated[Path | None, typer.Option(help="Without TGT: write the translations here.")] = None,
    checkpoint: Checkpoint = "best",
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """Write which source word each target word came from, as the attention of the model has it.

    Pharaoh format: a line per sentence pair, `0-1` linking source word 0 to target word 1; each target word is linked
    to the source word with the greatest weight. Words are what white space of any kind separates, whatever the run's
    tokens are, so for text with punctuation apart give tokenized text. METHOD is one of intersection, union, gd-, gdf-
    or gdfa- with -atools or -lilt.

    `nmt info` lists the attentions; the section `align` of the run's config.yaml chooses one, or else the model does.
    Self-attention, such as encoder.1.self, has no links, but weights: rows (`tgt`) are the words that look, columns
    (`src`) those that are looked at. RUN2 is asked in the same way, or else by its own settings.

    A line that is not UTF-8, or longer than search.max_source, costs only itself: it counts as empty, and a message
    has its number.

    \b
    Examples:
      nmt align runs/first test.en test.de -o links.talp
      nmt align runs/first test.en --save-tgt test.out --format json -o weights.jsonl
      nmt align runs/first test.en test.de --attention decoder.1.cross --heads 1,3 --read input
      nmt align runs/en-de test.en test.de --reverse runs/de-en --symmetrize intersection
    """
    from nmt.text.lines import check_inputs, open_output, output_file

    check_inputs(src, tgt)
    if tgt is not None and save_tgt is not None:
        raise UserError("--save-tgt keeps translations made here, but TGT gives them already", "Leave out one of them.")
    method = _checked_method(reverse, symmetrize, form, level)
    chosen = None if heads is None else parse_heads(heads)
    if form == "npz" and output is None:
        raise UserError("--format npz needs a file: it is not text", "Name one: -o weights.npz.")
    translator = load_exact(run, checkpoint, device)
    reading = reading_of(translator, run, attention, chosen, read)
    if form == "pharaoh":
        check_links(reading, "--format pharaoh", "Write its weights: --format json.")
    if reverse is not None:
        check_direction(reverse, () if tgt is None else first_lines(tgt))
        backwards = load_exact(reverse, "best", device)
        reading_back = reading_of(backwards, reverse, attention, chosen, read)
        check_links(reading_back, "--reverse", "Choose another attention: --attention NAME.")

    from nmt.align.links import argmax_links
    from nmt.align.maps import write_json, write_npz
    from nmt.text.links import write_links

    with contextlib.ExitStack() as stack:
        pairs = text_pairs(translator, src, tgt, None if reverse is None else backwards)
        if save_tgt is not None:
            pairs = _saving(pairs, stack.enter_context(open_output(save_tgt, overwrite=force)))
        again: Iterator[tuple[str, str]] = iter(())
        if reverse is not None:
            pairs, again = itertools.tee(pairs)
        maps = maps_of(translator, pairs, level, reading)
        if form == "npz":
            assert output is not None
            write_npz(maps, stack.enter_context(output_file(output, overwrite=force)))
            return
        stream = stack.enter_context(open_output(output, overwrite=force))
        if form == "json":
            write_json(maps, stream)
        elif reverse is None:
            write_links((argmax_links(attention, threshold) for attention in maps), stream)
        else:
            other = maps_of(backwards, ((b, a) for a, b in again), level, reading_back)
            write_links(_joined(maps, other, threshold, method), stream)


def load_exact(run: Path, checkpoint: str, device: str) -> Translator:
    """A run's translator in float32, whatever its search is set to: weights are looked at, not only used."""

    return load(run, checkpoint, device, beam=None, overrides=["search.precision=float32"])


def parse_heads(text: str) -> tuple[int, ...]:
    """`1,3` as (1, 3)."""
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts if re.fullmatch("[0-9]{1,9}", part)]
    if len(numbers) < len(parts) or 0 in numbers or len(set(numbers)) < len(numbers):
        raise UserError(
            f"--heads {text}: expected numbers of heads, each once", "Write it like 1,3: they count from 1."
        )
    return tuple(numbers)


def reading_of(
    translator: Translator, run: Path, attention: str | None, heads: tuple[int, ...] | None, read: Read | None
) -> Reading:
    """What is asked of this run: options, then its settings, then the model's own choice."""
    from nmt.align.extract import choose_reading
    from nmt.rundir import RunDir

    settings, model, device = RunDir(run).config.align, translator.model, translator.device
    try:
        return choose_reading(model, settings, device=device, attention=attention, heads=heads, read=read)
    except UserError as error:
        raise UserError(f"{run}: {error.message}", error.hint) from error


def check_links(reading: Reading, option: str, hint: str) -> None:
    """Raises UserError if the reading is of self-attention, where `option` means nothing."""
    if reading.within is not None:
        raise UserError(f"{option}: links are between source and target, {reading.name} is within one of them", hint)


def maps_of(
    translator: Translator, pairs: Iterable[tuple[str, str]], level: Level, reading: Reading, *, keep_eos: bool = False
) -> Iterator[AttentionMap]:
    from nmt.align.extract import attention_maps

    return attention_maps(
        translator.model,
        translator.tokenizers,
        pairs,
        device=translator.device,
        max_tokens=translator.search.max_tokens,
        level=level,
        reading=reading,
        keep_eos=keep_eos,
    )


def text_pairs(
    translator: Translator, src: Path, tgt: Path | None, reverse: Translator | None = None
) -> Iterator[tuple[str, str]]:
    """Lines of two files; or of one and their translations, empty where there is none (and a message says why)."""
    from nmt.text.lines import name_of, raw_lines

    if tgt is not None:
        return readable_pairs(src, tgt, translator, reverse)
    return translated(translator, raw_lines(src), name_of(src))


def translated(translator: Translator, lines: Iterable[bytes], name: str) -> Iterator[tuple[str, str]]:
    """Each line with its translation; two empty strings, and a message, where a line cannot be translated."""
    lines, again = itertools.tee(lines)
    for number, (line, result) in enumerate(zip(again, translator.stream(lines), strict=True), start=1):
        if result.problem is not None:
            tell(f"{name}, line {number}: left empty: {result.problem}")
        yield ("", "") if result.problem is not None else (line.decode("utf-8"), result.text)


def _saving(pairs: Iterable[tuple[str, str]], stream: TextIO) -> Iterator[tuple[str, str]]:
    """The same pairs, their targets written on the way."""
    for src, tgt in pairs:
        stream.write(tgt + "\n")
        yield src, tgt


def _checked_method(reverse: Path | None, symmetrize: str | None, form: str, level: str) -> str:
    """The symmetrization, `gdfa-atools` where none is named. Raises UserError before anything is loaded."""
    from nmt.align.links import SYMMETRIZERS

    if reverse is None:
        if symmetrize is not None:
            raise UserError("--symmetrize joins two directions", "Name a run from target to source: --reverse RUN2.")
        return ""
    if form != "pharaoh" or level != "words":
        raise UserError("--reverse joins links of words: it goes with --format pharaoh and --level words only")
    method = symmetrize or "gdfa-atools"
    if method not in SYMMETRIZERS:
        raise UserError(f"--symmetrize: there is no method {method!r}", f"Choose one of {', '.join(SYMMETRIZERS)}.")
    return method


def _joined(
    forward: Iterable[AttentionMap], reverse: Iterable[AttentionMap], threshold: float, method: str
) -> Iterator[Links]:
    from nmt.align.links import argmax_links, symmetrize

    for one, other in zip(forward, reverse, strict=True):
        back = frozenset((src, tgt) for tgt, src in argmax_links(other, threshold))
        yield symmetrize(argmax_links(one, threshold), back, method)
