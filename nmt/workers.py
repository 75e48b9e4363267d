"""A function of many blocks of work on all cores, with the results in the order of the blocks.

Workers are Python programs that hear and answer through pipes. Nothing of the program that started them runs in them
again, its threads do no harm, and they end when their pipe is closed, in whatever way that program ended.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, suppress
from itertools import chain, islice
from typing import Any, Generic, Self, TypeVar

from nmt.errors import UserError

BLOCKS_ALONE = 16
"""So many are done before workers are started, which takes half a second: little work needs none."""

Block = TypeVar("Block")
Result = TypeVar("Result")


def usable_cores() -> int:
    """How many cores this process may use, by its affinity, or by OMP_NUM_THREADS where that says fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = re.match(r"\s*([1-9]\d{0,8})", os.environ.get("OMP_NUM_THREADS", ""))
    if wanted is None or "WORLD_SIZE" in os.environ:  # torchrun sets it to 1 where the user has not
        return cores
    return min(cores, int(wanted[1]))


def map_blocks(
    function: Callable[[Block], Result], blocks: Iterable[Block], *, workers: int
) -> Generator[Result, None, None]:
    """`function` of each block, in their order, by so many processes; close it, and they are gone.

    Function, blocks and results must be such that they can be pickled. An error of the function is raised here, with
    the worker's traceback as a note. UserError where a worker is killed.
    """
    blocks = iter(blocks)
    yield from map(function, blocks if workers == 1 else islice(blocks, BLOCKS_ALONE))
    first = list(islice(blocks, workers))
    with ExitStack() as stack:
        crew: list[_Worker[Block, Result]] = [stack.enter_context(_Worker()) for _ in first]
        for worker in crew:  # only now, for each takes some time to listen
            worker.send(function)
        idle, busy = deque(crew), deque[_Worker[Block, Result]]()
        for block in chain(first, blocks):
            if not idle:
                yield busy[0].answer()
                idle.append(busy.popleft())
            idle[0].send(block)
            busy.append(idle.popleft())
        for worker in busy:
            yield worker.answer()


class _Worker(Generic[Block, Result]):
    """A process that has at most one block at a time, so that neither side ever waits for the other to listen."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import work; work()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            process_group=0 if os.name == "posix" else None,  # Ctrl-C is for the program that started it
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):  # what it has not read yet
            self._process.__exit__(None, None, None)  # closes the pipes and waits

    def send(self, thing: Callable[[Block], Result] | Block) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pickle.dumps(thing, pickle.HIGHEST_PROTOCOL))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def answer(self) -> Result:
        assert self._process.stdout is not None
        try:
            result, error = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise self._ended() from None
        if error is not None:
            raise error
        return result

    def _ended(self) -> UserError:
        code = self._process.wait()
        how = signal.strsignal(-code) if code < 0 else f"exit code {code}"
        return UserError(
            f"a worker process ended before its work was done: {how}",
            "If the memory did not suffice, let there be fewer of them: OMP_NUM_THREADS=2 nmt ...",
        )


def work() -> None:
    """What a worker does: reads the function from standard input, then blocks, and writes (result, error) of each."""
    inbox: Any = sys.stdin.buffer
    with suppress(EOFError, pickle.UnpicklingError, BrokenPipeError), os.fdopen(os.dup(1), "wb") as outbox:
        os.dup2(2, 1)  # so that what anything prints is no answer
        function = pickle.load(inbox)
        while True:
            block = pickle.load(inbox)
            try:
                answer: tuple[Any, Exception | None] = function(block), None
            except Exception as error:
                error.add_note(f"In a worker process:\n{traceback.format_exc()}")
                answer = None, error
            outbox.write(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
            outbox.flush()
