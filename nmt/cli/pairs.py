"""Lines and pairs for models, by one rule for all commands: what no model can read costs only itself.

A line that is not UTF-8, has more than LINE_BYTES, or more tokens than search.max_source counts as empty, and so does
its pair; a message says so, with its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.told import tell

if TYPE_CHECKING:
    from nmt.text.lines import BadPair, Pair
    from nmt.translate import Translator


def readable_pairs(
    src: Path, tgt: Path, translator: Translator, reverse: Translator | None = None
) -> Iterator[tuple[str, str]]:
    """The pairs of two files, in order; two empty lines, and a message, where a model cannot read one."""
    from nmt.text.lines import read_parallel

    for pair in read_parallel(src, tgt, drop_bad=True):
        yield told(pair, src, translator, reverse)


def told(pair: Pair | BadPair, src: Path, translator: Translator, reverse: Translator | None = None) -> tuple[str, str]:
    """A pair as models may read it (`reverse`: with its sides exchanged); two empty lines, and a message, if not."""
    from nmt.score import refuses
    from nmt.text.lines import BadPair, name_of

    if isinstance(pair, BadPair):
        tell(f"left empty: {pair.reason}")
        return "", ""
    problem = refuses(translator, pair.src, pair.tgt) or (reverse and refuses(reverse, pair.tgt, pair.src))
    if problem:
        tell(f"{name_of(src)}, line {pair.number}: left empty: {problem}")
        return "", ""
    return pair.src, pair.tgt


def readable_lines(path: Path) -> list[str]:
    """The lines of a file, of which those that are not text are empty, and told."""
    from nmt.text.lines import read_lines

    return list(read_lines(path, tell=lambda message: tell(f"left empty: {message}")))
