"""What the documentation tells people to type is what the command line takes, and the quick start works."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmt.cli.main import COMMANDS, load_command
from nmt.data.phrasebook import generate
from nmt.settings.load import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", *ROOT.glob("nmt/**/*.md"), *ROOT.glob("recipes/**/*.md"), *ROOT.glob("data/**/*.md")]
)
SCRIPTS = sorted(ROOT.glob("recipes/**/*.sh"))
SMALL = (
    *("train.steps=20", "train.validate_every=20", "train.average=null", "train.precision=float32"),
    *("tokenizer.size=300", "data.max_tokens=512", "model.embedding.width=16", "model.encoder.width=16"),
    *("model.decoder.width=16", "model.decoder.attention.width=16"),
)
"""Makes training a matter of a second."""


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def nmt_commands(script: str) -> Iterator[list[str]]:
    """The arguments of each `nmt ARGUMENTS` in a piece of shell.

    Three spaces begin a remark, as in the examples of the help pages. Not a shell: loops and pipes are seen as the
    simple commands they are made of, and a variable stays as it is written.
    """
    for line in re.sub(r"\\\n\s*", " ", script).split("\n"):
        command = re.split(r"(?<=\S)   ", line, maxsplit=1)[0]
        if "nmt" not in command:
            continue
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        segment: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();|&"):
                segment.append(word)
                continue
            yield from arguments_of_nmt(segment)
            segment = []


def arguments_of_nmt(words: list[str]) -> Iterator[list[str]]:
    """Those of a simple command, if it is `nmt`: after keywords and NAME=VALUE, and without redirections."""
    while words and (words[0] in ("if", "then", "else", "do", "!", "{", "time") or re.match(r"\w+=", words[0])):
        words = words[1:]
    if words[1:3] == ["-m", "nmt"]:
        words = words[2:]
    if not words or words[0].rsplit("/", 1)[-1] not in ("nmt", "$nmt", "${nmt}", "$NMT"):
        return
    redirected = [n for n, word in enumerate(words) if set(word) <= set("<>&")]
    dropped = {*redirected, *(n + 1 for n in redirected)}
    yield [word for n, word in enumerate(words) if n and n not in dropped and word != "$@"]


def check(arguments: list[str]) -> None:
    """Raises a usage error or a UserError if the command line would not take the arguments."""
    name, *rest = arguments
    assert name in COMMANDS, f"nmt {name}: there is no such command"
    command = load_command(name)
    if hasattr(command, "commands"):
        sub, *rest = rest
        assert sub in command.commands, f"nmt {name} {sub}: there is no such command"
        command = command.commands[sub]
    context = command.make_context(f"nmt {name}", list(rest))  # click empties the list
    config = context.params.get("config")
    known = config is not None and (ROOT / config).is_file()
    changes = next((context.params[option.name] for option in command.params if "--set" in option.opts), None)
    text = (
        [f"data.{side}={context.params[side]}" for side in ("src", "tgt") if context.params.get(side)]
        if name in ("train", "prepare")
        else []
    )
    load_config(ROOT / config if known else None, [*text, *(change for change in changes or [] if "$" not in change)])
    for word in rest:
        assert not word.startswith("recipes/") or "$" in word or (ROOT / word).exists(), f"{word} is not there"


def test_the_parser_finds_commands() -> None:
    script = """
        # nmt is not run here
        pip install nmt && cd nmt
        corpus=$("$nmt" fetch multi30k)
        A=1 nmt train a.yaml \\
            -o "runs/x y" "$@" 2>&1
        for x in 1 2; do .venv/bin/nmt info run > out; done
        echo "a | b" | nmt translate run      (the pipe is read)
        python -m nmt schema >schema.json
    """
    assert list(nmt_commands(script)) == [
        ["fetch", "multi30k"],
        ["train", "a.yaml", "-o", "runs/x y", "2"],  # a number before > is more than this parser knows
        ["info", "run"],
        ["translate", "run"],
        ["schema"],
    ]


@pytest.mark.parametrize(
    "line",
    [
        "nmt trian --src a --tgt b",
        "nmt train --source a --tgt b -o c",
        "nmt plot run src",
        "nmt plot run src -o pictures --format gif",
        "nmt report one two",
        "nmt bench dance",
        "nmt translate run --beam many",
        "nmt train -o run --set train.stesp=3",
        "nmt train recipes/nowhere.yaml -o run",
    ],
)
def test_the_check_notices(line: str) -> None:
    (arguments,) = nmt_commands(line)
    with pytest.raises(Exception, match=r"no such command|No such option|Missing|is not one of|extra|valid|mean|there"):
        check(arguments)


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_the_documentation_exists(path: Path) -> None:
    scripts = [path.read_text("utf-8")] if path.suffix == ".sh" else blocks(path, "(?:sh|bash|console)")
    for script in scripts:
        for arguments in nmt_commands(script):
            check(arguments)


def test_there_are_commands_to_check() -> None:
    """So that the test above cannot pass by finding nothing."""
    found = [len(list(nmt_commands(path.read_text("utf-8")))) for path in SCRIPTS if path.parent.name != "speed"]
    assert len(found) >= 2
    assert min(found) >= 2
    assert max(found) >= 10
    assert sum(len(list(nmt_commands(block))) for block in blocks(ROOT / "README.md", "sh")) >= 4


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_pages_exist(name: str) -> None:
    command = load_command(name)
    for part in getattr(command, "commands", {"": command}).values():
        examples = list(nmt_commands(part.help.partition("xample")[2]))
        assert examples
        for arguments in examples:
            if not any("recipes/" in word for word in arguments):
                check(arguments)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_are_shell(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
    assert "set -eu" in script.read_text("utf-8")


def test_the_quick_start_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command) -> None:
    """As it stands in README.md, line by line, in a folder with small files of the names it uses."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (start,) = re.findall(r"<!-- quick start -->\n```sh\n(.*?)^```\n<!-- end -->", readme, re.MULTILINE | re.DOTALL)
    for split, count in (("train", 150), ("dev", 6), ("test", 6)):
        pairs = generate("train" if split == "train" else "dev" if split == "dev" else "test", count)
        for suffix, lines in (("en", [pair.src for pair in pairs]), ("de", [pair.tgt for pair in pairs])):
            (tmp_path / f"{split}.{suffix}").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    monkeypatch.chdir(tmp_path)
    lines = [line for line in re.sub(r"\\\n", " ", start).splitlines() if line and not line.startswith("#")]
    assert all(re.match(r"nmt [^;|&<>$*]*$", line) for line in lines)  # it takes no shell to understand them
    for arguments in nmt_commands(start):
        small = [option for change in SMALL for option in ("--set", change)] if arguments[0] == "train" else []
        out, err = command(*arguments, *small)
        assert arguments[0] != "train" or "done: 20 steps" in err
        assert arguments[0] != "evaluate" or re.search(r"^BLEU \d+\.\d\d  nrefs:1", out, re.MULTILINE)
        assert "-o" not in arguments or Path(arguments[arguments.index("-o") + 1]).exists()
    for block in blocks(ROOT / "README.md", "python"):  # which goes on with the run that was just made
        exec(compile(block, "README.md", "exec"), {})
        assert command.capfd.readouterr().out
