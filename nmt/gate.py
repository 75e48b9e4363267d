"""How well the gate of a model that copies knows when to: what `nmt translate --details` says, and what was written.

p_copy of a step is the probability of copying, whichever word: 1 - `gate` of the details. All is about what the model
wrote, not about references; ends of sentences are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmt.bootstrap import Interval, draws, interval
from nmt.copying import BINS, LAST_BIN, bin_of, tokens
from nmt.errors import UserError
from nmt.records import parse_json

PRECISION = 10_000
"""p_copy is compared to four decimals, as the details have it."""
CALIBRATION_BINS = 10


class Step(NamedTuple):
    """A token that a model wrote."""

    token: str
    p_copy: float
    in_source: bool
    outside: bool  # the vocabulary lacks it


class Written(NamedTuple):
    """What became of one line: the best candidate, or nothing."""

    text: str
    steps: list[Step]
    source: int  # tokens of the source


class Rates(NamedTuple):
    """p_copy against an oracle that says of each token whether it was copied; None where tokens are lacking."""

    auroc: float | None  # probability that a copied token has more p_copy than another, a tie being half
    calibration: float | None  # expected calibration error, over CALIBRATION_BINS bins of equal width
    copied: float | None  # mean p_copy of the tokens that were copied
    others: float | None  # and of those that were not


class GateScores(NamedTuple):
    """With 95 % bootstrap intervals over lines; see `nmt.bootstrap`."""

    rates: Rates
    copied: int  # tokens that were copied, as the oracle says
    others: int  # those that it is about and that were not
    auroc_interval: Interval | None
    calibration_interval: Interval | None


class _Kind(NamedTuple):
    """What a token has to do with copying."""

    in_source: bool
    outside: bool
    bin: str  # by training frequency; empty where it is not in the source, or not known


def parse_details(lines: Iterable[str], name: str) -> list[Written]:
    """The lines of a file of details called `name`. Raises UserError for a line that is none, and where none has a
    gate."""
    written = [_written(line, f"{name}, line {number}") for number, line in enumerate(lines, start=1)]
    if not any(line.steps for line in written):
        raise UserError(
            f"{name}: no line has a gate", "`nmt translate --details` writes it, for models with a head that copies."
        )
    return written


def gate_scores(
    written: Sequence[Written],
    sources: Sequence[str],
    *,
    frequency: Mapping[str, int] | None = None,
    lowercase: bool = False,
) -> dict[str, GateScores]:
    """How well p_copy tells which tokens were copied. By what counts as copied:

    - `unknown`: tokens that stand in the source and that the vocabulary lacks, against all others;
    - `in source`: tokens that stand in the source, against all others;
    - by training frequency, if it is known and tokens are the words of the `sources`: tokens that stand in the source
      and have that frequency, against those that do not stand in it. Of a word of several tokens, as `copying` has
      them, the rarest counts.

    Calibration is that of Guo et al. 2017, "On calibration of modern neural networks", with the oracle as what is to be
    predicted. A model copies in-vocabulary words, too, so that its p_copy is too large for `unknown` by rights.
    Raises UserError for unequal numbers of lines.
    """
    if len(written) != len(sources):
        raise UserError(f"the gate is looked at line by line: {len(written)} lines of details, {len(sources)} sources")
    steps = [step for line in written for step in line.steps]
    known = frequency if _of_words(written, sources) else None
    groups = [_kind(step, known, lowercase=lowercase) for step in steps]
    kinds = sorted(set(groups))
    number = {kind: n for n, kind in enumerate(kinds)}
    levels, level_of = np.unique([round(step.p_copy * PRECISION) for step in steps], return_inverse=True)
    cells = np.array([number[group] for group in groups]) * len(levels) + level_of
    line_of = np.repeat(np.arange(len(written)), [len(line.steps) for line in written])

    def count(often: NDArray[np.int64]) -> NDArray[np.float64]:
        """How many tokens of each kind have each level [kinds, levels], of lines that are there so `often`."""
        counted = np.bincount(cells, often[line_of], len(kinds) * len(levels))
        return counted.astype(np.float64).reshape(len(kinds), -1)

    there = np.array([kind.in_source for kind in kinds])
    unknown = np.array([kind.in_source and kind.outside for kind in kinds])
    sides = {"unknown": (unknown, ~unknown), "in source": (there, ~there)}
    for name in () if known is None else (*BINS, LAST_BIN):
        sides[name] = (np.array([kind.bin == name for kind in kinds]), ~there)
    whole = count(np.ones(len(written), np.int64))
    samples: dict[str, list[Rates]] = {name: [] for name in sides}
    for often in draws(len(written)):
        drawn = count(often)
        for name, (yes, no) in sides.items():
            samples[name].append(_rates(levels, drawn[yes].sum(axis=0), drawn[no].sum(axis=0)))
    return {
        name: GateScores(
            _rates(levels, whole[yes].sum(axis=0), whole[no].sum(axis=0)),
            int(whole[yes].sum()),
            int(whole[no].sum()),
            _interval([rates.auroc for rates in samples[name]]),
            _interval([rates.calibration for rates in samples[name]]),
        )
        for name, (yes, no) in sides.items()
    }


def _rates(levels: NDArray[np.int64], yes: NDArray[np.float64], no: NDArray[np.float64]) -> Rates:
    """Of how many tokens of either side have each level of p_copy [levels]."""
    all_yes, all_no = yes.sum(), no.sum()
    auroc = calibration = None
    if all_yes and all_no:
        auroc = float(yes @ (np.cumsum(no) - no / 2) / (all_yes * all_no))
        bins = np.minimum(levels * CALIBRATION_BINS // PRECISION, CALIBRATION_BINS - 1)
        gaps = np.bincount(bins, (yes + no) * levels / PRECISION - yes)  # of each bin its tokens times its gap
        calibration = float(np.abs(gaps).sum() / (all_yes + all_no))
    means = (float(side @ levels / PRECISION / side.sum()) if side.any() else None for side in (yes, no))
    return Rates(auroc, calibration, *means)


def _interval(values: list[float | None]) -> Interval | None:
    return interval(np.array([np.nan if value is None else value for value in values]))


def _of_words(written: Sequence[Written], sources: Sequence[str]) -> bool:
    return all(line.source == len(text.split()) for line, text in zip(written, sources, strict=True) if line.steps)


def _kind(step: Step, frequency: Mapping[str, int] | None, *, lowercase: bool) -> _Kind:
    name = ""
    if step.in_source and frequency is not None:
        name = bin_of(min(frequency.get(token, 0) for token in tokens(step.token, lowercase=lowercase)))
    return _Kind(step.in_source, step.outside, name)


def _written(line: str, place: str) -> Written:
    try:
        record: dict[str, Any] = parse_json(line, place)
        text, source = record["text"], set(record.get("source", ()))
        best: dict[str, Any] = record["candidates"][0] if record["candidates"] else {}
        if not isinstance(text, str):
            raise TypeError
        steps = []
        if "gate" in best:
            outside, names = set(best["outside"]), best["tokens"]
            for n, (token, gate) in enumerate(zip(names, best["gate"][: len(names)], strict=True)):
                if not 0 <= gate <= 1:
                    raise ValueError
                steps.append(Step(token, 1.0 - gate, token in source, n in outside))
        return Written(text, steps, len(record.get("source", ())))
    except (UserError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UserError(f"{place}: not what `nmt translate --details` writes") from None
