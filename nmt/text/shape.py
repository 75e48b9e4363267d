"""Whether lines are like those that a run learned from: one sentence each, say, and not far longer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from typing_extensions import TypedDict

from nmt.limits import LINE_BYTES

LINES = 10_000
"""As many of the training text, evenly spread, are looked at for their sentences."""
RARE = 0.001
"""Share of training lines that may hold more sentences than is said to be usual."""
FAR_LONGER = 2
"""Times the length of the longest training line."""

_MARKS = ".!?…؟।。！？"
_END = re.compile("([.!?…؟।。！？]+)[\"'”’»)\\]」』）]*(\\s*)[\"'“‘«(\\[¿¡「『（—–-]*(\\w?)")
"""Marks, white space, and the first character of what follows."""
_WITHOUT_SPACE = tuple("。！？")


class Shape(TypedDict):
    """What the source lines of a training text are like."""

    longest: int  # bytes
    sentences: int  # of all lines but the rarest


def sentences(line: str) -> int:
    """How many a line holds, by its marks: one ends where white space and no small letter follow. A stop after a short
    word with a capital, as in `Mr. Smith`, ends none."""
    inner = line[:-1]
    for mark in _MARKS:
        if mark in inner:
            break
    else:
        return 1  # as most lines are: found out without the expression
    count = 1
    for end in _END.finditer(line):
        marks, space, following = end.groups()
        if not following or following.islower() or following.isdigit():
            continue
        if not space and not marks.endswith(_WITHOUT_SPACE):
            continue
        word = line[: end.start()].rpartition(" ")[2]
        count += not (marks == "." and len(word) <= 3 and word[:1].isupper())
    return count


def learn_shape(source: Callable[[int], str], lines: int, longest: int) -> Shape:
    """Of so many lines, each given by its number from 0; the longest has `longest` bytes."""
    counts = sorted(sentences(source(row)) for row in range(0, lines, math.ceil(lines / LINES)))
    return {"longest": longest, "sentences": counts[min(len(counts) - 1, int((1 - RARE) * len(counts)))]}


class Unlike:
    """Counts the lines that are far longer than any of the training text, or hold more sentences."""

    def __init__(self, shape: Shape | None) -> None:
        """Without a shape, as runs of earlier versions have none, there are none."""
        self._shape = shape
        self.count = 0
        self.first: tuple[int, str] | None = None  # its number, and what it is

    def hear(self, lines: Iterable[bytes | str], done: int) -> None:
        """More lines, after so many that are `done`."""
        if self._shape is None:
            return
        for number, line in enumerate(lines, start=done + 1):
            text = line if isinstance(line, str) else line.decode(errors="replace")
            size, held = len(line), sentences(text)
            if size > LINE_BYTES:
                continue  # is left empty and told for that
            if size > FAR_LONGER * self._shape["longest"]:
                what = f"{size / self._shape['longest']:.0f} times as long"
            elif held > max(1, self._shape["sentences"]):
                what = f"{held} sentences"
            else:
                continue
            self.count += 1
            self.first = self.first or (number, what)
