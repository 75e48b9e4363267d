"""The table of limits (nmt/limits.py) against all commands."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from nmt.config import SearchConfig
from nmt.limits import LINE_BYTES
from tests.zoo import write_run

MODEL = "gru"
GOOD = b"w1 w2\nw3 w4 w5\nw6\n"
BAD = b"w1 w2\nw1 \xff\n" + b"w1 " * 9 + b"\n" + b"x" * (LINE_BYTES + 1) + b"\nw3 w4 w5\nw6\n"
"""With three lines between that no model may read: not UTF-8, too many tokens, too many bytes."""
PROBLEMS = {
    2: "not UTF-8 at byte 4 of the line (0xFF)",
    3: "has 9 tokens, more than search.max_source: 8",
    4: f"longer than {LINE_BYTES:,} bytes",
}
COMMANDS = {
    "translate": ("translate", "run", "src"),
    "translate a pipe": ("translate", "run", "-"),
    "translate --details": ("translate", "run", "src", "--details"),
    "score": ("score", "run", "src", "tgt"),
    "align": ("align", "run", "src", "tgt"),
    "align --format json": ("align", "run", "src", "tgt", "--format", "json"),
    "align --reverse": ("align", "run", "src", "tgt", "--reverse", "run"),
    "align what it translates": ("align", "run", "src"),
    "plot": ("plot", "run", "src", "tgt", "-o", "out", "--format", "svg"),
    "plot what it translates": ("plot", "run", "src", "-o", "out", "--format", "svg"),
    "shortlist": ("shortlist", "run", "src", "tgt", "-o", "out"),
    "rerank": ("rerank", "run", "src", "nbest"),
    "backtranslate": ("backtranslate", "run", "src", "-o", "out"),
}
"""Every command in which a model reads text."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", MODEL, search=SearchConfig(max_source=8, max_ratio=1.0, max_extra=2))
    (tmp_path / "tgt").write_bytes(GOOD)
    return tmp_path


def call(command, arguments, src: bytes, code: int = 0) -> tuple[str, str]:
    """What the command writes, files included, and says."""
    Path("src").write_bytes(src)
    lines = len(src.splitlines())
    Path("tgt").write_bytes(src.replace(b"w1", b"w7"))
    Path("nbest").write_text("".join(f"{n} ||| w{n} w1 ||| -1.0\n" for n in range(1, lines + 1)))
    out, err = command(*arguments, code=code, stdin=src if "-" in arguments else None)
    made = Path("out")
    for path in sorted(made.rglob("*")) if made.is_dir() else [made] if made.exists() else []:
        if path.suffix != ".svg":
            out += path.read_text("utf-8")
        path.unlink()
    return out, err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_that_no_model_may_read_costs_only_itself(command, here, name) -> None:
    arguments = COMMANDS[name]
    expected, _ = call(command, arguments, GOOD)
    out, err = call(command, arguments, BAD)
    if name.startswith("plot"):
        assert out.split() == [f"out/{n:04}.svg" for n in (1, 5, 6)]
    elif name in ("shortlist", "backtranslate"):  # no line of it is a line of the input
        kept = expected if name == "shortlist" else "".join(f"{line}\n" for line in expected.split("\n") if line)
        assert kept.splitlines()[-3:] == [line for line in out.splitlines() if line][-3:]
    else:
        lines, good = out.split("\n"), expected.split("\n")
        if name == "translate --details":
            lines, good = ([json.loads(line)["text"] for line in text[:-1]] for text in (lines, good))
        assert [lines[0], *lines[4:]] == good if name != "rerank" else len(lines) == 7
    if name == "backtranslate":
        assert "not translated: 3 (the first: src, line 2: not UTF-8" in err
        return
    for number, problem in PROBLEMS.items():
        assert any(problem in line and f"line {number}: " in line for line in err.splitlines()), err


FOREIGN = {
    "UTF-16": ("src", GOOD.decode().encode("utf-16"), "src: is in UTF-16LE, and text is to be in UTF-8"),
    "UTF-16 without mark": ("src", GOOD.decode().encode("utf-16-be"), "src: is in UTF-16BE, and text is to be in"),
    "in gzip": ("src", gzip.compress(GOOD.decode().encode("utf-32")), "src: is in UTF-32LE, and text is to be in"),
    "subtitles": ("film.srt", b"1\n", "film.srt: is a file of subtitles, not text with one sentence on each line"),
    "folder": ("folder", None, "folder: is a folder, not a file"),
    "nothing": ("none", b"", "none: there is no such file"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_text_is_refused_alike_before_any_work(command, here, kind, monkeypatch) -> None:
    name, content, message = FOREIGN[kind]
    if kind == "folder":
        Path(name).mkdir()
    elif kind != "nothing":
        Path(name).write_bytes(content)
    Path("nbest").write_text("1 ||| w1 ||| -1.0\n")
    before = sorted(os.listdir())
    monkeypatch.setattr("nmt.translate.Translator.load", None)
    others = [
        ("prepare", "--src", "src", "--tgt", "tgt", "-o", "out"),
        ("aer", "gold", "gold", "--src", "src", "--tgt", "tgt"),
        ("split", "src", "tgt", "-o", "out"),
        ("evaluate", "--hyp", "src", "--ref", "tgt"),
    ]
    for arguments in [*COMMANDS.values(), *others]:
        if "-" in arguments:
            continue
        if arguments[0] == "prepare" and kind in ("folder", "nothing"):
            continue
        _, err = command(*(name if word == "src" else word for word in arguments), code=2)
        assert message in err, arguments
        assert sorted(os.listdir()) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_out_of_memory_is_one_sentence(command, here, name, monkeypatch) -> None:
    def full(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

    monkeypatch.setattr("nmt.models.seq2seq.Seq2Seq.attend", full)
    monkeypatch.setattr("nmt.models.seq2seq.Seq2Seq.forward", full)
    monkeypatch.setattr("nmt.models.seq2seq.Seq2Seq.predictor", full)
    _, err = call(command, COMMANDS[name], GOOD, code=2)
    assert "error: out of memory" in err
    assert "ower " in err
    assert "search.max_tokens" in err


@pytest.mark.parametrize("arguments", [("translate", "run", "src"), ("backtranslate", "run", "src", "-o", "out")])
def test_lines_unlike_the_training_text_are_told_once(command, here, arguments) -> None:
    said = "2 lines of several sentences, or far longer than any that run learned from (the first: src, line 2: 3 sent"
    text = b"w1 w2\nw1. W2! W3.\n" + b"w1 " * 8 + b"\n"
    _, err = call(command, arguments, text)
    assert "sentences" not in err  # a run of an earlier version does not know
    facts = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps({**facts, "source": {"longest": 9, "sentences": 2}}))
    _, err = call(command, arguments, text)
    assert err.count(said) == 1
    assert "put one sentence on each line" in err


def test_evaluate_keeps_the_same_table(command, here) -> None:
    """Bad lines of the source and of a system count as empty; a reference must be whole; TER has a limit of its own."""
    for name, content in {
        "src": BAD,
        "bad": BAD,
        "ref": b"w1\n" * 6,
        "good": b"w1\n" * 6,
        "long": b"w1 " * 501,
    }.items():
        Path(name).write_bytes(content)
    _, err = command("evaluate", "run", "--src", "src", "--ref", "ref", "--metric", "chrf")
    assert all(problem in err for problem in PROBLEMS.values())
    _, err = command("evaluate", "--hyp", "bad", "--ref", "ref", "--metric", "chrf")
    assert all(f"left empty: bad, line {number}: {PROBLEMS[number]}" in err for number in (2, 4))
    _, err = command("evaluate", "--hyp", "good", "--ref", "bad", "--metric", "chrf", code=2)
    assert err.startswith(f"error: bad, line 2: {PROBLEMS[2]}")
    out, err = command("evaluate", "--hyp", "long", "--ref", "long", "--json")
    assert "TER is left out: long, line 1 has 501 words, more than 500\n" in err
    assert "TER" not in out
    _, err = command("evaluate", "--hyp", "long", "--ref", "long", "--metric", "ter", code=2)
    assert "choose another --metric" in err


def test_links_of_a_bad_line_are_not_checked(command, here) -> None:
    Path("src").write_bytes(b"w1 w2\n\xff\nw1\n")
    Path("tgt").write_bytes(b"w1 w2\nw1\nw1\n")
    Path("links").write_text("0-0\n7-0\n0-0\n")
    out, err = command("aer", "links", "links", "--src", "src", "--tgt", "tgt")
    assert out.startswith("AER 0.00")
    assert err == "src, line 2: not UTF-8 at byte 1 of the line (0xFF): the links of this line are not checked\n"
    Path("links").write_text("0-0\n7-0\n7-0\n")
    _, err = command("aer", "links", "links", "--src", "src", "--tgt", "tgt", code=2)
    assert "links, line 3: link 7-0" in err
