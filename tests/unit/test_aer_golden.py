"""Alignment error rate and symmetrisation against published outputs of other aligners and of the real programs."""

from __future__ import annotations

import csv
import os
from functools import lru_cache
from pathlib import Path

import pytest

from nmt.align.links import score_links, symmetrize
from nmt.text.lines import read_lines
from nmt.text.links import Gold, Links, read_links

SHARED = Path(os.environ.get("NMT_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
ALIGNMENT = SHARED / "alignment"
EXPECTED = [
    (folder.parent.name, row)
    for folder in sorted(ALIGNMENT.glob("*/expected.tsv"))
    for row in csv.DictReader(folder.read_text("utf-8").splitlines(), delimiter="\t")
]

pytestmark = pytest.mark.skipif(not ALIGNMENT.is_dir(), reason=f"no shared data at {SHARED}")


@lru_cache
def gold_of(corpus: str) -> list[Gold]:
    return read_links(ALIGNMENT / corpus / "gold.talp")


@lru_cache
def output(corpus: str, name: str) -> list[Links]:
    path = ALIGNMENT / corpus / "hyp" / f"{name}.talp"
    return [sentence.sure for sentence in read_links(path, reverse=name.endswith("reverse"))]


def joined(corpus: str, aligner: str, method: str) -> list[Links]:
    directions = zip(output(corpus, f"{aligner}.forward"), output(corpus, f"{aligner}.reverse"), strict=True)
    return [symmetrize(forward, reverse, method) for forward, reverse in directions]


def test_there_are_39_files() -> None:
    assert len(EXPECTED) == 39


@pytest.mark.parametrize(("corpus", "row"), EXPECTED, ids=[f"{corpus}-{row['file']}" for corpus, row in EXPECTED])
def test_scores_of_other_aligners(corpus: str, row: dict[str, str]) -> None:
    name = row["file"].removeprefix("hyp/").removesuffix(".talp")
    score = score_links(output(corpus, name), gold_of(corpus))
    percent = [f"{100 * value:.4f}" for value in (score.precision, score.recall, score.aer)]
    assert [str(score.links), *percent] == [row["links"], row["precision"], row["recall"], row["aer"]]


# Links and AER of fast_align's own atools, run on the forward and reverse files.
ATOOLS = [
    ("enfr-hansards", "fastalign", {"gd": (7600, 14.41), "gdfa": (7832, 15.00), "gdf": (8746, 18.44)}),
    ("enfr-hansards", "giza", {"gd": (5924, 6.22), "gdfa": (6261, 6.31), "gdf": (6877, 9.10)}),
    ("roen-wpt03", "fastalign", {"gd": (5675, 31.96), "gdfa": (5825, 32.11), "gdf": (6462, 33.93)}),
    ("roen-wpt03", "giza", {"gd": (4563, 28.06), "gdfa": (4837, 26.94), "gdf": (5427, 28.89)}),
]


@pytest.mark.parametrize(("corpus", "aligner", "expected"), ATOOLS)
def test_atools_flavour_equals_the_real_program(
    corpus: str, aligner: str, expected: dict[str, tuple[int, float]]
) -> None:
    for method, (links, aer) in expected.items():
        score = score_links(joined(corpus, aligner, f"{method}-atools"), gold_of(corpus))
        assert (score.links, round(100 * score.aer, 2)) == (links, aer)


# Sentences whose links equal the published ones; the rest depend on the order of a Python set in the original script.
LILT = [
    ("enfr-hansards", "fastalign", 443, 447),
    ("enfr-hansards", "giza", 446, 447),
    ("roen-wpt03", "fastalign", 242, 248),
    ("roen-wpt03", "giza", 245, 248),
    ("deen-rwth-a", "fastalign", 251, 254),
    ("deen-rwth-a", "giza", 254, 254),
]


@pytest.mark.parametrize(("corpus", "aligner", "equal", "sentences"), LILT)
def test_lilt_flavour_equals_the_published_outputs(corpus: str, aligner: str, equal: int, sentences: int) -> None:
    for method, name, expected in (
        ("intersection", "intersection", sentences),
        ("union", "union", sentences),
        ("gd-lilt", "grow-diagonal", equal),
        ("gdf-lilt", "grow-diagonal-final", equal),
    ):
        pairs = list(zip(joined(corpus, aligner, method), output(corpus, f"{aligner}.{name}"), strict=True))
        assert len(pairs) == sentences
        assert sum(ours == theirs for ours, theirs in pairs) == expected


@pytest.mark.parametrize(
    ("corpus", "sure", "possible"),
    [
        ("enfr-hansards", 4038, 17438),
        ("roen-wpt03", 6198, 6198),
        ("deen-rwth-a", 4922, 5381),
        ("deen-europarl-a", 599, 599),
    ],
)
def test_gold_within_its_sentences(corpus: str, sure: int, possible: int) -> None:
    sides = [ALIGNMENT / corpus / f"{side}.txt" for side in ("src", "tgt")]
    sizes = [
        (len(src.split()), len(tgt.split()))
        for src, tgt in zip(read_lines(sides[0]), read_lines(sides[1]), strict=True)
    ]
    gold = read_links(ALIGNMENT / corpus / "gold.talp", sizes=sizes)
    assert (sum(len(g.sure) for g in gold), sum(len(g.possible) for g in gold)) == (sure, possible)
    original = ALIGNMENT / corpus / "gold.onebased.orig"
    if original.exists():
        assert read_links(original, one_based=True, sizes=sizes) == gold
