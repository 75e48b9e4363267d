"""Draws of lines, sums over them, percentiles: against loops and what is known of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nmt import bootstrap
from nmt.bootstrap import draws, interval, resampled, share


@pytest.mark.parametrize("lines", [1, 2, 7, 2000])
def test_draws_have_as_many_lines_as_there_are(lines: int) -> None:
    drawn = list(draws(lines))
    assert len(drawn) == bootstrap.RESAMPLES
    assert all(len(one) == lines == one.sum() and one.min() >= 0 for one in drawn)
    assert all(np.array_equal(one, two) for one, two in zip(drawn, draws(lines), strict=True))


def test_each_line_is_drawn_with_the_same_probability() -> None:
    drawn = np.array(list(draws(5)))
    # Binomial(5, 1/5): mean 1 and variance 4/5, over 1,000 draws.
    assert drawn.mean(axis=0) == pytest.approx([1.0] * 5, abs=4 * (0.8 / 1000) ** 0.5)
    assert drawn.var() == pytest.approx(0.8, abs=0.08)


def test_no_lines_are_not_drawn() -> None:
    assert list(draws(0)) == []
    assert resampled(np.zeros((0, 3, 2), np.int64)).shape == (0, 3, 2)


def test_sums_by_loops() -> None:
    counts = np.arange(24).reshape(4, 3, 2) ** 2
    sums = resampled(counts)
    for one, often in zip(sums, itertools.islice(draws(4), 50), strict=False):
        for a, b in itertools.product(range(3), range(2)):
            assert one[a, b] == sum(int(often[n]) * int(counts[n, a, b]) for n in range(4))


def test_percentiles() -> None:
    values = np.arange(1001) / 1000
    assert interval(np.random.default_rng(1).permutation(values)) == pytest.approx((0.025, 0.975))
    assert interval(np.array([np.nan, 3.0, np.nan])) == (3.0, 3.0)
    assert interval(np.array([np.nan])) is None


def test_shares() -> None:
    assert share(np.array([1, -1, 0]), np.array([2, 4, 0])) == pytest.approx([0.5, -0.25, np.nan], nan_ok=True)
