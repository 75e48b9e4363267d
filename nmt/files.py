"""Files that are there completely or not at all, whatever happens while they are written."""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from nmt.errors import UserError

FULL = "Free some space on that disk"
FORBIDDEN = "Choose a place that you may write to, or change who may"
REFUSALS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "Lift the limit on the size of files (ulimit -f)",
    errno.EROFS: FORBIDDEN,
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.ENAMETOOLONG: "Choose a shorter name",
}
"""What a system says that will not have a file written, and what helps."""
LONGEST_NAME = 220
"""Bytes. Systems take 255, and what is not whole yet has a longer name."""


def write_atomically(path: Path, text: str) -> None:
    """Replaces a small file: whoever reads it, even after a power cut, sees the old text or the new. A link or a folder
    of that name is somebody's, and gets another."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if path.is_symlink() or path.is_dir():
        make_room(path)
    try:
        draft.write_text(text, encoding="utf-8")
        _fsync(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _fsync(path.parent)


@contextmanager
def written_aside(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Gives an empty folder that becomes `target` once the block has ended well, and vanishes if it has not.

    Every file is on the disk before the name changes, so `target` is complete or absent. An older `target` is
    replaced, or with `overwrite` false a UserError unless it is an empty folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft, old = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("tmp", "old.tmp"))
    for left in (draft, old):  # by a process that had our number and was killed
        shutil.rmtree(left, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        for path in (*draft.rglob("*"), draft):
            _fsync(path)
        if overwrite and target.exists():
            os.rename(target, old)
        try:
            os.rename(draft, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise UserError(f"{target} has come to be there meanwhile", "Choose another name.") from error
        _fsync(target.parent)
    except BaseException:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def owned(lock: Path, what: Path | str) -> Iterator[str]:
    """Within it, whoever asks for this lock, in this process or another, gets a UserError that says who has it.

    The file `lock` is locked, which ends with the process, however that ends, and holds its number, machine and time
    for people to read. Gives what an owner that was killed, or one on a machine whose locks are not heard of here, has
    left there: mostly nothing. The file goes at the end. OSError where it cannot be written.
    """
    handle, left = _lock(lock, what)
    HELD.add(handle)
    try:
        now = datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()} since {now}\n".encode(), 0)
        yield left
    finally:
        if handle in HELD:  # else this is a process that was forked within the block
            if _is_there(handle, lock):
                lock.unlink()
            HELD.remove(handle)
            os.close(handle)


HELD: set[int] = set()
"""Locks of this process."""


def _let_go() -> None:
    """In a process that was forked: what it kept open would keep the locks of the one that may have ended."""
    for handle in HELD:
        os.close(handle)
    HELD.clear()


os.register_at_fork(after_in_child=_let_go)


def lock_of(output: Path) -> Path:
    """The lock of an output, which lies beside it."""
    final = output.resolve()
    return final.with_name(f".{final.name}.lock")


def _lock(path: Path, what: Path | str) -> tuple[int, str]:
    """A handle of the locked file, and what was in it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        left = os.pread(handle, 200, 0).decode("utf-8", "replace").strip()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise UserError(
                f"{what} is being written by another command: {left or 'which has just begun'}",
                "Wait until that has ended, or stop it.",
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                os.close(handle)
                raise
            return handle, left  # a file system without locks: what was left can be told
        if _is_there(handle, path):  # else the one before has removed it meanwhile
            return handle, left
        os.close(handle)


def _is_there(handle: int, path: Path) -> bool:
    """Whether the open file is the one that goes by this name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def make_room(path: Path) -> None:
    """Gives what somebody has put at a name that is needed another name beside it."""
    for number in count(1):
        other = path.with_name(f"{path.name}.other-{number}")
        if not os.path.lexists(other):
            path.rename(other)
            return


def check_apart(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """UserError where an output, or what it is called until it is complete, is one of the inputs, standard input among
    them, by whatever name; or where two outputs are one file."""
    read: list[tuple[str, Path | int]] = [(f"the input {path}", path) for path in inputs if path.exists()]
    read.append(("what is read from standard input", 0))
    for path in outputs:
        for name, other in read:
            if any(_same(Path(f"{path}{end}"), other) for end in ("", ".partial", ".partial.json")):
                raise UserError(f"{path} would replace {name}: they are one file", "Choose another name with -o.")
        read.append((f"the output {path}", path))


def _same(one: Path, other: Path | int) -> bool:
    """Whether two names are of one plain file, which need not be there yet; a number is that of an open one."""
    try:
        first, second = os.stat(one), os.stat(other)
    except FileNotFoundError:
        return isinstance(other, Path) and one.resolve() == other.resolve()
    except OSError:
        return False
    return stat.S_ISREG(first.st_mode) and os.path.samestat(first, second)


def check_place(folder: Path) -> None:
    """UserError where no new folder can be made: a file is there, or the folder that the user is in, or it is one that
    may not be written to, or its name is too long."""
    if len(os.fsencode(folder.name)) > LONGEST_NAME:
        raise unwritable(folder, OSError(errno.ENAMETOOLONG, f"its name has more than {LONGEST_NAME} bytes"))
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        raise unwritable(folder, PermissionError(errno.EACCES, f"{there} is not for you to write to"))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder", "choose another name with -o")
    if folder.exists() and Path.cwd().is_relative_to(folder.resolve()):
        raise UserError(f"{folder} is where you are: it cannot be made anew", "name a folder in it, like -o new")


def check_new(folder: Path) -> None:
    """UserError where no new folder can be made, or one is there that is not empty."""
    check_place(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty", "Choose another folder, or remove this one first.")


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Deletes what processes that were killed left half-written in `folder`, for all its files or for one `name`.

    What a living process is writing stays; our own number counts as that of one that was killed, so call it before
    anything is written.
    """
    pattern = re.compile(rf"\.+{'.+' if name is None else re.escape(name)}\.(\d+)\.((old|data)\.)?tmp")
    for path in folder.iterdir():
        found = pattern.fullmatch(path.name)
        if found is None or _is_another(int(found[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def unwritable(path: Path | str, error: OSError, then: str | None = None) -> UserError:
    """What to tell someone whose file cannot be written: why, what helps, and `then`, how to go on."""
    hint = REFUSALS.get(error.errno or 0)
    if hint is None and isinstance(path, Path) and not path.resolve().parent.is_dir():
        hint = f"There is no folder {path.parent}: make it first"
    if hint is not None:
        hint += "." if then is None else f", then {then}"
    return UserError(f"{path}: cannot be written: {error.strerror or error}", hint or then)


@contextmanager
def writing(path: Path | str, then: str | None = None) -> Iterator[None]:
    """Within it a full disk, a folder that may not be written to and the like are told as `unwritable` does: of what
    is written to `path`, or in it, or beside it before it gets its name."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS or not _concerns(path, error):
            raise
        raise unwritable(path, error, then) from error


def json_text(value: Mapping[str, Any]) -> str:
    """An object as indented JSON, as it stands in files."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _concerns(path: Path | str, error: OSError) -> bool:
    """What is written to has no name any more; what cannot be made or opened has."""
    if error.filename is None:
        return True
    return isinstance(path, Path) and Path(os.fsdecode(error.filename)).resolve().is_relative_to(path.resolve().parent)


def _is_another(pid: int) -> bool:
    """Whether another process of this number is alive."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
