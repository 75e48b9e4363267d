"""nmt train, nmt average and nmt info through the real commands, on a toy language."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nmt.cli.train import parse_time
from nmt.errors import UserError
from nmt.rundir import RunDir

TINY = """
tokenizer: {kind: words}
model:
  embedding: {width: 8}
  encoder: {width: 8}
  decoder: {width: 8, attention: {kind: general}}
train: {steps: 6, validate_every: 2, log_every: 2, samples: 1, precision: float32}
"""
TEXTS = ["--src", "train.src", "--tgt", "train.tgt", "--dev-src", "dev.src", "--dev-tgt", "dev.tgt"]


@pytest.fixture
def call(command, reversals):
    """Runs `nmt ARGUMENTS` in a folder with text and settings; gives what it printed."""
    (reversals / "tiny.yaml").write_text(TINY)
    return lambda *arguments, code=0: "".join(command(*arguments, code=code))


def test_from_two_text_files_to_a_run_and_on(call, tmp_path):
    said = call("train", "tiny.yaml", *TEXTS, "-o", "runs/a", "--device", "cpu")
    assert "training runs/a on cpu in float32: 60 pairs, dev 8" in said
    assert "step 6  epoch" in said
    assert "nmt translate runs/a INPUT -o OUTPUT" in said
    run = RunDir(tmp_path / "runs" / "a")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["a"]
    assert run.facts["sessions"][0]["command"].startswith("nmt train tiny.yaml --src train.src")
    assert run.facts["source"] == {"longest": 9, "sentences": 1}

    assert "train.seed cannot change" in call("train", "runs/a", "--resume", "--set", "train.seed=3", code=2)
    changes = ("--set", "train.steps=8", "--set", "align.heads=[1]")
    assert "done: 8 steps" in call("train", "runs/a", "--resume", *changes)
    assert RunDir(run.path).config.train.steps == 8
    assert len(run.facts["sessions"]) == 2

    said = call("average", "runs/a", "--last", 3)
    assert "average-last-3: average of steps 4, 6, 8" in said
    assert "nmt translate runs/a INPUT --checkpoint average-last-3" in said
    assert "keeps 4 checkpoints, not 9" in call("average", "runs/a", "--best", 9, code=2)
    assert "cannot be the name" in call("average", "runs/a", "-o", "../x", code=2)

    facts = json.loads(call("info", "runs/a", "--json"))
    assert (facts["steps"], facts["of"]) == (8, 8)
    assert facts["tokenizer"] == {"kind": "words", "joint": False, "source": 12, "target": 12}
    parts = facts["parameters"]
    assert parts["total"] == sum(count for part, count in parts.items() if part != "total")
    assert parts["embeddings"] == 2 * 12 * 8
    assert "average-last-3" in facts["checkpoints"]
    assert "trained      8 of 8 steps" in call("info", "runs/a")


def test_an_existing_run_is_kept_until_force(call, tmp_path):
    call("train", "tiny.yaml", *TEXTS, "-o", "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    said = call("train", "tiny.yaml", *TEXTS, "-o", "run", code=2)
    assert "run holds a run already" in said
    assert "nmt train run --resume" in said
    (tmp_path / "dev.tgt").write_text("one line\n")
    call("train", "tiny.yaml", *TEXTS, "-o", "run", "--force", code=2)  # bad text: the old run must survive
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before
    call("train", "tiny.yaml", *TEXTS[:4], "-o", "run", "--force", "--set", "train.steps=2")
    assert RunDir(tmp_path / "run").config.train.steps == 2
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_starting_from_another_run_takes_its_model_and_tokenizers(call, tmp_path):
    wider = ("--set", "model.decoder.width=12")
    call("train", "tiny.yaml", *TEXTS, "-o", "one", *wider)
    (tmp_path / "train.src").write_text("a b\nx y\n" * 30)
    said = call("train", "tiny.yaml", *TEXTS, "-o", "two", "--init-from", "one", *wider, "--set", "train.steps=2")
    assert "learning the tokenizer" not in said
    two = RunDir(tmp_path / "two")
    assert two.config.model.decoder.width == 12
    assert two.config.train.steps == 2
    assert two.tokenizers()[0].pieces(range(12)) == RunDir(tmp_path / "one").tokenizers()[0].pieces(range(12))
    said = call("train", "tiny.yaml", *TEXTS, "-o", "one", "--init-from", "one", *wider, "--force", code=2)
    assert "one lies in one, the run to be written" in said


def test_a_prepared_corpus_brings_its_tokenizer(call, tmp_path):
    call("train", "tiny.yaml", *TEXTS, "-o", "one", "--set", "train.steps=2")
    (tmp_path / "one" / "data").rename(tmp_path / "prepared")
    other = TINY.replace("tokenizer: {kind: words}\n", "")
    (tmp_path / "other.yaml").write_text(other)
    call("train", "other.yaml", "--data", "prepared", "-o", "two", "--set", "train.steps=2")
    assert RunDir(tmp_path / "two").config.tokenizer.kind == "words"
    assert "done: 3 steps" in call("train", "two", "--resume", "--set", "train.steps=3")
    (tmp_path / "other.yaml").write_text(other + "tokenizer: {kind: words, lowercase: true}\n")
    said = call("train", "other.yaml", "--data", "prepared", "-o", "three", code=2)
    assert "other settings of the tokenizer than other.yaml has: tokenizer.lowercase" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to train on\nname two text files"),
        (["tiny.yaml"], "-o is missing: the folder to make, for the run\nname a new one: -o runs/first"),
        (["tiny.yaml", "-o", "r"], "no training text\ngive --src and --tgt"),
        (["-o", "r", "--src", "train.src"], "--src and --tgt go together: --tgt is missing"),
        (["-o", "r", "--data", "x", *TEXTS], "--data holds the text already"),
        (["-o", "r", "--src", "train.sr", "--tgt", "train.tgt"], "no such file: "),
        (["-o", "r", *TEXTS, "--device", "tpu"], "no such device: tpu"),
        (["-o", ".", *TEXTS], ". is where you are: it cannot be made anew"),
        ([".", "-o", "r"], "to go on with a run: nmt train . --resume"),
        (["--resume", "-o", "r"], "--resume takes a run and no -o\nwrite: nmt train r --resume"),
        (["r", "--resume"], "r does not exist"),
        (["-o", "r", *TEXTS, "--init-from", "x"], "x does not exist"),
        (["-o", "r", *TEXTS, "--set", "train.stesp=3"], "did you mean `steps`?"),
    ],
)
def test_what_cannot_work_is_said_before_any_work(call, tmp_path, arguments, message):
    before = sorted(tmp_path.iterdir())
    assert message in call("train", *arguments, code=2)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(call, tmp_path, number):
    arguments = [
        "tiny.yaml",
        *TEXTS,
        "-o",
        "run",
        "--set",
        "train.steps=1000000",
        "--set",
        "train.validate_every=500000",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "nmt", "train", *arguments], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 300
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert "To go on: nmt train run --resume" in said
    step = int(RunDir(tmp_path / "run").pointed("last").removeprefix("step-"))
    assert step > 0
    said = call("train", "run", "--resume", "--set", f"train.steps={step + 1}")
    assert f"going on from step {step}" in said


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("45s", 45), ("1h1m1s", 3661), (" 5m ", 300)]
)
def test_times_are_read(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "0m", "1.5h", "m", "-2h", "30m1h"])
def test_other_times_are_refused(text):
    with pytest.raises(UserError, match="not a time"):
        parse_time(text)
