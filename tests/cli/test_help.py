"""The command `nmt` itself: help that answers at once, errors without a traceback, and the small commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nmt import __version__
from nmt.cli.main import COMMANDS, load_command
from nmt.settings.load import load_config

HEAVY = ("torch", "pydantic", "matplotlib", "numpy", "sentencepiece", "sacrebleu", "rich")


def nmt(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "nmt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_help_lists_all_commands_in_order() -> None:
    result = nmt("--help")
    assert result.returncode == 0
    listed = [word for word in re.findall(r"^  (\w+) +\S", result.stdout, re.MULTILINE) if word in COMMANDS]
    assert listed == list(COMMANDS)
    panels = re.findall(r"^(\w+):$", result.stdout, re.MULTILINE)
    assert panels == ["Options", "Train", "Translate", "Look", "Data", "Tools"]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['nmt', '--help']\n"
        "from nmt.cli.main import run\n"
        "try: run()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_is_quick() -> None:
    """By the processor's clock: other programs may have most of the machine."""
    times = []
    for _ in range(4):
        start = sum(os.times()[2:4])  # of children that have ended
        nmt("--help")
        times.append(sum(os.times()[2:4]) - start)
    assert 0 < min(times) < 0.5


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_teaches_with_an_example(name: str) -> None:
    command = load_command(name)
    parts = getattr(command, "commands", {"": command})
    for part, inner in parts.items():
        with inner.make_context(f"nmt {name} {part}".strip(), [], resilient_parsing=True) as context:
            text = inner.get_help(context)
        assert "xample" in text
        assert f"nmt {name} {part}".strip() in text.partition("xample")[2]


def test_version() -> None:
    assert nmt("--version").stdout == f"nmt {__version__}\n"


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    result = nmt("trian")
    assert result.returncode == 2
    assert "No such command 'trian'. Did you mean 'train'?" in result.stderr


def test_user_errors_have_no_traceback() -> None:
    result = nmt("init", "nothing")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: there is no preset `nothing`\nThere are: rnn, rnn-tiny, transformer.\n"


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m nmt schema | head -c 1"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("{", "")


def test_init_writes_a_preset_once(tmp_path: Path) -> None:
    assert [line.split()[0] for line in nmt("init").stdout.splitlines()] == ["rnn", "rnn-tiny", "transformer"]
    assert nmt("init", "rnn", cwd=tmp_path).returncode == 0
    assert load_config(tmp_path / "rnn.yaml").data.src == str(tmp_path / "train.src")
    again = nmt("init", "rnn", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.startswith("error: rnn.yaml: exists already\n")
    (tmp_path / "rnn.yaml").write_text("changed")
    assert nmt("init", "rnn", "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "rnn.yaml").read_text() != "changed"


def test_schema_describes_the_settings() -> None:
    schema = json.loads(nmt("schema").stdout)
    assert list(schema["properties"]) == ["data", "tokenizer", "model", "train", "search", "align"]
    assert schema["properties"]["tokenizer"]["discriminator"]["propertyName"] == "kind"
    assert schema["$defs"]["DataConfig"]["properties"]["max_tokens"]["description"]


def test_evaluate_scores_a_file(tmp_path: Path) -> None:
    (tmp_path / "hyp").write_text("the cat sat on the mat\nhello big world\n")
    (tmp_path / "ref").write_text("the cat sat on the mat\nhello big world\n")
    (tmp_path / "long").write_text("the cat sat on the mat\nhello big world\nmore\n")
    result = nmt("evaluate", "--hyp", "hyp", "--ref", "ref", "--ref", "ref", cwd=tmp_path)
    values = [line.split()[:2] for line in result.stdout.splitlines() if line[0] != " "]
    assert values == [["BLEU", "100.00"], ["chrF", "100.00"], ["TER", "0.00"]]
    assert "nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:" in result.stdout
    scores = json.loads(nmt("evaluate", "--hyp", "hyp", "--ref", "ref", "--json", cwd=tmp_path).stdout)
    assert scores["lines"] == 2
    assert scores["scores"][0]["details"]["hypothesis_length"] == 9
    unequal = nmt("evaluate", "--hyp", "hyp", "--ref", "ref", "--ref", "long", cwd=tmp_path)
    assert (unequal.returncode, unequal.stderr) == (2, "error: the files do not match: hyp has 2 lines, long has 3\n")
    neither = nmt("evaluate", "--ref", "ref", cwd=tmp_path)
    assert neither.stderr.startswith("error: evaluate needs either RUN, --src and --ref, or --hyp and --ref\n")
