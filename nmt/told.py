"""What a person is told: on a terminal it stands as it is, and is never obeyed."""

from __future__ import annotations

import re
import shlex
import sys
from os import PathLike

# Controls (C0, DEL, C1), line and paragraph separators, and the halves of characters that stand for bytes which are
# not UTF-8: a terminal would act on the first, and an encoder refuse the last.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def visible(text: str) -> str:
    """The text on one line, each control character as an escape: `\\u001b`, which JSON would read back."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def tell(*lines: str, err: bool = True) -> None:
    """Prints lines, to standard error unless `err` is false; a line feed within one is shown, not obeyed."""
    print(*map(visible, lines), sep="\n", file=sys.stderr if err else sys.stdout)


def shell(*words: str | PathLike[str]) -> str:
    """Words of a command that is suggested, so that a shell takes each as one."""
    return " ".join(_word(str(word)) for word in words)


def _word(word: str) -> str:
    if not _HIDDEN.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    bytes_of = lambda found: "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8", "surrogateescape"))  # noqa: E731
    return f"$'{_HIDDEN.sub(bytes_of, escaped)}'"
