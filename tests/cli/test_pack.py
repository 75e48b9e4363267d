"""A packed run: every command takes it but for going on with its training, and it says nothing of where it was made."""

from __future__ import annotations

import json
import shutil

import pytest

from nmt.cli.main import COMMANDS
from nmt.rundir import MODEL, SIDES, RunDir, read_tensors
from tests.zoo import write_run

TINY = """
data: {src: train.src, tgt: train.tgt, dev_src: dev.src, dev_tgt: dev.tgt, more: [{src: train.src, tgt: train.tgt}]}
tokenizer: {kind: sentencepiece, path: other.model}
model:
  embedding: {width: 8}
  encoder: {width: 8}
  decoder: {width: 8, attention: {kind: general}}
train: {steps: 6, validate_every: 2, log_every: 2, samples: 1, precision: float32}
"""
TRIED = {
    "translate": ["RUN", "dev.src", "-o", "out"],
    "rerank": ["RUN", "dev.src", "nbest", "-o", "best"],
    "shortlist": ["RUN", "train.src", "train.tgt", "-o", "lists"],
    "score": ["RUN", "dev.src", "dev.tgt", "-o", "scores"],
    "evaluate": ["RUN", "--src", "dev.src", "--ref", "dev.tgt"],
    "align": ["RUN", "dev.src", "dev.tgt", "-o", "links"],
    "plot": ["RUN", "--text", "a b", "-o", "pictures"],
    "report": ["RUN"],
    "info": ["RUN"],
    "average": ["RUN"],
    "backtranslate": ["RUN", "dev.tgt", "-o", "bt", "--sample", "--set", "search.max_ratio=1.0"],
    "pack": ["RUN", "-o", "again"],
    "train": ["--src", "train.src", "--tgt", "train.tgt", "--init-from", "RUN", "-o", "new", "--set", "train.steps=1"],
}
WITHOUT_RUN = {"bench", "init", "aer", "split", "fetch", "prepare", "schema"}


@pytest.fixture
def packed(command, reversals):
    """The current folder, with `run` and `packed`."""
    (reversals / "tiny.yaml").write_text(TINY.replace("path: other.model", "size: 40"))
    command("train", "tiny.yaml", "-o", "first", "--set", "train.steps=1")
    shutil.copy(next((reversals / "first" / "tokenizer").glob("*.model")), reversals / "other.model")
    (reversals / "tiny.yaml").write_text(TINY.replace("path: other.model", "path: other.model, joint: true"))
    command("train", "tiny.yaml", "-o", "run")
    out, _ = command("pack", "run", "-o", "packed")
    assert out.startswith("packed: ")
    return reversals


def test_every_command_takes_it_but_one(packed, command):
    assert {*TRIED, *WITHOUT_RUN} == {*COMMANDS}
    whole, _ = command("translate", "run", "dev.src", "--nbest", 2)
    (packed / "nbest").write_text(whole)
    shutil.move(packed / "run", packed / "elsewhere")  # it needs nothing of the run it was made of
    for name, arguments in TRIED.items():
        command(name, *("packed" if word == "RUN" else word for word in arguments))
    assert command("translate", "packed", "dev.src", "--nbest", 2)[0] == whole
    _, said = command("train", "packed", "--resume", code=2)
    assert "packed was made by `nmt pack`" in said
    assert "--init-from packed" in said
    _, said = command("train", *TRIED["train"][:5], "packed", "-o", "kept", "--keep", "optimizer", code=2)
    assert "packed has weights alone" in said


def test_it_has_no_text_and_no_place(packed, command):
    run, small = RunDir(packed / "run"), RunDir(packed / "packed")
    names = {path.name for path in small.path.rglob("*") if path.is_file()}
    assert names == {
        "best",
        "last",
        "config.yaml",
        "run.json",
        "model.safetensors",
        "state.json",
        "joint.json",
        "joint.model",
    }
    for path in small.path.rglob("*"):
        if path.is_file():
            assert str(packed).encode() not in path.read_bytes(), path
    one, other = (read_tensors(each.checkpoint() / MODEL) for each in (run, small))
    assert all((one[name] == other[name]).all() for name in one)
    facts = command("info", "packed")[0]
    assert f"best         {run.pointed('best')}" in facts
    assert "6 of 6 steps" in facts
    _, said = command("pack", "run", "-o", "packed", code=2)
    assert "packed is not empty" in said


def test_what_a_run_knows_of_its_text_goes_along(command, tmp_path):
    """How its sides are spelled, and what its lines are like: what warns of other text."""
    run = write_run(tmp_path / "run", "gru")
    (run.path / "tokenizer" / SIDES).write_text('{"evidence": {}, "src": 0.0, "tgt": 1.0, "spread": 0.1}')
    facts = json.loads((run.path / "run.json").read_text())
    source = {"longest": 9, "sentences": 1}
    (run.path / "run.json").write_text(json.dumps({**facts, "source": source}))
    command("pack", run.path, "-o", tmp_path / "packed")
    packed = RunDir(tmp_path / "packed")
    assert packed.facts["source"] == source
    assert packed.direction.profile == RunDir(run.path).direction.profile is not None
