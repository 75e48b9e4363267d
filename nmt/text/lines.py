"""Lines of text, in and out. A line ends at LF and nowhere else; text is UTF-8, plain or gzip.

Python's universal newlines and `str.splitlines` cut at CR, U+2028 and more, so that line N of one file would lose
its partner in the other: nothing here uses them.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from nmt.errors import UserError
from nmt.files import REFUSALS, unwritable, writing

BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
# Longest first: the mark of UTF-32 begins with that of UTF-16.
FOREIGN_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32LE",
    b"\x00\x00\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}


class Pair(NamedTuple):
    """Line `number` (from 1) of both files, without line ends."""

    number: int
    src: str
    tgt: str
    links: frozenset[tuple[int, int]] = frozenset()  # words of both that belong together, where it is known


class BadPair(NamedTuple):
    """Line `number` (from 1) is not UTF-8 on a side; `reason` names file, line and byte."""

    number: int
    reason: str


def raw_lines(path: Path | None) -> Generator[bytes, None, None]:
    """Streams the lines of a file, or of standard input when `path` is None, without LF and one CR before it.

    A last line without LF counts, an empty file has no line. Gzip is told by content, not by name, and all its
    members are read. A UTF-8 byte order mark at the start is removed. Raises UserError, at the first line that cannot
    be had, for a file that cannot be read and for damaged gzip data.
    """
    name = "standard input" if path is None else str(path)
    try:
        with contextlib.ExitStack() as stack:
            source = sys.stdin.buffer if path is None else stack.enter_context(path.open("rb"))
            if not isinstance(source, io.BufferedReader):  # standard input replaced by a program's own
                source = io.BufferedReader(source)
                stack.callback(source.detach)
            stream: io.BufferedIOBase = source
            if source.peek(2)[:2] == GZIP_MAGIC:
                stream = stack.enter_context(gzip.GzipFile(fileobj=source, mode="rb"))
            for n, line in enumerate(stream):
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                yield line.removeprefix(BOM) if n == 0 else line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{name}: damaged gzip data ({str(error).rstrip('.')})", "Fetch or compress the file again."
        ) from error
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror or error}") from error


def decode_line(raw: bytes, name: str, number: int) -> str:
    """The text of line `number` (from 1) of the file called `name`; UserError if it is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        encoding = _guess_encoding(raw, number)
        raise UserError(
            f"{name}, line {number}: not UTF-8 at byte {error.start + 1} of the line (0x{raw[error.start]:02X})"
            + (f"; the file looks like {encoding}" if encoding else ""),
            f"Convert the file: iconv -f {encoding or 'ITS-ENCODING'} -t UTF-8 FILE > NEW-FILE",
        ) from error


def _guess_encoding(raw: bytes, number: int) -> str | None:
    """What a byte order mark or many NUL bytes give away."""
    for mark, encoding in FOREIGN_MARKS.items():
        if raw.startswith(mark):
            return encoding
    # European text has 3 NUL bytes in 4 as UTF-32 and nearly 1 in 2 as UTF-16. They come first in big-endian text;
    # lines after the first do not tell, since the cut at the byte LF left some of its NULs at an end.
    nuls = raw.count(0) / len(raw)
    order = "" if number > 1 else "BE" if raw[0] == 0 else "LE"
    return f"UTF-32{order}" if nuls > 0.6 else f"UTF-16{order}" if nuls > 0.3 else None


def read_lines(path: Path) -> Iterator[str]:
    """Streams the lines of a UTF-8 file, as `raw_lines` and `decode_line` do."""
    for number, raw in enumerate(raw_lines(path), start=1):
        yield decode_line(raw, str(path), number)


def count_lines(path: Path) -> int:
    return sum(1 for _ in raw_lines(path))


class Inputs:
    """The raw lines of several files, or of standard input where there is none, as one stream that knows where each
    line came from."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._starts: list[int] = []  # number of the first line of each file that was begun, of all lines from 1

    @property
    def are_files(self) -> bool:
        """Whether they can be read again; a pipe, like standard input, cannot."""
        return bool(self.paths) and all(path.is_file() for path in self.paths)

    def __iter__(self) -> Iterator[bytes]:
        """As `raw_lines`; can be asked for once."""
        number = 1
        sources: Sequence[Path | None] = self.paths or [None]
        for path in sources:
            self._starts.append(number)
            for line in raw_lines(path):
                yield line
                number += 1

    def place(self, number: int) -> tuple[str, int]:
        """The file, and the line there, of the line that was the `number`-th of all."""
        which = max(n for n, start in enumerate(self._starts) if start <= number)
        name = str(self.paths[which]) if self.paths else "standard input"
        return name, number - self._starts[which] + 1


class Given(Inputs):
    """Lines that are there already, as if they came from `name`."""

    def __init__(self, lines: Sequence[str], name: str) -> None:
        super().__init__([])
        self._lines, self._name = lines, name

    def __iter__(self) -> Iterator[bytes]:
        return (line.encode() for line in self._lines)

    def place(self, number: int) -> tuple[str, int]:
        return self._name, number


def read_parallel(src: Path, tgt: Path, *, drop_bad: bool = False) -> Iterator[Pair | BadPair]:
    """Streams the pairs of two files, line N of one being the partner of line N of the other.

    A line that is not UTF-8 raises UserError, or gives a BadPair with `drop_bad`. Unequal numbers of lines raise
    UserError with both counts, where the shorter file ends.
    """
    src_lines, tgt_lines = raw_lines(src), raw_lines(tgt)
    with contextlib.closing(src_lines), contextlib.closing(tgt_lines):
        number = 0
        while True:
            raw_src, raw_tgt = next(src_lines, None), next(tgt_lines, None)
            if raw_src is None and raw_tgt is None:
                return
            if raw_src is None:
                assert raw_tgt is not None
                raise _unequal(src, tgt, number, raw_tgt, tgt_lines)
            if raw_tgt is None:
                raise _unequal(tgt, src, number, raw_src, src_lines)
            number += 1
            try:
                yield Pair(number, decode_line(raw_src, str(src), number), decode_line(raw_tgt, str(tgt), number))
            except UserError as error:
                if not drop_bad:
                    raise
                yield BadPair(number, error.message)


def _unequal(shorter: Path, longer: Path, count: int, extra: bytes, rest: Iterator[bytes]) -> UserError:
    """The error for `shorter` with `count` lines; `extra` and `rest` are what `longer` has beyond them."""
    surplus, blank = 1, not extra.strip()
    for line in rest:
        surplus += 1
        blank = blank and not line.strip()
    return UserError(
        f"the files do not match: {shorter} has {count} lines, {longer} has {count + surplus}",
        f"The lines after line {count} of {longer} are blank: remove them."
        if blank
        else "Line N of one must be the translation of line N of the other: look for a line lost or split in two.",
    )


@contextlib.contextmanager
def open_output(path: Path | None, *, overwrite: bool) -> Iterator[TextIO]:
    """Opens a text file to write, UTF-8 with LF as line end; standard output when `path` is None.

    A file is written under another name beside its own and renamed when the `with` block ends well, so that nothing
    half-written is left. UserError, before anything is written, if the file exists and `overwrite` is false, or if it
    cannot be made; and later, where the disk is full. A device or a pipe is written to as it is.
    """
    if path is None:
        with writing("standard output"):
            yield from _standard_output()
        return
    check_output(path, overwrite=overwrite)
    final = path.resolve()  # so that a link stays and what it points to is written
    aside = final.is_file() or not final.exists()
    target = final.with_name(f".{final.name}.{os.getpid()}.tmp") if aside else final
    try:
        stream = target.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with writing(path), stream:
            yield stream
        if aside:
            target.replace(final)
    except BaseException:
        if aside:
            target.unlink(missing_ok=True)
        raise


def check_output(path: Path, *, overwrite: bool) -> None:
    """UserError where an output file would replace something that the user did not give up."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder", "Name a file in it.")
    if path.is_file() and not overwrite:
        raise UserError(f"{path}: exists already", "Choose another name, or overwrite it with --force.")


def _standard_output() -> Iterator[TextIO]:
    """Standard output as UTF-8 with LF, whatever the platform says; on a terminal by lines, and what it can show."""
    sys.stdout.flush()
    terminal = sys.stdout.isatty()
    stream = io.TextIOWrapper(
        sys.stdout.buffer,
        encoding=sys.stdout.encoding if terminal else "utf-8",
        errors="backslashreplace" if terminal else "strict",
        newline="\n",
        line_buffering=terminal,
    )
    try:
        yield stream
        stream.flush()
    except OSError as error:
        if error.errno in REFUSALS:  # what waits in buffers can go nowhere, and would be tried again and again
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise
    finally:
        stream.detach()  # else collecting the wrapper would close standard output
