"""An output file that is written window by window and that an interrupted program can go on with.

FILE.partial holds what is finished, FILE.partial.json how far that is and what made it; at the end the first becomes
FILE and the second goes. Only whole windows count as finished: the next ones are then cut from the input as they would
have been, so batches are the same, and so is every figure to its last digit.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pydantic import ConfigDict

from nmt.errors import UserError
from nmt.files import REFUSALS, json_text, lock_of, owned, unwritable, write_atomically
from nmt.records import Count, read_json
from nmt.text.lines import check_output, is_stdout, open_output

AFRESH = "Start again with --force."
NOTHING = hashlib.sha256().hexdigest()


@dataclass
class Done:
    """How far the work is."""

    lines: Count = 0  # of the input
    bytes: Count = 0  # of the output
    sha256: str = NOTHING  # of those lines, each with LF
    written_sha256: str | None = NOTHING  # of those bytes; None: not known, as of files of an earlier version
    problems: Count = 0  # lines among them that could not be translated
    flagged: Count = 0  # translations among them that look wrong
    few: Count = 0  # lines among them with fewer different translations than were asked for


@dataclass
class State(Done):
    """What stands in FILE.partial.json."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    written_sha256: str | None = None
    made_by: dict[str, Any] = field(kw_only=True)


class Output:
    """Where text goes. Standard output, a device or a pipe is flushed after each window, and no more can be done."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.done = stream, Done()
        self.kept = 0  # lines of the input that need not be done again if it breaks off now

    def skip(self, lines: Iterator[bytes]) -> None:
        """Reads past the lines that are done. UserError if they are not those that were."""

    def end_window(self, lines: Sequence[bytes], *, whole: bool) -> None:
        """To be called when all that these lines of the input give has been written. Only a `whole` window can be gone
        on from: a shorter one is the last of the input, or stands before an error in it."""
        self.stream.flush()
        self.done.lines += len(lines)


class PartialFile(Output):
    """An output file that can be gone on with."""

    def __init__(self, path: Path, made_by: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path.resolve()  # so that a link stays and what it points to is written
        self.partial, self.state = partial_files(self.path)
        self._made_by: dict[str, Any] = json.loads(json.dumps(made_by))  # as it comes back from a file
        self._digest, self._written = hashlib.sha256(), hashlib.sha256()
        going_on = resume and self.partial.exists()
        self.done = self._read_state() if going_on else Done()
        self.kept = self.done.lines
        if not going_on:
            self._write_state()  # first, so that text never stands beside what another run says of it
        file = self.partial.open("r+b" if going_on else "w+b")
        self.stream = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        try:
            self._check_written()
        except UserError:
            self.stream.close()
            raise

    def skip(self, lines: Iterator[bytes]) -> None:
        count = 0
        while count < self.done.lines and (line := next(lines, None)) is not None:
            self._digest.update(line + b"\n")
            count += 1
        if count < self.done.lines or self._digest.hexdigest() != self.done.sha256:
            raise UserError(
                f"{self.partial} has translations of {self.done.lines:,} lines, and the input begins with others",
                AFRESH,
            )
        self.stream.buffer.truncate(self.done.bytes)  # only now that all fits: what a window left that was cut short

    def end_window(self, lines: Sequence[bytes], *, whole: bool) -> None:
        super().end_window(lines, whole=whole)
        if not whole:
            return
        self._digest.update(b"".join(line + b"\n" for line in lines))
        self.done.sha256 = self._digest.hexdigest()
        file, end = self.stream.buffer, self.stream.buffer.tell()
        file.seek(self.done.bytes)
        self._written.update(file.read(end - self.done.bytes))
        self.done.bytes, self.done.written_sha256 = end, self._written.hexdigest()
        os.fsync(self.stream.fileno())  # the text is on the disk before the state that speaks of it
        self._write_state()
        self.kept = self.done.lines

    def finish(self) -> None:
        self.stream.close()
        self.partial.replace(self.path)
        self.state.unlink()

    def break_off(self) -> None:
        """Keeps what can be gone on with, if there is any."""
        with contextlib.suppress(OSError):  # as of a full disk, and then an error is on its way already
            self.stream.close()
        if not self.kept:
            self.partial.unlink(missing_ok=True)
            self.state.unlink(missing_ok=True)

    def _check_written(self) -> None:
        """UserError unless the file begins with what was written; then its end is to be written next."""
        left = self.done.bytes
        while left and (chunk := self.stream.buffer.read(min(left, 2**20))):
            self._written.update(chunk)
            left -= len(chunk)
        if left:
            raise UserError(f"{self.partial} is shorter than {self.state.name} says", AFRESH)
        if self.done.written_sha256 not in (None, self._written.hexdigest()):
            raise UserError(f"{self.partial} has been changed: it is not what {self.state.name} says", AFRESH)

    def _read_state(self) -> Done:
        state = asdict(read_json(self.state, State, AFRESH))
        then, now = _flat(state.pop("made_by")), _flat(self._made_by)
        changes = [
            f"{key} was {then.get(key, 'absent')}, now {now.get(key, 'absent')}"
            for key in {**then, **now}
            if then.get(key) != now.get(key)
        ]
        if changes:
            raise UserError(
                f"{self.partial} was made in another way: {'; '.join(changes)}",
                "Repeat the command as it was, or start again with --force.",
            )
        return Done(**state)

    def _write_state(self) -> None:
        write_atomically(self.state, json_text({"made_by": self._made_by, **asdict(self.done)}))


def partial_files(path: Path) -> tuple[Path, Path]:
    """The files beside an output file until it is finished: its text, and what is known about that."""
    return path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.partial.json")


def fingerprint(path: Path) -> str:
    """A short digest of a file's content, to tell whether it is the same as before. A pipe, which cannot be read twice,
    never is."""
    if not path.is_file():
        return f"pipe {uuid.uuid4().hex[:8]}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """The leaves of nested objects as JSON, with keys like `search.beam`."""
    if not isinstance(value, dict):
        return {name: json.dumps(value, ensure_ascii=False)}
    parts = (_flat(part, f"{name}.{key}" if name else key) for key, part in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}


@contextlib.contextmanager
def open_resumable(path: Path | None, made_by: Mapping[str, Any], *, resume: bool, overwrite: bool) -> Iterator[Output]:
    """An output as `open_output` gives it, except that of a file that breaks off the finished windows are kept.

    made_by: all that decides what is written, for JSON; going on with what something else made is refused.
    resume: go on where the file breaks off, if there is one; else it is an error, unless `overwrite` gives it up.
    Raises UserError, before anything is written, also where `open_output` does.
    """
    if path is None or is_stdout(path) or (path.exists() and not path.is_file()):
        if resume:
            name = "standard output" if is_stdout(path) else str(path)
            raise UserError(f"--continue needs an output file, not {name}", "Name it with -o.")
        with open_output(path, overwrite=overwrite) as stream:
            yield Output(stream)
        return
    check_output(path, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(owned(lock_of(path), path))
            _check_ours(*partial_files(path.resolve()), known=resume or overwrite)
            output = PartialFile(path, made_by, resume=resume)
        except OSError as error:
            raise unwritable(path, error) from error
        yield from _kept(output, path, overwrite=overwrite)


def _check_ours(partial: Path, state: Path, *, known: bool) -> None:
    """UserError where another's file has one of these names, or where it is not `known` that there is an output to go
    on with, or to give up."""
    for one in (partial, state):
        if one.is_symlink() or (one.exists() and not one.is_file()):
            raise UserError(f"{one} is in the way: it is no file of this program", "Move it, or choose another name.")
    if partial.exists() and not state.exists():
        raise UserError(
            f"{partial} is in the way: {state.name}, which would say what made it, is missing",
            "Move it, or choose another name.",
        )
    if state.exists() and not partial.exists() and "made_by" not in read_json(state):
        raise UserError(f"{state} is in the way: it is no file of this program", "Move it, or choose another name.")
    if partial.exists() and not known:
        raise UserError(
            f"{partial}: a translation that was interrupted", "Go on with it: --continue. Start again: --force."
        )


def _kept(output: PartialFile, path: Path, *, overwrite: bool) -> Iterator[Output]:
    """Gives the output, and keeps what is finished of it where that breaks off."""
    try:
        yield output
        check_output(path, overwrite=overwrite)  # it may be there by now
        output.finish()
    except BaseException as error:
        output.break_off()
        if isinstance(error, OSError) and error.errno in REFUSALS:
            again = f"repeat the command{' with --continue: it goes on there' if output.kept else ''}"
            raise unwritable(path, error, again) from error
        raise
