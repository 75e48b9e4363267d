"""The page of a run through the real commands: there from the start, brought up to date, the same after a resume."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from nmt.align.maps import read_json
from nmt.rundir import RunDir, load_model
from nmt.train import metrics
from nmt.train.metrics import Console

TINY = """
tokenizer: {kind: words}
data: {max_tokens: 64}
model:
  embedding: {width: 8}
  encoder: {width: 8}
  decoder: {width: 8, attention: {kind: general}}
train: {steps: 6, validate_every: 2, log_every: 1, samples: 2, precision: float32, average: null}
"""
TEXTS = ["--src", "train.src", "--tgt", "train.tgt", "--dev-src", "dev.src", "--dev-tgt", "dev.tgt"]


@pytest.fixture
def call(command, reversals):
    """`nmt ARGUMENTS` in a folder with text and settings; gives what it printed."""
    (reversals / "tiny.yaml").write_text(TINY)
    return lambda *arguments, code=0: "".join(command(*arguments, code=code))


def data_of(path: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_training_leaves_a_page_and_says_where(call, tmp_path):
    said = call("train", "tiny.yaml", *TEXTS, "-o", "run", "--device", "cpu")
    assert "\nwatch run/report.html in a browser\n" in said
    assert said.endswith("Curves, samples and their attention: run/report.html\n")
    page = tmp_path / "run" / "report.html"
    data = data_of(page)
    assert (data["training"], data["step"], data["steps"]) == (False, 6, 6)
    assert data["reports"]["step"] == [1, 2, 3, 4, 5, 6]
    assert data["samples"]["step"] == [2, 4, 6]
    assert len(data["samples"]["sentences"]) == 2
    assert data["sessions"][0][2][1].startswith("nmt train tiny.yaml")

    page.unlink()
    assert call("report", "run") == "run/report.html\n"
    assert data_of(page) == {**data, "written": data_of(page)["written"]}
    assert "nothing does not exist" in call("report", "nothing", code=2)


def test_attention_of_the_samples_is_that_of_the_weights_then(call, tmp_path):
    """The last line of the record, against a forced pass of the last checkpoint made here."""
    import torch

    from nmt.align.extract import attention_maps

    call("train", "tiny.yaml", *TEXTS, "-o", "run", "--device", "cpu")
    run = RunDir(tmp_path / "run")
    samples = [json.loads(line) for line in (run.path / "samples.jsonl").read_text("utf-8").splitlines()]
    found = list(read_json(run.path / "attention.jsonl"))
    assert len(found) == len(samples) == 6
    pairs = [(sample["source"], sample["output"]) for sample in samples[-2:]]
    model, device = load_model(run, "last"), torch.device("cpu")
    expected = list(attention_maps(model, run.tokenizers(), pairs, device=device, max_tokens=64))
    for one, two in zip(found[-2:], expected, strict=True):
        assert (one.src, one.tgt) == (two.src, two.tgt)
        assert abs(one.weights - two.weights).max(initial=0) < 1e-4


def test_after_an_interrupt_and_a_resume_it_is_the_page_of_one_training(call, tmp_path, monkeypatch):
    call("train", "tiny.yaml", *TEXTS, "-o", "whole", "--device", "cpu")
    advance = Console.advance

    def interrupt(self: Console, step: int) -> None:
        advance(self, step)
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Console, "advance", interrupt)
        call("train", "tiny.yaml", *TEXTS, "-o", "run", "--device", "cpu", code=130)
    data = data_of(tmp_path / "run" / "report.html")
    assert (data["training"], data["step"], data["samples"]["step"]) == (False, 5, [2, 4])
    with (tmp_path / "run" / "attention.jsonl").open("a") as file:  # as if a validation had come after the checkpoint
        file.write('{"step": 6, "src": ["a"], "tgt": ["b"], "weights": [[1.0]]}\n{"step": 6, "sr')
    call("train", "run", "--resume")
    whole, resumed = (data_of(tmp_path / name / "report.html") for name in ("whole", "run"))
    assert resumed["samples"] == {**whole["samples"], "seconds": resumed["samples"]["seconds"]}
    assert resumed["reports"]["nll"] == whole["reports"]["nll"]
    names = ("attention.jsonl", "samples.jsonl")
    assert all((tmp_path / "run" / name).read_text() == (tmp_path / "whole" / name).read_text() for name in names)
    assert len(resumed["sessions"]) == 2


def test_it_is_written_at_the_start_at_validations_seldom_between_and_at_the_end(call, monkeypatch):
    written = []
    monkeypatch.setattr(metrics, "write_report", lambda run, training: written.append((step_of(run.path), training)))

    def step_of(path: Path) -> int:
        lines = (path / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["step"] if lines else 0

    call("train", "tiny.yaml", *TEXTS, "-o", "run", "--device", "cpu")
    # Not at 1, 3, 5: that was a moment ago. Last once more, as an average may have become the best.
    assert written == [(0, True), (2, True), (4, True), (6, True), (6, False), (6, False)]


def test_pieces_where_words_are_not_separated(call, tmp_path):
    for name in ("train", "dev"):
        text = (tmp_path / f"{name}.src").read_text().replace(" ", "")
        (tmp_path / f"{name}.src").write_text("".join(f"{line}{line}{line}abcdefgh\n" for line in text.splitlines()))
    characters = ("--set", "tokenizer={kind: characters}", "--set", "train.steps=2")
    call("train", "tiny.yaml", *TEXTS, "-o", "run", "--device", "cpu", *characters)
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text("utf-8").splitlines()]
    for sample, attention in zip(samples, read_json(tmp_path / "run" / "attention.jsonl"), strict=True):
        assert attention.src == list(sample["source"])


def test_attention_that_is_not_there_is_told_before_training(call, tmp_path):
    said = call("train", "tiny.yaml", *TEXTS, "-o", "run", "--set", "align.attention=decoder.9.cross", code=2)
    assert "the model has no attention called 'decoder.9.cross'" in said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
