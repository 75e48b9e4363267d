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
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from nmt.errors import UserError
from nmt.files import REFUSALS, lock_of, owned, unwritable, writing
from nmt.layout import run_of
from nmt.limits import LINE_BYTES, RECORD_BYTES
from nmt.text.documents import HEAD, check_head, convert
from nmt.told import is_closed_output

BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
STDIN = "-"
"""As the name of a file to read: standard input."""
STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""As the name of a file to write: standard output."""
CHUNK = 2**16
"""Bytes that are read together, where so many have come."""


class Pair(NamedTuple):
    """Line `number` (from 1) of both files, without line ends."""

    number: int
    src: str
    tgt: str
    links: frozenset[tuple[int, int]] = frozenset()  # words of both that belong together, where it is known


class BadPair(NamedTuple):
    """Line `number` (from 1) is no text on a side; `reason` names file, line and byte."""

    number: int
    reason: str
    too_long: bool = False  # more than LINE_BYTES, be it UTF-8 or not


class BadLineError(ValueError):
    """Why a line is not text."""


def raw_lines(path: Path | None, *, record: bool = False, keep_mark: bool = False) -> Generator[bytes, None, None]:
    """Streams the lines of a file, or of standard input when `path` is None or `-`, without LF and one CR before it.

    A last line without LF counts, an empty file has no line. Gzip is told by content, not by name, and all its
    members are read. A UTF-8 byte order mark at the start is removed, but with `keep_mark`. Of a line that is longer
    than LINE_BYTES no more than a little beyond that is given, or ever in memory; `text_of` refuses it. `record`: the
    file is not sentences, but JSON, links or the like: its lines may have RECORD_BYTES, and its name and form be any.

    Raises UserError, at the first line that cannot be had, for a file that cannot be read, for damaged gzip data, for
    UTF-16 and UTF-32, for what is a document and not lines of text, and for lines that end in CR alone.
    """
    most, mark = RECORD_BYTES if record else LINE_BYTES, b"" if keep_mark else BOM
    rest, ended = bytearray(), 0  # the line whose LF has not come; how many have had theirs
    with _opened(path, record) as stream:
        while chunk := stream.read1(CHUNK):
            *lines, last = chunk.split(b"\n")
            if lines:
                lines[0] = bytes(rest) + lines[0]
                rest.clear()
                if ended == 0:
                    lines[0] = lines[0].removeprefix(mark)
                ended += len(lines)
                for line in lines:
                    yield line.removesuffix(b"\r")
            rest += last
            if len(rest) > most + len(BOM):
                if record:
                    raise UserError(f"{name_of(path)}, line {ended + 1}: longer than {most:,} bytes")
                del rest[most + len(BOM) + 1 :]
        if ended == 0 and rest.count(b"\r") > 1:
            raise UserError(
                f"{name_of(path)}: its lines end in CR, as on old Macs, and there is no LF, which ends a line here",
                "Save it with Unix line ends in your editor, or: tr '\\r' '\\n' < FILE > NEW-FILE",
            )
        if rest:
            line = bytes(rest).removesuffix(b"\r")
            yield line.removeprefix(mark) if ended == 0 else line


def check_inputs(*paths: Path | None, record: bool = False, again: bool = False) -> None:
    """UserError, before any work, for what `raw_lines` would refuse by its name or its first bytes, for a folder, for
    a file that does not exist, and for standard input that is to be two files at once, or, with `again`, that is to be
    read more than once. None is no file at all."""
    named = [path for path in paths if path is not None]
    for path in named:
        if is_stdin(path):
            if sum(map(is_stdin, named)) > 1:
                raise UserError("standard input (-) cannot be two files at once", "Name a file for one of them.")
            if again:
                raise UserError(
                    "standard input is read but once, and this text more often", "Write it to a file first."
                )
        elif path.is_dir():
            raise UserError(f"{path}: is a folder, not a file")
        elif not path.exists():
            raise UserError(f"{path}: there is no such file")
        elif path.is_file():  # what can be read but once, such as a pipe, has to wait
            with _opened(path, record):
                pass


def is_stdin(path: Path | None) -> bool:
    return path is None or str(path) == STDIN


def is_stdout(path: Path | None) -> bool:
    return path is None or str(path) in STDOUT


def name_of(path: Path | None) -> str:
    """As messages call an input."""
    return "standard input" if path is None or is_stdin(path) else str(path)


@contextlib.contextmanager
def _opened(path: Path | None, record: bool) -> Iterator[io.BufferedReader | gzip.GzipFile]:
    """The bytes of an input, unpacked, their first ones looked at. What cannot be read is a UserError."""
    name = name_of(path)
    try:
        with contextlib.ExitStack() as stack:
            named = None if path is None or is_stdin(path) else path
            source = sys.stdin.buffer if named is None else stack.enter_context(named.open("rb"))
            if not isinstance(source, io.BufferedReader):  # standard input replaced by a program's own
                source = io.BufferedReader(source)
                stack.callback(source.detach)
            stream: io.BufferedReader | gzip.GzipFile = source
            if source.peek(2)[:2] == GZIP_MAGIC:
                stream = stack.enter_context(gzip.GzipFile(fileobj=source, mode="rb"))
            check_head(stream.peek(HEAD)[:HEAD], name, None if record else named)
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{name}: damaged gzip data ({str(error).rstrip('.')})", "Fetch or compress the file again."
        ) from error
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror or error}") from error


def text_of(raw: bytes, most: int | None = None) -> str:
    """The text of a line; BadLineError if it is longer than `most` bytes (LINE_BYTES), or not UTF-8: then with the
    number of the byte, from 1."""
    if len(raw) > (most or LINE_BYTES):
        raise BadLineError(f"longer than {most or LINE_BYTES:,} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLineError(f"not UTF-8 at byte {error.start + 1} of the line (0x{raw[error.start]:02X})") from error


def decode_line(raw: bytes, name: str, number: int, most: int | None = None) -> str:
    """The text of line `number` (from 1) of the file called `name`; UserError where `text_of` raises BadLineError."""
    try:
        return text_of(raw, most)
    except BadLineError as error:
        too_long = len(raw) > (most or LINE_BYTES)
        raise UserError(f"{name}, line {number}: {error}", None if too_long else convert()) from error


def read_lines(
    path: Path, *, record: bool = False, keep_mark: bool = False, tell: Callable[[str], object] | None = None
) -> Generator[str, None, None]:
    """Streams the lines of a UTF-8 file, as `raw_lines` and `decode_line` do. With `tell`, a line that is not text is
    an empty one, and `tell` is given the message."""
    name, most = name_of(path), RECORD_BYTES if record else None
    with contextlib.closing(raw_lines(path, record=record, keep_mark=keep_mark)) as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                yield decode_line(raw, name, number, most)
            except UserError as error:
                if tell is None:
                    raise
                tell(error.message)
                yield ""


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
        return bool(self.paths) and all(path.is_file() and not is_stdin(path) for path in self.paths)

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
        return name_of(self.paths[which] if self.paths else None), number - self._starts[which] + 1


class Given(Inputs):
    """Lines that are there already, as if they came from `name`."""

    def __init__(self, lines: Sequence[str], name: str) -> None:
        super().__init__([])
        self._lines, self._name = lines, name

    def __iter__(self) -> Iterator[bytes]:
        return (line.encode() for line in self._lines)

    def place(self, number: int) -> tuple[str, int]:
        return self._name, number


def read_parallel(
    src: Path, tgt: Path, *, drop_bad: bool = False, tgt_record: bool = False
) -> Iterator[Pair | BadPair]:
    """Streams the pairs of two files, line N of one being the partner of line N of the other.

    A line that is not UTF-8 raises UserError, or gives a BadPair with `drop_bad`; one that is longer than LINE_BYTES
    gives a BadPair in any case. Unequal numbers of lines raise UserError with both counts, where the shorter file ends.
    `tgt_record` is `record` of `raw_lines`, for the target.
    """
    src_lines, tgt_lines = raw_lines(src), raw_lines(tgt, record=tgt_record)
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
                yield Pair(number, text_of(raw_src), text_of(raw_tgt))
            except BadLineError:
                yield _bad_pair(number, (src, raw_src), (tgt, raw_tgt), drop_bad=drop_bad)


def _bad_pair(number: int, *sides: tuple[Path, bytes], drop_bad: bool) -> BadPair:
    too_long = any(len(raw) > LINE_BYTES for _, raw in sides)
    try:
        for path, raw in sides:
            decode_line(raw, name_of(path), number)
    except UserError as error:
        if drop_bad or too_long:
            return BadPair(number, error.message, too_long)
        raise
    raise AssertionError("none of the lines is bad")


def _unequal(shorter: Path, longer: Path, count: int, extra: bytes, rest: Iterator[bytes]) -> UserError:
    """The error for `shorter` with `count` lines; `extra` and `rest` are what `longer` has beyond them."""
    surplus, blank = 1, not extra.strip()
    for line in rest:
        surplus += 1
        blank = blank and not line.strip()
    return UserError(
        f"the files do not match: {name_of(shorter)} has {count} lines, {name_of(longer)} has {count + surplus}",
        f"The lines after line {count} of {name_of(longer)} are blank: remove them."
        if blank
        else "Line N of one must be the translation of line N of the other: look for a line lost or split in two.",
    )


@contextlib.contextmanager
def open_output(path: Path | None, *, overwrite: bool) -> Iterator[TextIO]:
    """Opens a text file to write, UTF-8 with LF as line end; standard output when `path` is None, or `-`.

    A file is written under another name beside its own and renamed when the `with` block ends well, so that nothing
    half-written is left. UserError, before anything is written, if the file exists and `overwrite` is false, or if it
    cannot be made; and later, where the disk is full. A device or a pipe is written to as it is.
    """
    if path is None or is_stdout(path):
        with writing("standard output"):
            yield from _standard_output()
        return
    check_output(path, overwrite=overwrite)
    if path.is_file() or not path.exists():
        with output_file(path, overwrite=overwrite) as draft, draft.open("x", encoding="utf-8", newline="\n") as stream:
            yield stream
        return
    try:
        stream = path.open("w", encoding="utf-8", newline="\n")  # a device or a pipe
    except OSError as error:
        raise unwritable(path, error) from error
    with writing(path), stream:
        yield stream


@contextlib.contextmanager
def output_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A name to write an output file under, beside its own, which it gets when the `with` block ends well.

    Meanwhile no other command can write it. UserError as of `open_output`.
    """
    check_output(path, overwrite=overwrite)
    final = path.resolve()  # so that a link stays and what it points to is written
    draft = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(owned(lock_of(path), path))
            draft.unlink(missing_ok=True)  # of a process that had our number and was killed
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            with writing(path):
                yield draft
            check_output(path, overwrite=overwrite)  # it may be there by now
            draft.replace(final)
        finally:
            draft.unlink(missing_ok=True)


def check_output(path: Path, *, overwrite: bool) -> None:
    """UserError where an output file would replace something that the user did not give up."""
    if is_stdout(path):
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder", "Name a file in it.")
    run = run_of(path)
    if run is not None:
        raise UserError(f"{path}: this is a name of the run {run}'s own", "Choose another name.")
    if path.is_file() and not overwrite:
        raise UserError(f"{path}: exists already", "Choose another name, or overwrite it with --force.")


def _standard_output() -> Iterator[TextIO]:
    """Standard output as UTF-8 with LF, whatever the platform says; on a terminal by lines, and what it can show."""
    if is_closed_output():
        raise UserError("standard output is closed", "Name a file with -o, or open it.")
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
