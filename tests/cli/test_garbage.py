"""Whatever stands in a file of a run, each command tells it with the file's name, soon and in little memory, and
training goes on where its checkpoints are whole."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nmt.train.metrics
from nmt.report import write_report
from nmt.rundir import RunDir

TINY = """
data: {src: train.src, tgt: train.tgt, dev_src: dev.src, dev_tgt: dev.tgt}
tokenizer: {kind: words}
model:
  embedding: {width: 8}
  encoder: {kind: rnn, layers: 1, width: 8}
  decoder: {kind: rnn, layers: 1, width: 8, attention: {kind: dot}}
train: {steps: 2, validate_every: 1, log_every: 1, samples: 1, precision: float32, average: null}
"""
LAST = "checkpoints/step-00000002"
READ = {
    "config.yaml": "info",
    "run.json": "report",
    "best": "translate",
    "last": "report",
    "metrics.jsonl": "report",
    "samples.jsonl": "report",
    "attention.jsonl": "report",
    "tokenizer/src.json": "translate",
    "tokenizer/tgt.json": "info",
    "data/data.json": "report",
    "data/train/meta.json": "report",
    "data/train/src.ids": "report",
    "data/train/src.ids.offsets": "report",
    f"{LAST}/state.json": "info",
    f"{LAST}/model.safetensors": "translate",
}
"""The files of a run, with a command that reads each."""
COMMANDS = {
    "info": ["info", "bad"],
    "report": ["report", "bad"],
    "translate": ["translate", "bad", "dev.src", "--beam", "1", "--checkpoint", "last"],
    "average": ["average", "bad"],
    "plot": ["plot", "bad", "--text", "a b", "--format", "svg", "-o", "pictures"],
    "resume": ["train", "bad", "--resume", "--set", "train.steps=3"],
}


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


KINDS: dict[str, Callable[[Path], object]] = {
    "nothing": holding(b""),
    "null": holding(b"null\n"),
    "object": holding(b"{}\n"),
    "not UTF-8": holding(b"\xff\xfe\n"),
    "deep": holding(b'{"step": 1, "a":' * 5000 + b"1" + b"}" * 5000 + b"\n"),
    "digits": holding(b'{"step": ' + b"9" * 5000 + b"}\n"),
    "control": holding(b"\x1b]0;title\x07\n"),
    "another run": holding(b"../../good/checkpoints/step-00000002\n"),
    "types": holding(b'{"step": 1, "nll": null, "sessions": 5, "settings": [], "train": 1, "pairs": "x"}\n'),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a loop": lambda path: path.symlink_to(path.name),
    "no end": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture
def good(command, reversals: Path) -> Path:
    (reversals / "tiny.yaml").write_text(TINY)
    command("train", "tiny.yaml", "-o", "good")
    return reversals


def spoil(here: Path, file: str, kind: str) -> None:
    shutil.rmtree(here / "bad", ignore_errors=True)
    shutil.copytree(here / "good", here / "bad")
    (here / "bad" / file).unlink()
    KINDS[kind](here / "bad" / file)


def told(command, name: str, file: str, kind: str) -> str | None:
    """What the command says on standard error, of a file of this kind; None where it ends well."""
    start = time.monotonic()
    code, _, err = command.ending(*COMMANDS[name])
    what = f"{name} with {kind} in {file}: {err}"
    assert time.monotonic() - start < 20, what
    assert "\x1b" not in err, what
    assert code in (0, 2), what
    return err if code else None


def test_garbage_is_told_by_the_name_of_its_file(command, good: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unnamed = []
    for file, name in READ.items():
        for kind in KINDS:
            spoil(good, file, kind)
            said = told(command, name, file, kind)
            # A pointer that leads nowhere, and weights that are missing, are told as a missing checkpoint.
            names = [Path(file).name, *(["checkpoint"] if file in ("best", "last") or LAST in file else [])]
            if said is not None and not any(name in said for name in names):
                unnamed.append((file, kind, said))
    assert not unnamed, unnamed[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # in KiB


@pytest.mark.parametrize("file", ["metrics.jsonl", "samples.jsonl", "attention.jsonl"])
def test_training_goes_on_with_damaged_records(command, good: Path, file: str) -> None:
    shutil.copytree(good / "good", good / "bad")
    whole = (good / "bad" / file).read_bytes()
    (good / "bad" / file).write_bytes(whole + b"null\n{}\n\xff\n" + b"[" * 9999 + b'\n{"step": 1, "nll": 2}\n{"st')
    _, err = command("report", "bad", code=2)
    number = whole.count(b"\n") + 1
    assert err.startswith(f"error: bad/{file}, line {number} is damaged: ")
    _, err = command("train", "bad", "--resume", "--set", "train.steps=3")
    assert err.count(f"bad/{file}, line ") == err.count(": the line is dropped") == 5
    assert (good / "bad" / file).read_bytes().startswith(whole)
    command("report", "bad")


def test_a_record_damaged_while_training_goes_on_is_told(command, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(run: RunDir, *, training: bool) -> Path:
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write("null\n")
        return write_report(run, training=training)

    monkeypatch.setattr(nmt.train.metrics, "write_report", spoiled)
    _, err = command("train", "tiny.yaml", "-o", "run")
    assert "report.html is not written: run/metrics.jsonl, line 1 is damaged" in err
    assert (good / "run" / "checkpoints" / "step-00000002").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("file", READ)
def test_every_file_by_every_command(command, good: Path, file: str) -> None:
    for kind in KINDS:
        for name in COMMANDS:
            spoil(good, file, kind)
            first = told(command, name, file, kind)
            if first is not None and name != "resume":
                assert told(command, name, file, kind) == first


NUMBER = "9" * 5000


@pytest.mark.parametrize(
    "arguments",
    [
        ["translate", "good", "dev.src", "--checkpoint", NUMBER],
        ["translate", "good", "dev.src", "--checkpoint", "../../good/checkpoints/step-00000002"],
        ["translate", "good", "dev.src", "--checkpoint", "x" * 5000],
        ["translate", "good", "dev.src", "--set", f"search.beam={NUMBER}"],
        ["aer", "links", "links"],
        ["rerank", "good", "dev.src", "nbest"],
        ["plot", "good", "--text", "a", "--heads", NUMBER, "-o", "pictures"],
        ["plot", "good", "dev.src", "dev.tgt", "--lines", NUMBER, "-o", "pictures"],
        ["train", "tiny.yaml", "-o", "new", "--max-time", f"{NUMBER}h"],
        ["train", "tiny.yaml", "-o", "new", "--set", f"data.more.{NUMBER}.src=a"],
        ["train", "tiny.yaml", "-o", "new", "--set", "a." * 5000 + "b=1"],
    ],
)
def test_numbers_and_names_without_end(command, good: Path, arguments: list[str]) -> None:
    (good / "links").write_text(f"0-{NUMBER}\n")
    (good / "nbest").write_text(f"{NUMBER} ||| a ||| -1.0\n")
    assert command(*arguments, code=2)[1].startswith("error: ")
