"""Back-translation: which lines and translations make a pair, and what is said of those that do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from zoo import WORDS, write_run

from nmt.backtranslate import Line, judge, write_pairs
from nmt.candidates import Candidate, Translation
from nmt.config import SearchConfig
from nmt.search.hypothesis import Hypothesis
from nmt.translate import Translator

LONG = " ".join(WORDS[:6])


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Translator:
    settings = SearchConfig(beam=2, max_source=10)
    return Translator.load(write_run(tmp_path_factory.mktemp("run") / "run", "lstm-feeding", search=settings).path)


def translated(translator: Translator, src: str, tgt: str, log_prob: float = -0.1) -> Translation:
    tokens = translator.tokenizers[1].encode(tgt)
    hypothesis = Hypothesis(tokens, log_prob, log_prob, [log_prob] * (len(tokens) + 1))
    return Translation([Candidate(tgt, hypothesis, ())], None, src)


def test_a_good_translation_makes_a_pair(translator: Translator) -> None:
    good = translated(translator, "w1 w2 w3", "w4 w5")
    assert judge(translator, good) == Line("w4 w5", "w1 w2 w3", None, None)
    assert judge(translator, translated(translator, "w1 w2 w3", "w4 w5", log_prob=-20.0)).left_out is None


@pytest.mark.parametrize(
    ("src", "tgt", "reason"),
    [
        ("w1 w2", "w3 w3 w3", "repetition"),
        ("w1 w1 w1", "w3 w3 w3", None),  # the line says it as often
        (LONG.replace("w", "word"), LONG.replace("w", "word"), "copied source"),
        ("w1", " ".join(WORDS[1:9]), "length ratio"),
        (" ".join(WORDS[1:9]), "w1", "length ratio"),
        ("w1 w2", "", "empty translation"),
        ("w1 w2", "w9 w9 w9 w9 w9 w9 w9 w9 w9 w9", "repetition"),  # counted once
    ],
)
def test_what_looks_wrong_makes_none(translator: Translator, src: str, tgt: str, reason: str | None) -> None:
    assert judge(translator, translated(translator, src, tgt)) == Line(tgt, src, reason, None)


def test_lines_that_are_not_translated(translator: Translator) -> None:
    found = translator.translate(["", "w1 " * 11, b"caf\xe9"])
    assert [judge(translator, translation) for translation in found] == [
        Line("", "", "empty", None),
        Line("", "", "not translated", "the source has 11 tokens, more than search.max_source: 10"),
        Line("", "", "not translated", "not UTF-8 at byte 4 of the line (0xE9)"),
    ]


def test_pairs_are_written_in_order_and_the_rest_counted(tmp_path: Path) -> None:
    lines = [
        Line("a\u2028b", "A\u2028B", None, None),
        Line("", "", "empty", None),
        Line("", "", "not translated", "far too long"),
        Line('"c"', "C\\", None, None),
        Line("", "", "not translated", "not UTF-8"),
    ]
    record = tmp_path / "record"
    record.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    (tmp_path / "mono.src").write_text("old\n")
    summary = write_pairs(record, tmp_path)
    assert (tmp_path / "mono.src").read_bytes().decode() == 'a\u2028b\n"c"\n'
    assert (tmp_path / "mono.tgt").read_bytes().decode() == "A\u2028B\nC\\\n"
    assert summary.kept == 2
    assert list(summary.left_out.items()) == [("not translated", 2), ("empty", 1)]
    assert summary.first == {"empty": (2, None), "not translated": (3, "far too long")}
