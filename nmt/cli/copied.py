"""How `nmt evaluate --copy` prints what it counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmt.bootstrap import Interval
    from nmt.copying import CopyScores, Part
    from nmt.gate import GateScores


def copy_json(scores: CopyScores, gate: Mapping[str, GateScores] | None, training: str | None) -> dict[str, Any]:
    """`training`: the text that words were counted in; None where there is none."""
    from nmt.bootstrap import PERCENT, RESAMPLES, SEED

    numerals = scores.numerals
    report: dict[str, Any] = {
        "training": training,
        "intervals": {"percent": PERCENT, "of": "lines", "resamples": RESAMPLES, "seed": SEED},
        "rows": {
            name: {
                "recall": row.recall,
                "recall_interval": scores.intervals[name].recall,
                "precision": row.precision,
                "precision_interval": scores.intervals[name].precision,
                "spurious": row.spurious,
                **row._asdict(),
            }
            for name, row in scores.rows.items()
        },
        "numerals": {"f1": numerals.f1, "f1_interval": scores.intervals["numerals"].f1, **numerals._asdict()},
        "spans": {"share": scores.spans.share, "interval": scores.intervals["spans"].recall, **scores.spans._asdict()},
        "placeholders": {
            "in_source": scores.kept.whole,
            "kept": scores.kept.part,
            "share": scores.kept.share,
            "interval": scores.intervals["kept"].recall,
            "order": scores.order.share,
            "order_interval": scores.intervals["order"].recall,
            "pairs": scores.order.whole,
        },
    }
    if gate is not None:
        report["gate"] = {
            name: {
                "auroc": row.rates.auroc,
                "auroc_interval": row.auroc_interval,
                "calibration_error": row.rates.calibration,
                "calibration_error_interval": row.calibration_interval,
                "mean_copied": row.rates.copied,
                "mean_others": row.rates.others,
                "copied": row.copied,
                "others": row.others,
            }
            for name, row in gate.items()
        }
    return report


def copy_table(scores: CopyScores, gate: Mapping[str, GateScores] | None, no_training: str | None) -> list[str]:
    """Lines with aligned columns; `no_training` says why there is no training text."""
    from nmt.bootstrap import PERCENT, RESAMPLES, SEED

    of = f"{PERCENT} %"
    lines = [f"{'copied':<14}{'recall':>8}{of:>15}{'precision':>11}{of:>15}{'right':>8}{'in ref':>8}{'in out':>8}"]
    for name, row in scores.rows.items():
        found = scores.intervals[name]
        recall = f"{_number(row.recall):>8}{_range(found.recall):>15}"
        precision = f"{_number(row.precision):>11}{_range(found.precision):>15}"
        lines.append(f"{name:<14}{recall}{precision}{row.right:>8}{row.in_reference:>8}{row.in_output:>8}")
    if no_training is not None:
        lines.append(f"No rows by training frequency: {no_training}.")
    lines += _others(scores)
    if gate is not None:
        lines += _gate_table(gate)
    return [*lines, f"{of}: bootstrap intervals over lines, {RESAMPLES:,} resamples, seed {SEED}"]


def _others(scores: CopyScores) -> list[str]:
    """A line for each that there is something to count for."""

    def line(name: str, value: float | None, interval: Interval | None, what: str) -> str:
        return f"{name:<14}{_number(value):>8}{_range(interval):>15}  {what}"

    def of(part: Part) -> str:
        return f"{part.part:,} of {part.whole:,}"

    numerals, spans, kept, order = scores.numerals, scores.spans, scores.kept, scores.order
    lines = []
    if numerals.in_reference or numerals.in_output:
        counts = f"{numerals.right:,} of {numerals.in_reference:,} in the reference and {numerals.in_output:,}"
        f1 = scores.intervals["numerals"].f1
        lines.append(line("numbers, F1", numerals.f1, f1, f"{counts} in the output, however they are spelled"))
    if spans.whole:
        what = f"{of(spans)} spans of two or more source tokens that the reference has"
        lines.append(line("spans", spans.share, scores.intervals["spans"].recall, what))
    if kept.whole:
        what = f"{of(kept)} placeholders are as often in the output as in the source"
        lines.append(line("exactly kept", kept.share, scores.intervals["kept"].recall, what))
    if order.whole:
        what = f"Kendall's tau of {order.whole:,} pairs of placeholders, against the reference"
        lines.append(line("their order", order.share, scores.intervals["order"].recall, what))
    return lines


def _gate_table(gate: Mapping[str, GateScores]) -> list[str]:
    """p_copy, and how many tokens: of those that were copied, and of the others."""
    from nmt.bootstrap import PERCENT

    of = f"{PERCENT} %"
    means = f"{'p(copy)':>9}{'elsewhere':>11}"
    lines = [f"{'gate':<14}{'AUROC':>8}{of:>15}{'cal. error':>11}{of:>15}{means}{'copied':>8}{'others':>8}"]
    for name, row in gate.items():
        auroc = f"{_number(row.rates.auroc):>8}{_range(row.auroc_interval):>15}"
        error = f"{_number(row.rates.calibration):>11}{_range(row.calibration_interval):>15}"
        means = f"{_number(row.rates.copied):>9}{_number(row.rates.others):>11}"
        lines.append(f"{name:<14}{auroc}{error}{means}{row.copied:>8}{row.others:>8}")
    return lines


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _range(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f}-{interval[1]:.4f}"
