"""Work on several cores: in order, with its errors, and no process is left, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import repeat

import pytest

from nmt import workers
from nmt.errors import UserError
from nmt.text.lines import decode_line
from nmt.workers import map_blocks, usable_cores

PID = "__import__('os').getpid()"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BLOCKS_ALONE", 1)


def gone(pids: set[int]) -> bool:
    """Whether none of the processes is there within some seconds; ours are waited for, others are init's."""
    for _ in range(200):
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 40])
def test_results_come_in_order(count: int) -> None:
    for number in (1, 3):
        assert list(map_blocks(partial(pow, 2), range(count), workers=number)) == [2**n for n in range(count)]


def test_as_many_processes_as_said_and_ours_for_the_first_blocks() -> None:
    with closing(map_blocks(eval, repeat(PID, 30), workers=2)) as results:
        pids = list(results)
    assert pids[0] == os.getpid()
    assert len(set(pids[1:])) == 2
    assert os.getpid() not in pids[1:]
    assert set(map_blocks(eval, repeat(PID, 30), workers=1)) == {os.getpid()}


def test_large_blocks_pass() -> None:
    blocks = [bytes([n]) * 3_000_000 for n in range(5)]
    assert list(map_blocks(bytes, blocks, workers=2)) == blocks


def test_an_error_comes_with_its_place() -> None:
    results = map_blocks(partial(int, base=10), ["1", "2", "x", "4"], workers=2)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="invalid literal") as caught:
        next(results)
    assert "In a worker process" in caught.value.__notes__[0]
    with pytest.raises(UserError) as told:
        list(map_blocks(partial(decode_line, name="a.txt", number=3), [b"a", b"b", b"c\xff"], workers=2))
    assert told.value.message == "a.txt, line 3: not UTF-8 at byte 2 of the line (0xFF)"
    assert told.value.hint is not None
    assert told.value.hint.startswith("Save it as UTF-8")


@pytest.mark.parametrize(
    ("death", "how"),
    [
        ("__import__('os')._exit(7)", "exit code 7"),
        ("__import__('signal').raise_signal(9)", "Killed"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_worker_that_dies(death: str, how: str) -> None:
    with pytest.raises(UserError) as caught:
        list(map_blocks(eval, ["0", PID, death, *[PID] * 9], workers=2))
    assert caught.value.message == f"a worker process ended before its work was done: {how}"


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="asks /proc which processes there are")
def test_none_is_left_when_the_blocks_fail_or_nobody_listens() -> None:
    def blocks() -> Iterator[str]:
        yield from [PID] * 6
        raise KeyboardInterrupt

    pids: set[int] = set()
    with pytest.raises(KeyboardInterrupt), closing(map_blocks(eval, blocks(), workers=2)) as results:
        pids.update(results)
    assert len(pids) == 3
    assert gone(pids - {os.getpid()})
    with closing(map_blocks(eval, repeat(PID), workers=2)) as results:
        pids = {next(results) for _ in range(5)}
    assert gone(pids - {os.getpid()})


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="asks /proc which processes there are")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_none_is_left_of_a_program_that_is_ended(how: signal.Signals) -> None:
    program = f"""
import signal
from nmt.workers import map_blocks
signal.signal(signal.SIGINT, signal.default_int_handler)
for result in map_blocks(eval, iter([{PID!r}] * 40 + ["__import__('time').sleep(0.1)"] * 1000), workers=2):
    print(result, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = {int(process.stdout.readline()) for _ in range(35)}
        assert len(pids) == 3
        process.send_signal(how)
        _, said = process.communicate(timeout=20)
    assert process.returncode == -how
    assert (b"KeyboardInterrupt" in said) == (how == signal.SIGINT)
    assert gone(pids)


def test_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5, 7}, raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for said, cores in (("", 4), ("2", 2), ("3,1", 3), ("64", 4), ("0", 4), ("many", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert usable_cores() == cores
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")  # torchrun's doing
    assert usable_cores() == 4
