"""How `nmt evaluate` prints scores of one system, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmt.evaluate import Compared, MetricScore

OF = "95 %"
FEW = 100
"""Lines below which an interval is too narrow to be believed: a bootstrap knows no others than these."""


def score_lines(compared: Compared, systems: Sequence[str], lines: int) -> list[str]:
    """What one metric says: of one system in a sentence, of several in a table."""
    first = compared.scores[0]
    if len(systems) == 1:
        judged = f"{_which_way(first.name)}; {_how_sure(first, lines)}"
        return [f"{first.name} {first.value:.2f}  {first.signature}", f"  {judged}"]
    width = max(map(len, systems))
    table = [
        f"{first.name}  {first.signature}",
        f"  {'system':<{width}}{'score':>9}{OF:>16}{'difference':>12}{'p, bootstrap':>14}{'p, randomization':>18}",
    ]
    for name, score, difference in zip(systems, compared.scores, compared.differences, strict=True):
        line = f"  {name:<{width}}{score.value:>9.2f}{_range(score.interval, '-'):>16}"
        if difference is not None:
            line += f"{difference.value:>+12.2f}{difference.p_bootstrap:>14.4f}{difference.p_randomization:>18.4f}"
        table.append(line)
    return [*table, f"  {_which_way(first.name)}"]


def last_words(systems: Sequence[str]) -> list[str]:
    """How the columns of a table of systems are to be read."""
    from nmt.evaluate import RESAMPLES, TRIALS

    return [
        f"{OF}: where the score would be with other lines of the same kind. p: how often chance alone would make a "
        f"system differ so much from {systems[0]};",
        "below 0.05 it is usually said to differ. By sacrebleu's paired bootstrap "
        f"({RESAMPLES:,} resamples) and approximate randomization ({TRIALS:,} trials).",
    ]


def score_json(compared: Sequence[Compared], systems: Sequence[str]) -> dict[str, Any]:
    """Each system with all its scores, and once more those of the first."""
    from nmt.evaluate import RESAMPLES, TRIALS

    found: list[dict[str, Any]] = []
    for n, name in enumerate(systems):
        scores = [one.scores[n]._asdict() for one in compared]
        for score, one in zip(scores, compared, strict=True):
            difference = one.differences[n]
            score["difference"] = None if difference is None else difference._asdict()
        found.append({"system": name, "scores": scores})
    resampling = {"percent": 95, "of": "lines", "resamples": RESAMPLES, "trials": TRIALS}
    return {"scores": found[0]["scores"], "systems": found, "resampling": resampling}


def worst_table(
    worst: Sequence[tuple[int, float]], texts: Sequence[tuple[str, Sequence[str]]], system: str | None
) -> list[str]:
    """The lines with the lowest chrF; `texts` are the files that each text comes from, with a name: source, ..."""
    width = max(len(name) for name, _ in texts)
    lines = [f"the lines with the lowest chrF{'' if system is None else f' of {system}'}:"]
    for number, score in worst:
        lines.append(f"line {number}, chrF {score:.1f}")
        lines += [f"  {name:<{width}}  {text[number - 1]}" for name, text in texts]
    return lines


def worst_json(worst: Sequence[tuple[int, float]], texts: Sequence[tuple[str, Sequence[str]]]) -> list[dict[str, Any]]:
    return [
        {"line": number, "chrf": score, **{name: text[number - 1] for name, text in texts}} for number, score in worst
    ]


def _which_way(metric: str) -> str:
    return "less is better" if metric == "TER" else "more is better"


def _how_sure(score: MetricScore, lines: int) -> str:
    from nmt.evaluate import MOST_RESAMPLED

    if score.interval is None:
        return f"how sure that is cannot be said of one line, and is not worked out for more than {MOST_RESAMPLED:,}"
    few = f", as far as {lines} lines can tell" if lines < FEW else ""
    return f"with other lines of the same kind it would be from {_range(score.interval, ' to ')}, 95 times in 100{few}"


def _range(interval: tuple[float, float] | None, to: str) -> str:
    return "" if interval is None else f"{interval[0]:.2f}{to}{interval[1]:.2f}"
