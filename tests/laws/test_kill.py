"""Law: whenever `nmt train` is killed, by SIGKILL, what comes of going on is the run that was never killed. On the CPU,
file for file and bit for bit; only what the clock says may differ.

A driver (this file as a program) imports everything once and then forks: so each training here is a process of its own
that really dies, and costs no start-up. It dies before its n-th deed among those that change what is on the disk:
opening a file to write, fsync, renaming, removing, making a folder; with half of what it was about to write where it
saves tensors or adds a line to a record; or at any time at all, by the clock.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEEDS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
"""Audit events of Python; "open" is one, too, if it is to write."""
CLOCK = ("seconds", "tokens_per_second")

MODELS = {
    "rnn": """
  embedding: {width: 12}
  encoder: {width: 16}
  decoder: {width: 16, attention: {kind: additive, width: 8}}
  dropout: 0.2
  word_dropout: 0.1
""",
    "transformer": """
  embedding: {width: 16, tie: all}
  encoder: {kind: transformer, layers: 2, width: 16, heads: 2, feed_forward: 24}
  decoder: {kind: transformer, layers: 2, width: 16, heads: 2, feed_forward: 24}
  dropout: 0.2
""",
}
SETTINGS = """
data: {max_tokens: 96}
tokenizer: {kind: sentencepiece, size: 320}
train:
  steps: 9
  optimizer: {lr: 0.02}
  schedule: {kind: constant}
  accumulate: 2
  log_every: 2
  validate_every: 3
  samples: 1
  keep_last: 2
  keep_best: 2
  average: {which: best, count: 2}
  mean_decay: 0.9
  metric: chrf
  subword_sampling: {kind: bpe_dropout}
  precision: float32
search: {max_ratio: 1.0, max_extra: 1}
model:"""


class Driver:
    """The process that forks."""

    def __init__(self, folder):
        self.folder = folder
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )

    def __call__(self, *command, deed=None, seconds=None):
        """Runs `nmt COMMAND`, to be killed at a deed's number, from 1, or after so many seconds. Returns what ended it,
        an exit code or minus a signal, the names of its deeds (where it was not killed) and what it said."""
        job = {"command": [str(word) for word in command], "deed": deed, "seconds": seconds}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def train(self, name, run, **killed):
        """Begins a run; goes on with it where there is one."""
        if (self.folder / run / "config.yaml").exists():
            return self("train", run, "--resume", "--device", "cpu", **killed)
        return self("train", f"{name}.yaml", "-o", run, "--device", "cpu", **killed)

    def until_done(self, name, run, kills):
        """Trains, being killed as `kills` say, one after the other; what was said after the last."""
        for killed in kills:
            result = self.train(name, run, **killed)
            if result["end"] == 0:
                assert "seconds" in killed  # it was faster than the clock
                break
            assert result["end"] == -signal.SIGKILL, result["said"]
        result = self.train(name, run)
        assert result["end"] == 0, result["said"]
        return result["said"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    draw = random.Random(1)
    syllables = [first + second for first in "bdgklmn" for second in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(60)]
    lines = [draw.choices(words, k=draw.randint(1, 6)) for _ in range(90)]
    text = {"train": lines[:80], "dev": lines[80:]}
    for part, those in text.items():
        (folder / f"{part}.src").write_text("".join(" ".join(line) + "\n" for line in those))
        (folder / f"{part}.tgt").write_text("".join(" ".join(line[::-1]) + "\n" for line in those))
    files = "src: train.src, tgt: train.tgt, dev_src: dev.src, dev_tgt: dev.tgt, "
    for name, model in MODELS.items():
        (folder / f"{name}.yaml").write_text((SETTINGS + model).replace("data: {", "data: {" + files))
    driver = Driver(folder)
    yield driver
    driver.process.stdin.close()
    driver.process.wait(timeout=10)
    driver.process.stdout.close()


@pytest.fixture(scope="module")
def whole(driver):
    """For each model the names of the deeds of a training that nobody kills, and what it left."""
    found = {}
    for name in MODELS:
        result = driver.train(name, f"{name}-whole")
        assert result["end"] == 0, result["said"]
        found[name] = result["deeds"], left_by(driver.folder / f"{name}-whole")
    return found


def left_by(run):
    """Every file of a run, by its name; without what says when, where and how long."""
    files = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if not path.is_file() or name in ("run.json", "report.html") or name.startswith("tensorboard"):
            continue
        files[name] = path.read_bytes()
        if path.name in ("metrics.jsonl", "state.json"):
            text = files[name].decode()
            entries = map(json.loads, text.splitlines() if path.suffix == ".jsonl" else [text])
            files[name] = [{key: value for key, value in entry.items() if key not in CLOCK} for entry in entries]
    return files


def assert_same(run, expected):
    left = left_by(run)
    assert list(left) == list(expected)
    for name, content in expected.items():
        assert left[name] == content, name
    assert not [path.name for path in run.parent.iterdir() if path.name.startswith(f".{run.name}.")]


def test_the_law_says_something(whole):
    """The run that is not killed has validated, saved, thinned out, averaged; its deeds are many and of all sorts."""
    for deeds, left in whole.values():
        steps = [entry["step"] for entry in left["metrics.jsonl"]]
        assert steps == [2, 3, 4, 6, 6, 8, 9]
        checkpoints = {name.split("/")[1] for name in left if name.startswith("checkpoints/")}
        assert checkpoints >= {"step-00000006", "step-00000009", "average-best-2"}
        assert "step-00000000" not in checkpoints
        assert {*DEEDS, "open", "fsync", "save", "line"} == set(deeds)
        assert len(deeds) > 100


@pytest.mark.parametrize("name", MODELS)
def test_a_killed_training_goes_on_as_if_nothing_had_happened(driver, whole, name):
    """At some moments, among them halfway through a line, and through a checkpoint's weights or optimiser."""
    deeds, expected = whole[name]
    saves = [number for number, deed in enumerate(deeds, 1) if deed == "save"]
    lines = [number for number, deed in enumerate(deeds, 1) if deed == "line"]
    which = list(MODELS).index(name)
    for moment in (saves[4 + which], lines[6 - which], len(deeds) * (1 + 2 * which) // 5):
        run = f"{name}-at-{moment}"
        driver.until_done(name, run, [{"deed": moment}])
        assert_same(driver.folder / run, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("number", range(20))
def test_killed_again_and_again(driver, whole, name, number):
    """At 20 moments by chance, then while it goes on, and once more by the clock."""
    deeds, expected = whole[name]
    draw = random.Random(f"{name} {number}")
    moment = (20 * draw.randrange(len(deeds) // 20) + number) % len(deeds) + 1
    kills = [{"deed": moment}, {"deed": draw.randint(1, 25)}, {"seconds": draw.uniform(0.0, 1.0)}]
    run = f"{name}-again-{number}"
    driver.until_done(name, run, kills)
    assert_same(driver.folder / run, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_killed_at_every_deed_of_a_checkpoint(driver, whole, name):
    """From the first that has to do with the checkpoint of step 6 to the last."""
    deeds, expected = whole[name]
    saves = [number for number, deed in enumerate(deeds, 1) if deed == "save"]
    for moment in range(saves[4] - 4, saves[6]):
        run = f"{name}-deed-{moment}"
        driver.until_done(name, run, [{"deed": moment}])
        assert_same(driver.folder / run, expected)


# What follows runs in the driver.


class Deeds:
    """Counts what a process does to files in its folder, and kills it at one of them."""

    def __init__(self, last):
        self.names, self._last, self._folder = [], last, os.getcwd() + os.sep

    def install(self):
        import nmt.weights
        from nmt.train.metrics import JsonLines

        save_file, fsync, write = nmt.weights.save_file, os.fsync, JsonLines.write

        def save(tensors, path, *metadata):
            final = self.count("save")
            save_file(tensors, path, *metadata)
            if final:
                os.truncate(path, os.path.getsize(path) // 2)
                die()

        def sync(handle):
            if self.count("fsync"):
                die()
            fsync(handle)

        def write_line(record, step, values):
            final = self.count("line")
            write(record, step, values)
            if final:
                os.ftruncate(record._file.fileno(), os.fstat(record._file.fileno()).st_size - 7)
                die()

        nmt.weights.save_file, os.fsync, JsonLines.write = save, sync, write_line
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        writes = event == "open" and isinstance(arguments[0], str | Path) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in DEEDS) and os.path.abspath(arguments[0]).startswith(self._folder) and self.count(event):
            die()

    def count(self, name):
        self.names.append(name)
        return len(self.names) == self._last


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def run_child(job, output):
    """Runs a command in this process, which then ends."""
    from nmt.cli.main import run

    log = os.open("log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    deeds = Deeds(job["deed"])
    deeds.install()
    sys.argv = ["nmt", *job["command"]]
    code = 1
    try:
        run()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.write(output, json.dumps(deeds.names).encode())
        os._exit(code)


def serve():
    """A job per line of standard input; its outcome, per line, on standard output."""
    import sacrebleu.metrics  # noqa: F401
    import torch

    import nmt.cli.train
    import nmt.train.begin  # noqa: F401

    torch.set_num_threads(1)
    torch.optim.Adam([torch.ones(1, requires_grad=True)])  # imports a good deal
    for line in sys.stdin:
        job = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            run_child(job, writer)
        os.close(writer)
        if job["seconds"] is not None:
            time.sleep(job["seconds"])
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reader) as stream:
            names = stream.read()
        _, status = os.waitpid(child, 0)
        said = Path("log").read_text("utf-8", errors="replace")
        result = {"end": os.waitstatus_to_exitcode(status), "deeds": json.loads(names or "[]"), "said": said}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    serve()
