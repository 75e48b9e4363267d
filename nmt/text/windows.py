"""Lines (or anything else) a window at a time, from sources that may be slow: a pipe, a person who types."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE = 0.05
"""Seconds to wait for one more line: longer than a program needs for it, too short for a person to notice."""


def windows(lines: Iterable[T], size: int, patience: float) -> Generator[list[T], None, None]:
    """The items in order, at most `size` together and never none.

    A window is full, or the last, or ends where no further item has come for `patience` seconds; with infinite
    patience, and for a list or tuple, its extent depends on nothing but `size`. Otherwise `lines` is read by a thread
    of its own, which waits while no window is asked for, so that nothing piles up. An error of `lines` is raised here,
    after all that came before it. Once the generator is closed the thread ends, at the latest when `lines` gives the
    item that it waits for.
    """
    if isinstance(lines, list | tuple):
        for start in range(0, len(lines), size):
            yield list(lines[start : start + size])
    elif patience == math.inf:
        yield from _full_windows(lines, size)
    else:
        reader = _Reader(lines)
        try:
            while window := reader.take(size, patience):
                yield window
        finally:
            reader.close(patience)


def _full_windows(lines: Iterable[T], size: int) -> Generator[list[T], None, None]:
    window: list[T] = []
    try:
        for item in lines:
            window.append(item)
            if len(window) == size:
                yield window
                window = []
    except Exception:  # not Ctrl-C, which must not wait for another window
        if window:
            yield window
        raise
    if window:
        yield window


class _Reader(Generic[T]):
    """Reads a source in a thread, as many items as have been asked for.

    The thread is a daemon, so that a source that never gives another item does not keep the program from ending.
    """

    def __init__(self, source: Iterable[T]) -> None:
        self._source = source
        self._changed = Condition()  # guards all that follows
        self._items: list[T] = []
        self._wanted = 0  # how many items the list may hold
        self._last = 0.0  # when the latest came, in seconds of the monotonic clock
        self._ended = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._read, name="lines", daemon=True)
        self._thread.start()

    def take(self, size: int, patience: float) -> list[T]:
        """The next window; an empty one at the end. Raises what the source raised when all before it is taken."""
        with self._changed:
            self._wanted = size
            self._changed.notify_all()
            asked = time.monotonic()  # before that, nothing was read and no silence says anything
            self._changed.wait_for(lambda: self._items or self._ended)
            while len(self._items) < size and not self._ended:
                left = max(self._last, asked) + patience - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            # An item that the thread waits for at this moment belongs to the next window, after what is here.
            window, self._items = self._items, []
            self._wanted = 0
            if not window and self._error is not None:
                raise self._error
            return window

    def close(self, patience: float) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(patience)

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            iterator = iter(self._source)
            while self._may_go_on():
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                self._add(item)
        except BaseException as raised:  # raised again by `take`
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _may_go_on(self) -> bool:
        """Waits until another item is wanted; False if none ever will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) < self._wanted)
            return not self._ended

    def _add(self, item: T) -> None:
        with self._changed:
            self._items.append(item)
            self._last = time.monotonic()
            if len(self._items) == 1 or len(self._items) >= self._wanted:  # else nobody has to wake up
                self._changed.notify_all()
