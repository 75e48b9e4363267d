"""Laws: N processes do, step for step, what one does that accumulates N times as many batches; and none outlives the
others. All of it through torchrun and the real command."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from zoo import ZOO

from nmt.rundir import MODEL, RunDir, read_tensors

TIMES = ("seconds", "tokens_per_second")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@pytest.fixture
def folder(tmp_path, monkeypatch, command):
    """The current folder, with a prepared corpus: reversal of short sentences."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(1)
    lines = [[draw.choice("abcdefgh") for _ in range(draw.randint(1, 6))] for _ in range(150)]
    for name, part in (("train", lines[:129]), ("dev", lines[129:])):
        Path(f"{name}.src").write_text("".join(" ".join(line) + "\n" for line in part))
        Path(f"{name}.tgt").write_text("".join(" ".join(line[::-1]) + "\n" for line in part))
    texts = {"src": "train.src", "tgt": "train.tgt", "dev_src": "dev.src", "dev_tgt": "dev.tgt"}
    Path("text.yaml").write_text(json.dumps({"data": texts, "tokenizer": {"kind": "words"}}))
    command("prepare", "text.yaml", "-o", "prepared")
    return tmp_path


def settings(name="lstm", dropout=0.1, **train):
    """Arguments of `nmt train`, for four batches an update by default."""
    config = {
        "data": {"prepared": "prepared", "max_tokens": 64},
        "model": {**ZOO[name].model_dump(), "dropout": dropout},
        "train": {
            "precision": "float32",
            "steps": 12,
            "log_every": 1,
            "validate_every": 6,
            "samples": 2,
            # Gradients that are zero but for rounding stay small; Adam would make steps as large as any of them.
            "optimizer": {"lr": 0.01, "eps": 1e-3},
            "schedule": {"kind": "constant"},
            "accumulate": 4,
            **train,
        },
    }
    Path("settings.yaml").write_text(json.dumps(config))
    return ["settings.yaml", "--device", "cpu"]


def torchrun(processes, *arguments, code=0):
    """Trains by so many processes; what they said to standard error."""
    command = [*TORCHRUN, str(processes), "-m", "nmt", "train", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    return result.stderr


def accumulate(batches):
    return ["--set", f"train.accumulate={batches}"]


def record(run):
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def files(run):
    """All but what TensorBoard names by the clock."""
    return sorted(str(path.relative_to(run)) for path in Path(run).rglob("*") if "tfevents" not in path.name)


def assert_close(one, two):
    """Two runs have the same losses, scores and weights, but for rounding; and the same files."""
    ours, theirs = record(one), record(two)
    assert len(ours) == len(theirs) > 0
    for line, other in zip(ours, theirs, strict=True):
        assert line.keys() == other.keys()
        assert all(math.isclose(line[key], other[key], rel_tol=1e-4) for key in line), (line, other)
    ours, theirs = (read_tensors(RunDir(Path(run)).checkpoint("last") / MODEL) for run in (one, two))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text)
    assert Path(one, "samples.jsonl").read_text() == Path(two, "samples.jsonl").read_text()
    assert files(one) == files(two)


def test_two_processes_are_one_that_accumulates_twice_as_much(folder, command):
    """With dropout, which is the same for a batch wherever it is computed."""
    arguments = settings("transformer")
    command("train", *arguments, "-o", "one")
    said = torchrun(2, *arguments, *accumulate(2), "-o", "two")
    assert said.count("training two on cpu by 2 processes in float32: 129 pairs, dev 21\n") == 1
    assert said.count("step 12  dev loss") == 1
    assert_close("one", "two")
    assert RunDir(Path("two")).facts["sessions"][0]["processes"] == 2


@pytest.mark.slow
def test_two_machines_are_one_that_accumulates_twice_as_much(folder, command):
    """A launcher for each of them, and a folder that both see."""
    arguments = settings("transformer")
    command("train", *arguments, "-o", "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}"),
                *("--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"),
                *("-m", "nmt", "train", *arguments, *accumulate(2), "-o", "two"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(2)
    ]
    said = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert_close("one", "two")
    outputs = [command("translate", run, "dev.src", "--device", "cpu")[0] for run in ("one", "two")]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 21


ADAMW = {"kind": "adamw", "lr": 0.01, "eps": 1e-3, "weight_decay": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "processes", "dropout", "train"),
    [
        ("lstm", 2, 0.0, {}),
        ("lstm", 4, 0.1, {}),
        ("transformer", 2, 0.0, {"average": None}),
        ("transformer", 4, 0.1, {}),
        ("gru-feeding", 2, 0.1, {"clip": 0.1, "mean_decay": 0.9}),
        ("transformer-alibi", 2, 0.1, {"consistency": {"kind": "rdrop"}}),
        ("copy", 4, 0.1, {"consistency": {"kind": "simcut"}}),
        ("copy-transformer", 2, 0.1, {}),
        ("coverage", 2, 0.1, {"metric": "loss", "optimizer": ADAMW}),
    ],
)
def test_any_number_of_processes(folder, command, name, processes, dropout, train):
    arguments = settings(name, dropout, **train)
    command("train", *arguments, "-o", "one")
    torchrun(processes, *arguments, *accumulate(4 // processes), "-o", "several")
    assert_close("one", "several")


@pytest.mark.slow
def test_a_run_goes_on_with_other_numbers_of_processes(folder, command):
    arguments = settings()
    command("train", *arguments, "-o", "whole")
    torchrun(2, *arguments, *accumulate(2), "-o", "run", "--set", "train.steps=6")
    resume = ["run", "--resume", "--device", "cpu"]
    said = torchrun(4, *resume, "--set", "train.steps=8", code=1)
    assert said.count("each update of run is of 4 batches: 4 processes with train.accumulate: 2 would make it 8\n") == 1
    assert "to go on as before: --set train.accumulate=1" in said
    said = torchrun(4, *resume, *accumulate(1), "--set", "train.steps=9")
    assert said.count("going on from step 6") == 1
    command("train", *resume, *accumulate(4), "--set", "train.steps=12")
    lines = [line for line in record("run") if line["step"] != 9 or "dev_loss" not in line]
    assert [line["step"] for line in lines] == [line["step"] for line in record("whole")]
    for line, other in zip(lines, record("whole"), strict=True):
        assert all(math.isclose(line[key], other[key], rel_tol=1e-4) for key in line), (line, other)


@pytest.mark.slow
def test_a_mistake_is_told_once(folder):
    for wrong, message in (
        (["--set", "train.stesp=3"], "error: --set train.stesp: unknown key"),
        (["--device", "tpu"], "error: no such device: tpu"),
    ):
        said = torchrun(2, *settings(), *wrong, "-o", "run", code=1)
        assert said.count(message) == 1, said
        assert said.count("Traceback") == 1, said  # torchrun's own
        assert "exitcode  : 2 " in said
        assert not Path("run").exists()


@pytest.mark.slow
def test_divergence_is_told_once(folder):
    said = torchrun(2, *settings(optimizer={"lr": 1e30}, clip=0.0), "-o", "run", code=1)
    assert said.count("training has diverged") == 1, said
    assert said.count("Traceback") == 1, said


class Endless:
    """Training by two processes that would go on for hours; a context manager that leaves none of them behind."""

    def __init__(self, *arguments):
        self.command = [*TORCHRUN, "2", "-m", "nmt", "train", *settings(steps=10**6, accumulate=2), *arguments]
        self.pids = []

    def __enter__(self):
        with Path("said").open("w") as said:
            self.process = subprocess.Popen(self.command, stderr=said)
        try:
            self.wait_for("step 4 ")
            self.pids = [self.find(rank) for rank in (0, 1)]
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for(self, text):
        limit = time.monotonic() + 120
        while text not in Path("said").read_text():
            assert time.monotonic() < limit
            assert self.process.poll() is None, Path("said").read_text()
            time.sleep(0.1)

    def find(self, rank):
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            if f"RANK={rank}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
                return int(pid)
        raise AssertionError(f"no process of rank {rank}")

    def end(self):
        """Waits until all is over: the exit code, and what was said."""
        code, limit = self.process.wait(timeout=60), time.monotonic() + 25
        while any(Path(f"/proc/{pid}").exists() for pid in self.pids):
            assert time.monotonic() < limit
            time.sleep(0.1)
        return code, Path("said").read_text()

    def __exit__(self, *error):
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in Linux's /proc")


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_is_killed_all_end(folder, rank):
    with Endless("-o", "run") as training:
        start = time.monotonic()
        os.kill(training.pids[rank], signal.SIGKILL)
        code, said = training.end()
        assert time.monotonic() - start < 25  # after 30, torchrun would have killed what hangs
    assert code == 1
    assert said.count("Traceback") == 1, said  # torchrun's report of the first to fail
    assert "Signal 9 (SIGKILL) received by PID" in said
    assert f"rank {1 - rank} ends, because it has lost another process" in said
    assert f"rank      : {rank} (local_rank: {rank})" in said


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_torchrun_saves_and_ends_all(folder, number):
    with Endless("-o", "run") as training:
        training.process.send_signal(number)
        code, said = training.end()
    assert code != 0
    assert said.count("To go on: nmt train run --resume") == 1
    assert said.count("interrupted: saved at step") == 1
    step = int(RunDir(Path("run")).pointed("last").removeprefix("step-"))
    said = torchrun(2, "run", "--resume", "--set", f"train.steps={step + 2}")
    assert f"going on from step {step}" in said
    assert [line["step"] for line in record("run") if "loss" in line] == list(range(1, step + 3))


@needs_proc
@pytest.mark.slow
def test_a_signal_to_one_is_heeded_by_all(folder):
    with Endless("-o", "run") as training:
        os.kill(training.pids[1], signal.SIGTERM)
        code, said = training.end()
    assert code == 1
    assert said.count("interrupted: saved at step") == 1
    assert "Connection closed" not in said


@needs_proc
@pytest.mark.slow
def test_when_torchrun_is_killed_all_save_and_end(folder):
    with Endless("-o", "run") as training:
        training.process.kill()
        said = training.end()[1]
    assert said.count("interrupted: saved at step") == 1


@pytest.mark.slow
def test_time_is_up_for_all_at_once(folder):
    said = torchrun(2, *settings(steps=10**6, accumulate=2, average=None), "-o", "run", "--max-time", "2s")
    assert said.count("out of time at step") == 1
    assert RunDir(Path("run")).pointed("last") == f"step-{record('run')[-1]['step']:08d}"
