"""What is made of a validation: a model that knows less than nothing is never the best, and is said to be so."""

from __future__ import annotations

import math

import pytest

from nmt.config import TrainConfig
from nmt.train.judge import _in_words, remember
from nmt.train.state import TrainState
from nmt.train.validate import Validation

GUESS = math.log(6000)


def validation(loss, bleu=0.0, chrf=10.0):
    return Validation(loss, bleu, chrf, [], [], GUESS)


@pytest.mark.parametrize("metric", ["bleu", "chrf", "loss"])
def test_what_has_diverged_is_never_the_best(metric):
    """Not the first that is validated, and not by the luck of a score; nor does it push out what was good."""
    settings, state = TrainConfig(metric=metric, keep_last=1, keep_best=1, average=None), TrainState(step=1)
    assert not remember(state, validation(2920.0, bleu=0.12), settings)
    assert (state.best, state.stale, state.checkpoints) == (None, 1, [])
    state.step = 2
    assert remember(state, validation(6.0, bleu=0.1), settings)
    state.step = 3
    assert not remember(state, validation(18.0, bleu=50.0, chrf=50.0), settings)
    assert [c.step for c in state.checkpoints] == [2]
    state.step = 4
    assert remember(state, validation(5.0, bleu=0.2, chrf=11.0), settings)


@pytest.mark.parametrize(("loss", "diverged"), [(0.0, False), (GUESS, False), (1.9 * GUESS, False), (2 * GUESS, True)])
def test_divergence_is_a_perplexity_of_the_square_of_the_vocabulary(loss, diverged):
    assert validation(loss).diverged == diverged
    assert (math.exp(loss) >= 6000**2 * 0.999) == diverged


def words(loss, *, step, best=None, metric="bleu", **scores):
    state = TrainState(step=step, best=best)
    return "\n".join(_in_words(validation(loss, **scores), state, TrainConfig(steps=1000, metric=metric)))


def test_scores_that_say_little_get_a_sentence():
    assert "training has diverged: the loss is far above 8.7" in words(2920.0, step=300)
    assert "lower train.optimizer.lr" in words(2920.0, step=300)
    assert "normal at 10% of the steps" in words(7.0, step=100)
    assert "hardly anything is learned after 90% of the steps" in words(7.0, step=900)
    assert words(3.0, bleu=2.0, step=100) == ""
    assert words(1.0, bleu=0.0, chrf=70.0, step=900) == "", "words alone, as of inflection, have no BLEU"


@pytest.mark.parametrize(("metric", "good", "poor"), [("bleu", 20.0, 0.1), ("chrf", 50.0, 12.0), ("loss", 3.0, 7.0)])
def test_a_collapse_is_no_slow_start(metric, good, poor):
    """The loss is about that of the frequencies of words, far below ln V, but far above what it was."""
    lost = "training has diverged: what had been learned is lost"
    assert lost in words(7.0, step=500, best=good, metric=metric)
    assert lost not in words(7.0, step=500, best=poor, metric=metric)
    assert lost not in words(7.0, step=500, metric=metric)
