"""The results of the study: lines of JSON, tables in Markdown, pictures. Nothing here trains or measures."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import matplotlib
from dots import KEYS, Spread, uniform_entropy
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nmt.files import write_atomically

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from recipes.study import markdown, spread

TITLES = {
    "phrasebook": "phrasebook",
    "chained": "phrasebook, long sentences in training",
    "multi30k": "Multi30k, small budget",
}
TRAINED_TO = {"phrasebook": 20}
"""Source words of the longest sentence in training, where the study tests on longer ones."""
STYLES = {  # colours that colour-blind readers tell apart (Okabe and Ito)
    "none": ("#000000", "s", "--"),
    "dot": ("#E69F00", "o", "-"),
    "scaled_dot": ("#56B4E9", "v", "-"),
    "general": ("#009E73", "D", "-"),
    "additive": ("#D55E00", "^", "-"),
}


class Bucket(NamedTuple):
    """Scores of the test sentences with `first` to `last` source words."""

    first: int
    last: int
    sentences: int
    bleu: float
    chrf: float


class Cell(NamedTuple):
    """One training and what came out."""

    text: str
    scorer: str
    seed: int
    parameters: int
    steps: int
    minutes: float  # of training, validations included
    speed: float | None  # target tokens a second, validations not included
    dev_bleu: float  # greedy, of the checkpoint that it chose
    bleu: float
    chrf: float
    long_bleu: float | None  # None: the text has no such split
    long_chrf: float | None
    aer: float | None  # None: no attention, or no gold
    lengths: list[Bucket]

    def to_json(self) -> str:
        return json.dumps({**self._asdict(), "lengths": [bucket._asdict() for bucket in self.lengths]})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        return cls(**{**values, "lengths": [Bucket(**bucket) for bucket in values["lengths"]]})


def write_results(out: Path, cells: Sequence[Cell], dots: Sequence[Spread]) -> None:
    """results.jsonl, dots.jsonl, results.md and the pictures, as far as there is something to show."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "results.jsonl", "".join(f"{cell.to_json()}\n" for cell in cells))
    write_atomically(out / "dots.jsonl", "".join(f"{json.dumps(row._asdict())}\n" for row in dots))
    write_atomically(out / "results.md", "\n".join([*score_tables(cells), *dot_table(dots)]) + "\n")
    draw_dots(dots, out / "dots.png")
    if cells:
        draw_scores(cells, out / "scores.png")
        draw_lengths(cells, out / "lengths.png")


def groups(cells: Sequence[Cell]) -> dict[str, dict[str, list[Cell]]]:
    """By text and scorer, in the order of the tables; only what there is."""
    found = {
        text: {scorer: [c for c in cells if (c.text, c.scorer) == (text, scorer)] for scorer in STYLES}
        for text in TITLES
    }
    kept = {text: {scorer: some for scorer, some in rows.items() if some} for text, rows in found.items()}
    return {text: rows for text, rows in kept.items() if rows}


# Tables


def score_tables(cells: Sequence[Cell]) -> list[str]:
    lines: list[str] = []
    for text, rows in groups(cells).items():
        lines += [
            f"## {TITLES[text][0].upper()}{TITLES[text][1:]}",
            "",
        ]
        table = []
        for scorer, some in rows.items():
            shown = [
                spread([getattr(c, name) for c in some]) for name in ("bleu", "chrf", "aer", "long_bleu", "long_chrf")
            ]
            minutes, speed = spread([c.minutes for c in some], ".1f"), spread([c.speed for c in some], ",.0f")
            table.append((scorer, seeds(some), f"{some[0].parameters:,}", *shown, minutes, speed))
        lines += [*markdown(_COLUMNS, table), "", *length_table(rows), ""]
    return lines + (_NOTES if cells else [])


_COLUMNS = (
    *("attention", "seeds", "parameters", "BLEU", "chrF", "AER"),
    *("long: BLEU", "long: chrF", "minutes", "target tokens/s"),
)
_NOTES = [
    "BLEU and chrF: sacrebleu's defaults; the checkpoint that dev (greedy BLEU) chose, tested once.",
    "AER: alignment error rate of the most attended source words, the references being forced. ±: standard deviation",
    "over seeds; with one seed there is none, and then nothing here says which of two close scorers is the better one.",
    "Minutes and speed are of training, and compare only where nothing else ran.",
    "",
]


def length_table(rows: dict[str, list[Cell]]) -> list[str]:
    """BLEU by source length."""
    found = {(b.first, b.last): b.sentences for some in rows.values() for c in some for b in c.lengths}
    if not found:
        return []
    ranges = sorted(found)
    lines = [
        f"| BLEU by source words | {' | '.join(f'{first}-{last}' for first, last in ranges)} |",
        f"|---{'|---' * len(ranges)}|",
        f"| sentences | {' | '.join(str(found[limits]) for limits in ranges)} |",
    ]
    for scorer, some in rows.items():
        means = (spread([b.bleu for c in some for b in c.lengths if (b.first, b.last) == limits]) for limits in ranges)
        lines.append(f"| {scorer} | {' | '.join(means)} |")
    return lines


def dot_table(dots: Sequence[Spread]) -> list[str]:
    lines = [
        "## Dot products by width",
        "",
        f"Scores of a query and {KEYS} random keys, components of variance 1; entropy (nats) and greatest weight of",
        f"their softmax, means. Uniform attention has {uniform_entropy():.2f} and {1 / KEYS:.3f}.",
        "",
        "| width | variance: dot | scaled | entropy: dot | scaled | greatest weight: dot | scaled |",
        "|---|---|---|---|---|---|---|",
    ]
    for dot, scaled in by_width(dots):
        pairs = (
            f"{dot.variance:.1f} | {scaled.variance:.3f}",
            f"{dot.entropy:.2f} | {scaled.entropy:.2f}",
            f"{dot.greatest:.3f} | {scaled.greatest:.3f}",
        )
        lines.append(f"| {dot.width} | {' | '.join(pairs)} |")
    return lines


def by_width(dots: Sequence[Spread]) -> list[tuple[Spread, Spread]]:
    """The dot product and the scaled one of each width."""
    found = {(row.scorer, row.width): row for row in dots}
    return [(found["dot", width], found["scaled_dot", width]) for width in sorted({row.width for row in dots})]


def seeds(cells: Sequence[Cell]) -> str:
    return ", ".join(str(seed) for seed in sorted(cell.seed for cell in cells))


def centre(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; the latter 0 for one value."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


# Pictures


@contextmanager
def drawing(path: Path, rows: int, columns: int, *, width: float, height: float) -> Iterator[list[list[Axes]]]:
    """Gives axes of `width` and `height` inches each, and writes them to `path`; the same for all users' settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}
        )
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
        yield [list(row) for row in axes]
        figure.savefig(path, dpi=130)


def draw_lengths(cells: Sequence[Cell], path: Path) -> None:
    """BLEU by source length, a panel for each text; bars are standard deviations over seeds."""
    found = groups(cells)
    with drawing(path, 1, len(found), width=4.6, height=3.4) as (panels,):
        for axes, (text, rows) in zip(panels, found.items(), strict=True):
            ranges = sorted({(b.first, b.last) for some in rows.values() for c in some for b in c.lengths})
            for scorer, some in rows.items():
                points = []
                for place, limits in enumerate(ranges):
                    values = [b.bleu for c in some for b in c.lengths if (b.first, b.last) == limits]
                    points += [(place, *centre(values))] if values else []
                colour, marker, line = STYLES[scorer]
                places, means, deviations = zip(*points, strict=True)
                error = deviations if len(some) > 1 else None
                axes.errorbar(
                    places, means, error, label=scorer, color=colour, marker=marker, linestyle=line, ms=5, capsize=2
                )
            if text in TRAINED_TO:
                beyond = sum(last <= TRAINED_TO[text] for _, last in ranges) - 0.5
                axes.axvspan(beyond, len(ranges) - 0.5, color="#eeeeee", zorder=0)
            axes.set_xticks(range(len(ranges)), [f"{first}-{last}" for first, last in ranges], rotation=45)
            xlabel = f"source words{' (grey: more than any in training)' if text in TRAINED_TO else ''}"
            axes.set(title=TITLES[text], xlabel=xlabel, ylim=(0, None), xlim=(-0.5, len(ranges) - 0.5))
            axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        panels[0].set_ylabel("BLEU")
        panels[0].legend(title="attention", frameon=False, loc="upper right", bbox_to_anchor=(-0.15, 1))


def draw_scores(cells: Sequence[Cell], path: Path) -> None:
    """A row for each text, a column for each measure, a point for each seed, a bar at their mean.
    Scales start at 0: small differences are to look small."""
    found = groups(cells)
    measures: dict[str, Callable[[Cell], float | None]] = {
        "BLEU": lambda cell: cell.bleu,
        "chrF": lambda cell: cell.chrf,
        "alignment error rate": lambda cell: cell.aer,
        "minutes of training": lambda cell: cell.minutes,
    }
    names = list(STYLES)[::-1]  # the first on top
    with drawing(path, len(found), len(measures), width=2.7, height=1.9) as panels:
        for row, (text, rows) in zip(panels, found.items(), strict=True):
            for axes, (title, measure) in zip(row, measures.items(), strict=True):
                points = [
                    (scorer, value) for scorer, some in rows.items() for c in some if (value := measure(c)) is not None
                ]
                for scorer in {scorer for scorer, _ in points}:
                    values = [value for name, value in points if name == scorer]
                    place = names.index(scorer)
                    axes.plot(
                        values, [place] * len(values), STYLES[scorer][1], color=STYLES[scorer][0], ms=5, alpha=0.7
                    )
                    axes.vlines(statistics.mean(values), place - 0.3, place + 0.3, color=STYLES[scorer][0])
                axes.set_xlim(0, 1.06 * max((value for _, value in points), default=1) or 1)
                if not points:
                    axes.text(0.5, 0.5, "no alignment", ha="center", transform=axes.transAxes, color="#555555")
                    axes.set_xticks([])
                axes.set_yticks(range(len(names)), names if axes is row[0] else [""] * len(names))
                axes.set_ylim(-0.6, len(names) - 0.4)
                axes.grid(axis="x", color="#dddddd", linewidth=0.6)
                axes.set_title(title if row is panels[0] else "")
            row[0].set_ylabel(TITLES[text].replace(", ", ",\n"))


def draw_dots(dots: Sequence[Spread], path: Path) -> None:
    """The variance of scores, and the entropy of their softmax, by width."""
    pairs = by_width(dots)
    widths = [dot.width for dot, _ in pairs]
    with drawing(path, 1, 2, width=3.9, height=3.2) as ((left, right),):
        left.plot(widths, widths, color="#999999", linewidth=1, label="variance = width")
        left.axhline(1, color="#999999", linewidth=1, linestyle=":", label="variance = 1")
        for scorer, column in (("dot", 0), ("scaled_dot", 1)):
            rows = [pair[column] for pair in pairs]
            colour, marker, _ = STYLES[scorer]
            left.plot(widths, [row.variance for row in rows], marker, color=colour, label=scorer)
            right.plot(widths, [row.entropy for row in rows], f"{marker}-", color=colour, label=scorer)
        right.axhline(math.log(KEYS), color="#999999", linewidth=1, linestyle=":", label=f"uniform: log {KEYS}")
        left.set_yscale("log", base=2)
        left.set(title="variance of the scores of random vectors")
        right.set(title=f"entropy of attention over {KEYS} keys, nats", ylim=(0, None))
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xticks(widths, [str(width) for width in widths])
            axes.set_xlabel("width")
            axes.legend(frameon=False)
