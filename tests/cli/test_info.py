"""`nmt info`: what training said of a run is what it says, and the parts of a model are named."""

from __future__ import annotations

import json
import re

import pytest
from zoo import ZOO, write_run

from nmt.rundir import RunDir

TINY = """
data: {src: train.src, tgt: train.tgt, dev_src: dev.src, dev_tgt: dev.tgt}
tokenizer: {kind: words}
model: {embedding: {width: 8}, encoder: {width: 8}, decoder: {width: 8, attention: {kind: general}}}
train: {steps: 6, validate_every: 2, log_every: 2, samples: 0, precision: float32, metric: loss}
"""


def test_the_score_is_the_one_that_training_said(command, reversals):
    """Of a checkpoint, and of the average at the end."""
    (reversals / "tiny.yaml").write_text(TINY)
    _, said = command("train", "tiny.yaml", "-o", "run")
    name, score = re.search(r"best: (\S+) \(dev loss ([\d.]+)\)", said).groups()
    assert f"best         {name} (dev loss {score})\n" in command("info", "run")[0]
    averaged = re.search(r"average of 2, 4, 6: dev loss ([\d.]+)", said)[1]
    RunDir(reversals / "run").point("best", "average-best-3")
    assert f"best         average-best-3 (dev loss {averaged})\n" in command("info", "run")[0]
    assert f"average-best-3 (dev loss {float(averaged):.2f})" in (
        command("report", "run") and (reversals / "run" / "report.html").read_text()
    )
    command("average", "run", "--last", 2, "-o", "mine")
    RunDir(reversals / "run").point("best", "mine")  # nobody has judged it
    assert re.search(r"best         mine \(best dev loss of training [\d.]+\)\n", command("info", "run")[0])


@pytest.mark.parametrize("name", ZOO)
def test_the_parts_of_a_model_are_named(command, tmp_path, name):
    write_run(tmp_path / "run", name)
    model = next(line for line in command("info", tmp_path / "run")[0].splitlines() if line.startswith("model "))
    config = ZOO[name]
    for part in (config.encoder, config.decoder):
        if part.kind == "transformer":
            assert f"{part.positions} positions" in model
    if config.decoder.kind == "rnn":
        assert f"{config.decoder.wiring} wiring" in model
        assert f"{config.decoder.bridge.kind} bridge" in model
    if config.head.kind == "copy":
        assert f"copy head ({config.head.gate} gate, {config.head.attention.kind} attention)" in model


def test_several_runs_are_a_table(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("lstm", "transformer"):
        write_run(tmp_path / name, name)
    head, *rows = command("info", "lstm", "transformer")[0].splitlines()
    assert [row.split()[0] for row in rows] == ["lstm", "transformer"]
    for column in ("parameters", "trained", "best", "model"):
        assert len({row[head.index(column) - 1] for row in rows}) == 1, "columns are under their names"
    assert [one["run"] for one in json.loads(command("info", "lstm", "transformer", "--json")[0])] == [
        "lstm",
        "transformer",
    ]
    assert json.loads(command("info", "lstm", "--json")[0])["run"] == "lstm"
    assert "nowhere does not exist" in command("info", "lstm", "nowhere", code=2)[1]


def test_a_finished_translation_says_so_to_a_person(command, tmp_path, monkeypatch):
    """How many lines, where, how long; not to a program, and not where the text itself is the answer."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", "lstm")
    (tmp_path / "input").write_text("w1 w2\n\nw3\n")
    assert command("translate", "run", "input", "-o", "quiet")[1] == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert re.search(r"3 lines in out, after \d+ seconds?\n", command("translate", "run", "input", "-o", "out")[1])
    assert "lines in" not in command("translate", "run", "input")[1]
