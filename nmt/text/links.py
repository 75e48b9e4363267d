"""Word alignments on disk, in the Pharaoh format: a line per sentence pair, `0-2 1-0`.

A link is a pair (source word, target word), both counted from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple, TextIO

from nmt.errors import UserError
from nmt.text.lines import BadPair, Pair, read_lines

Link = tuple[int, int]
Size = tuple[int, int]
Links = frozenset[Link]

_LINES = "An alignment file has one line per sentence pair; a pair without links has an empty line."
_LINK = re.compile(r"([0-9]{1,9})([-?p])([0-9]{1,9})")


class Gold(NamedTuple):
    """The links of one sentence pair, as people (or an aligner) drew them."""

    sure: Links
    possible: Links  # the sure ones included


def read_links(
    path: Path, *, one_based: bool = False, reverse: bool = False, sizes: Sequence[Size | None] | None = None
) -> list[Gold]:
    """Reads a Pharaoh file: a line per sentence pair, `i-j` a sure link, `i?j` or `ipj` a possible one.

    An empty line has no link. A link that is there twice counts once, and sure wins over possible.
    `one_based`: the file counts words from 1. `reverse`: the file puts the target first.
    `sizes`: the numbers of source and target words of every sentence, to check the links against; None where they are
    not known.
    Raises UserError, naming file, line and link, for bad syntax and for words that do not exist.
    """
    gold = []
    for number, line in enumerate(read_lines(path, record=True), start=1):
        size = None if sizes is None or number > len(sizes) else sizes[number - 1]
        gold.append(_parse(line, f"{path}, line {number}", int(one_based), reverse=reverse, size=size))
    if sizes is not None and len(gold) != len(sizes):
        raise UserError(f"{path} has {len(gold)} lines, but there are {len(sizes)} sentence pairs", _LINES)
    return gold


def link_pairs(pairs: Iterable[Pair | BadPair], path: Path) -> Iterator[Pair | BadPair]:
    """The pairs with their links from a Pharaoh file, sure and possible ones, streaming.

    Raises UserError, naming file and line, for bad links, and where there are more or fewer lines than pairs.
    """
    lines = read_lines(path, record=True)
    number = 0
    for number, pair in enumerate(pairs, start=1):
        line = next(lines, None)
        if line is None:
            raise UserError(f"{path} has {number - 1} lines, but there are more sentence pairs", _LINES)
        if isinstance(pair, Pair):
            size = len(pair.src.split()), len(pair.tgt.split())
            pair = pair._replace(links=_parse(line, f"{path}, line {number}", 0, size=size).possible)
        yield pair
    if next(lines, None) is not None:
        raise UserError(f"{path} has more lines than there are sentence pairs, {number}", _LINES)


def _parse(line: str, where: str, first: int, *, reverse: bool = False, size: tuple[int, int] | None) -> Gold:
    marks: dict[str, set[Link]] = {"-": set(), "?": set(), "p": set()}
    for token in line.split():
        match = _LINK.fullmatch(token)
        if match is None:
            raise UserError(
                f"{where}: {token!r} is not a link",
                "A link is source word, mark, target word without spaces: 0-2 is sure, 0?2 or 0p2 possible.",
            )
        src, tgt = int(match[1]) - first, int(match[3]) - first
        if reverse:
            src, tgt = tgt, src
        _check_range(where, token, (src, tgt), size, first)
        marks[match[2]].add((src, tgt))
    sure = frozenset(marks["-"])
    return Gold(sure, sure | marks["?"] | marks["p"])


def _check_range(where: str, token: str, link: Link, size: tuple[int, int] | None, first: int) -> None:
    """Raises UserError if a word of the link does not exist. `size` None: only the lower end is known."""
    for side, (name, word) in enumerate(zip(("source", "target"), link, strict=True)):
        if word >= 0 and (size is None or word < size[side]):
            continue
        words = f"{first}.." if size is None else f"{first}..{size[side] - 1 + first}" if size[side] else "no words"
        hint = (
            "Does the file count from 0? Then it needs no --one-based."
            if first
            else "Does the file count words from 1 (nmt aer --one-based), or put the target first (--swap)?"
        )
        raise UserError(f"{where}: link {token}: {name} {word + first} of {words}", hint)


def write_links(sentences: Iterable[AbstractSet[Link]], file: TextIO) -> None:
    """Writes a line per sentence, its links sorted, counted from 0, all sure."""
    for links in sentences:
        file.write(" ".join(f"{src}-{tgt}" for src, tgt in sorted(links)) + "\n")
