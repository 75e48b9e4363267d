"""Full disks, folders that may not be written to, divergence: told in two lines, with nothing lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from zoo import write_run

import nmt.device
import nmt.weights
from nmt.device import Bfloat16
from nmt.errors import UserError
from nmt.files import remove_leftovers, write_atomically, writing, written_aside
from nmt.rundir import MODEL, OPTIMIZER, RunDir, read_tensors, save_tensors

TINY = """
data: {src: train.src, tgt: train.tgt, dev_src: dev.src, dev_tgt: dev.tgt}
tokenizer: {kind: words}
model:
  embedding: {width: 64}
  encoder: {width: 64}
  decoder: {width: 64, attention: {kind: general}}
train: {steps: 6, validate_every: 2, log_every: 2, samples: 1, precision: float32, average: null}
"""
GUIDED = ["--set", "train.steps=2", "--set", "train.precision=float32"]
full_disk = pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="/dev/full is not here")


@pytest.fixture
def here(reversals):
    """A folder with text and settings, where one is."""
    (reversals / "tiny.yaml").write_text(TINY)
    return reversals


@contextmanager
def largest_file(size):
    """Within it files have so many bytes at most: as on a disk that gets full, and for real. No longer than needed, as
    the file that the report of these tests goes to may be larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def assert_same_weights(one, two):
    for file in (MODEL, OPTIMIZER):
        ours, theirs = (read_tensors(RunDir(run).checkpoint("last") / file) for run in (one, two))
        assert all(torch.equal(ours[name], theirs[name]) for name in {**ours, **theirs})


def test_a_checkpoint_that_finds_no_room_costs_nothing(command, here):
    command("train", "tiny.yaml", "-o", "whole")
    command("train", "tiny.yaml", "-o", "run", "--set", "train.steps=2")
    before = {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()}
    size = (here / "run" / "checkpoints" / "step-00000002" / MODEL).stat().st_size
    page = (here / "run" / "report.html").stat().st_size
    assert page + 10_000 < size, "the page of the run must still find room"
    with largest_file(size - 1):
        _, said = command("train", "run", "--resume", "--set", "train.steps=6", code=2)
    assert said.endswith(
        "error: run: cannot be written: File too large\n"
        "Lift the limit on the size of files (ulimit -f), then go on: nmt train run --resume\n"
    )
    assert "Traceback" not in said
    for path, content in before.items():
        if "checkpoints" in path.parts or path.name in ("best", "last"):
            assert path.read_bytes() == content
    assert not list((here / "run").rglob("*.tmp"))
    command("train", "run", "--resume")
    assert_same_weights("run", "whole")


def test_a_checkpoint_cut_short_is_told_and_passed_over(command, here):
    command("train", "tiny.yaml", "-o", "whole")
    command("train", "tiny.yaml", "-o", "run", "--set", "train.steps=4")
    weights = RunDir(here / "run").checkpoint("last") / MODEL
    os.truncate(weights, weights.stat().st_size // 2)
    _, said = command("train", "run", "--resume", "--set", "train.steps=6")
    assert "checkpoint step-00000004 cannot be used: " in said
    assert f"{weights.parent.name}/{MODEL} is damaged" in said
    assert "going on from step-00000002 instead\ngoing on from step 2\n" in said
    assert_same_weights("run", "whole")
    for folder in (here / "run" / "checkpoints").iterdir():
        os.truncate(folder / OPTIMIZER, 9)
    _, said = command("train", "run", "--resume", "--set", "train.steps=8", code=2)
    assert "error: run has no checkpoint to go on from: " in said


def test_no_room_for_a_new_run_leaves_nothing_behind(command, here):
    before = sorted(here.iterdir())
    with largest_file(500):
        _, said = command("train", "tiny.yaml", "-o", "run", code=2)
    assert "error: run: cannot be written: File too large\n" in said
    assert "ulimit -f), then repeat the command" in said
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_whatever_the_system_says(command, here, monkeypatch, number):
    command("train", "tiny.yaml", "-o", "run", "--set", "train.steps=2")

    def refuse(tensors, path, metadata=None):
        raise SafetensorError(f"Error while serializing: I/O error: something (os error {number})")

    with monkeypatch.context() as patch:
        patch.setattr(nmt.weights, "save_file", refuse)
        _, said = command("train", "run", "--resume", "--set", "train.steps=4", code=2)
    assert f"error: run: cannot be written: {os.strerror(number)}\n" in said
    full = number in (errno.ENOSPC, errno.EDQUOT)
    assert ("Free some space on that disk" if full else "Choose a place that you may write to") in said
    assert said.endswith(", then go on: nmt train run --resume\n")
    assert RunDir(here / "run").pointed("last") == "step-00000002"


def test_a_folder_that_may_not_be_written_to_is_told_before_any_work(command, here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != here)
    _, said = command("train", "tiny.yaml", "-o", "new/run", code=2)
    assert said == (
        f"error: new/run: cannot be written: {here} is not for you to write to\n"
        "Choose a place that you may write to, or change who may.\n"
    )


LACKS_BFLOAT16 = Bfloat16(fast=False, lstm=False)


def test_a_precision_that_the_processor_lacks_is_refused_before_any_work(command, here, monkeypatch):
    monkeypatch.setattr(nmt.device, "bfloat16_of_cpu", lambda: LACKS_BFLOAT16)
    before = sorted(here.iterdir())
    for _ in range(2):
        _, said = command("train", "tiny.yaml", "-o", "run", "--set", "train.precision=bfloat16", code=2)
        assert said == "error: this processor cannot train LSTM layers in bfloat16\nchoose float32 or auto\n"
        assert sorted(here.iterdir()) == before


def test_a_run_in_a_precision_that_this_machine_lacks_does_not_go_on(command, here, monkeypatch):
    """As if it had been begun on another machine; its weights are of use here all the same."""
    command("train", "tiny.yaml", "-o", "run", "--set", "train.steps=2")
    settings = here / "run" / "config.yaml"
    settings.write_text(settings.read_text().replace("precision: float32", "precision: bfloat16", 1))
    before = {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()}
    monkeypatch.setattr(nmt.device, "bfloat16_of_cpu", lambda: LACKS_BFLOAT16)
    _, said = command("train", "run", "--resume", "--set", "train.steps=4", code=2)
    assert said.startswith("error: run was begun in bfloat16, which a run keeps, and this processor cannot train LSTM")
    assert "nmt train --init-from run --set train.precision=float32 -o NEW" in said
    assert {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()} == before
    text = ("--src", "train.src", "--tgt", "train.tgt", "--dev-src", "dev.src", "--dev-tgt", "dev.tgt")
    command("train", "--init-from", "run", "-o", "new", *text, *GUIDED)


def test_what_is_emulated_is_told(command, here, monkeypatch):
    monkeypatch.setattr(nmt.device, "bfloat16_of_cpu", lambda: LACKS_BFLOAT16)
    settings = ("train.precision=bfloat16", "model.encoder.cell=gru", "model.decoder.cell=gru", "train.steps=2")
    _, said = command("train", "tiny.yaml", "-o", "run", *(part for setting in settings for part in ("--set", setting)))
    assert "this processor has no instructions for bfloat16, so that it takes many times as long as float32" in said


def test_tensors_that_find_no_room(tmp_path):
    with largest_file(1000), pytest.raises(OSError, match="File too large") as caught:
        save_tensors(tmp_path / "weights", {"weight": torch.ones(999)})
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "weights"))


@full_disk
def test_translations_on_a_full_disk(command, here):
    write_run(here / "run", "lstm")
    (here / "input").write_text("w1 w2\n" * 3)
    told = "cannot be written: No space left on device\nFree some space on that disk.\n"
    assert command("translate", "run", "input", "-o", "/dev/full", code=2) == ("", f"error: /dev/full: {told}")
    line = f"{sys.executable} -m nmt translate run input --details > /dev/full"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"error: standard output: {told}")


def test_a_translation_that_finds_no_room_can_go_on(command, here, monkeypatch):
    monkeypatch.setattr("nmt.translate.WINDOW", 4)
    write_run(here / "run", "lstm")
    (here / "input").write_text("".join(f"w{n % 15} w{n % 7} w{n % 4}\n" for n in range(40)))
    command("translate", "run", "input", "-o", "whole", "--device", "cpu")
    size = (here / "whole").stat().st_size
    state = 1200  # bytes, and fewer, of what is known about the finished lines
    assert size > state
    with largest_file(max(size // 2, state)):
        _, said = command("translate", "run", "input", "-o", "out", "--device", "cpu", code=2)
    assert "lines are kept: --continue goes on after them.\n" in said
    assert said.endswith(
        "error: out: cannot be written: File too large\n"
        "Lift the limit on the size of files (ulimit -f), then repeat the command with --continue: it goes on there\n"
    )
    command("translate", "run", "input", "-o", "out", "--device", "cpu", "--continue")
    assert (here / "out").read_text() == (here / "whole").read_text()


def test_divergence_keeps_the_last_good_state(command, here):
    command("train", "tiny.yaml", "-o", "run", "--set", "train.steps=4")
    wild = ["--set", "train.optimizer.lr=1e30", "--set", "train.schedule.kind=constant", "--set", "train.clip=0"]
    _, said = command("train", "tiny.yaml", "-o", "wild", "--init-from", "run", *wild, code=2)
    assert "error: training has diverged: " in said
    assert "lower train.optimizer.lr" in said
    wild_run = RunDir(here / "wild")
    for folder in wild_run.checkpoints.iterdir():
        assert all(torch.isfinite(tensor).all() for tensor in read_tensors(folder / MODEL).values())
    assert wild_run.pointed("last") == "step-00000000"
    assert not list((here / "wild").rglob("*.tmp"))


def test_another_run_gives_more_than_its_weights_if_asked(command, here):
    rates = ["--set", "train.schedule.warmup=100", "--set", "train.log_every=1"]
    command("train", "tiny.yaml", "-o", "one", *rates)
    first = read_tensors(RunDir(here / "one").checkpoint() / OPTIMIZER)
    best = RunDir(here / "one").pointed("best")
    step = int(best.removeprefix("step-"))
    for keep in ([], ["optimizer"], ["schedule"], ["schedule", "optimizer"]):
        name = "-".join(["two", *keep])
        option = ["--keep", ",".join(keep)] if keep else []
        command("train", "tiny.yaml", "-o", name, "--init-from", "one", *option, *rates, "--set", "train.steps=1")
        run = RunDir(here / name)
        lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        counted = step + 1 if "schedule" in keep else 1
        first_rate = next(line["lr"] for line in lines if "lr" in line)  # of a start there is a validation before it
        assert first_rate == pytest.approx(run.config.train.optimizer.lr * counted / 100)
        memory = read_tensors(run.checkpoint("last") / OPTIMIZER)
        taken = {key: float(value) for key, value in memory.items() if key.endswith(".step")}
        assert set(taken.values()) == {step + 1.0 if "optimizer" in keep else 1.0}
        assert memory.keys() == first.keys()
        assert run.facts["keep"] == keep
        assert run.facts["init_from"].endswith(f"one/checkpoints/{best}")


def test_an_average_has_no_optimizer_to_keep(command, here):
    command("train", "tiny.yaml", "-o", "one")
    command("average", "one", "--last", 2)
    one = RunDir(here / "one")
    best = one.pointed("best")
    one.point("best", "average-last-2")
    command("train", "tiny.yaml", "-o", "two", "--init-from", "one", "--set", "train.steps=1")
    assert RunDir(here / "two").facts["init_from"].endswith("average-last-2")
    command("train", "tiny.yaml", "-o", "three", "--init-from", "one", "--keep", "optimizer", "--set", "train.steps=1")
    assert RunDir(here / "three").facts["init_from"].endswith(best)


def test_keep_is_told_what_it_cannot_be(command, here):
    _, said = command("train", "tiny.yaml", "-o", "two", "--keep", "optimizer", code=2)
    assert "name the run: --init-from RUN" in said
    _, said = command("train", "tiny.yaml", "-o", "two", "--init-from", "one", "--keep", "optimiser", code=2)
    assert said.startswith(
        "error: --keep optimiser: there is no such thing\nit may be optimizer or schedule, or several"
    )
    _, said = command("train", "one", "--resume", "--keep", "schedule", code=2)
    assert "--resume takes a run and no --keep" in said


def test_what_may_not_change_is_listed(command, here):
    command("train", "tiny.yaml", "-o", "run", "--set", "train.steps=2")
    changes = ["train.seed=3", "train.optimizer.lr=0.1", "model.dropout=0", "train.steps=9"]
    options = [word for change in changes for word in ("--set", change)]
    _, said = command("train", "run", "--resume", *options, code=2)
    assert said.startswith(
        "error: a run that goes on keeps its settings: model.dropout, train.optimizer.lr, train.seed cannot change\n"
    )
    assert "train.steps" in said  # which may
    assert RunDir(here / "run").config.train.steps == 2


def test_the_run_says_where_it_comes_from(command, here):
    command("train", "tiny.yaml", "-o", "run", "--set", "train.steps=2")
    facts = RunDir(here / "run").facts
    assert set(facts["fingerprint"]) == {"train", "dev"}
    session = facts["sessions"][0]
    assert session["command"] == "nmt train tiny.yaml -o run --set train.steps=2"
    assert session["folder"] == str(here)
    for name in ("time", "nmt", "torch", "python", "platform", "device", "hardware", "threads", "precision"):
        assert session[name]
    assert "sentencepiece " in session["libraries"]
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        assert session["commit"].removesuffix("-dirty") == head.stdout.strip()


def test_with_no_model_one_is_chosen_and_said(command, here):
    (here / "none.yaml").write_text("train: {label_smoothing: 0.0}\n")
    texts = ["--src", "train.src", "--tgt", "train.tgt"]
    _, said = command("train", "none.yaml", *texts, "-o", "run", *GUIDED, "--set", "tokenizer.size=300")
    assert "60 pairs, and no model in the settings: chosen (all is in run/config.yaml):\n" in said
    assert "  model.encoder.kind rnn, model.encoder.layers 1, model.encoder.width 256: " in said
    assert "tokenizer.size" not in said
    assert "train.label_smoothing" not in said
    config = RunDir(here / "run").config
    assert (config.model.encoder.width, config.model.dropout, config.data.max_tokens) == (256, 0.5, 512)
    assert (config.train.label_smoothing, config.train.steps, config.tokenizer.size) == (0.0, 2, 300)


def test_a_prepared_corpus_is_counted_too(command, here):
    texts = ["--src", "train.src", "--tgt", "train.tgt", "--dev-src", "dev.src", "--dev-tgt", "dev.tgt"]
    command("prepare", *texts, "--set", "tokenizer.kind=characters", "-o", "corpus")
    _, said = command("train", "--data", "corpus", "-o", "run", *GUIDED)
    assert "60 pairs, and no model in the settings" in said
    config = RunDir(here / "run").config
    assert (config.tokenizer.kind, config.model.embedding.tie, config.model.encoder.width) == (
        "characters",
        "decoder",
        256,
    )
    assert config.train.subword_sampling.kind == "none"


@pytest.mark.parametrize("option", [["--set", "model.encoder.width=16"], ["--init-from", "one"]])
def test_who_names_a_model_gets_that_and_nothing_else(command, here, option):
    if "one" in option:
        command("train", "tiny.yaml", "-o", "one", "--set", "train.steps=2")
    texts = ["--src", "train.src", "--tgt", "train.tgt"]
    small = ["--set", "tokenizer.kind=words"] if "one" not in option else []
    _, said = command("train", *texts, "-o", "run", *GUIDED, *option, *small)
    assert "no model in the settings" not in said
    assert RunDir(here / "run").config.data.max_tokens == (512 if "one" in option else 4096)  # tuned for the text


def test_only_what_the_dead_left_is_removed(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    gone, alive = int(dead.stdout), os.getppid()
    for pid in (gone, alive, os.getpid()):
        (tmp_path / f".run.{pid}.data.tmp").mkdir()
        (tmp_path / f".best.{pid}.tmp").write_text("x")
    (tmp_path / ".run.tmp").mkdir()
    remove_leftovers(tmp_path, "run")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f".run.{alive}.data.tmp", ".run.tmp", *(f".best.{pid}.tmp" for pid in (gone, alive, os.getpid()))}
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f".run.{alive}.data.tmp", ".run.tmp", f".best.{alive}.tmp"}


def test_a_draft_that_finds_no_room_goes(tmp_path):
    (tmp_path / "state").write_text("old")
    told = "state: cannot be written: File too large"
    with largest_file(10), pytest.raises(UserError, match=told), writing(tmp_path / "state"):
        write_atomically(tmp_path / "state", "new and too long")
    too_large = pytest.raises(OSError, match="File too large")
    with largest_file(10), too_large, written_aside(tmp_path / "folder") as draft:
        (draft / "file").write_text("new and too long")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_text() == "old"
    with pytest.raises(FileNotFoundError), writing(tmp_path / "state"):
        (tmp_path / "nowhere" / "file").write_text("")
    with pytest.raises(PermissionError), writing(tmp_path / "folder" / "file"):  # of another file
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/file")
