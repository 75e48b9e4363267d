"""Flags by hand-made cases, on both sides of every threshold."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nmt import flags
from nmt.flags import copies_source, find_flags, has_extreme_length, has_low_confidence, leaves_uncovered, longest_loop


def loop_by_search(tokens: list[int]) -> int:
    """Obvious and slow: every start, every length, count how often the stretch follows itself."""
    most = min(1, len(tokens))
    for start in range(len(tokens)):
        for length in range(1, len(tokens) - start + 1):
            block, times = tokens[start : start + length], 1
            while tokens[start + times * length : start + (times + 1) * length] == block:
                times += 1
            most = max(most, times)
    return most


def test_loops_are_those_of_a_search_of_everything() -> None:
    draw = random.Random(1)
    for _ in range(500):
        tokens = [draw.randrange(draw.choice([2, 3])) for _ in range(draw.randrange(12))]
        assert longest_loop(tokens) == loop_by_search(tokens)


@pytest.mark.parametrize(
    ("src", "tgt", "expected"),
    [
        ("a b c", "x y z", False),
        ("", "", False),
        ("a b c", "very very good", False),  # twice
        ("a b c", "very very very good", True),  # three times
        ("a b c", "he saw it he saw it then", False),
        ("a b c", "then he saw it he saw it he saw it", True),
        ("a b c", "he saw it he saw it he saw", False),  # the third one is not complete
        ("no no no", "nein nein nein", False),  # as often as the source
        ("no no no", "nein nein nein nein", True),
        ("a b a b a b", "x y x y x y", False),
        ("1 0 0 0", "1 0 0 0 0", True),
        ("a", "the man and the man and the woman", False),  # repeated, but not in a row
    ],
)
def test_repetition(src: str, tgt: str, expected: bool) -> None:
    assert flags.repeats(src.split(), tgt.split()) is expected


@pytest.mark.parametrize(
    ("src", "tgt", "expected"),
    [
        ("a man rides a horse", "a man rides a horse", True),
        ("A man rides a horse .", "a man rides a horse .", True),  # case does not hide it
        ("a man rides a horse", "ein Mann reitet ein Pferd", False),
        ("abcd efgh ijkl mnop qrst", "abcd efgh ijkl mnop wxyz", True),  # 16 of 20 letters: the threshold
        ("abcd efgh ijkl mnop qrst", "abcd efgh ijkl mno wxyz", False),  # 12 of 19
        ("abcd efgh ijkl mnop", "abcd efgh ijkl mnopqx", False),  # 12 of 18
        ("john lives here", "john lives here", False),  # three words
        ("john lives here now", "john lives here now", True),  # four
        ("abcdefghij klmnopqrs", "abcdefghij klmnopqrs", False),  # two words of 19 letters
        ("abcdefghij klmnopqrst", "abcdefghij klmnopqrst", True),  # of 20
        ("春" * 19, "春" * 19, False),
        ("春" * 20, "春" * 20, True),  # text without spaces, copied whole
        ("10 11 12 13 14 : 15", "10 11 12 13 14 : 15", False),  # numbers are to be copied
        ("word a b c d", "word word word word", False),  # it stands there once
        ("a man rides a horse", "", False),
        ("", "a man rides a horse", False),
    ],
)
def test_copied_source(src: str, tgt: str, expected: bool) -> None:
    assert copies_source(src, tgt) is expected


@pytest.mark.parametrize(
    ("src", "tgt", "expected"),
    [(1, 6, False), (1, 7, True), (10, 24, False), (10, 25, True), (24, 10, False), (25, 10, True), (4, 0, False),
     (5, 0, True), (0, 0, False), (30, 30, False)],
)  # fmt: skip
def test_length_ratio(src: int, tgt: int, expected: bool) -> None:
    assert has_extreme_length(src, tgt) is expected


def attention(*received: float) -> np.ndarray:
    """Three steps that give the source's tokens so much in all; EOS gets the rest."""
    row = np.array([*received], np.float64) / 3
    return np.tile(np.array([*row, 1 - row.sum()]), (3, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        ([0.2] * 12, False),
        ([0.2] * 9 + [0.09] * 3, True),  # three of twelve: both thresholds
        ([0.2] * 9 + [0.09] * 2 + [0.11], False),  # one of the three gets enough
        ([0.2] * 10 + [0.0] * 3, False),  # three of thirteen: less than a quarter
        ([0.2] * 9 + [0.0] * 4, True),
        ([0.2] * 2 + [0.0] * 2, False),  # half of them, but only two
        ([0.0] * 3, True),  # all went to EOS
        ([0.0] * 2, False),
    ],
)
def test_uncovered_source(received: list[float], expected: bool) -> None:
    assert leaves_uncovered(attention(*received)) is expected


@pytest.mark.parametrize(
    ("log_probs", "expected"),
    [([-1.0, -1.0], False), ([-1.0, -1.01], True), ([0.0, -2.0], False), ([0.0, -2.01], True), ([0.0], False),
     ([], False)],
)  # fmt: skip
def test_low_confidence(log_probs: list[float], expected: bool) -> None:
    assert has_low_confidence(log_probs) is expected


def test_all_together_in_order() -> None:
    src, tgt = "we saw the film here", "here here here here here here film the saw we here here here here here here"
    bad = find_flags(src, tgt, src.split(), tgt.split(), [-2.0] * 17, np.zeros((17, 6), np.float32))
    assert bad == ["repetition", "length ratio", "uncovered source", "low confidence"]
    copied = find_flags(src, src, src.split(), src.split(), [-0.1] * 6, np.full((6, 6), 1 / 6, np.float32))
    assert copied == ["copied source"]
    good = "wir haben den Film hier gesehen"
    assert find_flags(src, good, src.split(), good.split(), [-0.1] * 7, None) == []
