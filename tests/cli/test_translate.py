"""nmt translate, and nmt score beside it: one line in, one line out, whatever the lines are."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import re
import sys
import threading
import zlib
from pathlib import Path

import pytest
from zoo import WORDS, write_run

from nmt.config import SearchConfig
from nmt.text.lines import open_output

MESSY = ("count", "eol", "encoding", "chars", "long", "degenerate", "names", "gzip")
LEFT_EMPTY = re.compile(r"^(.*), line (\d+): left empty: (.*)$", re.MULTILINE)
LONGEST = 100


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with random weights and a vocabulary of w0, w1, ..."""
    search = SearchConfig(beam=3, max_source=LONGEST, max_ratio=1.0, max_extra=5)
    return write_run(tmp_path_factory.mktemp("run") / "run", "lstm-feeding", search=search).path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Thirty lines of different lengths, some of them empty."""
    draw = random.Random(1)
    lines = [" ".join(draw.choices(WORDS, k=draw.choice([0, 1, 2, 3, 5, 8, 13]))) for _ in range(30)]
    path = tmp_path / "input"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


REFUSED = ("cr_only.en", "utf16le_bom.de", "utf16be_nobom.de", "utf32le_bom.de")


def lf_lines(raw: bytes) -> list[bytes]:
    """The lines of a file as LF alone ends them: what the toolkit must see."""
    lines = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [line.removesuffix(b"\r") for line in (lines if lines[-1] else lines[:-1])]


def content(path: Path) -> bytes | None:
    """What is in a file, unpacked if it is gzip; None where that is damaged, or refused as a whole."""
    if path.name in REFUSED:
        return None
    raw = path.read_bytes()
    try:
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return None


def fate(line: bytes) -> str:
    """What has to become of a line: translated, empty, or left empty for a reason."""
    try:
        words = line.decode("utf-8").split()
    except UnicodeDecodeError:
        return "not UTF-8"
    return "tokens, more than search.max_source: 100" if len(words) > LONGEST else "translated" if words else "empty"


def manifest(shared: Path, folder: str) -> dict[Path, int]:
    """The files of a folder of `messy`, with their numbers of LF bytes."""
    with (shared / "messy" / "MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {shared / "messy" / row["file"]: int(row["lf"]) for row in rows if row["file"].startswith(f"{folder}/")}


@pytest.mark.parametrize("folder", MESSY)
def test_one_line_out_for_each_line_in(command, run: Path, shared: Path, tmp_path: Path, folder: str) -> None:
    """All readable files of a folder in one go; each problem is told by its file and its line there."""
    files = {path: raw for path in manifest(shared, folder) if (raw := content(path)) is not None}
    expected = {(str(path), n): fate(line) for path, raw in files.items() for n, line in enumerate(lf_lines(raw), 1)}
    _, err = command("translate", run, *files, "-o", tmp_path / "out")
    out = (tmp_path / "out").read_bytes()
    assert out.endswith(b"\n")
    assert b"\r" not in out
    lines = out.decode("utf-8").split("\n")[:-1]
    assert len(lines) == len(expected) > 0
    told = {(file, int(number)): reason for file, number, reason in LEFT_EMPTY.findall(err)}
    assert list(told) == [place for place, what in expected.items() if what not in ("translated", "empty")]
    assert all(expected[place] in reason for place, reason in told.items())
    assert len(err.splitlines()) == len(told)
    for (place, what), line in zip(expected.items(), lines, strict=True):
        assert what == "translated" or line == "", place


@pytest.mark.parametrize("folder", [folder for folder in MESSY if folder != "gzip"])
def test_the_lines_counted_here_are_those_of_the_manifest(shared: Path, folder: str) -> None:
    for path, lf in manifest(shared, folder).items():
        raw = path.read_bytes()
        assert len(lf_lines(raw)) == lf + (raw[-1:] not in (b"", b"\n")), path


def test_damaged_gzip_is_an_error(command, run: Path, shared: Path, tmp_path: Path) -> None:
    damaged = [path for path in manifest(shared, "gzip") if content(path) is None]
    assert [path.name for path in damaged] == ["truncated.en.gz", "bad_crc.en.gz", "trailing_garbage.en.gz"]
    for path in damaged:
        _, err = command("translate", run, path, "-o", tmp_path / "out", code=2)
        assert err.startswith(f"error: {path}: damaged gzip data (")
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_breaks_off_leaves_no_output_but_what_can_be_gone_on_with(
    command, run: Path, text: Path, tmp_path: Path, monkeypatch
) -> None:
    """Also when the output is to replace a file."""
    monkeypatch.setattr("nmt.translate.WINDOW", 2)
    draw = random.Random(1)
    packed = gzip.compress("".join(f"{draw.randbytes(500).hex()}\n" for _ in range(100)).encode())
    (tmp_path / "input.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "old").write_text("kept\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    for options in (["-o", tmp_path / "new"], ["-o", tmp_path / "old", "--force"]):
        _, err = command("translate", run, text, tmp_path / "input.gz", *options, code=2)
        assert "input.gz: damaged gzip data" in err
    kept = [f"{name}.partial{end}" for name in ("new", "old") for end in ("", ".json")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, *kept])
    assert (tmp_path / "old").read_text() == "kept\n"


def test_an_existing_output_is_kept_until_force(command, run: Path, text: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("kept\n")
    _, err = command("translate", run, text, "-o", tmp_path / "out", code=2)
    assert err == (f"error: {tmp_path}/out: exists already\nChoose another name, or overwrite it with --force.\n")
    assert (tmp_path / "out").read_text() == "kept\n"
    command("translate", run, text, "-o", tmp_path / "out", "--force")
    assert len((tmp_path / "out").read_text().splitlines()) == 30


def test_file_stdin_and_several_files_give_the_same(command, run: Path, text: Path, tmp_path: Path) -> None:
    expected, err = command("translate", run, text)
    assert err == ""
    assert [bool(line) for line in expected.split("\n")[:-1]] == [
        bool(line) for line in text.read_text().split("\n")[:-1]
    ]
    raw = text.read_bytes()
    assert command("translate", run, stdin=raw)[0] == expected
    assert command("translate", run, stdin=raw.removesuffix(b"\n"))[0] == expected
    half = raw.index(b"\n", len(raw) // 2) + 1
    (tmp_path / "first").write_bytes(raw[: half - 1])  # without its last LF
    (tmp_path / "nothing").touch()
    (tmp_path / "second.gz").write_bytes(gzip.compress(raw[half:]))
    parts = [tmp_path / name for name in ("nothing", "first", "nothing", "second.gz", "nothing")]
    assert command("translate", run, *parts)[0] == expected
    assert command("translate", run, tmp_path / "nothing") == ("", "")


def test_problems_are_told_by_file_and_line_there(command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"w1\nw2 \xff\nw3")
    (tmp_path / "two").write_bytes(b"\xe9\n" + b"w1 " * (LONGEST + 1) + b"\nw1\x00 w2\n")
    out, err = command("translate", run, tmp_path / "one", tmp_path / "two")
    assert err == (
        f"{tmp_path}/one, line 2: left empty: not UTF-8 at byte 4 of the line (0xFF)\n"
        f"{tmp_path}/two, line 1: left empty: not UTF-8 at byte 1 of the line (0xE9)\n"
        f"{tmp_path}/two, line 2: left empty: the source has 101 tokens, more than search.max_source: 100\n"
    )
    assert [bool(line) for line in out.split("\n")] == [True, False, True, False, False, True, False]
    out, err = command("translate", run, stdin=b"w1\n\xff\n")
    assert err == "standard input, line 2: left empty: not UTF-8 at byte 1 of the line (0xFF)\n"
    longer, err = command("translate", run, tmp_path / "two", "--set", "search.max_source=101")
    assert longer.split("\n")[1] != ""
    assert "search.max_source" not in err


def test_strict_writes_all_the_same_and_exits_with_2(command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"w1\n\xff\nw2\n")
    _, err = command("translate", run, tmp_path / "input", "-o", tmp_path / "out", "--strict", code=2)
    assert "error: 1 of the lines could not be translated (see above)" in err
    assert len((tmp_path / "out").read_text().splitlines()) == 3
    (tmp_path / "input").write_bytes(b"w1\n\nw2\n")  # an empty line is no problem
    command("translate", run, tmp_path / "input", "--strict")


@pytest.mark.parametrize("window", [1, 3, 1000])
@pytest.mark.parametrize("max_tokens", [1, 60, 100_000])
def test_windows_and_batches_change_nothing(
    command, run: Path, text: Path, monkeypatch, window: int, max_tokens: int
) -> None:
    expected = command("translate", run, text, "--nbest", 2)
    monkeypatch.setattr("nmt.translate.WINDOW", window)
    out, err = command("translate", run, text, "--nbest", 2, "--set", f"search.max_tokens={max_tokens}")
    assert err == expected[1] == ""
    for line, other in zip(out.splitlines(), expected[0].splitlines(), strict=True):
        *same, score = line.split(" ||| ")
        *same_other, score_other = other.split(" ||| ")
        assert same == same_other
        assert float(score) == pytest.approx(float(score_other), abs=2e-5)


def test_nbest_lists(command, run: Path, text: Path) -> None:
    best, _ = command("translate", run, text)
    out, _ = command("translate", run, text, "--nbest", 3)
    lists: dict[int, list[tuple[str, float]]] = {}
    for line in out.splitlines():
        number, translation, score = line.split(" ||| ")
        lists.setdefault(int(number), []).append((translation, float(score)))
    inputs = text.read_text().split("\n")[:-1]
    assert list(lists) == list(range(1, len(inputs) + 1))
    empty = [number for number, line in enumerate(inputs, start=1) if not line]
    assert [lists.pop(number) for number in empty] == [[("", 0.0)]] * len(empty)
    for number, entries in lists.items():
        assert entries[0][0] == best.split("\n")[number - 1]
        assert len({translation for translation, _ in entries}) == len(entries) == 3
        assert [score for _, score in entries] == sorted((score for _, score in entries), reverse=True)
    _, err = command("translate", run, text, "--nbest", 4, code=2)
    assert err == "error: --nbest 4 needs as many hypotheses\nRaise the beam: --beam 4.\n"
    rows = command("translate", run, text, "--nbest", 4, "--beam", 4)[0].count("\n")
    assert rows == 4 * len(lists) + len(empty)


def test_details_hold_the_figures_that_score_gives(command, run: Path, text: Path, tmp_path: Path) -> None:
    best, _ = command("translate", run, text)
    out, _ = command("translate", run, text, "--details", "--nbest", 2)
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["line"] for record in records] == list(range(1, 31))
    assert [record["text"] for record in records] == best.split("\n")[:-1]
    pairs = []
    for record, line in zip(records, text.read_text().split("\n"), strict=False):
        assert record["problem"] is None
        assert len(record["candidates"]) == (2 if line else 0)
        pairs += [(line, candidate) for candidate in record["candidates"]]
    (tmp_path / "src").write_text("".join(f"{src}\n" for src, _ in pairs))
    (tmp_path / "tgt").write_text("".join(f"{candidate['text']}\n" for _, candidate in pairs))
    scores, _ = command("score", run, tmp_path / "src", tmp_path / "tgt", "--details")
    for (_, found), line in zip(pairs, scores.splitlines(), strict=True):
        forced = json.loads(line)
        assert forced["tokens"] == found["tokens"] == found["text"].split()
        assert forced["log_prob"] == pytest.approx(found["log_prob"], rel=1e-5, abs=1e-5)
        assert forced["token_log_probs"] == pytest.approx(found["token_log_probs"], rel=1e-4, abs=1e-5)
        assert len(found["token_log_probs"]) == len(found["tokens"]) + 1  # the last is the end of the sentence
        assert found["score"] == pytest.approx(found["log_prob"] / len(found["token_log_probs"]), abs=2e-6)
    plain, _ = command("score", run, tmp_path / "src", tmp_path / "tgt")
    assert [float(line) for line in plain.splitlines()] == [
        json.loads(line)["log_prob"] for line in scores.splitlines()
    ]


def test_details_say_what_was_wrong(command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"\xff\n")
    out, _ = command("translate", run, tmp_path / "input", "--details")
    assert json.loads(out) == {
        "line": 1, "text": "", "problem": "not UTF-8 at byte 1 of the line (0xFF)", "candidates": [],
    }  # fmt: skip


def test_score_of_an_empty_translation_and_of_files_that_do_not_match(command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "src").write_text("w1\nw1\nw2\n")
    (tmp_path / "tgt").write_text("w1\nw1\n\n")
    out, _ = command("score", run, tmp_path / "src", tmp_path / "tgt")  # an empty translation has one
    assert len(out.splitlines()) == 3
    assert all(float(line) < 0 for line in out.splitlines())
    (tmp_path / "tgt").write_text("w1\n")
    _, err = command("score", run, tmp_path / "src", tmp_path / "tgt", code=2)
    assert f"{tmp_path}/tgt has 1 lines, {tmp_path}/src has 3" in err


def test_a_reference_is_compared_with(command, run: Path, text: Path, tmp_path: Path) -> None:
    command("translate", run, text, "-o", tmp_path / "out")
    out, err = command("translate", run, text, "--reference", tmp_path / "out")
    assert out == (tmp_path / "out").read_text()
    assert [line.split()[:2] for line in err.splitlines()] == [["BLEU", "100.00"], ["chrF", "100.00"]]


def test_a_reference_of_another_length_is_refused_before_any_work(
    command, run: Path, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "ref").write_text("w1\n" * 59)
    _, err = command("translate", run, text, text, "--reference", tmp_path / "ref", "-o", tmp_path / "out", code=2)
    assert err == f"error: {tmp_path}/ref has 59 lines, {text} and {text} 60: they must be the same\n"
    assert not (tmp_path / "out").exists()
    _, err = command("translate", run, "--reference", tmp_path / "ref", stdin=b"w1\n", code=2)
    assert err.startswith("error: --reference needs input files")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "input"], "error: nowhere does not exist\n"),
        (["run", "nothing"], "error: nothing: there is no such file\n"),
        (["run", "input", "--reference", "nothing"], "error: nothing: there is no such file\n"),
        (["run", "input", "--checkpoint", "7"], "error: run has no checkpoint 7\nthere are: best, last, step-0000000"),
        (["run", "input", "--checkpoint", "last"], "error: run has no checkpoint `last` yet\n"),
        (["run", "input", "--set", "train.steps=3"], "error: --set train.steps=3: only settings of `search` may"),
        (["run", "input", "--set", "search.baem=3"], "did you mean `beam`?"),
        (["run", "input", "--device", "tpu"], "error: no such device: tpu\n"),
        (["run", "input", "-o", "missing/out"], "There is no folder missing: make it first.\n"),
        (["run", "input", "-o", "run"], "error: run: is a folder\n"),
    ],
)
def test_what_cannot_work_is_said_before_any_output(
    command, run: Path, text: Path, monkeypatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(text.parent)
    (text.parent / "run").symlink_to(run)
    out, err = command("translate", *arguments, code=2)
    assert out == ""
    assert message in err


def test_a_pipe_is_read_once(command, run: Path, text: Path, tmp_path: Path, monkeypatch) -> None:
    """As in `nmt translate RUN <(zcat input.gz)`, also on a terminal, where files are counted first for the bar."""
    expected, _ = command("translate", run, text)
    os.mkfifo(tmp_path / "pipe")
    for terminal in (False, True):
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(text.read_bytes(),))
        writer.start()
        with monkeypatch.context() as patch:
            patch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
            out, _ = command("translate", run, tmp_path / "pipe")
        writer.join()
        assert out == expected
    _, err = command("translate", run, tmp_path / "pipe", "--reference", text, code=2)
    assert "--reference needs input files" in err


class Typed(io.TextIOWrapper):
    """Standard input or output that is a terminal."""

    def isatty(self) -> bool:
        return True


TYPED = b"w1 w2\n\nw3 \xe9\n" + b"w1 " * (LONGEST + 1) + b"\nw3 w4"


@pytest.mark.parametrize(
    "options", [(), ("--nbest", 2), ("--details",), ("--flag",), ("--details", "--nbest", 2), ("-o", "out")]
)
def test_a_conversation_is_a_pipe_with_prompts(command, run: Path, tmp_path: Path, monkeypatch, options) -> None:
    monkeypatch.chdir(tmp_path)
    expected = command("translate", run, *options, stdin=TYPED)
    written = (tmp_path / "out").read_bytes() if "-o" in options else b""
    monkeypatch.setattr(sys, "stdin", Typed(io.BytesIO(TYPED)))
    out, err = command("translate", run, *options, *(["--force"] if written else []))
    assert out == expected[0]
    assert err.startswith("Type a sentence to translate; Ctrl-D ends.\n> ")
    assert err.count("> ") == 6
    assert [line for line in err.replace("> ", "").splitlines()[1:] if line] == expected[1].splitlines()
    assert "standard input, line 3: left empty: not UTF-8 at byte 4 of the line (0xE9)\n" in err
    assert not written or (tmp_path / "out").read_bytes() == written


def test_each_line_is_answered_before_the_next_prompt(command, run: Path, monkeypatch) -> None:
    """Both streams in one, as a terminal shows them."""
    monkeypatch.setattr(sys, "stdin", Typed(io.BytesIO(b"w1 w2\n\xe9\nw3\n")))
    expected = command("translate", run, stdin=b"w1 w2\n\n\nw3\n")[0].split("\n")
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", Typed(io.BytesIO(b"w1 w2\n\xe9\nw3\n")))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(screen, write_through=True))
    command("translate", run)
    seen = screen.getvalue().decode()
    said = "standard input, line 2: left empty: not UTF-8 at byte 1 of the line (0xE9)"
    assert seen.split("\n")[1:] == [f"> {expected[0]}", f"> {said}", "", f"> {expected[3]}", "> ", ""]


def test_a_terminal_is_shown_what_it_can_show(monkeypatch) -> None:
    utf_8 = "ma mère\n".encode()
    for kind, encoding, written in (
        (Typed, "ascii", b"ma m\\xe8re\n"),
        (Typed, "latin-1", b"ma m\xe8re\n"),
        (Typed, "utf-8", utf_8),
        (io.TextIOWrapper, "ascii", utf_8),
    ):
        buffer = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", kind(buffer, encoding=encoding))
        with open_output(None, overwrite=False) as out:
            out.write("ma mère\n")
        assert buffer.getvalue() == written


def test_sentences_on_the_command_line(command, run: Path) -> None:
    expected, _ = command("translate", run, "--nbest", 2, stdin=b"w1 w2\n\nw3\n")
    assert command("translate", run, "--text", "w1 w2", "--text", "\nw3", "--nbest", 2) == (expected, "")
    _, err = command("translate", run, "--text", "w1 " * (LONGEST + 1), "--strict", code=2)
    assert err.startswith("--text, line 1: left empty: the source has 101 tokens")
    _, err = command("translate", run, "input", "--text", "w1", code=2)
    assert err.startswith("error: --text is translated instead of files")
    _, err = command("translate", run, "--text", "w1", "--prefix", run / "config.yaml", code=2)
    assert err.startswith("error: --prefix needs input files")


@pytest.mark.parametrize("arguments", [("translate",), ("plot", "-o", "out")])
def test_a_sentence_that_is_not_utf_8_is_told_before_any_work(command, run: Path, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    name, *options = arguments
    _, err = command(name, run, *options, "--text", "w1", "--text", "w\udce9", code=2)
    assert err.startswith("error: b'w\\xe9' is not UTF-8\nIs the terminal set to UTF-8? ")
    assert list(tmp_path.iterdir()) == []
