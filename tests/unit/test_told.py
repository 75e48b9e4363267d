"""What a person is told is never obeyed by the terminal, and commands that are suggested are what they should be."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

import nmt
from nmt.told import is_text, shell, tell, visible

ODD = [
    "a b",
    "a\nb",
    "\x1b]0;title\x07",
    "it's",
    "$(id)",
    "-x",
    "\u2028",
    "\x9b31m",
    "caf\udce9",
    "back\\slash\n",
    "é ᎣᏏᏲ",
    "",
]


@pytest.mark.parametrize("text", ODD)
def test_nothing_told_is_obeyed(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    tell(f"error: {text}: is missing")
    _, err = capfd.readouterr()
    assert err.count("\n") == 1
    assert all(character.isprintable() for character in err[:-1])
    assert visible("é ᎣᏏᏲ\t") == "é ᎣᏏᏲ\t"


@pytest.mark.parametrize("word", [word for word in ODD if word != "\u2028"])
def test_a_shell_takes_each_word_as_one(word: str) -> None:
    line = shell("printf", "%s|", word, "end")
    assert visible(line) == line
    raw = word.encode("utf-8", "surrogateescape")
    assert subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout == raw + b"|end|"


def test_text_is_what_can_be_written() -> None:
    assert is_text("é ᎣᏏᏲ 😀")
    assert not is_text("caf\udce9")
    assert not is_text("\ud83d")


def test_all_that_is_told_goes_one_way() -> None:
    """By `tell`, `say` or the console of training: nothing else prints, but for prompts."""
    root = Path(nmt.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or path.name == "told.py":
                continue
            name = ast.unparse(node.func)
            prints = name in (
                "print",
                "typer.echo",
                "typer.secho",
                "click.echo",
                "sys.stderr.write",
                "sys.stdout.write",
            )
            if prints and not all(isinstance(argument, ast.Constant) for argument in node.args):
                pytest.fail(f"{path.relative_to(root)}:{node.lineno} prints by itself: {ast.unparse(node)}")
