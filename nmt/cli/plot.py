"""`nmt plot`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from nmt.cli.common import Checkpoint, Device, Sentences
from nmt.cli.pairs import told
from nmt.errors import UserError
from nmt.told import say, tell

if TYPE_CHECKING:
    from nmt.align.extract import Reading
    from nmt.text.lines import BadPair, Pair
    from nmt.text.links import Gold
    from nmt.translate import Translator


def plot(
    run: Annotated[Path, typer.Argument(help="A run directory, made by `nmt train`.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the pictures.")],
    src: Annotated[Path | None, typer.Argument(help="Source lines.")] = None,
    tgt: Annotated[
        Path | None, typer.Argument(help="Their translations, line by line; without it the run translates first.")
    ] = None,
    text: Sentences = None,
    form: Annotated[Literal["png", "svg", "pdf"], typer.Option("--format", help="Kind of picture.")] = "png",
    lines: Annotated[str | None, typer.Option(metavar="N,N-M", help="Only these lines, counted from 1.")] = None,
    level: Annotated[Literal["words", "pieces"], typer.Option(help="Rows and columns: words, or tokens.")] = "words",
    attention: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask this attention, like decoder.2.cross. [default: the run's]")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            metavar="N,N",
            help="Average these heads, counted from 1, or draw `each` by itself. [default: the run's, or all]",
        ),
    ] = None,
    read: Annotated[
        Literal["output", "input"] | None,
        typer.Option(help="Ask the step that writes a word, or the next, which reads it. [default: the run's]"),
    ] = None,
    gold: Annotated[
        Path | None, typer.Option(help="Links in Pharaoh format, from 0, to outline: sure solid, possible dotted.")
    ] = None,
    checkpoint: Checkpoint = "best",
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Draw attention as pictures: source words across, target words down, darker where the model looked more.

    Pictures are called by line number, 0001.png and so on (0001.h2.png with `--heads each`); their names are printed.
    `nmt info` lists the attentions. Of self-attention, such as encoder.1.self, rows are the words that look, columns
    those that are looked at, `<s>` and `</s>` among them.

    A line that is not UTF-8, or longer than search.max_source, costs only itself: it has no picture, but a
    message with its number.

    \b
    Examples:
      nmt plot runs/first test.en test.de --lines 1,5-8 -o pictures
      nmt plot runs/first --text "he hit me with a pie" -o pictures --format svg
      nmt plot runs/first test.en --lines 1 --attention encoder.1.self --heads each -o heads
    """
    from nmt.align.fonts import missing_fonts
    from nmt.align.heatmap import draw_heatmap
    from nmt.cli.align import check_links, load_exact, maps_of, parse_heads, reading_of
    from nmt.files import check_apart
    from nmt.text.lines import check_inputs, output_file

    check_inputs(src, tgt)
    check_inputs(gold, record=True)
    wanted = None if lines is None else _parse_lines(lines)
    chosen = None if heads is None or heads == "each" else parse_heads(heads)
    _check_arguments(src, tgt, text, gold, level)
    _check_folder(output, force)
    sentences = _choose(_read(src, tgt, text, gold), wanted, src)
    translator = load_exact(run, checkpoint, device)
    reading = reading_of(translator, run, attention, chosen, read)
    if gold is not None:
        check_links(reading, "--gold", "Choose another attention: --attention NAME.")
    readings = _by_head(translator, reading) if heads == "each" else {"": reading}
    pairs = _with_translations(translator, sentences, src)
    pictures = [output / f"{sentence.number:04}{suffix}.{form}" for sentence in sentences for suffix in readings]
    check_apart(pictures, [path for path in (src, tgt, gold) if path is not None])
    output.mkdir(parents=True, exist_ok=True)
    missing: frozenset[str] = frozenset()
    drawn = zip(*(maps_of(translator, pairs, level, r) for r in readings.values()), strict=True)
    shares = _copied(translator, pairs, level, reading)
    for sentence, maps, copied in zip(sentences, drawn, shares, strict=True):
        if maps[0].weights.size == 0:
            side = "target" if maps[0].src or reading.within == "tgt" else "source"
            tell(f"line {sentence.number}: nothing to draw, the {side} is empty")
            continue
        for suffix, attention_map in zip(readings, maps, strict=True):
            path = output / f"{sentence.number:04}{suffix}.{form}"
            with output_file(path, overwrite=force) as draft:
                missing |= draw_heatmap(attention_map, draft, form=form, gold=sentence.gold, copied=copied)
            say(path)
    if missing:
        tell(missing_fonts(missing))


def _by_head(translator: Translator, reading: Reading) -> dict[str, Reading]:
    """The reading of each head alone, by what is added to the name of its picture."""
    from nmt.align.extract import attentions

    heads = attentions(translator.model, translator.device)[reading.name]
    return {f".h{head}": reading._replace(heads=(head,)) for head in range(1, heads + 1)}


def _copied(
    translator: Translator, pairs: list[tuple[str, str]], level: Literal["words", "pieces"], reading: Reading
) -> Iterable[list[float] | None]:
    """Of each pair the probability with which each target word was copied; None of models that do not copy."""
    from nmt.cli.align import maps_of
    from nmt.unknown import COPY

    if not translator.model.copies or reading.within is not None:
        return [None] * len(pairs)
    maps = maps_of(translator, pairs, level, COPY, keep_eos=True)
    return (m.weights.sum(axis=1)[:-1].tolist() for m in maps)  # not that of EOS


class _Sentence(NamedTuple):
    number: int
    src: bytes
    pair: Pair | BadPair | None  # where the translation is given
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
    link = next((path for path in output.iterdir() if path.is_symlink()), None) if output.is_dir() else None
    if link is not None:
        raise UserError(f"{link} is a link, and what it leads to might be lost", "Choose another folder with -o.")


def _read(src: Path | None, tgt: Path | None, text: list[str] | None, gold: Path | None) -> list[_Sentence]:
    """All sentences with what is known of them."""
    from nmt.text.lines import Pair, raw_lines, read_parallel
    from nmt.text.links import read_links

    if src is None:
        return [_Sentence(n, line.encode(), None, None) for n, line in enumerate(text or [], start=1)]
    if tgt is None:
        return [_Sentence(n, line, None, None) for n, line in enumerate(raw_lines(src), start=1)]
    pairs = list(read_parallel(src, tgt, drop_bad=True))
    sizes = [(len(pair.src.split()), len(pair.tgt.split())) if isinstance(pair, Pair) else None for pair in pairs]
    links: list[Gold] | list[None] = [None] * len(pairs) if gold is None else read_links(gold, sizes=sizes)
    return [_Sentence(pair.number, b"", pair, g) for pair, g in zip(pairs, links, strict=True)]


def _parse_lines(text: str) -> list[tuple[int, int]]:
    """`1,5-8` as ranges [(1, 1), (5, 8)]."""
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
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
    results = iter(translator.translate([s.src for s in sentences if s.pair is None]))
    for sentence in sentences:
        if sentence.pair is not None and src is not None:
            pairs.append(told(sentence.pair, src, translator))
            continue
        result = next(results)
        if result.problem is not None:
            tell(f"{src or '--text'}, line {sentence.number}: {result.problem}")
        pairs.append(("", "") if result.problem is not None else (sentence.src.decode("utf-8"), result.text))
    return pairs
