"""Lines in and out: line ends, gzip, encodings, pairs, and files that appear whole or not at all."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.errors import UserError
from nmt.limits import LINE_BYTES
from nmt.text.lines import (
    BadPair,
    Pair,
    check_inputs,
    count_lines,
    decode_line,
    open_output,
    raw_lines,
    read_lines,
    read_parallel,
)

SEPARATORS = b"a\x0b\x0c\x1c\x1d\x1e\x1f\xc2\x85\xe2\x80\xa8\xe2\x80\xa9b"
"""VT FF FS GS RS US NEL U+2028 U+2029: str.splitlines() cuts at all but one."""


@pytest.fixture
def write(tmp_path):
    def make(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\r", [b"a"]),
        (b"a\r\r\n", [b"a\r"]),
        (b"a\rb\n", [b"a\rb"]),
        (SEPARATORS + b"\n", [SEPARATORS]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [b"a", b"\xef\xbb\xbfb"]),
        (b"\xef\xbb\xbf", [b""]),
        (b"\x1f", [b"\x1f"]),
    ],
)
def test_where_lines_end(write, content, lines):
    assert list(raw_lines(write("text", content))) == lines
    assert list(raw_lines(write("text.gz", gzip.compress(content)))) == lines
    assert count_lines(write("text", content)) == len(lines)


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line and not line.endswith(b"\r"))), st.booleans())
def test_lines_written_are_lines_read(tmp_path_factory, lines, crlf):
    path = tmp_path_factory.mktemp("lines") / "text"
    path.write_bytes(b"first" + b"".join((b"\r\n" if crlf else b"\n") + line for line in lines) + b"\n")
    assert list(raw_lines(path)) == [b"first", *lines]


def test_gzip_is_told_by_content_and_has_members(write):
    assert list(raw_lines(write("plain.gz", b"a\nb\n"))) == [b"a", b"b"]
    members = gzip.compress(b"a\nb") + gzip.compress(b"") + gzip.compress(b"c\n")
    assert list(raw_lines(write("no-suffix", members))) == [b"a", b"bc"]


def test_damaged_gzip_names_the_file(write):
    whole = gzip.compress(b"a line\n" * 100)
    damaged = {
        "cut short": whole[:-12],
        "cut in the checksum": whole[:-2],
        "only the header": whole[:10],
        "wrong checksum": whole[:-8] + bytes(4) + whole[-4:],
        "wrong length": whole[:-4] + bytes(4),
        "bad block": whole[:10] + b"\xff" * 20,
        "garbage at the end": whole + b"garbage",
        "one byte of garbage": whole + b"x",
        "magic as garbage": whole + b"\x1f\x8b",
    }
    for what, content in damaged.items():
        path = write("text.gz", content)
        with pytest.raises(UserError) as caught:
            list(raw_lines(path))
        assert caught.value.message.startswith(f"{path}: damaged gzip data ("), what


@pytest.mark.parametrize("reader", [raw_lines, read_lines])
def test_a_file_that_cannot_be_read_is_named(tmp_path, reader):
    with pytest.raises(UserError) as caught:
        list(reader(tmp_path / "none"))
    assert caught.value.message == f"{tmp_path / 'none'}: cannot be read: No such file or directory"
    with pytest.raises(UserError) as caught:
        list(reader(tmp_path))
    assert caught.value.message == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(write):
    path = write("text", b"a\n")
    path.chmod(0)
    with pytest.raises(UserError, match="text: cannot be read: Permission denied"):
        list(raw_lines(path))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input(pack):
    code = "from nmt.text.lines import raw_lines; print(list(raw_lines(None)))"
    got = subprocess.run(
        [sys.executable, "-c", code], input=pack(b"\xef\xbb\xbfa\r\nb"), capture_output=True, check=True
    )
    assert got.stdout.decode().strip() == "[b'a', b'b']"


def test_standard_input_replaced(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert list(raw_lines(None)) == [b"a", b"b"]


def test_a_line_arrives_before_the_next_is_written():
    code = "from nmt.text.lines import raw_lines\nfor line in raw_lines(None): print(line, flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"a\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"b'a'\n"
        process.stdin.close()
        assert process.wait() == 0


def test_what_is_not_utf8_is_named_with_line_and_byte():
    assert decode_line("Grüße".encode(), "a.de", 7) == "Grüße"
    with pytest.raises(UserError) as caught:
        decode_line("Grüße".encode("latin-1"), "a.de", 7)
    assert caught.value.message == "a.de, line 7: not UTF-8 at byte 3 of the line (0xFC)"
    assert caught.value.hint == "Save it as UTF-8 in your editor, or: iconv -f ITS-ENCODING -t UTF-8 FILE > NEW-FILE"


@pytest.mark.parametrize("encoding", ["UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"])
@pytest.mark.parametrize("text", ["Grüße an alle Leute.\n", "\nAnna schläft\r\n", "Это пример, и ещё один.\n" * 3])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_utf16_and_utf32_stop_at_once(write, encoding, text, pack, monkeypatch):
    for mark in ("", "\ufeff"):
        content = pack((mark + text).encode(encoding))
        path = write("a.de", content)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        for source, name in ((path, str(path)), (None, "standard input")):
            with pytest.raises(UserError) as caught:
                list(raw_lines(source, record=source is None))
            assert caught.value.message == f"{name}: is in {encoding}, and text is to be in UTF-8"
            assert caught.value.hint.startswith("Save it as UTF-8 in your editor, or: iconv")
        with pytest.raises(UserError, match=f"is in {encoding}"):
            check_inputs(path)


@given(st.text(min_size=1).filter(lambda text: "\r" not in text))
def test_utf8_is_not_taken_for_another_encoding(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_bytes(text.encode("utf-8", "replace"))
    assert count_lines(path) == text.removesuffix("\n").count("\n") + 1


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_line_beyond_the_limit_is_skipped_and_never_held(write, pack, monkeypatch):
    monkeypatch.setattr("nmt.text.lines.LINE_BYTES", 10)
    monkeypatch.setattr("nmt.text.lines.RECORD_BYTES", 10)
    path = write("text", pack(b"a" * 10 + b"\n" + b"b" * 11 + b"\n" + b"c" * 1000 + b"\r\nd\n" + b"e" * 20))
    assert [min(len(line), 11) for line in raw_lines(path)] == [10, 11, 11, 1, 11]
    told = []
    assert list(read_lines(path, tell=told.append))[1:] == ["", "", "d", ""]
    assert told[0] == f"{path}, line 2: longer than 10 bytes"
    pairs = list(read_parallel(path, path))
    assert [isinstance(pair, BadPair) and pair.too_long for pair in pairs] == [False, True, True, False, True]
    with pytest.raises(UserError, match=r"line \d: longer than 10 bytes"):
        list(read_lines(path, record=True))


def test_memory_does_not_grow_with_a_line(write):
    """Fifty MB of one line, in 50 kB of gzip."""
    path = write("bomb", gzip.compress(b"a" * 50_000_000))
    tracemalloc.start()
    (line,) = raw_lines(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert LINE_BYTES < len(line) < LINE_BYTES + 10
    assert peak < 5 * LINE_BYTES


def test_lines_that_end_in_cr_alone_are_told(write):
    with pytest.raises(UserError) as caught:
        list(raw_lines(write("mac", b"a\rb\rc\r")))
    assert "its lines end in CR" in caught.value.message
    assert "tr '\\r' '\\n'" in caught.value.hint
    assert list(raw_lines(write("one", b"a\rb\rc\r\n"))) == [b"a\rb\rc"]


DOCUMENTS = {
    "pairs.tsv": b"a\tb\n",
    "pairs.TSV.gz": gzip.compress(b"a\tb\n"),
    "film": b"1\r\n00:00:11,201 --> 00:01:00,005\r\nHello\r\n",
    "film.vtt": b"WEBVTT\n",
    "program": b'# German\n#\nmsgid ""\nmsgstr ""\n',
    "memory.tmx": b"<tmx>",
    "page": b"\xef\xbb\xbf\n<!DOCTYPE html>\n",
    "letter": b"PK\x03\x04\x14",
    "packed": b"BZh91AY&SY",
    "squeezed": b"\xfd7zXZ\x00",
    "table.csv": b"a,b\n",
    "lines.jsonl": b"{}\n",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_refused_with_what_to_do(write, name, monkeypatch):
    path = write(name, DOCUMENTS[name])
    for read in (lambda: list(raw_lines(path)), lambda: check_inputs(path)):
        with pytest.raises(UserError) as caught:
            read()
        assert caught.value.message.startswith(f"{path}: is ")
        assert "give it on standard input" in caught.value.hint
    assert list(raw_lines(path, record=True))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(DOCUMENTS[name])))
    assert list(raw_lines(Path("-")))


def test_columns_are_cut(write):
    with pytest.raises(UserError, match=r"cut -f1 .*pairs\.tsv > pairs\.src; cut -f2 .*pairs\.tsv > pairs\.tgt"):
        check_inputs(write("pairs.tsv", b"a\tb\n"))


def test_inputs_are_looked_at_before_work(tmp_path, write):
    check_inputs(None, write("a", b"a\n"), Path("-"))
    with pytest.raises(UserError, match="is a folder, not a file"):
        check_inputs(tmp_path)
    with pytest.raises(UserError, match="there is no such file"):
        check_inputs(tmp_path / "none")
    with pytest.raises(UserError, match="cannot be two files"):
        check_inputs(Path("-"), Path("-"))
    with pytest.raises(UserError, match="is read but once"):
        check_inputs(Path("-"), again=True)


def test_pairs_come_numbered(write):
    src, tgt = write("a.en", b"\xef\xbb\xbfa\r\n\nb"), write("a.de", gzip.compress(b"c\n \nd\n"))
    assert list(read_parallel(src, tgt)) == [Pair(1, "a", "c"), Pair(2, "", " "), Pair(3, "b", "d")]
    empty = write("empty", b"")
    assert list(read_parallel(empty, empty)) == []


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("longer", "hint"),
    [
        (b"a\nb\nc\nd\ne\n", "Line N of one must be the translation of line N of the other: look for a line lost or"),
        (b"a\nb\nc\n\n \t\n", "The lines after line 3 of {longer} are blank: remove them."),
        (b"a\nb\nc\n\ne", "Line N of one must be"),
    ],
)
def test_unequal_files_are_refused_with_both_counts(write, longer, hint, swap):
    short, long = write("short.de", b"a\nb\nc\n"), write("long.en", longer)
    pairs = read_parallel(*((long, short) if swap else (short, long)))
    assert [next(pairs).number for _ in range(3)] == [1, 2, 3]
    with pytest.raises(UserError) as caught:
        next(pairs)
    assert caught.value.message == f"the files do not match: {short} has 3 lines, {long} has 5"
    assert caught.value.hint.startswith(hint.format(longer=long))


def test_bad_pairs_stop_or_are_told(write):
    src, tgt = write("a.en", b"a\n\xe9\nc\nd\n"), write("a.de", b"a\nb\nc\xff\nd\n")
    with pytest.raises(UserError, match=r"a\.en, line 2: not UTF-8 at byte 1 of the line \(0xE9\)"):
        list(read_parallel(src, tgt))
    good, first, second, last = read_parallel(src, tgt, drop_bad=True)
    assert (good, last) == (Pair(1, "a", "a"), Pair(4, "d", "d"))
    assert first == BadPair(2, f"{src}, line 2: not UTF-8 at byte 1 of the line (0xE9)")
    assert second == BadPair(3, f"{tgt}, line 3: not UTF-8 at byte 2 of the line (0xFF)")


def test_output_is_utf8_with_lf(tmp_path):
    path = tmp_path / "out"
    with open_output(path, overwrite=False) as out:
        out.write("ä\r\nb\n")
        assert not path.exists()
    assert path.read_bytes() == b"\xc3\xa4\r\nb\n"
    assert os.listdir(tmp_path) == ["out"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_output_is_whole_or_not_at_all(tmp_path):
    def fail():
        with open_output(tmp_path / "out", overwrite=True) as out:
            out.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert os.listdir(tmp_path) == []
    (tmp_path / "out").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def opened(path, *, overwrite=False):
    with open_output(path, overwrite=overwrite) as out:
        out.write("new")


def test_output_replaces_only_when_asked(write):
    path = write("out", b"old")
    with pytest.raises(UserError) as caught:
        opened(path)
    assert caught.value.message == f"{path}: exists already"
    assert caught.value.hint == "Choose another name, or overwrite it with --force."
    assert path.read_text() == "old"
    opened(path, overwrite=True)
    assert path.read_text() == "new"


def test_output_needs_a_folder(tmp_path, write):
    with pytest.raises(UserError) as caught:
        opened(tmp_path / "none" / "out")
    assert caught.value.message == f"{tmp_path / 'none' / 'out'}: cannot be written: No such file or directory"
    assert caught.value.hint == f"There is no folder {tmp_path / 'none'}: make it first."
    with pytest.raises(UserError, match=f"{tmp_path}: is a folder"):
        opened(tmp_path, overwrite=True)
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        opened(write("file", b"") / "out")


def test_output_through_a_link_and_to_a_device(tmp_path, write):
    path = write("real", b"old")
    (tmp_path / "link").symlink_to(path)
    opened(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert path.read_text() == "new"
    opened(Path(os.devnull))
    assert Path(os.devnull).is_char_device()


def test_standard_output_is_utf8_with_lf_and_stays_open(capfdbinary):
    for text, path in (("ä\n", None), ("b\n", Path("-")), ("c\n", Path("/dev/stdout"))):
        with open_output(path, overwrite=False) as out:
            out.write(text)
    print("d")
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"\xc3\xa4\nb\nc\nd\n"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no names for open files on this system")
def test_a_pipe_is_written_to_by_its_name():
    """As `>(gzip > out.gz)` of a shell gives it: the name leads to nothing that has a place in a folder."""
    end, start = os.pipe()
    with open_output(Path(f"/dev/fd/{start}"), overwrite=False) as out:
        out.write("a\n")
    assert os.read(end, 10) == b"a\n"
