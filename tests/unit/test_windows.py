"""Windows of lines: full ones of what is there, short ones of what comes slowly, and no thread left behind."""

from __future__ import annotations

import gc
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from nmt.text.windows import windows

LONG = 30.0
"""A patience, in seconds, that no test can afford to wait for."""


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lines"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    assert readers() == []
    yield
    wait_until(lambda: readers() == [])


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def cut(items: list[int], size: int) -> list[list[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def failing(count: int, error: BaseException) -> Iterator[int]:
    yield from range(count)
    raise error


KINDS = {
    "list": lambda items: (items, 0.01),
    "tuple": lambda items: (tuple(items), 0.01),
    "generator": lambda items: ((item for item in items), LONG),
    "file": lambda items: ((item for item in items), math.inf),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_what_is_there_is_cut_into_full_windows(kind: str, size: int) -> None:
    for count in (0, 1, 6, 7, 8, 99, 100, 101):
        items = list(range(count))
        lines, patience = KINDS[kind](items)
        assert list(windows(lines, size, patience)) == cut(items, size)


def test_only_a_source_that_may_be_slow_gets_a_thread() -> None:
    for lines, patience in (([1, 2], 0.01), ((1, 2), 0.01), (iter([1, 2]), math.inf)):
        started = windows(lines, 1, patience)
        next(started)
        assert readers() == []
        started.close()
    started = windows(iter([1, 2]), 1, LONG)
    next(started)
    assert len(readers()) == 1
    started.close()


def test_what_came_is_given_when_nothing_more_comes() -> None:
    """A person's lines: each gate is opened only after what came before it has been given."""
    gates = [threading.Event() for _ in range(3)]

    def typed() -> Iterator[str]:
        for number, gate in enumerate(gates):
            assert gate.wait(LONG)
            yield f"{number}a"
            yield f"{number}b"

    given = windows(typed(), 1000, 0.05)
    for number, gate in enumerate(gates):
        gate.set()
        assert next(given) == [f"{number}a", f"{number}b"]
    assert list(given) == []


def test_a_stream_slower_than_windows_but_steady_is_not_cut() -> None:
    def steady() -> Iterator[int]:
        for number in range(10):
            time.sleep(0.02)
            yield number

    assert list(windows(steady(), 100, 5.0)) == [list(range(10))]
    assert list(windows(steady(), 4, 5.0)) == cut(list(range(10)), 4)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_moved_whatever_the_pauses(seed: int) -> None:
    draw = random.Random(seed)
    items = list(range(200))

    def uneven() -> Iterator[int]:
        for item in items:
            if draw.random() < 0.2:
                time.sleep(draw.choice([0.0, 0.001, 0.003]))
            yield item

    given = []
    for window in windows(uneven(), 9, 0.002):
        assert 1 <= len(window) <= 9
        given += window
        if len(given) % 5 == 0:
            time.sleep(0.002)
    assert given == items


def test_a_pause_of_the_consumer_is_no_silence_of_the_source() -> None:
    """The item fetched while nobody asked does not come alone when the others are there too."""
    paused = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        assert paused.wait(LONG)
        yield from range(1, 10)

    given = windows(source(), 100, 0.2)
    assert next(given) == [0]
    paused.set()
    time.sleep(0.5)  # longer than its patience
    assert next(given) == list(range(1, 10))
    given.close()


@pytest.mark.parametrize("patience", [LONG, math.inf])
def test_not_more_is_read_than_the_windows_asked_for(patience: float) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    given = windows(endless(), 10, patience)
    assert taken == 0
    for count in (10, 20, 30):
        assert next(given)[-1] == count
        time.sleep(0.02)
        assert taken == count
    given.close()
    time.sleep(0.02)
    assert taken == 30


def test_a_window_that_was_given_is_not_kept() -> None:
    class Item:
        pass

    given = windows((Item() for _ in range(100)), 10, LONG)
    gone = [weakref.ref(item) for item in next(given)]
    next(given)
    gc.collect()
    assert [ref() for ref in gone] == [None] * 10
    given.close()


@pytest.mark.parametrize("patience", [LONG, 0.01, math.inf])
@pytest.mark.parametrize("count", [0, 1, 5, 6, 7])
def test_an_error_is_raised_after_what_came_before_it(patience: float, count: int) -> None:
    given = windows(failing(count, ValueError("broken off")), 3, patience)
    seen: list[int] = []
    for _ in range(-(-count // 3)):
        seen += next(given)
    with pytest.raises(ValueError, match="broken off"):
        next(given)
    assert seen == list(range(count))
    assert list(given) == []


def test_closing_early_ends_the_thread_wherever_it_is() -> None:
    for taken in (0, 1, 2):
        given = windows(iter(range(1000)), 7, LONG)
        for _ in range(taken):
            next(given)
        given.close()
        assert readers() == []
    gate = threading.Event()

    def stuck() -> Iterator[int]:
        yield 1
        assert gate.wait(LONG)
        yield 2

    given = windows(stuck(), 7, 0.01)
    assert next(given) == [1]
    start = time.monotonic()
    given.close()  # does not wait for the source
    assert time.monotonic() - start < 5
    assert len(readers()) == 1
    gate.set()  # the thread ends with the item that it was waiting for


PROGRAM = """
import sys
from nmt.text.lines import raw_lines
from nmt.text.windows import windows
for window in windows(raw_lines(None), 100, 0.05):
    print(len(window), flush=True)
"""


def test_ctrl_c_ends_a_program_that_waits_for_a_pipe() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"one\ntwo\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"2\n"  # while the pipe is still open
    process.stdin.write(b"three\nnot yet a li")
    process.stdin.flush()
    assert process.stdout.readline() == b"1\n"
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert out == b""
    assert err.rstrip().endswith(b"KeyboardInterrupt")
    assert b"Fatal" not in err
    assert process.returncode == -signal.SIGINT
