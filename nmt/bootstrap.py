"""Bootstrap intervals over sentences: how much a score would move with other sentences of the same kind.

As many lines as there are are drawn with replacement, `RESAMPLES` times, and the score is computed of each draw; the
interval is from the 2.5th to the 97.5th percentile of those where it is defined (Efron 1979; for scores of translation,
Koehn 2004, "Statistical significance tests for machine translation evaluation"). The seed is fixed, so that the same
lines give the same interval. Where all lines agree it has no width, however few they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 12345
PERCENT = 95

Interval = tuple[float, float]


def draws(lines: int) -> Iterator[NDArray[np.int64]]:
    """How often each of the lines was drawn, [lines], for each resample."""
    generator = np.random.default_rng(SEED)
    together = max(1, 2**20 // max(1, lines))  # resamples; memory stays small, whatever the corpus
    for first in range(0, RESAMPLES if lines else 0, together):
        count = min(together, RESAMPLES - first)
        drawn = generator.integers(lines, size=(count, lines)) + lines * np.arange(count)[:, None]
        yield from np.bincount(drawn.ravel(), minlength=count * lines).reshape(count, lines)


def resampled(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sums over lines of `counts` [lines, ...], for each resample: [RESAMPLES, ...]."""
    lines, *shape = counts.shape
    table = counts.reshape(lines, math.prod(shape)).astype(np.float64)  # exact, and products are fast
    sums = [often @ table for often in draws(lines)]
    return np.array(sums).reshape(len(sums), *shape).astype(np.int64)


def interval(values: NDArray[np.float64]) -> Interval | None:
    """The percentiles of a score in the resamples; nan is where it is not defined. None where it never is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [(100 - PERCENT) / 2, (100 + PERCENT) / 2])
    return float(low), float(high)


def share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole; nan where there is no whole."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
