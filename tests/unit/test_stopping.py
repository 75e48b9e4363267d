"""Signals that end training, and a terminal that is closed while it goes on."""

from __future__ import annotations

import contextlib
import os
import pty
import signal

import pytest

from nmt.train.metrics import Console
from nmt.train.stopping import Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_what_was_there_before_comes_back(number):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Signals() as signals:
        signal.raise_signal(number)
        assert signals.caught == number
    assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_the_second_hangup_of_a_closed_terminal_does_no_harm():
    with Signals() as signals:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert signals.caught == signal.SIGHUP
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_under_nohup_training_goes_on():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.caught == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nobody_needs_to_watch():
    """The bar, lines and the end of both, when the terminal is no longer there, and when a pipe is not read."""
    ours, theirs = pty.openpty()
    with contextlib.suppress(OSError), open(theirs, "w") as terminal:  # to close it fails, too
        console = Console(terminal)
        console.start(0, 10)
        console.say("a line")
        os.close(ours)
        console.say("another")
        console.advance(1)
        console.close()
        said = "all"
    assert said == "all"
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(OSError), open(writer, "w") as pipe:
        Console(pipe).say("a line")
        said = "to nobody"
    assert said == "to nobody"
