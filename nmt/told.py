"""What a person is told: it stands on the terminal as it is, and is never obeyed by it.

Names and texts may come from anyone. What is told passes `tell` or `say`, a line of it at a time; what is asked for
(translations, scores, links) goes through nmt.text.lines as it is.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from os import PathLike

# Controls (C0 but for the tab, DEL, C1), separators of lines and paragraphs, and the halves of characters that stand
# for bytes which are not UTF-8: a terminal would act on the first, and an encoder refuse the last.
_HIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def visible(text: str) -> str:
    """The text on one line, each control character as an escape: `\\u001b`, which JSON would read back."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: it has no halves of characters, as bytes are in Python that are no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def tell(*lines: str) -> None:
    """Prints lines to standard error."""
    print(*map(visible, lines), sep="\n", file=sys.stderr)


def say(*lines: str | PathLike[str]) -> None:
    """Prints lines to standard output."""
    print(*(visible(str(line)) for line in lines), sep="\n")


def span(seconds: float) -> str:
    """A time in words: 40 seconds, 12 minutes, 9 h 20 min, 3 days 4 h."""
    whole = round(seconds)
    if whole < 90:
        return f"{max(1, whole)} second{'s' * (whole > 1)}"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} minutes"
    hours = round(seconds / 3600)
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def shell(*words: str | PathLike[str]) -> str:
    """Words of a command that is suggested, so that a shell takes each as one."""
    return " ".join(map(_word, map(str, words)))


def _word(word: str) -> str:
    if not _HIDDEN.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{_HIDDEN.sub(_in_bytes, escaped)}'"


def _in_bytes(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8", "surrogateescape"))


def open_streams() -> None:
    """Puts something harmless where a standard stream is closed, else the next file that is opened would take its
    number, and be written to: what is told goes nowhere, and what would be read cannot be. And no character is more
    than a stream can show."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR if number else os.O_WRONLY), True)
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
        stream = getattr(sys, name)
        if number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_closed_output() -> bool:
    """Whether standard output was closed when the program began."""
    return getattr(sys.stdout, "name", None) == 1
