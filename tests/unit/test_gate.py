"""What the gate of a model that copies is said to know: against loops over pairs of tokens, and by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nmt.bootstrap
from nmt.copying import training_counts
from nmt.errors import UserError
from nmt.gate import GateScores, gate_scores, parse_details

quick = settings(max_examples=25, deadline=None)
WORDS = ["a", "b", "Zora", "Rex", "."]
VOCABULARY = ["a", "b", ".", "c"]


def record(source: str, steps: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """What `nmt translate --details` says, as far as it matters: tokens with p_copy."""
    if not source:
        return {"line": 1, "text": "", "problem": None, "candidates": []}
    names = [token for token, _ in steps]
    outside = [n for n, token in enumerate(names) if token not in VOCABULARY and token in source.split()]
    best = {"text": " ".join(names), "tokens": names, "outside": outside, "gate": [1 - p for _, p in steps] + [0.123]}
    other = {"text": "x", "tokens": ["x"], "outside": [], "gate": [0.5, 0.5]}
    return {"line": 1, "text": best["text"], "problem": None, "source": source.split(), "candidates": [best, other]}


def scored(corpus, frequency=None, **options) -> dict[str, GateScores]:
    written = parse_details([json.dumps(record(*line)) for line in corpus], "file")
    return gate_scores(written, [source for source, _ in corpus], frequency=frequency, **options)


def expected(corpus, is_copied, counts=lambda token, source: True):
    """AUROC by all pairs, calibration by ten lists; what is asked about is (token, words of the source)."""
    tokens = [(token, source.split(), p) for source, steps in corpus if source for token, p in steps]
    found = [(p, is_copied(token, source)) for token, source, p in tokens if counts(token, source)]
    yes, no = ([p for p, copied in found if copied is side] for side in (True, False))
    wins = [1.0 if p > q else 0.5 if p == q else 0.0 for p, q in itertools.product(yes, no)]
    error = 0.0
    for n in range(10):
        here = [(p, copied) for p, copied in found if n <= 10 * p < n + 1 or (p == 1.0 and n == 9)]
        if here:
            accuracy, mean = sum(copied for _, copied in here) / len(here), sum(p for p, _ in here) / len(here)
            error += len(here) / len(found) * abs(accuracy - mean)
    rates = (
        sum(wins) / len(wins) if wins else None,
        error if wins else None,
        sum(yes) / len(yes) if yes else None,
        sum(no) / len(no) if no else None,
    )
    return rates, len(yes), len(no)


def agree(score: GateScores, oracle) -> None:
    rates, yes, no = oracle
    assert (score.copied, score.others) == (yes, no)
    for one, other in zip(score.rates, rates, strict=True):
        assert one == (None if other is None else pytest.approx(other, abs=1e-9))


written_tokens = st.tuples(st.sampled_from([*WORDS, "c"]), st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.7, 0.75, 1.0]))
source_lines = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
corpora = st.lists(st.tuples(source_lines, st.lists(written_tokens, max_size=5)), min_size=1, max_size=4)


@pytest.fixture(autouse=True, scope="module")
def few_resamples() -> Iterator[None]:
    """The 2.5th percentile of 41 is the second smallest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nmt.bootstrap, "RESAMPLES", 41)
        yield


@quick
@given(corpora)
def test_rates_by_loops_over_pairs(corpus) -> None:
    if not any(source and line for source, line in corpus):
        return
    scores = scored(corpus, {"Zora": 3, "a": 100})
    agree(scores["unknown"], expected(corpus, lambda token, src: token in src and token not in VOCABULARY))
    agree(scores["in source"], expected(corpus, lambda token, src: token in src))
    for name, of in {"1-4": ["Zora"], "100+": ["a"], "unseen": ["b", "Rex", "."], "5-19": []}.items():
        here = expected(
            corpus, lambda token, src: token in src, lambda token, src, of=of: token not in src or token in of
        )
        agree(scores[name], here)


def test_by_hand() -> None:
    scores = scored([("a Zora", [("a", 0.9), ("Zora", 0.8), ("c", 0.8), ("b", 0.1)]), ("", [])])
    assert list(scores) == ["unknown", "in source"]
    # Zora has more than b, as much as c, and less than a.
    assert scores["unknown"].rates == pytest.approx((0.5, 0.9 / 4 + 0.6 / 4 + 0.1 / 4, 0.8, 0.6))
    # a and Zora against c and b: 3 1/2 of 4 pairs. Bins: {a}, {Zora, c}, {b}.
    assert scores["in source"].rates == pytest.approx((3.5 / 4, (0.1 + 0.6 + 0.1) / 4, 0.85, 0.45))


def test_a_gate_that_never_moves_knows_nothing() -> None:
    scores = scored([("a b", [("a", 0.5), ("c", 0.5)])])
    assert scores["in source"].rates == pytest.approx((0.5, 0.0, 0.5, 0.5))


def test_intervals_are_those_of_lines_drawn() -> None:
    corpus = [
        ("a Zora", [("a", 0.9), ("Zora", 0.8), ("c", 0.85)]),
        ("b Rex", [("c", 0.2), ("b", 0.1), ("Rex", 0.6)]),
        ("Rex Rex .", [("Rex", 0.3), ("c", 0.35)]),
        ("Zora", [("Zora", 0.97), ("c", 0.01), ("a", 0.0)]),
    ]
    draws = [[corpus[n] for n, often in enumerate(one) for _ in range(often)] for one in nmt.bootstrap.draws(4)]
    assert len(draws) == 41
    scores = scored(corpus)
    for name, is_copied in {
        "unknown": lambda token, src: token in src and token not in VOCABULARY,
        "in source": lambda token, src: token in src,
    }.items():
        rates = [expected(drawn, is_copied)[0] for drawn in draws]
        for n, found in enumerate((scores[name].auroc_interval, scores[name].calibration_interval)):
            values = sorted(one[n] for one in rates)
            assert found == pytest.approx((values[1], values[-2]))
            assert values[1] < values[-2]


def test_words_of_several_tokens_are_as_rare_as_the_rarest() -> None:
    source = "Anna, Bert, Bert ,"
    frequency = training_counts([source], ["Anna"] + [", Bert"] * 30)
    scores = scored([(source, [("Anna,", 0.9), ("Bert,", 0.8), (",", 0.2), ("c", 0.1)])], frequency)
    assert {name: score.copied for name, score in scores.items() if score.copied} == {
        "unknown": 3,
        "in source": 3,
        "1-4": 1,
        "20-99": 2,
    }
    assert scores["unknown"].others == 1
    assert scores["20-99"].rates.auroc == 1.0


def test_lowercase_counts_words_in_lower_case() -> None:
    frequency = training_counts(["Anna"], ["ANNA"], lowercase=True)
    corpus = [("Anna", [("Anna", 0.9)])]
    assert scored(corpus, frequency, lowercase=True)["1-4"].copied == 1
    assert scored(corpus, frequency)["unseen"].copied == 1


def test_pieces_of_words_have_no_training_frequency() -> None:
    pieces = record("▁An na", [("▁An", 0.5), ("na", 0.5)])
    written = parse_details([json.dumps(pieces)], "file")
    assert list(gate_scores(written, ["Anna"], frequency={"na": 7})) == ["unknown", "in source"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a translation",
        "[]",
        "{}",
        '{"text": 1, "candidates": []}',
        '{"text": "a"}',
        '{"text": "a", "source": ["a"], "candidates": [{"tokens": ["a"], "gate": [0.5, 0.5]}]}',
        '{"text": "a", "source": ["a"], "candidates": [{"tokens": ["a", "b"], "outside": [], "gate": [0.5]}]}',
        '{"text": "a", "source": ["a"], "candidates": [{"tokens": ["a"], "outside": [], "gate": [NaN, 0.5]}]}',
        '{"text": "a", "source": ["a"], "candidates": [{"tokens": ["a"], "outside": [], "gate": [1.5, 0.5]}]}',
        '{"text": "a", "source": ["a"], "candidates": [{"tokens": ["a"], "outside": [], "gate": ["x", 0.5]}]}',
    ],
)
def test_what_is_no_detail(line: str) -> None:
    good = json.dumps(record("a", [("a", 0.5)]))
    with pytest.raises(UserError) as caught:
        parse_details([good, line], "out.jsonl")
    assert caught.value.message == "out.jsonl, line 2: not what `nmt translate --details` writes"


def test_details_of_a_model_that_does_not_copy() -> None:
    line = json.dumps({"text": "a", "source": ["a"], "candidates": [{"text": "a", "tokens": ["a"]}]})
    with pytest.raises(UserError) as caught:
        parse_details([line], "out.jsonl")
    assert caught.value.message == "out.jsonl: no line has a gate"
    assert caught.value.hint == "`nmt translate --details` writes it, for models with a head that copies."


def test_unequal_numbers_of_lines() -> None:
    written = parse_details([json.dumps(record("a", [("a", 0.5)]))], "file")
    with pytest.raises(UserError, match=r"^the gate is looked at line by line: 1 lines of details, 2 sources$"):
        gate_scores(written, ["a", "b"])
