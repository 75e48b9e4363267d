"""Pretrained word vectors: text files of word2vec (line 1 is `COUNT WIDTH`) and of GloVe (no such line).

Every other line is a word and its numbers, separated by single spaces. The file is streamed; what stays in memory is
the vectors of the vocabulary's words.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmt.errors import UserError
from nmt.records import whole_number
from nmt.text.lines import decode_line, raw_lines
from nmt.text.tokenizer import UNK, Tokenizer, composes, normalise

LARGEST = float(np.finfo(np.float32).max)


class Coverage(NamedTuple):
    """How many words of a vocabulary have a vector, and how many of the words of a text, repetitions counted."""

    words: int
    of_words: int
    running: int
    of_running: int

    def __str__(self) -> str:
        types, running = 100 * self.words / self.of_words, 100 * self.running / self.of_running
        return f"{self.words:,} of {self.of_words:,} words ({types:.1f} %), {running:.1f} % of the running words"


class Vectors(NamedTuple):
    """What a file has for a vocabulary of V ids, the special tokens included."""

    values: NDArray[np.float32]  # [V,D], 0 where there is none
    found: NDArray[np.bool_]  # [V] never the special tokens

    def coverage(self, sentences: Iterable[NDArray[np.int64]]) -> Coverage:
        """`sentences` are the ids of the text, without BOS and EOS."""
        running = of_running = 0
        for ids in sentences:
            running += int(np.count_nonzero(self.found[ids]))
            of_running += len(ids)
        return Coverage(int(self.found.sum()), len(self.found) - UNK - 1, running, of_running)


def check_vectors(path: Path, width: int) -> None:
    """Raises UserError, with file and line, unless `path` is a file of vectors of `width` numbers, all of it. So hours
    of preparing text are not lost for its last line."""
    for _ in _entries(path, width):
        pass


def check_words(path: Path, tokenizer: Tokenizer, width: int) -> None:
    """Raises UserError if no word of the tokenizer has a vector other than 0; reads until one is found."""
    words = tokenizer.pieces(range(UNK + 1, len(tokenizer)))
    wanted = {*words, *map(str.lower, words)}
    any_found = False
    with contextlib.closing(_entries(path, width)) as entries:
        for word, numbers in entries:
            if _composed(word, tokenizer) in wanted:
                any_found = True
                if any(numbers):
                    return
    raise _all_zero(path) if any_found else _none_found(path, len(words))


def read_vectors(path: Path, tokenizer: Tokenizer, width: int) -> Vectors:
    """The vectors of the tokenizer's words, each that of the word as it is, else that of the word in lower case. Of
    several for one word, the first counts.

    One factor for the whole file brings what was found to a root mean square of width**-0.5, which is the standard
    deviation (about 0) that embedding tables start with: an embedding multiplies its table by sqrt(width), and the
    table may be the output layer, too. So words without a vector, which keep their random start, are as loud as those
    with one. What vectors say by direction and by relative length is kept.

    Raises UserError, with file and line, for vectors of another width, for a line that is not a word and its numbers,
    and where no word of the vocabulary has a vector.
    """
    words = tokenizer.pieces(range(UNK + 1, len(tokenizer)))
    ids = {word: n for n, word in enumerate(words, start=UNK + 1)}
    by_lower: dict[str, list[int]] = {}
    for word, n in ids.items():
        if word.lower() != word:
            by_lower.setdefault(word.lower(), []).append(n)
    values = np.zeros((len(tokenizer), width), np.float32)
    exact, lowered = (np.zeros(len(tokenizer), np.bool_) for _ in range(2))
    for word, numbers in _entries(path, width):
        word = _composed(word, tokenizer)
        same = ids.get(word)
        if same is not None and not exact[same]:
            values[same], exact[same] = numbers, True
        for n in by_lower.get(word, ()):
            if not exact[n] and not lowered[n]:
                values[n], lowered[n] = numbers, True
    found = exact | lowered
    if not found.any():
        raise _none_found(path, len(words))
    mean_square = float(np.einsum("vd,vd->", values, values, dtype=np.float64)) / (int(found.sum()) * width)
    if mean_square == 0.0:
        raise _all_zero(path)
    values *= width**-0.5 / math.sqrt(mean_square)
    return Vectors(values, found)


def _composed(word: str, tokenizer: Tokenizer) -> str:
    """The word as this vocabulary encodes it; its case stays."""
    return normalise(word, lowercase=False, nfc=composes(tokenizer.settings))


def _none_found(path: Path, words: int) -> UserError:
    return UserError(
        f"{path}: has no vector for any of the {words:,} words of the vocabulary",
        "Is it of the right language, and cut into words as the text is?",
    )


def _all_zero(path: Path) -> UserError:
    return UserError(f"{path}: all its vectors of words in the vocabulary are 0", "Take another file.")


def _entries(path: Path, width: int) -> Generator[tuple[str, list[float]], None, None]:
    """Each word of the file with its numbers, in order."""
    with contextlib.closing(_numbered(path)) as lines:
        count, first = _header(path, lines, width)
        if first is not None:
            yield _entry(path, 1, first, width)
        total = 0
        for total, (number, line) in enumerate(lines, start=1):  # noqa: B007
            yield _entry(path, number, line, width)
    if count is not None and count != total:
        raise UserError(
            f"{path}, line 1: speaks of {count:,} words, but {total:,} lines follow",
            f"The file may have been cut short. If that was meant, make line 1: {total} {width}",
        )


def _numbered(path: Path) -> Generator[tuple[int, str], None, None]:
    """The lines of the file, counted from 1."""
    with contextlib.closing(raw_lines(path, record=True)) as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                yield number, decode_line(raw, str(path), number)
            except UserError as error:
                raise UserError(error.message, _form()) from error


def _header(path: Path, lines: Iterator[tuple[int, str]], width: int) -> tuple[int | None, str | None]:
    """Reads line 1: the count that word2vec has there, or else the line, which is an entry already."""
    _, line = next(lines, (1, None))
    if line is None:
        raise UserError(f"{path}: is empty", _form(width))
    fields = line.rstrip(" ").split(" ")
    count = None
    numbers = [number for field in fields if (number := whole_number(field)) is not None]
    if len(fields) == len(numbers) == 2:
        count, found = numbers
    elif len(fields) - 1 == width:
        found = width  # and whether its fields are numbers is seen when they are read
    else:  # a word may have spaces: what is at the end are the numbers
        found = next((n for n, field in enumerate(reversed(fields[1:])) if not _is_number(field)), len(fields) - 1)
    if found == 0:
        raise UserError(f"{path}, line 1: neither COUNT WIDTH, as word2vec has it, nor a word and its numbers", _form())
    if found != width:
        raise UserError(
            f"{path}, line 1: vectors of width {found}, but model.embedding.width is {width}",
            f"Set model.embedding.width to {found}, or take vectors of width {width}.",
        )
    return count, line if count is None else None


def _entry(path: Path, number: int, line: str, width: int) -> tuple[str, list[float]]:
    """A word and its numbers. The numbers are the last `width` fields: some words of GloVe have spaces."""
    word, *fields = line.rstrip(" ").rsplit(" ", width)
    word = word.strip(" ")

    def wrong(what: str) -> UserError:
        return UserError(f"{path}, line {number}: {what}", _form(width))

    if len(fields) < width:
        raise wrong(f"{len(fields)} numbers after the word, not {width}")
    try:
        values = list(map(float, fields))
    except ValueError:
        field = next(field for field in fields if not _is_number(field))
        raise wrong(f"`{field[:40]}` is not a number") from None
    if not sum(map(abs, values)) <= LARGEST:  # nan compares so, too
        field = next((x for x, value in zip(fields, values, strict=True) if not abs(value) <= LARGEST), "their sum")
        raise wrong(f"{field} is not a finite number")
    if " " in word:
        last = word.rpartition(" ")[2]
        if _is_number(last) and not last.isalpha():  # the last of a word with spaces may well be `infinity`
            raise wrong(f"{width + 1} numbers or more after the word, not {width}")
    return word, values


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _form(width: int | str = "its") -> str:
    return (
        f"Each line is a word and {width} numbers, with single spaces between, in UTF-8. Binary files of word2vec and "
        "zip archives are not read: convert or unpack them first."
    )
