"""Whatever a training advises can be done: tried for each schedule, tokenizer and model it is printed for."""

from __future__ import annotations

import json
import re

import pytest

from nmt.rundir import RunDir

TEXTS = ["--src", "train.src", "--tgt", "train.tgt", "--dev-src", "dev.src", "--dev-tgt", "dev.tgt"]
RNN = "{embedding: {width: 8}, encoder: {width: 8}, decoder: {width: 8, attention: {kind: %s}}}"
SIZES = "{kind: transformer, layers: 1, width: 8, heads: 2, feed_forward: 8}"
TRANSFORMER = f"{{embedding: {{width: 8}}, encoder: {SIZES}, decoder: {SIZES}}}"
WORDS, PIECES, CHARACTERS = "{kind: words}", "{size: 300}", "{kind: characters}"


def options(*settings):
    return [word for setting in settings for word in ("--set", setting)]


def settings(model, tokenizer, schedule, *more):
    train = ("steps=2", "validate_every=1", "samples=0", "precision=float32", "average=null")
    given = (f"model={model}", f"tokenizer={tokenizer}", f"train.schedule={schedule}", *more)
    return [*options(*(f"train.{one}" for one in train), *given), "--device", "cpu"]


@pytest.mark.parametrize(
    ("model", "tokenizer", "schedule"),
    [
        (RNN % "general", WORDS, "{kind: constant}"),
        (TRANSFORMER, PIECES, "{kind: inverse_sqrt, warmup: 1}"),
        (RNN % "none", CHARACTERS, "{kind: linear, steps: 2}"),
        (TRANSFORMER, WORDS, "{kind: linear, steps: 3}"),
        (RNN % "dot", PIECES, "{kind: plateau}"),
        (TRANSFORMER, CHARACTERS, "{kind: noam, warmup: 1}"),
    ],
)
def test_what_a_finished_training_advises_can_be_done(command, reversals, model, tokenizer, schedule):
    """To train longer, and each of the commands that come next."""
    _, said = command("train", *TEXTS, "-o", "run", *settings(model, tokenizer, schedule))
    (longer,) = re.findall(r"done: 2 steps \(more: (.*)\)", said)
    if "--init-from" in longer:
        command("train", *TEXTS, "-o", "new", "--init-from", "run", *options("train.steps=1", "train.samples=0"))
        refused = command("train", "run", "--resume", "--set", "train.steps=3", code=2)[1]
        assert "a new run (--init-from run takes its weights)" in refused
        refused = command("train", "run", "--resume", *options("train.steps=3", "train.schedule.steps=3"), code=2)[1]
        assert "a new run (--init-from run takes its weights)" in refused
    else:
        command("train", "run", *longer.partition(",")[0].replace("=N", "=3").split(), "--device", "cpu")
        assert RunDir(reversals / "run").pointed("last") == "step-00000003"
    names = {"INPUT": "dev.src", "SOURCE": "dev.src", "REFERENCE": "dev.tgt", "OUTPUT": "out", "PICTURES": "pictures"}
    advised = re.findall(r"^  nmt (.*)$", said, re.MULTILINE)
    assert len(advised) == 3 - ("none" in model)
    for line in advised:
        command(*(names.get(word, word) for word in line.split()), "--device", "cpu")


def test_patience_that_is_out_can_be_raised_as_advised(command, reversals):
    still = ["train.optimizer.lr=1e-12", "train.steps=9", "train.patience=1"]
    _, said = command("train", *TEXTS, "-o", "run", *settings(RNN % "dot", WORDS, "{kind: constant}", *still))
    (advice,) = re.findall(r"go on all the same: (.*), above 1\)", said)
    assert "stopped at step 3" in command("train", "run", *advice.replace("=N", "=2").split(), "--device", "cpu")[1]


def test_a_setting_that_may_not_change_gets_the_advice_that_fits_it(command, reversals):
    command("train", *TEXTS, "-o", "run", *settings(RNN % "dot", WORDS, "{kind: constant}"))
    for change, helps in (("model.dropout=0.2", True), ("train.seed=2", True), ("model.embedding.width=16", False)):
        said = command("train", "run", "--resume", "--set", change, code=2)[1]
        assert f"{change.partition('=')[0]} cannot change\n" in said
        assert ("--init-from run takes its weights" in said) == helps
        ended = ["-o", f"new-{helps}-{change[:7]}", "--init-from", "run", *options(change, "train.steps=1")]
        command("train", *TEXTS, *ended, code=0 if helps else 2)


def test_fewer_steps_than_are_done_are_refused_and_change_nothing(command, reversals):
    command("train", *TEXTS, "-o", "run", *settings(RNN % "dot", WORDS, "{kind: constant}"))
    before = (reversals / "run" / "config.yaml").read_text()
    said = command("train", "run", "--resume", "--set", "train.steps=1", code=2)[1]
    assert "run has done 2 steps, more than train.steps: 1\n" in said
    said = command("train", "run", "--resume", *options("train.steps=3", "align.attention=foo"), code=2)[1]
    assert "the model has no attention called 'foo'" in said
    assert (reversals / "run" / "config.yaml").read_text() == before


def test_the_scores_of_a_training_that_lower_cases_are_without_case(command, reversals):
    """And those of one that does not are with it."""
    (reversals / "dev.tgt").write_text((reversals / "dev.tgt").read_text().upper())
    scores = {}
    for name, cut in (("lower", "{kind: words, lowercase: true}"), ("cased", WORDS)):
        more = ["train.steps=30", "train.validate_every=30", "train.optimizer.lr=0.02", "model.dropout=0"]
        _, said = command("train", *TEXTS, "-o", name, *settings(RNN % "dot", cut, "{kind: constant}", *more))
        assert ("the tokenizer knows lower case only: dev BLEU and chrF are without case\n" in said) == (
            name == "lower"
        )
        _, told = command("evaluate", name, "--src", "dev.src", "--ref", "dev.tgt", "--device", "cpu")
        assert ("lower writes lower case only, and the references have capitals: --low" in told) == (name == "lower")
        lines = map(json.loads, (reversals / name / "metrics.jsonl").read_text().splitlines())
        scores[name] = next(line["dev_chrf"] for line in lines if "dev_chrf" in line)
    assert scores["lower"] > 5
    assert scores["cased"] < 1
