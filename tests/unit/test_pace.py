"""What training says of time, by a clock of the test's own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from nmt.config import TrainConfig
from nmt.told import span
from nmt.train.metrics import Console
from nmt.train.pace import FIRST_SIGNS, SPAN, Pace


class Training:
    """One of which each update takes as long as the test says; the first, as ever, a good deal longer."""

    def __init__(self, *, first=5.0, **settings):
        self.now, self.step, self.file = 100.0, 0, io.StringIO()
        budget = settings.pop("budget", None)
        self.pace = Pace(
            Console(self.file), TrainConfig(**settings), Path("runs/a b"), budget=budget, clock=lambda: self.now
        )
        self.signs = []
        self.now += first

    def go(self, updates, seconds, tokens=1000):
        for _ in range(updates):
            self.now += seconds
            self.step += 1
            self.pace.advance(self.step, tokens)
            if self.pace.due():
                self.signs.append(self.now - 100.0)

    @property
    def said(self):
        return self.file.getvalue()


def test_after_ten_updates_the_time_is_estimated():
    training = Training(steps=10_010, validate_every=320)
    training.go(9, 0.5)
    assert training.said == ""
    training.go(1, 0.5)
    assert "about 83 minutes for all 10,010 steps, validations apart" in training.said  # 10,000 of half a second
    assert "3 minutes to the first translations, at step 320" in training.said  # 310 of them
    assert "can be used while it learns: nmt translate 'runs/a b' INPUT" in training.said
    training.go(310, 0.5)
    before = len(training.said)
    training.pace.validated(320, 97.0)
    assert "about 2 h 11 min are left, with a validation of 2 minutes" in training.said[before:]  # 9,690 / 2 + 31 * 97
    training.pace.validated(640, 97.0)
    assert training.said.count("are left") == 1


@pytest.mark.parametrize(("settings", "words"), [({"patience": 3}, "or less"), ({"budget": 60.0}, "--max-time ends")])
def test_what_ends_training_before_is_said(settings, words):
    training = Training(steps=10_000, **settings)
    training.go(10, 0.5)
    assert words in training.said


def test_there_are_signs_of_life_at_first_and_ever_fewer():
    training = Training(steps=100_000, validate_every=100_000)
    training.go(7200, 1.0)
    gaps = [after - before for before, after in zip([0.0, *training.signs], training.signs, strict=False)]
    assert gaps[:5] == pytest.approx([FIRST_SIGNS] * 5)
    assert gaps == sorted(gaps)
    assert 20 < len(training.signs) < 50


def test_a_fall_below_half_of_the_median_is_said_once_until_it_is_over(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    training = Training(steps=100_000, first=0.0)
    training.go(200, 1.0)
    assert "slow" not in training.said
    training.go(60, 1.9)
    assert "slow" not in training.said
    training.go(40, 2.1)
    assert training.said.count("slow: 4") == 1  # 476 of 1,000
    assert "OMP_NUM_THREADS=2 nmt train 'runs/a b' --resume" in training.said
    training.go(200, 1.0)
    training.go(40, 2.5)
    assert training.said.count("slow: ") == 2


def test_a_validation_is_not_slowness():
    training = Training(steps=100_000, first=0.0)
    training.go(200, 1.0)
    training.now += 40 * SPAN
    training.pace.validated(200, 40 * SPAN)
    training.go(100, 1.0)
    assert "slow" not in training.said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (40, "40 seconds"),
        (720, "12 minutes"),
        (33600, "9 h 20 min"),
        (86400 * 3 + 4 * 3600, "3 days 4 h"),
    ],
)
def test_times_in_words(seconds, words):
    assert span(seconds) == words
