"""Small files of the program's own, which may come from a stranger: JSON, lines of JSON, names.

Each is measured before it is taken: it must be a plain file of no more than its size, UTF-8, nested no deeper than a
parser goes, and of the types that are expected. Else a UserError names the file and, of many, the line.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from nmt.errors import UserError
from nmt.told import is_text

MOST_BYTES = 2**28
"""Of a file of JSON, or of a line: the largest vocabularies are a tenth of it."""
MOST_IN_A_NAME = 255
"""Bytes, as file systems have it."""

Count = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[float, Field(ge=0, lt=2**53)]


def read_json(path: Path, kind: Any = dict[str, Any], hint: str | None = None) -> Any:
    """What a JSON file holds, a value of the type `kind`; UserError where it is missing or damaged."""
    return parse_json(read_small(path, MOST_BYTES), str(path), kind, hint)


def parse_json(raw: str | bytes, where: str, kind: Any = dict[str, Any], hint: str | None = None) -> Any:
    """A JSON text as a value of the type `kind`; UserError, which names `where`, if it is none."""
    try:
        return _adapter(kind).validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise UserError(f"{where} is damaged: {at and f'{at}: '}{first['msg']}", hint) from error


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a record with their numbers, from 1; none where there is no record.

    A last line without its end is still being written, or was when the power went: it does not count.
    """
    if not os.path.lexists(path):
        return
    with os.fdopen(_open(path), "rb") as file:
        number = 0
        while (line := file.readline(MOST_BYTES)).endswith(b"\n"):
            number += 1
            yield number, line[:-1]
    if len(line) == MOST_BYTES:
        raise UserError(f"{path}, line {number + 1} is damaged: it is longer than {MOST_BYTES:,} bytes")


def read_name(path: Path) -> str | None:
    """The name that a file holds, and nothing else; None where there is no file, or nothing in it. UserError for what
    can be no name of a file in a folder."""
    if not os.path.lexists(path):
        return None
    name = read_small(path, 2 * MOST_IN_A_NAME).decode("utf-8", "replace").strip()
    if name and not is_name(name):
        raise UserError(f"{path} is damaged: it should hold a name")
    return name or None


def is_name(text: str) -> bool:
    """Whether a text can name something in a folder: not in another folder, not what is hidden there."""
    fits = is_text(text) and text.isprintable() and 0 < len(text.encode()) <= MOST_IN_A_NAME
    return fits and "\ufffd" not in text and not text.startswith(".") and os.path.basename(text) == text


def whole_number(text: str) -> int | None:
    """A whole number that a text consists of; None for anything else, and for one of more than 18 digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def read_small(path: Path, most: int) -> bytes:
    """A plain file of `most` bytes at most; UserError where it is none, or cannot be read. Never waits."""
    with os.fdopen(_open(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise UserError(f"{path} is damaged: it is larger than {most:,} bytes")
        return file.read()


def check_plain(path: Path) -> None:
    """UserError unless it is a plain file that can be read. Never waits."""
    os.close(_open(path))


def _open(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path} is damaged: it is no plain file")
    return handle


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
