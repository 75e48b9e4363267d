"""Law: training that was stopped and resumed is training that was not. On the CPU, bit for bit."""

from __future__ import annotations

import io
import json
import random
import signal

import pytest
import torch
from zoo import ZOO

from nmt.config import Config, DataConfig, WordsConfig
from nmt.data.prepare import prepare
from nmt.errors import UserError
from nmt.rundir import MODEL, OPTIMIZER, RunDir, read_tensors
from nmt.settings.load import load_config
from nmt.train.loop import train
from nmt.train.metrics import Console

TIMES = ("seconds", "tokens_per_second")


class Interrupting(Console):
    """Raises a signal while the report of a step is written, as Ctrl-C would."""

    def __init__(self, step=None, number=signal.SIGINT):
        self.file = io.StringIO()
        super().__init__(self.file)
        self._at, self._number = step, number

    def advance(self, step):
        super().advance(step)
        if step == self._at:
            signal.raise_signal(self._number)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Reversal of short sentences, prepared."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(1)
    lines = [[draw.choice("abcdefgh") for _ in range(draw.randint(1, 6))] for _ in range(150)]
    for name, part in (("train", lines[:130]), ("dev", lines[130:])):
        (folder / f"{name}.src").write_text("".join(" ".join(line) + "\n" for line in part))
        (folder / f"{name}.tgt").write_text("".join(" ".join(line[::-1]) + "\n" for line in part))
    names = {"src": "train.src", "tgt": "train.tgt", "dev_src": "dev.src", "dev_tgt": "dev.tgt"}
    data = DataConfig(**{key: str(folder / name) for key, name in names.items()})
    return prepare(Config(data=data, tokenizer=WordsConfig()), folder / "prepared", report=lambda text: None)


def create(path, corpus, name="lstm", **settings):
    base = {
        "data": {"prepared": str(corpus.folder), "max_tokens": 64},
        "tokenizer": {"kind": "words"},
        "model": ZOO[name].model_dump(),
        "train": {"precision": "float32", "steps": 40, "log_every": 6, "validate_every": 16, "samples": 1, **settings},
    }
    return RunDir.create(path, load_config(None, base=base), corpus.tokenizers)


def go(run, corpus, console=None, **changes):
    return train(run, corpus, device=torch.device("cpu"), console=console or Interrupting(), **changes)


def record(run):
    """metrics.jsonl without what depends on the clock, and samples.jsonl."""
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    return metrics, (run.path / "samples.jsonl").read_text()


def assert_same(one, two):
    for file in (MODEL, OPTIMIZER):
        ours, theirs = (read_tensors(run.checkpoint("last") / file) for run in (one, two))
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name
    assert record(one) == record(two)
    assert one.pointed("best") == two.pointed("best")
    names = [sorted(p.name for p in run.checkpoints.iterdir()) for run in (one, two)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lstm", {"schedule": {"kind": "plateau", "patience": 1}, "metric": "chrf"}),
        ("gru", {"accumulate": 2, "optimizer": {"kind": "adamw", "weight_decay": 0.1}, "metric": "loss"}),
        ("transformer", {"precision": "bfloat16"}),
        ("lstm-feeding", {"mean_decay": 0.9}),
    ],
)
def test_resumed_training_is_uninterrupted_training(tmp_path, corpus, name, settings):
    settings = {"steps": 26, "validate_every": 8, **settings}
    whole, stopped = (create(tmp_path / path, corpus, name, **settings) for path in ("whole", "stopped"))
    assert go(whole, corpus).signal is None

    console = Interrupting(14, signal.SIGTERM)
    outcome = go(stopped, corpus, console)
    assert (outcome.step, outcome.signal) == (14, signal.SIGTERM)
    assert f"saved at step 14. To go on: nmt train {stopped.path} --resume" in console.file.getvalue()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert go(RunDir(stopped.path), corpus, resume=True).signal is None
    assert_same(whole, stopped)


def test_a_crash_after_the_last_checkpoint_changes_nothing(tmp_path, corpus):
    """What ran on after the checkpoint, metrics and samples included, is as if it never was."""

    class Crash(Interrupting):
        def advance(self, step):
            if step == 39:
                raise RuntimeError("power cut")

    whole, crashed = (create(tmp_path / path, corpus) for path in ("whole", "crashed"))
    go(whole, corpus)
    with pytest.raises(RuntimeError, match="power cut"):
        go(crashed, corpus, Crash())
    assert record(crashed)[0][-1]["step"] == 36
    assert go(crashed, corpus, resume=True).step == 40
    assert_same(whole, crashed)


def test_a_finished_run_can_be_extended(tmp_path, corpus):
    whole = create(tmp_path / "whole", corpus, steps=32)
    go(whole, corpus)
    extended = create(tmp_path / "extended", corpus, steps=16)
    assert go(extended, corpus).step == 16
    extended.replace_config(whole.config)
    assert go(extended, corpus, resume=True).step == 32
    assert_same(whole, extended)


def test_patience_ends_training(tmp_path, corpus):
    settings = {"validate_every": 2, "patience": 3, "optimizer": {"lr": 1e-12}, "metric": "bleu", "steps": 100}
    run = create(tmp_path / "run", corpus, **settings)
    console = Interrupting()
    outcome = go(run, corpus, console)
    assert outcome.step == 8  # the first validation is the best, three more are not better
    assert "stopped at step 8: 3 validations without a better bleu" in console.file.getvalue()
    assert outcome.best == "step-00000002"


def test_weights_to_start_from_are_taken_over(tmp_path, corpus):
    first = create(tmp_path / "first", corpus, steps=4)
    go(first, corpus)
    second = create(tmp_path / "second", corpus, steps=1, optimizer={"lr": 1e-30}, seed=9)
    go(second, corpus, init_from=first.checkpoint("last"))
    ours, theirs = (read_tensors(run.checkpoint("last") / MODEL) for run in (second, first))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_divergence_stops_training_before_a_checkpoint(tmp_path, corpus):
    run = create(tmp_path / "run", corpus, optimizer={"lr": 1e30}, schedule={"kind": "constant"}, clip=0.0)
    with pytest.raises(UserError, match="training has diverged"):
        go(run, corpus)
    stored = read_tensors(run.checkpoint("last") / MODEL)
    assert all(torch.isfinite(tensor).all() for tensor in stored.values())


def test_training_learns(tmp_path, corpus):
    """The average at the end is judged like a checkpoint, and `best` is whichever is better."""
    run = create(
        tmp_path / "run",
        corpus,
        steps=120,
        validate_every=30,
        metric="loss",
        optimizer={"lr": 0.01},
        schedule={"kind": "constant"},
        label_smoothing=0.0,
    )
    console = Interrupting()
    outcome = go(run, corpus, console)
    metrics, samples = record(run)
    losses = [line["dev_loss"] for line in metrics if "dev_loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert "average of 30, 60, 90, 120: dev loss" in console.file.getvalue()
    assert outcome.score <= min(losses)
    assert (outcome.best == "average-best-4") == (outcome.score < min(losses))
    assert [json.loads(line)["step"] for line in samples.splitlines()] == [30, 60, 90, 120]


def test_out_of_time_it_validates_saves_and_can_go_on(tmp_path, corpus):
    """The step at hand is finished; what comes of going on is as if it had been validated there anyway."""
    run = create(tmp_path / "run", corpus, average=None)
    console = Interrupting()
    outcome = go(run, corpus, console, max_seconds=0.0)
    assert (outcome.step, outcome.best, outcome.signal) == (1, "step-00000001", None)
    assert "out of time at step 1 of 40 (go on: --resume)" in console.file.getvalue()
    assert go(run, corpus, resume=True, max_seconds=1e9).step == 40
    whole = create(tmp_path / "whole", corpus, average=None)
    go(whole, corpus)
    ours, theirs = (read_tensors(each.checkpoint("last") / MODEL) for each in (run, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
