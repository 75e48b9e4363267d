"""What the studies share: commands, what a run is made of, what is gone on with, tables."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nmt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from recipes import study  # noqa: E402


class Commands:
    """In the place of `nmt`: records what it is asked."""

    def __init__(self, seconds: float) -> None:
        self.said: list[list[str]] = []
        self.seconds = seconds

    def __call__(self, log: Path, *arguments: object) -> str:
        words = [str(word) for word in arguments]
        if words[0] == "info":
            return json.dumps({"seconds": self.seconds})
        self.said.append(words)
        return ""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Commands]:
    def make(seconds: float) -> Commands:
        fake = Commands(seconds)
        monkeypatch.setattr(study, "nmt", fake)
        return fake

    return make


# Training


def test_a_new_run_is_trained(commands: Callable[[float], Commands], tmp_path: Path) -> None:
    fake = commands(0)
    study.train(tmp_path / "run", Path("a.yaml"), ["--src", Path("x")], ["train.seed=2", "model.dropout=0"])
    ((*words,),) = fake.said
    assert words[:4] == ["train", "a.yaml", "--src", "x"]
    assert words[4:] == ["-o", str(tmp_path / "run"), "--force", "--set", "train.seed=2", "--set", "model.dropout=0"]
    study.train(tmp_path / "run", Path("a.yaml"), [], [], minutes=1.5)
    assert fake.said[1][-2:] == ["--max-time", "90s"]


def test_going_on_has_the_minutes_that_are_left(commands: Callable[[float], Commands], tmp_path: Path) -> None:
    (tmp_path / "last").touch()
    fake = commands(70.4)
    study.train(tmp_path, Path("a.yaml"), ["--src", "x"], ["train.seed=2"], minutes=2)
    study.train(tmp_path, Path("a.yaml"), [], [])
    study.train(tmp_path, Path("a.yaml"), [], [], minutes=1)  # no time is left
    resumed = ["train", str(tmp_path), "--resume"]
    assert fake.said == [[*resumed, "--max-time", "50s"], resumed]


def test_a_command_gives_what_it_prints_and_logs_the_rest(tmp_path: Path) -> None:
    assert study.nmt(tmp_path / "a" / "log", "--version").startswith("nmt ")
    with pytest.raises(UserError, match=rf"nmt train failed\nsee {tmp_path}/log"):
        study.nmt(tmp_path / "log", "train")
    assert "there is nothing to train on" in (tmp_path / "log").read_text("utf-8")


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from recipes import study
import subprocess
real = subprocess.Popen
def popen(command, **options):
    return real([sys.executable, "-c", CHILD], **options)
CHILD = '''
import signal, sys, time
def caught(number, frame):
    print("saved", file=sys.stderr, flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, caught)
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
'''
study.subprocess.Popen = popen
study.start(lambda: study.nmt(Path(sys.argv[2]), "train"))
"""


def test_what_ends_the_study_ends_the_training(tmp_path: Path) -> None:
    """SIGTERM comes to the study alone; its child saves and is gone before the study is."""
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(ROOT), str(log)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (log.exists() and "ready" in log.read_text()):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.endswith("interrupted; the same command goes on\n")
    assert log.read_text() == "ready\nsaved\n"


def test_all_but_the_best_go(tmp_path: Path) -> None:
    for name in ("step-00000001", "average-best", "average-last"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "last").write_text("step-00000001\n")
    (tmp_path / "best").write_text("average-best\n")
    study.keep_best(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["average-best"]
    assert not (tmp_path / "last").exists()


# What a run is made of


def test_fingerprint(tmp_path: Path) -> None:
    """Cells trained for hours rest on it: this is how it was when they were."""
    (tmp_path / "a").write_bytes(b"x\n")
    expected = hashlib.sha256(b'{"a": 1, "b": [2.5]}' + hashlib.sha256(b"x\n").digest()).hexdigest()
    assert study.fingerprint({"b": (2.5,), "a": 1}, [tmp_path / "a"]) == expected
    (tmp_path / "a").write_bytes(b"y\n")
    assert study.fingerprint({"b": (2.5,), "a": 1}, [tmp_path / "a"]) != expected


def test_settings_are_those_that_someone_gave(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train:\n  steps: 5\n")
    assert study.settings_of(tmp_path / "a.yaml", ["model.dropout=0.5"]) == {
        "train": {"steps": 5},
        "model": {"dropout": 0.5},
    }


def test_a_run_is_claimed_before_it_begins(tmp_path: Path) -> None:
    run = tmp_path / "out" / "run"
    study.claim(run, "aa")
    study.claim(run, "bb")  # nothing is there yet
    run.mkdir()
    study.claim(run, "bb")
    with pytest.raises(UserError, match=r"out/run is of other settings or text\nname another folder by -o, or delete"):
        study.claim(run, "aa")
    run.rmdir()
    study.claim(run, "aa")


# Tables


def test_spread() -> None:
    assert study.spread([]) == study.spread([None]) == "-"
    assert study.spread([2.0, None]) == "2.00"
    assert study.spread([1.0, 3.0], ".1f") == "2.0 ± 1.4"


def test_markdown() -> None:
    assert study.markdown(["a", "b"], [(1, "x")]) == ["| a | b |", "|---|---|", "| 1 | x |"]
    assert study.markdown(["a"], []) == ["| a |", "|---|"]


def test_median_speed(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"tokens_per_second": 10}\n{"dev_bleu": 3}\n{"tokens_per_second": 30}\n')
    assert study.training_speed(tmp_path) == 20
    (tmp_path / "metrics.jsonl").write_text("")
    assert study.training_speed(tmp_path) is None
