"""Broken and odd files, with their manifest as expectation: reading them, and tokenizers on what can be read."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from pathlib import Path

import pytest

from nmt.config import CharactersConfig, SentencePieceConfig, WordsConfig
from nmt.errors import UserError
from nmt.text.learn import learn_tokenizers
from nmt.text.lines import BadPair, count_lines, decode_line, raw_lines, read_lines, read_parallel
from nmt.text.tokenizer import UNK

SHARED = Path(os.environ.get("NMT_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
MESSY = SHARED / "messy"
FOLDERS = ("count", "eol", "encoding", "chars", "long", "degenerate", "names")


def manifest() -> list[dict[str, str]]:
    if not MESSY.is_dir():
        return []
    with (MESSY / "MANIFEST.tsv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))


WIDE = ("utf16le_bom.de", "utf16be_nobom.de", "utf32le_bom.de")
REFUSED = ("eol/cr_only.en", *(f"encoding/{name}" for name in WIDE))
"""As a whole, and not for a line in them."""
ROWS = [row for row in manifest() if row["file"].split("/")[0] in FOLDERS and row["file"] not in REFUSED]
READABLE = [row["file"] for row in ROWS if row["valid_utf8"] == "yes"]
pytestmark = pytest.mark.skipif(not MESSY.is_dir(), reason=f"needs the messy files in {MESSY}")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_the_manifest_is_met(row):
    path = MESSY / row["file"]
    content = path.read_bytes()
    open_end = bool(content) and not content.endswith(b"\n")
    assert count_lines(path) == int(row["lf"]) + open_end
    start = 0
    for number, raw in enumerate(raw_lines(path), start=1):
        try:
            decode_line(raw, row["file"], number)
        except UserError as error:
            assert row["valid_utf8"] == "no"
            byte = re.fullmatch(rf"{row['file']}, line {number}: not UTF-8 at byte (\d+) of the line .*", error.message)
            assert start + int(byte[1]) - 1 == int(row["first_bad_byte"])
            break
        start = content.find(b"\n", start) + 1
    else:
        assert row["valid_utf8"] == "yes"


@pytest.mark.parametrize(("name", "encoding"), [*zip(WIDE, ("UTF-16LE", "UTF-16BE", "UTF-32LE"), strict=True)])
def test_wide_encodings_are_recognised(name, encoding):
    with pytest.raises(UserError, match=f"is in {encoding}"):
        list(raw_lines(MESSY / "encoding" / name))


def test_old_line_ends_are_told():
    with pytest.raises(UserError, match="its lines end in CR"):
        list(raw_lines(MESSY / "eol" / "cr_only.en"))


@pytest.mark.parametrize("name", ["latin1.de", "cp1252.fr", "cp1251.ru", "sjis.ja", "gb18030.zh"])
def test_narrow_encodings_are_refused(name):
    with pytest.raises(UserError, match=f"{name}, line 1: not UTF-8 at byte"):
        list(read_lines(MESSY / "encoding" / name))


@pytest.mark.parametrize("stem", ["short_tgt", "missing_middle", "blank_tail"])
def test_unequal_pairs_are_refused(stem):
    src, tgt = MESSY / "count" / f"{stem}.en", MESSY / "count" / f"{stem}.de"
    counts = {path.name: len(path.read_bytes().split(b"\n")) - 1 for path in (src, tgt)}
    pairs = read_parallel(src, tgt)
    assert sum(1 for _ in zip(range(min(counts.values())), pairs, strict=False)) == min(counts.values())
    with pytest.raises(UserError) as caught:
        next(pairs)
    for path in (src, tgt):
        assert f"{path} has {counts[path.name]}" in caught.value.message
    assert ("blank" in caught.value.hint) == (stem == "blank_tail")


@pytest.mark.parametrize(
    ("stem", "count"),
    [
        ("count/no_final_newline", 100),
        ("count/one_line", 1),
        ("count/empty_lines", 100),
        ("eol/crlf", 100),
        ("eol/cr_inside", 2),
        ("eol/unicode_separators", 9),
        ("encoding/utf8_bom", 100),
        ("names/two.dots.train", 1),
    ],
)
def test_good_pairs_are_read(stem, count):
    pairs = list(read_parallel(MESSY / f"{stem}.en", MESSY / f"{stem}.de"))
    assert [pair.number for pair in pairs] == list(range(1, count + 1))
    assert not any(side.endswith("\r") or side.startswith("\ufeff") for pair in pairs for side in (pair.src, pair.tgt))


@pytest.mark.parametrize(("stem", "bad"), [("bad_utf8", [*range(2, 12), 13]), ("one_bad_line", [58])])
def test_bad_lines_are_dropped_where_asked(stem, bad):
    src, tgt = MESSY / "encoding" / f"{stem}.en", MESSY / "encoding" / f"{stem}.de"
    pairs = list(read_parallel(src, tgt, drop_bad=True))
    assert [pair.number for pair in pairs] == list(range(1, len(pairs) + 1))
    assert [pair.number for pair in pairs if isinstance(pair, BadPair)] == bad
    with pytest.raises(UserError, match=f"{stem}.en, line {bad[0]}: not UTF-8"):
        list(read_parallel(src, tgt))


def test_gzip():
    folder = MESSY / "gzip"
    assert len(list(read_parallel(folder / "good.en.gz", folder / "good.de.gz"))) == 100
    good = list(read_lines(folder / "good.en.gz"))
    for name in ("members.en.gz", "gzip_without_suffix.en", "not_gzip.en.gz"):
        assert list(read_lines(folder / name)) == good
    assert list(read_lines(folder / "empty.gz")) == list(read_lines(folder / "empty_member.gz")) == []
    for name in ("truncated.en.gz", "bad_crc.en.gz", "trailing_garbage.en.gz"):
        with pytest.raises(UserError, match=f"{name}: damaged gzip data"):
            list(read_lines(folder / name))


@pytest.fixture(scope="module")
def tokenizers():
    """Learned from ordinary text, so that what the files hold is new to them."""
    lines = list(read_lines(MESSY / "eol" / "crlf.en")) if MESSY.is_dir() else []
    configs = (
        SentencePieceConfig(),
        SentencePieceConfig(model="unigram"),
        WordsConfig(joint=True),
        CharactersConfig(joint=True),
    )
    return [learn_tokenizers(config, lambda: lines, lambda: lines)[0] for config in configs]


@pytest.mark.parametrize("name", READABLE)
def test_odd_text_is_tokenized(tokenizers, name):
    lines = list(read_lines(MESSY / name))
    for tokenizer in tokenizers:
        pieces = tokenizer.settings.kind == "sentencepiece"
        for line in lines:
            ids, _, words, word_of = tokenizer.segment(line)
            assert ids == (tokenizer.encode(line) if line.strip() else [])
            assert all(n > UNK for n in ids) if pieces else all(n >= UNK for n in ids)
            assert words == unicodedata.normalize("NFC", line).split()
            assert set(word_of) <= set(range(len(words)))
            ids = tokenizer.encode(line)
            if pieces:
                text = " ".join(
                    part for part in unicodedata.normalize("NFC", line).replace("▁", " ").split(" ") if part
                )
                assert tokenizer.decode(ids) == text.replace("\r", " ")


@pytest.mark.parametrize("name", [name for name in READABLE if not name.startswith("long/many")])
def test_odd_text_can_be_learned_from(name):
    lines = list(read_lines(MESSY / name))
    for config in (SentencePieceConfig(), WordsConfig(joint=True), CharactersConfig(joint=True)):
        if not any(line.strip() for line in lines) and not (lines and config.kind == "characters" and any(lines)):
            with pytest.raises(UserError, match="empty: there is nothing to learn"):
                learn_tokenizers(config, lambda: lines, lambda: lines)
            continue
        tokenizer, _ = learn_tokenizers(config, lambda: lines, lambda: lines)
        for line in lines:
            assert UNK not in tokenizer.encode(line)


def test_two_spellings_are_one():
    config = CharactersConfig(joint=True)
    composed, decomposed = (
        learn_tokenizers(config, lambda lines=lines: lines, list)[0]
        for lines in (list(read_lines(MESSY / "chars" / f"norm_{form}.txt")) for form in ("nfc", "nfd"))
    )
    assert composed.pieces(range(len(composed))) == decomposed.pieces(range(len(decomposed)))
