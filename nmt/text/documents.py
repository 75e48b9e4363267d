"""What is not text in UTF-8 with a sentence per line: told by its name and its first bytes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from nmt.errors import UserError
from nmt.told import shell

HEAD = 4096
"""So many first bytes tell."""

# Longest first: the mark of UTF-32 begins with that of UTF-16.
MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32LE",
    b"\x00\x00\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}


class Kind(NamedTuple):
    """A kind of document."""

    what: str
    hint: str  # what to do
    suffixes: str
    begins: str | None = None  # a regular expression for its first bytes


SENTENCES = "Put its sentences into a text file, one a line, and what comes out back into their places."
AS_TEXT = "Save it as plain text in UTF-8, with one sentence on each line."
COLUMNS = "Put each column into a file of its own:"
KINDS = (
    Kind(
        "a table of columns",
        f"{COLUMNS} cut -f1 {{file}} > {{stem}}.src; cut -f2 {{file}} > {{stem}}.tgt (or save the columns one by one "
        "from a spreadsheet, as text in UTF-8).",
        ".tsv",
    ),
    Kind("a table", f"{COLUMNS} save the columns one by one from a spreadsheet, as text in UTF-8.", ".csv .xls"),
    Kind("JSON", "Put its texts into a file of their own, one a line: jq -r .text {file} > {stem}.txt", ".jsonl .json"),
    Kind("a file of subtitles", SENTENCES, ".srt .vtt", r"WEBVTT|\d+\s*\n\d\d:\d\d:\d\d[,.]\d{3} -->"),
    Kind("a catalogue of messages", SENTENCES, ".po .pot", r'(#[^\n]*\n)*\s*msgid "'),
    Kind("a file of translation units", "Export both languages as text, line by line.", ".xliff .xlf .tmx"),
    Kind("marked up", AS_TEXT, ".html .htm .xml", r"(?i)<\?xml|<!doctype|<html"),
    Kind("a zip archive, as documents of an office are, too", AS_TEXT, ".docx .odt .xlsx .pptx .zip", r"PK\x03\x04"),
    Kind(
        "packed",
        "Unpack it first, or pack it with gzip.",
        ".bz2 .xz .zst .7z",
        r"BZh\d|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf",
    ),
    Kind("a document", AS_TEXT, ".doc .rtf .pdf", r"%PDF-|\{\\rtf|\xd0\xcf\x11\xe0"),
)


def check_head(head: bytes, name: str, path: Path | None = None) -> None:
    """UserError if the first bytes are of UTF-16 or UTF-32; and if the name or they are those of a document.

    `path` is None where no document is suspected: on standard input, so that text that looks like one can be given.
    """
    kind = None if path is None else kind_of_name(path) or _kind_of_text(head)
    if path is not None and kind is not None:
        raise UserError(
            f"{path}: is {kind.what}, not text with one sentence on each line",
            f"{_hint(kind, path)}\nIf it is text after all, rename it, or give it on standard input (called -).",
        )
    encoding = _wide_encoding(head)
    if encoding is not None:
        raise UserError(f"{name}: is in {encoding}, and text is to be in UTF-8", convert(encoding))


def convert(encoding: str = "ITS-ENCODING") -> str:
    """How to get UTF-8."""
    return f"Save it as UTF-8 in your editor, or: iconv -f {encoding} -t UTF-8 FILE > NEW-FILE"


def kind_of_name(path: Path) -> Kind | None:
    """The kind of document that the suffix of a name, before `.gz`, speaks of."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return next((kind for kind in KINDS if suffix in kind.suffixes.split()), None)


def check_settings(path: Path | None) -> None:
    """UserError where a document stands in the place of a file of settings, as text to learn from may."""
    kind = None if path is None else kind_of_name(path)
    if path is not None and kind is not None and path.suffix != ".json":  # YAML can read that
        raise UserError(
            f"{path}: is {kind.what}, not a file of settings",
            f"{_hint(kind, path)}\nText to learn from is given with --src and --tgt.",
        )


def _hint(kind: Kind, path: Path) -> str:
    return kind.hint.format(file=shell(path), stem=shell(path.name.partition(".")[0]))


def _kind_of_text(head: bytes) -> Kind | None:
    text = head.decode("latin-1").removeprefix("ï»¿").lstrip("\r\n").replace("\r\n", "\n")
    return next((kind for kind in KINDS if kind.begins is not None and re.match(kind.begins, text)), None)


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by its mark; or by NUL in many of its bytes, all at the same places of each 2 or 4."""
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    if head.count(0) < max(4, len(head) // 20):
        return None
    counts = [head[start::4].count(0) / len(head[start::4]) for start in range(4)]
    few, many = 0.02, 0.05  # in Cyrillic, say, only spaces and the like have a NUL
    for order, first, last in (("LE", counts, counts[3]), ("BE", counts[::-1], counts[0])):
        if first[0] <= few and last >= 0.9 and first[2] >= 0.9:
            return f"UTF-32{order}"
        if max(first[0], first[2]) <= few and min(first[1], first[3]) >= many:
            return f"UTF-16{order}"
    return None
