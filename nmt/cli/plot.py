"""`nmt plot`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from nmt.errors import UserError

if TYPE_CHECKING:
    from nmt.align.links import Gold
    from nmt.translate import Translator


def plot(
    run: Annotated[Path, typer.Argument(help="A run directory, made by `nmt train`.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the pictures.")],
    src: Annotated[Path | None, typer.Argument(help="Source lines.")] = None,
    tgt: Annotated[
        Path | None, typer.Argument(help="Their translations, line by line; without it the run translates first.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="SENTENCE", help="A source sentence, instead of SRC; may be repeated.")
    ] = None,
    form: Annotated[Literal["png", "svg", "pdf"], typer.Option("--format", help="Kind of picture.")] = "png",
    lines: Annotated[str | None, typer.Option(metavar="N,N-M", help="Only these lines, counted from 1.")] = None,
    level: Annotated[Literal["words", "pieces"], typer.Option(help="Rows and columns: words, or tokens.")] = "words",
    read: Annotated[
        Literal["output", "input"], typer.Option(help="Ask the step that writes a word, or the next, which reads it.")
    ] = "output",
    gold: Annotated[
        Path | None, typer.Option(help="Links in Pharaoh format, from 0, to outline: sure solid, possible dotted.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="best, last, a step, or a name that `nmt info` lists.")] = "best",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Draw attention as pictures: source words across, target words down, darker where the model looked more.

    Pictures are called by line number, 0001.png and so on; their names are printed.

    \b
    Examples:
      nmt plot runs/first test.en test.de --lines 1,5-8 -o pictures
      nmt plot runs/first --text "he hit me with a pie" -o pictures --format svg
    """
    from nmt.align.heatmap import draw_heatmap, missing_scripts
    from nmt.cli.align import load_exact, maps_of

    wanted = None if lines is None else _parse_lines(lines)
    _check_arguments(src, tgt, text, gold, level)
    _check_folder(output, force)
    sentences = _choose(_read(src, tgt, text, gold), wanted, src)
    translator = load_exact(run, checkpoint, device)
    pairs = _with_translations(translator, sentences, src)
    output.mkdir(parents=True, exist_ok=True)
    missing: frozenset[str] = frozenset()
    for sentence, attention in zip(sentences, maps_of(translator, pairs, level, read), strict=True):
        if attention.weights.size == 0:
            side = "target" if attention.src else "source"
            print(f"line {sentence.number}: nothing to draw, the {side} is empty", file=sys.stderr)
            continue
        path = output / f"{sentence.number:04}.{form}"
        missing |= draw_heatmap(attention, path, gold=sentence.gold)
        print(path)
    if missing:
        print(
            f"{missing_scripts(missing)} (drawn as boxes; an svg shows them with the viewer's fonts)", file=sys.stderr
        )


class _Sentence(NamedTuple):
    number: int
    src: bytes
    tgt: str | None
    gold: Gold | None


def _check_arguments(src: Path | None, tgt: Path | None, text: list[str] | None, gold: Path | None, level: str) -> None:
    if (src is None) == (not text):
        raise UserError(
            "nothing to draw" if src is None else "SRC and --text exclude each other", "Give SRC or --text."
        )
    if gold is not None and (tgt is None or level != "words"):
        raise UserError("--gold links the words of given pairs", "It goes with SRC, TGT and --level words.")


def _check_folder(output: Path, force: bool) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file, not a folder for pictures", "Choose another folder with -o.")
    if output.is_dir() and any(output.iterdir()) and not force:
        raise UserError(f"{output} is not empty", "Choose another folder with -o, or write into this with --force.")


def _read(src: Path | None, tgt: Path | None, text: list[str] | None, gold: Path | None) -> list[_Sentence]:
    """All sentences with what is known of them."""
    from nmt.align.links import read_links
    from nmt.text.lines import Pair, raw_lines, read_parallel

    if src is None:
        return [_Sentence(n, line.encode(), None, None) for n, line in enumerate(text or [], start=1)]
    if tgt is None:
        return [_Sentence(n, line, None, None) for n, line in enumerate(raw_lines(src), start=1)]
    pairs = [pair for pair in read_parallel(src, tgt) if isinstance(pair, Pair)]
    sizes = [(len(pair.src.split()), len(pair.tgt.split())) for pair in pairs]
    links: list[Gold] | list[None] = [None] * len(pairs) if gold is None else read_links(gold, sizes=sizes)
    return [_Sentence(p.number, p.src.encode(), p.tgt, g) for p, g in zip(pairs, links, strict=True)]


def _parse_lines(text: str) -> list[tuple[int, int]]:
    """`1,5-8` as ranges [(1, 1), (5, 8)]."""
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)(?:-([0-9]+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise UserError(f"--lines {text}: {part!r} is no line or range of lines", "Write it like 1,5-8.")
        ranges.append((first, last))
    return ranges


def _choose(sentences: list[_Sentence], wanted: list[tuple[int, int]] | None, src: Path | None) -> list[_Sentence]:
    if wanted is None:
        return sentences
    last = max(last for _, last in wanted)
    if last > len(sentences):
        raise UserError(f"--lines: there is no line {last}: {src or '--text'} has {len(sentences)}")
    return [s for s in sentences if any(first <= s.number <= last for first, last in wanted)]


def _with_translations(translator: Translator, sentences: list[_Sentence], src: Path | None) -> list[tuple[str, str]]:
    """Source and target text; a line that cannot be translated is empty, and a message says why."""
    pairs = []
    results = translator.translate(s.src for s in sentences if s.tgt is None)
    for sentence in sentences:
        if sentence.tgt is not None:
            pairs.append((sentence.src.decode("utf-8"), sentence.tgt))
            continue
        result = next(results)
        if result.problem is not None:
            print(f"{src or '--text'}, line {sentence.number}: {result.problem}", file=sys.stderr)
        pairs.append(("", "") if result.problem is not None else (sentence.src.decode("utf-8"), result.text))
    return pairs
