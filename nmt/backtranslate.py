"""Back-translation (Sennrich et al. 2016): sources for sentences of which only the target side is there.

A model of the reverse direction translates a text of the target language. Line by line, its translations and the
text are one more corpus to learn from (`data.more`): the target side, which the model learns to write, is real. With a
tag before each such source the model keeps apart what it learns from real sources and from these (Caswell et al. 2019).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nmt.candidates import Translation
from nmt.flags import find_flags
from nmt.records import parse_json
from nmt.text.lines import Inputs, open_output, raw_lines
from nmt.text.partial import Output
from nmt.text.windows import windows
from nmt.translate import WINDOW, Translator

RECORD = "mono.jsonl"
"""What became of every line of the text, those left out included."""
PAIRS = ("mono.src", "mono.tgt")
"""The pairs: translations, and the lines that they are translations of."""


class Line(NamedTuple):
    """What became of a line of the text; in the record, a list of these four."""

    src: str  # its translation
    tgt: str  # itself, if it could be read
    left_out: str | None  # why it makes no pair
    problem: str | None  # why it could not be translated, if so


@dataclass
class Summary:
    """What is left out, by reason."""

    kept: int = 0
    left_out: dict[str, int] = field(default_factory=dict)  # the most frequent reason first
    first: dict[str, tuple[int, str | None]] = field(default_factory=dict)  # the first line, from 1, and its problem


def translate_lines(translator: Translator, lines: Inputs, out: Output) -> Iterator[Line]:
    """Translates the lines that `out`, the record, does not have yet, and writes what became of each."""
    rest = iter(lines)
    out.skip(rest)
    number = out.done.lines
    for window in windows(rest, WINDOW, math.inf):
        for translation in translator.translate(window, first=number):
            line = judge(translator, translation)
            out.stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            yield line
        number += len(window)
        out.end_window(window, whole=len(window) == WINDOW)


def judge(translator: Translator, translation: Translation) -> Line:
    """Whether a line and its translation make a pair. Sampled translations are improbable, so confidence is no sign."""
    reason = None
    if translation.problem is not None:
        reason = "not translated"
    elif not translation.candidates:
        reason = "empty"
    elif not translation.text.strip():
        reason = "empty translation"
    else:
        tokens = translator.tokenizers[0].encode(translation.source)
        best = translation.candidates[0]
        reason = next(iter(find_flags(translation.source, best.text, tokens, best.hypothesis.tokens, ())), None)
    return Line(translation.text, translation.source, reason, translation.problem)


def write_pairs(record: Path, folder: Path) -> Summary:
    """Makes the files of pairs out of the record, each there completely or not at all."""
    summary = Summary()
    src_path, tgt_path = (folder / name for name in PAIRS)
    with open_output(src_path, overwrite=True) as src, open_output(tgt_path, overwrite=True) as tgt:
        for number, raw in enumerate(raw_lines(record, record=True), start=1):
            line: Line = parse_json(raw, f"{record}, line {number}", Line)
            if line.left_out is None:
                summary.kept += 1
                src.write(line.src + "\n")
                tgt.write(line.tgt + "\n")
            else:
                summary.left_out[line.left_out] = summary.left_out.get(line.left_out, 0) + 1
                summary.first.setdefault(line.left_out, (number, line.problem))
    summary.left_out = dict(sorted(summary.left_out.items(), key=lambda item: -item[1]))
    return summary
