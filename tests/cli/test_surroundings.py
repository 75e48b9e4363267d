"""What a process is given is not taken for granted: standard streams that are closed, names that are not UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from zoo import write_run

from nmt.cli.main import COMMANDS

RUN_ALL = """
import json, os, sys
from nmt.cli.main import run

number, commands = int(sys.argv[1]), json.loads(sys.argv[2])
name = ("stdin", "stdout", "stderr")[number]
results = {}
for key, arguments in commands.items():
    try:
        os.close(number)
    except OSError:
        pass
    setattr(sys, name, None)  # as Python itself begins with a stream that is closed
    sys.argv = ["nmt", *arguments]
    try:
        run()
        results[key] = "no exit"
    except SystemExit as end:
        results[key] = end.code or 0
    except BaseException as error:
        results[key] = repr(error)
open("results.json", "w").write(json.dumps(results))
"""
TINY = """
tokenizer: {kind: words}
model:
  embedding: {width: 8}
  encoder: {kind: rnn, layers: 1, width: 8}
  decoder: {kind: rnn, layers: 1, width: 8, attention: {kind: dot}}
train: {steps: 2, validate_every: 1, log_every: 1, samples: 1, precision: float32, average: null}
"""
TEXT = ["--src", "train.src", "--tgt", "train.tgt", "--dev-src", "dev.src", "--dev-tgt", "dev.tgt"]


def every_command(out: str = "out") -> dict[str, list[str]]:
    """A command line of each command, by its name, that ends well in the folder `here`."""
    return {
        "init": ["init", "rnn-tiny", "-o", f"{out}.yaml"],
        "train": ["train", "tiny.yaml", *TEXT, "-o", f"{out}.run"],
        "average": ["average", f"{out}.run", "--last", "2"],
        "translate": ["translate", "run", "input", "-o", f"{out}.text"],
        "rerank": ["rerank", "run", "input", "nbest", "-o", f"{out}.best"],
        "shortlist": ["shortlist", "run", "input", "input", "-o", f"{out}.short"],
        "score": ["score", "run", "input", "input", "-o", f"{out}.scores"],
        "evaluate": ["evaluate", "--hyp", "input", "--ref", "input"],
        "align": ["align", "run", "input", "input", "-o", f"{out}.links"],
        "aer": ["aer", "links", "links"],
        "plot": ["plot", "run", "input", "input", "-o", f"{out}.pictures", "--format", "svg"],
        "report": ["report", f"{out}.run"],
        "backtranslate": ["backtranslate", "run", "input", "-o", f"{out}.pairs"],
        "split": ["split", "train.src", "train.tgt", "--dev", "5", "--test", "5", "-o", f"{out}.parts"],
        "fetch": ["fetch", "--list"],
        "prepare": ["prepare", "tiny.yaml", *TEXT, "-o", f"{out}.data"],
        "pack": ["pack", "run", "-o", f"{out}.packed"],
        "info": ["info", "run"],
        "schema": ["schema"],
        "bench": ["bench", "--help"],
    }


@pytest.fixture
def here(reversals: Path) -> Path:
    """A folder with all that `every_command` needs."""
    (reversals / "tiny.yaml").write_text(TINY)
    write_run(reversals / "run", "lstm")
    (reversals / "input").write_text("w1 w2\nw3\n")
    (reversals / "nbest").write_text("1 ||| w1 ||| -1.0\n2 ||| w3 ||| -1.0\n")
    (reversals / "links").write_text("0-0\n0-0\n")
    return reversals


def test_the_table_has_every_command() -> None:
    assert every_command().keys() == COMMANDS.keys()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_stream_changes_nothing(here: Path, number: int) -> None:
    """The work is done, and the exit code says so."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, str(number), json.dumps(every_command())], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    expected = {**dict.fromkeys(COMMANDS, 0), "backtranslate": 2}  # what chance has written makes no pairs
    assert json.loads((here / "results.json").read_text()) == expected, done.stderr
    assert (here / "out.pairs" / "mono.jsonl").is_file()
    assert len((here / "out.text").read_text().split("\n")) == 3
    assert (here / "out.run" / "best").is_file()
    assert (here / "out.links").is_file()


@pytest.mark.parametrize(("number", "told"), [(0, "standard input: cannot be read"), (1, "standard output is closed")])
def test_a_closed_stream_that_is_needed_is_told(here: Path, number: int, told: str) -> None:
    commands = {"translate": ["translate", "run", *(["input"] if number else ["-o", "out.text"])]}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, str(number), json.dumps(commands)], capture_output=True, text=True, check=True
    )
    assert json.loads((here / "results.json").read_text()) == {"translate": 2}
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (here / "out.text").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_name_that_is_not_utf_8_is_refused_before_any_work(command, here: Path, name: str) -> None:
    odd = os.fsdecode(b"n\xff.en")
    before = sorted(here.rglob("*"))
    arguments = every_command()[name]
    for place in range(1, len(arguments) + 1):
        _, err = command(*arguments[:place], odd, *arguments[place:], code=2)
        assert err.startswith("error: b'n\\xff.en' is not UTF-8\n")
    assert sorted(here.rglob("*")) == before


def test_a_folder_that_is_not_utf_8_is_told(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)
    monkeypatch.chdir(os.fsdecode(folder))
    assert "\\xff' is not UTF-8" in command("info", "run", code=2)[1]


@pytest.mark.parametrize("length", [221, 255, 256, 5000])
def test_names_that_are_too_long_are_told(command, here: Path, length: int) -> None:
    name = "n" * length
    for arguments in (
        ["train", "tiny.yaml", *TEXT, "-o", name],
        ["prepare", "tiny.yaml", *TEXT, "-o", name],
        *(
            [["translate", "run", "input", "-o", name], ["info", name], ["init", "rnn", "-o", name]]
            if length > 255
            else []
        ),
    ):
        _, err = command(*arguments, code=2)
        assert err.startswith(f"error: {name}: ")
        assert "learning" not in err
        assert "shorter name" in err


def test_a_folder_that_is_gone_is_told(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "is not there any more" in command("schema", code=2)[1]


@pytest.mark.parametrize("name", ["a b", "a\nb", "\x1b]0;x\x07", "'"])
def test_odd_names_are_taken_and_told_on_one_line(command, here: Path, name: str) -> None:
    (here / name).write_text("w1\n\xff\n", "latin-1")
    out, err = command("translate", "run", name)
    assert out.count("\n") == 2
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    _, err = command("translate", "run", f"{name}.none", code=2)
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
