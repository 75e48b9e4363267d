"""`nmt shortlist`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.cli.common import Checkpoint, Device, ForceFile, load, tracked
from nmt.cli.pairs import readable_pairs
from nmt.told import tell

if TYPE_CHECKING:
    from nmt.text.links import Links
    from nmt.translate import Translator


def shortlist(
    run: Annotated[Path, typer.Argument(help="A run directory, made by `nmt train`.")],
    src: Annotated[Path, typer.Argument(help="Source lines, best those of training.")],
    tgt: Annotated[Path, typer.Argument(help="Their translations, line by line.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Write the shortlist here.")],
    links: Annotated[
        Path | None,
        typer.Option(help="Links of the run's tokens, `i-j` (Pharaoh); without them the run's attention makes them."),
    ] = None,
    each: Annotated[int, typer.Option(min=1, help="Target tokens kept for each source token.")] = 50,
    always: Annotated[int, typer.Option(min=0, help="Most frequent target tokens, which any sentence may use.")] = 100,
    checkpoint: Checkpoint = "best",
    device: Device = "auto",
    force: ForceFile = False,
) -> None:
    """Make a lexical shortlist, with which `nmt translate --shortlist` is faster.

    For each source token it holds the target tokens that are linked to it most often in the text. A sentence is then
    written with what its tokens may become and the most frequent tokens alone, so that all others need no scores. Look
    at BLEU with and without it: what is not in the list cannot be written.

    A line that is not UTF-8, or longer than search.max_source, costs only itself: it counts as empty, and a message
    has its number.

    \b
    Examples:
      nmt shortlist runs/first train.en train.de -o runs/first/shortlist
      nmt translate runs/first test.en --shortlist runs/first/shortlist
    """
    from nmt.shortlist import check_shortlist, count_links, lines_of
    from nmt.text.lines import check_inputs, check_output, open_output

    check_inputs(src, tgt)
    check_inputs(links, record=True)
    check_output(output, overwrite=force)
    translator = load(run, checkpoint, device, beam=None, overrides=[])
    check_shortlist(translator.tokenizers)
    pairs = list(readable_pairs(src, tgt, translator))
    encode_src, encode_tgt = (tokenizer.encode for tokenizer in translator.tokenizers)
    found = _attended(translator, run, pairs) if links is None else iter(_read(links, pairs, translator))
    made = count_links(
        ((encode_src(a), encode_tgt(b), linked) for (a, b), linked in zip(pairs, found, strict=True)),
        each=each,
        always=always,
    )
    with open_output(output, overwrite=force) as stream:
        stream.writelines(f"{line}\n" for line in lines_of(made, translator.tokenizers))
    tell(f"{len(made.becomes):,} source tokens, {each} target tokens each at most, {always} always")


def _attended(translator: Translator, run: Path, pairs: list[tuple[str, str]]) -> Iterator[Links]:
    """Each target token linked to the source token it attends to most."""
    from nmt.align.links import argmax_links
    from nmt.cli.align import check_links, maps_of, reading_of

    reading = reading_of(translator, run, None, None, None)
    check_links(reading, "nmt shortlist", "Give --links, or another align.attention in the run's config.yaml.")
    maps = maps_of(translator, pairs, "pieces", reading)
    return (argmax_links(found) for found in tracked(maps, "aligning", len(pairs)))


def _read(path: Path, pairs: list[tuple[str, str]], translator: Translator) -> list[Links]:
    from nmt.text.links import read_links

    src, tgt = translator.tokenizers
    sizes = [(len(src.encode(a)), len(tgt.encode(b))) if a or b else None for a, b in pairs]
    found = read_links(path, sizes=sizes)
    return [frozenset() if size is None else gold.possible for size, gold in zip(sizes, found, strict=True)]
