"""Law: what this program has not made is never deleted, replaced or in the way."""

from __future__ import annotations

import os
import shutil

import pytest

from nmt.files import remove_leftovers
from nmt.layout import is_run, strangers
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
KINDS = ("file", "folder", "link")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which `nmt train` has made a run with a checkpoint at 0, 2, 4 and 6, for tests to copy."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def call(command, reversals, trained):
    """Runs `nmt ARGUMENTS` in a folder with text, settings and a trained run; gives what it printed."""
    (reversals / "tiny.yaml").write_text(TINY)
    if not (trained / "run").exists():
        command("train", "tiny.yaml", *TEXTS, "-o", trained / "run", "--device", "cpu")
    shutil.copytree(trained / "run", reversals / "run")
    return lambda *arguments, code=0: "".join(command(*arguments, code=code))


def put(path, kind):
    """A stranger of that kind."""
    if kind == "file":
        path.write_text("mine\n")
    elif kind == "folder":
        path.mkdir()
        (path / "mine").write_text("mine\n")
    else:
        path.symlink_to("/nowhere")


def tree(folder):
    """All that is in a folder: contents of files, targets of links, None for folders."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }  # fmt: skip


def names_in(run):
    """Every place in a run: beside each of its files and folders, and in each of its folders."""
    return {path.with_name(f"{path.name}{end}") for path in run.rglob("*") for end in ("-mine", ".tmp", ".txt")}


def test_a_run_knows_what_is_its_own(call, tmp_path):
    call("average", "run", "--last", 2)
    assert is_run(tmp_path / "run")
    assert list(strangers(tmp_path / "run")) == []


def test_force_names_whatever_is_not_of_the_run_and_changes_nothing(call, tmp_path):
    """A file beside every name, a folder and a link beside some; by `check_free`, which `nmt train` asks first."""
    from nmt.errors import UserError

    run = tmp_path / "run"
    for n, path in enumerate(sorted(names_in(run))):
        kind = KINDS[n % 3] if n % 5 == 0 else "file"
        put(path, kind)
        before = tree(run)
        with pytest.raises(UserError, match="would be lost with the run") as caught:
            RunDir.check_free(run, overwrite=True)
        assert caught.value.message.startswith(f"{path} would be lost")
        assert tree(run) == before
        shutil.rmtree(path) if kind == "folder" else path.unlink()
    put(run / "thesis.tex", "file")
    before = tree(run)
    for _ in range(2):
        said = call("train", "tiny.yaml", *TEXTS, "-o", "run", "--force", code=2)
        assert said.startswith("error: run/thesis.tex would be lost with the run run, and is no part of it\n")
        assert tree(run) == before


def test_a_folder_with_a_configuration_is_not_yet_a_run(call, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    call("init", "rnn-tiny", "-o", "project/config.yaml")
    put(project / "thesis.tex", "file")
    before = tree(project)
    said = call("train", "tiny.yaml", *TEXTS, "-o", "project", "--force", code=2)
    assert "project is not empty and holds no run" in said
    assert tree(project) == before


def test_the_current_folder_is_refused_before_any_work(call, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    texts = [str(tmp_path / text) if n % 2 else text for n, text in enumerate(TEXTS)]
    for place in (".", "../empty"):
        for command in ("train", "prepare"):
            said = call(command, tmp_path / "tiny.yaml", *texts, "-o", place, code=2)
            assert said.startswith(f"error: {place} is where you are: it cannot be made anew\n")
    monkeypatch.chdir(tmp_path / "run" / "checkpoints")
    before = tree(tmp_path / "run")
    assert ".. is where you are" in call("train", tmp_path / "tiny.yaml", *texts, "-o", "..", "--force", code=2)
    assert tree(tmp_path / "run") == before


def test_a_run_that_is_a_link_stays_one(call, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").rename(tmp_path / "disk" / "real")
    (tmp_path / "run").symlink_to("disk/real")
    call("train", "tiny.yaml", *TEXTS, "-o", "run", "--force", "--set", "train.steps=2")
    assert (tmp_path / "run").is_symlink()
    assert RunDir(tmp_path / "disk" / "real").config.train.steps == 2
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", KINDS)
def test_training_leaves_alone_what_lies_among_its_checkpoints(call, tmp_path, kind):
    """Copies, notes, links, and something in a checkpoint that would be thinned out; and goes on."""
    checkpoints = tmp_path / "run" / "checkpoints"
    shutil.copytree(checkpoints / "step-00000002", checkpoints / "step-00000002-mine")
    names = ["step-00000002.old", "notes.tmp", "step-x", ".step-00000002.mine.tmp", "step-00000002/notes",
             "step-00000008", "average-best-4"]  # fmt: skip
    for name in names:
        put(checkpoints / name, kind)
    before = tree(checkpoints)
    said = call("train", "run", "--resume", "--set", "train.steps=10", "--set", "train.keep=1", "--set",
                "train.average={count: 1}")  # fmt: skip
    assert "done: 10 steps" in said
    after = tree(checkpoints)
    taken = {name: f"{name}.other-1" for name in ("step-00000008", "average-best-4")}
    own = {f"step-0000000{n}" for n in (0, 4, 6)}
    for name, content in before.items():
        top, _, rest = name.partition("/")
        if top not in own:
            here = name if top != "step-00000008" else "/".join(filter(None, (taken[top], rest)))
            assert after[here] == content, name
    assert (checkpoints / "step-00000010" / "model.safetensors").is_file()
    assert RunDir(tmp_path / "run").pointed("last") == "step-00000010"


def test_an_average_takes_no_name_of_another(call, tmp_path):
    checkpoints = tmp_path / "run" / "checkpoints"
    shutil.copytree(checkpoints / "step-00000002", checkpoints / "good")
    before = tree(checkpoints)
    for _ in range(2):
        assert "good is there, and is no average" in call("average", "run", "-o", "good", code=2)
        assert tree(checkpoints) == before
    call("average", "run", "-o", "fine", "--last", 2)
    call("average", "run", "-o", "fine", "--last", 3)
    RunDir(tmp_path / "run").point("best", "fine")
    before = tree(checkpoints)
    said = call("average", "run", "-o", "fine", "--last", 2, code=2)
    assert "fine is the checkpoint that run translates with" in said
    assert "77 cannot be the name of an average" in call("average", "run", "-o", "77", code=2)
    assert tree(checkpoints) == before


@pytest.mark.parametrize("kind", KINDS)
def test_leftovers_are_known_by_their_whole_name(tmp_path, kind):
    for name in ("run.4194305.tmp", ".run.tmp", ".run.mine.tmp", ".run.4194305.mine.tmp", ".run.4194305.tmp.txt"):
        put(tmp_path / name, kind)
    before = tree(tmp_path)
    (tmp_path / ".run.4194305.data.tmp").mkdir()
    (tmp_path / ".run.4194305.old.tmp").mkdir()
    remove_leftovers(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("pointer", [None, "", "x", "step-00000005", "../elsewhere", "/"])
def test_without_a_pointer_no_training_starts_from_nothing(call, tmp_path, pointer):
    run = tmp_path / "run"
    (run / "last").unlink()
    if pointer == "/":
        (run / "last").mkdir()
    elif pointer is not None:
        (run / "last").write_text(pointer)
    lines = (run / "metrics.jsonl").read_text()
    said = call("train", "run", "--resume", "--set", "train.steps=8")
    assert "going on from the newest\ngoing on from step 6\n" in said
    assert {"step-00000004", "step-00000006", "step-00000008"} <= {p.name for p in (run / "checkpoints").iterdir()}
    assert (run / "metrics.jsonl").read_text().startswith(lines)


def test_a_run_that_has_lost_its_checkpoints_is_not_begun_again(call, tmp_path):
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "last").unlink()
    before = tree(tmp_path / "run")
    for _ in range(2):
        assert "has no checkpoint to go on from" in call("train", "run", "--resume", code=2)
        after = tree(tmp_path / "run")
        assert {name for name in before if before[name] != after.get(name)} <= {"run.json"}


@pytest.mark.slow
def test_every_file_damaged(call, command, tmp_path):
    """Cut in half, or gone: what `nmt train --resume` then refuses, it refuses twice in the same words, nothing being
    changed; where it goes on, no whole checkpoint is lost, and none is used that is not whole."""
    run, kept = tmp_path / "run", tmp_path / "kept"
    shutil.copytree(run, kept)
    records = {"metrics.jsonl", "samples.jsonl", "attention.jsonl", "report.html"}
    files = [path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file()]
    files = [file for file in files if "tensorboard" not in file.parts and file.name not in records]
    refused = set()
    for n, file in enumerate(files):
        content = (run / file).read_bytes()
        if n % 2:
            (run / file).write_bytes(content[: len(content) // 2])
        else:
            (run / file).unlink()
        before = tree(run)
        ended, _, said = command.ending("train", "run", "--resume")
        if ended:
            refused.add(str(file))
            assert command.ending("train", "run", "--resume") == (2, "", said), file
            assert tree(run) == before, file
        elif file.parts[0] != "checkpoints":
            after = {path.name for path in (run / "checkpoints").iterdir()}
            assert after == {path.name for path in (kept / "checkpoints").iterdir()}, file
        else:
            last = RunDir(run).pointed("last")
            assert last == "step-00000006", file  # from the one before it, the last was made again
            assert tree(run / "checkpoints" / last).keys() == tree(kept / "checkpoints" / last).keys()
        shutil.rmtree(run)
        shutil.copytree(kept, run)
    assert "config.yaml" in refused
    assert "run.json" in refused
    assert {f"data/train/{name}" for name in ("src.ids", "tgt.text", "meta.json", "src.ids.offsets")} <= refused
    assert {"tokenizer/src.json", "data/tokenizer/tgt.json"} <= refused
    assert not any(name.startswith(("checkpoints", "best", "last")) for name in refused)
