"""Law: a file has one owner. No command writes what it reads, what another writes, or what is a run's own."""

from __future__ import annotations

import os
import signal
import time
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest
from zoo import write_run

from nmt import files
from nmt.cli.main import COMMANDS, OUTPUTS
from nmt.config import SearchConfig
from nmt.errors import UserError
from nmt.files import check_apart, lock_of, owned
from nmt.layout import LOCK
from nmt.text.lines import check_output

READS = {
    "config", "src", "tgt", "dev_src", "dev_tgt", "data", "init_from", "run", "runs", "inputs", "ensemble",
    "dictionary", "shortlist", "prefix", "reference", "nbest", "choose", "links", "hyp", "ref", "train", "details",
    "reverse", "gold", "mono",
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a run, two files of text, an n-best list and links."""
    search = SearchConfig(beam=2, max_source=100, max_ratio=1.0, max_extra=2)
    write_run(tmp_path / "run", "lstm-feeding", search=search)
    (tmp_path / "a").write_text("w1 w2\nw3\n")
    (tmp_path / "b").write_text("w2 w1\nw3\n")
    (tmp_path / "n").write_text("1 ||| w1 ||| -1.0\n1 ||| w2 ||| -2.0\n2 ||| w1 ||| -1.0\n2 ||| w2 ||| -1.5\n")
    (tmp_path / "l").write_text("0-0\n0-0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRITERS = [
    ("translate", "run", "a", "-o"),
    ("translate", "run", "a", "--prefix", "b", "--reference", "a", "-o"),
    ("score", "run", "a", "b", "-o"),
    ("score", "run", "a", "b", "--details", "-o"),
    ("align", "run", "a", "b", "-o"),
    ("align", "run", "a", "b", "--reverse", "run", "--format", "pharaoh", "-o"),
    ("align", "run", "a", "b", "--format", "npz", "-o"),
    ("align", "run", "a", "--format", "json", "--save-tgt"),
    ("evaluate", "run", "--src", "a", "--ref", "b", "-o"),
    ("rerank", "run", "a", "n", "-o"),
    ("shortlist", "run", "a", "b", "-o"),
    ("shortlist", "run", "a", "b", "--links", "l", "-o"),
    ("init", "rnn", "-o"),
]
each_writer = pytest.mark.parametrize("command_line", WRITERS, ids=lambda line: " ".join(line))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(command, message, *arguments, folder):
    """Twice in the same words, and nothing is changed."""
    before = contents(folder)
    for _ in range(2):
        assert message in command(*arguments, code=2)[1]
        assert contents(folder) == before


def test_every_path_of_every_command_is_read_or_written():
    for name, entry in COMMANDS.items():
        module, attribute = entry.target.split(":")
        command = getattr(import_module(module), attribute)
        for function in [one.callback for one in getattr(command, "registered_commands", [])] or [command]:
            paths = {key for key, kind in get_type_hints(function).items() if "Path" in str(kind)}
            assert paths <= READS | set(OUTPUTS), f"{name}: say in this test, or in OUTPUTS, what these are"


@each_writer
def test_no_output_is_an_input(command, here, command_line):
    """By its own name, by a link, by a hard link; with --force."""
    os.link("a", "hard")
    for name in set(command_line) & {"a", "b", "n", "l"}:
        Path("link").symlink_to(name)
        for output in (name, here / name, "link", *(["hard"] if name == "a" else [])):
            refused(command, "would replace the input", *command_line, output, "--force", folder=here)
        Path("link").unlink()


def test_what_is_a_runs_own_name(here):
    Path("link").symlink_to("run/last")
    for name in ("run/config.yaml", "run/best", "run/last", "link", "run/checkpoints/step-00000001/model.safetensors",
                 "run/data/train/src.text", "run/lock", "run/report.html", "run/tokenizer/src.json"):  # fmt: skip
        with pytest.raises(UserError, match="this is a name of the run"):
            check_output(Path(name), overwrite=True)
    for name in ("run/mine", "run/shortlist", "run/last.txt", "last", "config.yaml"):
        check_output(Path(name), overwrite=False)


@each_writer
def test_no_output_is_of_a_run(command, here, command_line):
    refused(command, "is a name of the run", *command_line, "run/last", "--force", folder=here)


@each_writer
def test_no_output_is_another_commands(command, here, command_line):
    with owned(lock_of(here / "out"), "out"):
        for options in ((), ("--force",)):
            refused(command, f"out is being written by another command: process {os.getpid()} on ",
                    *command_line, "out", *options, folder=here)  # fmt: skip
    command(*command_line, "out")
    first = Path("out").read_bytes()
    refused(command, "exists already", *command_line, "out", folder=here)
    command(*command_line, "out", "--force")
    assert Path("out").read_bytes() == first
    assert not list(here.glob(".*"))


@each_writer
def test_each_command_has_the_lock_while_it_works(command, here, command_line, monkeypatch):
    taken = []
    monkeypatch.setattr(files, "_lock", lambda lock, what: taken.append(lock.name) or _lock(lock, what))
    command(*command_line, "out")
    assert ".out.lock" in taken


_lock = files._lock


def test_what_has_come_to_be_there_meanwhile_is_not_replaced(command, here, monkeypatch):
    from nmt.translate import Translator

    whole = Translator.translate

    def translate(translator, lines, **options):
        Path("out").write_text("another's")
        return whole(translator, lines, **options)

    monkeypatch.setattr(Translator, "translate", translate)
    for line in (("translate", "run", "a"), ("evaluate", "run", "--src", "a", "--ref", "b")):
        assert "exists already" in command(*line, "-o", "out", code=2)[1]
        assert Path("out").read_text() == "another's"
        Path("out").unlink()


def test_two_outputs_are_two_files(command, here):
    Path("link").symlink_to("x")
    for other in ("x", "./x", "link"):
        refused(command, "would replace the output", "align", "run", "a", "-o", "x", "--save-tgt", other, folder=here)


def test_standard_input_is_an_input(command, here, monkeypatch):
    saved = os.dup(0)
    handle = os.open("a", os.O_RDONLY)
    try:
        os.dup2(handle, 0)
        refused(command, "would replace what is read from standard input", "translate", "run", "-o", "a", "--force",
                folder=here)  # fmt: skip
    finally:
        os.dup2(saved, 0)
        os.close(handle)
        os.close(saved)


def test_what_does_not_exist_and_what_is_no_file_is_no_input(tmp_path):
    check_apart([tmp_path / "x"], [tmp_path / "x"])
    check_apart([Path(os.devnull)], [Path(os.devnull)])
    (tmp_path / "out.partial").touch()
    with pytest.raises(UserError, match="would replace the input"):
        check_apart([tmp_path / "out"], [tmp_path / "out.partial"])


def test_folders_of_outputs(command, here):
    Path("bt").mkdir()
    Path("bt/mono.tgt").write_text("w1\n")
    refused(command, "would replace the input", "backtranslate", "run", "bt/mono.tgt", "-o", "bt", "--force",
            folder=here)  # fmt: skip
    Path("pictures").mkdir()
    Path("pictures/0002.png").write_text("w1\nw2\n")
    refused(command, "would replace the input", "plot", "run", "pictures/0002.png", "-o", "pictures", "--force",
            folder=here)  # fmt: skip
    with owned(lock_of(here / "p" / "0001.svg"), "p/0001.svg") if Path("p").mkdir() is None else None:
        said = command("plot", "run", "--text", "w1", "--format", "svg", "-o", "p", "--force", code=2)[1]
        assert "0001.svg is being written by another command" in said


def test_a_run_has_one_owner(command, here):
    run = here / "run"
    (run / "metrics.jsonl").write_text("")
    lines = [("train", "run", "--resume"), ("train", "--src", "a", "--tgt", "b", "-o", "run", "--force")]
    with owned(run / LOCK, "run"):
        for line in lines:
            refused(command, f"run is being written by another command: process {os.getpid()} on ", *line, folder=here)


def test_a_lock_dies_with_its_process(tmp_path):
    """By SIGKILL; also where a process that was forked meanwhile lives on for a while."""
    lock = tmp_path / "lock"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with owned(lock, "x"):
            if os.fork() > 0:
                os.write(writer, b"!")
            time.sleep(5)
            os._exit(0)
    os.read(reader, 1)
    with pytest.raises(UserError) as caught, owned(lock, "x"):
        pass
    assert caught.value.message.startswith(f"x is being written by another command: process {child} on ")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with owned(lock, "x") as left:
        assert left.startswith(f"process {child} on ")
    assert not lock.exists()


def test_what_another_machine_has_left_is_told(here):
    from nmt.rundir import RunDir

    said = []
    for left, expected in (("process 1 on elsewhere since then", 1), ("", 0)):
        (here / "run" / LOCK).write_text(left)
        said.clear()
        with RunDir(here / "run").owned(said.append):
            pass
        assert len(said) == expected
    with RunDir(here / "run").owned(said.append):
        assert (here / "run" / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert not (here / "run" / LOCK).exists()


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    import errno

    def flock(handle, how):
        raise OSError(errno.EOPNOTSUPP, "no locks here")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with owned(tmp_path / "lock", "x"):
        pass
    assert list(tmp_path.iterdir()) == []
