"""Minimum Bayes risk: the utilities are sacrebleu's, and the mean is over what it says it is."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from nmt.consensus import consensus, expected_utility, matches, utilities

METRICS = {"chrf": CHRF(), "bleu": BLEU(effective_order=True)}

ODD = [
    "",
    " ",
    "a",
    "ä",
    "aa",
    "aaaaaaaa",
    "a b",
    "a b a b a b",
    "the the the the the",
    "Zwei Hunde, 1.5 - 2 Meter groß!",
    "Zwei Hunde,  1,5-2 Meter groß !",
    "&quot;x&quot; <skipped> y ",
    "x\u2028y",
    "日本語のテスト",
    "𝒳𝒴𝒳𝒴",
    "e\u0301",
]

both = pytest.mark.parametrize("utility", METRICS)


def double_loop(texts: list[str], utility: str) -> list[list[float]]:
    return [[METRICS[utility].sentence_score(text, [other]).score for other in texts] for text in texts]


def mutations(text: str, count: int, seed: int) -> list[str]:
    """Texts like this one: words lost, moved and written twice, as samples of one sentence are."""
    generator, texts = random.Random(seed), []
    for _ in range(count):
        words = text.split()
        for _ in range(generator.randrange(6)):
            place = generator.randrange(len(words))
            words[place : place + 1] = generator.choice([[], [words[place]] * 2, [generator.choice(words)], ["x" * 3]])
            words = words or ["x"]
        texts.append(" ".join(words))
    return texts


@both
def test_odd_texts(utility):
    np.testing.assert_allclose(utilities(ODD, utility), double_loop(ODD, utility), rtol=1e-9, atol=0)


@both
@pytest.mark.parametrize("language", ["de", "fr", "cs"])
def test_real_texts(utility, language, shared):
    lines = (shared / "multi30k" / f"val.{language}").read_text(encoding="utf-8").splitlines()
    texts = list(dict.fromkeys(lines[:12] + mutations(lines[20], 12, seed=5)))
    np.testing.assert_allclose(utilities(texts, utility), double_loop(texts, utility), rtol=1e-9, atol=0)


@both
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(alphabet="ab .,1ä\n\t", max_size=12) | st.text(max_size=8), min_size=1, max_size=6))
def test_random_texts(utility, texts):
    np.testing.assert_allclose(utilities(texts, utility), double_loop(texts, utility), rtol=1e-9, atol=0)


@both
@pytest.mark.parametrize("weighted", [False, True])
def test_expected_utility_is_the_mean_over_all_candidates(utility, weighted):
    """Duplicates included, as often as they are there, and each text itself."""
    texts = mutations("ein Mann in einem blauen Hemd steht auf einer Leiter .", 14, seed=1)
    texts += [*texts[:3], texts[0], "", ""]
    weights = [random.Random(n).random() for n in range(len(texts))] if weighted else None
    shares = weights or [1.0] * len(texts)
    expected = [
        math.fsum(w * u for w, u in zip(shares, row, strict=True)) / math.fsum(shares)
        for row in double_loop(texts, utility)
    ]
    found = expected_utility(texts, utility=utility, weights=weights)
    assert found == pytest.approx(expected, rel=1e-9)
    order = consensus(texts, utility=utility, weights=weights)
    assert sorted(order) == list(range(len(texts)))
    assert [found[n] for n in order] == sorted(found, reverse=True)
    assert all(found[texts.index(text)] == value for text, value in zip(texts, found, strict=True))
    # of equal texts the first comes first
    assert [n for n in order if texts[n] == texts[0]] == sorted(n for n, text in enumerate(texts) if text == texts[0])


@both
def test_leaving_itself_out_changes_no_order(utility):
    """Nothing but the empty text is other than 100 to itself."""
    texts = mutations("zwei Hunde spielen im tiefen Schnee vor dem Haus .", 20, seed=2)
    texts += texts[4:7]
    table = double_loop(texts, utility)
    others = [sum(row[:n] + row[n + 1 :]) for n, row in enumerate(table)]
    ranked = [others[n] for n in consensus(texts, utility=utility)]
    assert ranked == pytest.approx(sorted(others, reverse=True), rel=1e-9)


@both
def test_the_odd_one_out_is_last(utility):
    texts = ["a man walks his dog .", "green ideas sleep", "a man walks a dog .", "the man walks his dog ."]
    assert consensus(texts, utility=utility)[-1] == 1
    assert consensus(texts, utility=utility, weights=[0, 1, 0, 0])[0] == 1


@both
def test_few_texts(utility):
    assert consensus([], utility=utility) == expected_utility([], utility=utility) == []
    assert expected_utility(["a b c d"], utility=utility) == pytest.approx([100.0])
    assert expected_utility(["", ""], utility=utility) == [0.0, 0.0]


@pytest.mark.parametrize("weights", [[1.0], [1.0, -0.1], [0.0, 0.0], [1.0, math.nan], [1.0, math.inf]])
def test_impossible_weights(weights):
    with pytest.raises(ValueError, match="weights of 2 texts must be as many, >= 0, and not all 0"):
        expected_utility(["a", "b"], utility="chrf", weights=weights)


def test_many_different_ngrams_are_compared_in_parts(monkeypatch):
    generator = np.random.default_rng(3)
    sequences = [generator.integers(0, 9, size) for size in (40, 0, 1, 200, 7)]
    whole, totals = matches(sequences, 4)
    monkeypatch.setattr("nmt.consensus.COLUMNS", 7)
    parts, _ = matches(sequences, 4)
    np.testing.assert_array_equal(parts, whole)
    assert totals.tolist()[3] == [37, 0, 0, 197, 4]
