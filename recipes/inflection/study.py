"""Inflection with and without a pointer: SIGMORPHON 2020, task 0, some languages, several seeds.

    python recipes/inflection/study.py -o runs/inflection --data FOLDER [--seeds 1 2 3] [--languages swa tgl zul tgk]

FOLDER has a folder for each language with train.tsv, dev.tsv and test.tsv (or .tsv.gz): lemma, form, tags. Trains what
is missing in runs/inflection, one run for each language, head and seed, then writes results.json and results.md there.
"""

from __future__ import annotations

import gzip
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nmt.errors import UserError
from nmt.evaluate import evaluate
from nmt.files import json_text, write_atomically
from nmt.records import read_json
from nmt.text.lines import read_lines

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from recipes.study import (
    Pair,
    facts,
    fingerprint,
    is_made,
    keep_best,
    log_of,
    markdown,
    nmt,
    options_of,
    settings_of,
    spread,
    start,
    text_options,
    train,
)

CONFIG = Path(__file__).parent / "rnn.yaml"
LANGUAGES = ("swa", "tgl", "zul", "tgk", "deu")
SMALL = ("swa", "tgl", "zul", "tgk")
"""Those that the macro gain is about: 53 to 3,374 forms to learn from."""
EVERY = {"deu": 10}
"""Of each part of these, every so many-th line is taken: the first, the eleventh, ... The files are in random order."""
HEADS = {"vocab": "{kind: vocab}", "copy": "{kind: copy, gate: learned, attention: {kind: additive, width: 128}}"}
STEPS = {"deu": ("train.steps=6000",)}
"""Of more forms more can be learned; the others have the updates of rnn.yaml."""
SPACE = "␣"
"""Stands for a space inside a lemma or a form."""


class Cell(NamedTuple):
    """One training and what came out on the test set."""

    language: str
    head: str
    seed: int
    train: int  # forms
    test: int
    exact: float  # percentage of the forms that are right
    distance: float  # characters to insert, delete or replace, mean over the forms
    minutes: float
    fingerprint: str  # of the settings and the text


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_of(__doc__, seeds=(1, 2, 3))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=list(LANGUAGES))
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    options = parser.parse_args(arguments)
    out: Path = options.output
    for language in options.languages:
        convert(options.data / language, out / "text" / language, every=EVERY.get(language, 1))
    for seed in options.seeds:  # a seed of all languages first: what is there early can be looked at
        for language in options.languages:
            for head in options.heads:
                complete(out, language, head, seed, options.settings)
                write_results(out)
    print((out / "results.md").read_text(encoding="utf-8"))


# The text


def convert(folder: Path, out: Path, *, every: int = 1) -> None:
    """{train,dev,test}.{src,tgt} from the tables of a language; every so many-th line, the first among them."""
    out.mkdir(parents=True, exist_ok=True)
    for part in ("train", "dev", "test"):
        pairs = read_table(folder / f"{part}.tsv")[::every]
        for side, lines in zip(("src", "tgt"), zip(*pairs, strict=True), strict=True):
            text = "".join(f"{line}\n" for line in lines)
            (out / f"{part}.{side}").write_text(text, encoding="utf-8", newline="\n")


def read_table(path: Path) -> list[tuple[str, str]]:
    """Source and target lines from rows of lemma, form, tags; from `path`, or a gzip file beside it."""
    zipped = path.with_name(f"{path.name}.gz")
    if not path.exists() and not zipped.exists():
        raise UserError(f"{path} is missing", "--data names the folder that has a folder for each language")
    text = (path.read_bytes() if path.exists() else gzip.decompress(zipped.read_bytes())).decode("utf-8")
    pairs = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        columns = line.removesuffix("\r").split("\t")
        if len(columns) != 3 or not all(columns) or SPACE in line:
            raise UserError(f"{path}, line {number}: not a lemma, a form and tags, separated by tabs: {line!r}")
        lemma, form, tags = columns
        pairs.append((source_line(lemma, tags), characters(form)))
    return pairs


def source_line(lemma: str, tags: str) -> str:
    """The tags as one token each, in <> as `V` and `1` are characters, too, then the characters of the lemma."""
    return " ".join([*(f"<{tag}>" for tag in tags.split(";")), characters(lemma)])


def characters(word: str) -> str:
    """Code points with spaces between."""
    return " ".join(word.replace(" ", SPACE))


# Training


def complete(out: Path, language: str, head: str, seed: int, settings: Sequence[str]) -> None:
    """Makes sure that a cell is there: trains it, unless it has been trained with these settings on this text."""
    run, text = out / language / f"{head}-{seed}", out / "text" / language
    overrides = [f"model.head={HEADS[head]}", f"train.seed={seed}", *STEPS.get(language, ()), *settings]
    made_of = fingerprint_of(overrides, text)
    if is_made(run, made_of):
        return
    print(f"{language} {head} {seed} ...", file=sys.stderr, flush=True)
    learned, dev = (Pair(text / f"{part}.src", text / f"{part}.tgt") for part in ("train", "dev"))
    train(run, CONFIG, text_options(learned, dev), overrides)
    minutes = facts(run)["seconds"] / 60
    nmt(log_of(run), "translate", run, text / "test.src", "-o", run / "test.hyp", "--force")
    forms, answers = list(read_lines(text / "test.tgt")), list(read_lines(run / "test.hyp"))
    with (text / "train.src").open(encoding="utf-8") as file:
        trained = sum(1 for _ in file)
    cell = Cell(
        language,
        head,
        seed,
        train=trained,
        test=len(forms),
        exact=evaluate(answers, [forms], metrics=["exact"])[0].value,
        distance=statistics.mean(map(distance, answers, forms)),
        minutes=round(minutes, 2),
        fingerprint=made_of,
    )
    write_atomically(run / "cell.json", json_text(cell._asdict()))
    keep_best(run)
    print(f"{language} {head} {seed}: exact {cell.exact:.2f}, {minutes:.1f} minutes", file=sys.stderr, flush=True)


def fingerprint_of(overrides: Sequence[str], text: Path) -> str:
    """Of all settings that are not defaults, and of the text."""
    return fingerprint(settings_of(CONFIG, overrides), sorted(text.iterdir()))[:16]


def distance(one: str, other: str) -> int:
    """Levenshtein's, over the tokens of two lines."""
    tokens = other.split()
    row = list(range(len(tokens) + 1))
    for i, a in enumerate(one.split(), start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(tokens, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


# Results


def write_results(out: Path) -> None:
    """results.json and results.md from all cells in the folder."""
    cells = [Cell(**read_json(path)) for path in sorted(out.glob("*/*/cell.json"))]
    macro = macro_gains(cells)
    results: dict[str, Any] = {
        "cells": [cell._asdict() for cell in cells],
        "macro gain": {"languages": SMALL, "by seed": macro, "interval": interval(list(macro.values()))},
    }
    write_atomically(out / "results.json", json_text(results))
    write_atomically(out / "results.md", table(cells))


def gains(cells: Iterable[Cell]) -> dict[str, dict[int, float]]:
    """By language and seed: exact match with the pointer less that without, where there are both."""
    exact = {(cell.language, cell.seed, cell.head): cell.exact for cell in cells}
    found: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for language, seed, head in exact:
        if head == "copy" and (language, seed, "vocab") in exact:
            found[language][seed] = exact[language, seed, "copy"] - exact[language, seed, "vocab"]
    return dict(found)


def macro_gains(cells: Iterable[Cell]) -> dict[int, float]:
    """By seed: the mean gain over the small languages, for the seeds that all of them have."""
    by_language = gains(cells)
    seeds = set.intersection(*(set(by_language.get(language, ())) for language in SMALL))
    return {seed: statistics.mean(by_language[language][seed] for language in SMALL) for seed in sorted(seeds)}


T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
"""97.5 % quantiles of Student's t with 1, 2, ... 20 degrees of freedom."""


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    quantile = T_975[min(len(values) - 1, len(T_975)) - 1]  # beyond the table a little too wide
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.mean(values)
    return mean - half, mean + half


def table(cells: Sequence[Cell]) -> str:
    """Markdown: a row for each language, and the macro gain."""
    by_language = gains(cells)
    header = [
        "language",
        "forms: train, test",
        "exact without pointer",
        "with",
        "gain",
        "distance without, with",
        "minutes",
    ]
    rows = []
    for language in LANGUAGES:
        mine = [cell for cell in cells if cell.language == language]
        if not mine:
            continue
        heads = [[cell for cell in mine if cell.head == head] for head in HEADS]
        exact = (spread([cell.exact for cell in some], ".1f") for some in heads)
        away = (f"{statistics.mean(cell.distance for cell in some):.2f}" if some else "-" for some in heads)
        gain = with_interval(list(by_language.get(language, {}).values()))
        minutes = statistics.mean(cell.minutes for cell in mine)
        size = f"{mine[0].train:,}, {mine[0].test:,}"
        rows.append([language, size, *exact, gain, ", ".join(away), f"{minutes:.1f}"])
    macro = list(macro_gains(cells).values())
    lines = [
        *markdown(header, rows),
        "",
        f"Macro gain over {', '.join(SMALL)}, {len(macro)} seeds: **{with_interval(macro)}** points of exact match.",
        "Exact match: percentage of the test forms, mean ± standard deviation over seeds. Gain: of pairs with one",
        "seed; in brackets Student's 95 % interval of its mean: about training anew, not about other words. Distance:",
        "characters to insert, delete or replace in a form. Minutes: of one training.",
    ]
    return "\n".join(lines) + "\n"


def with_interval(values: Sequence[float]) -> str:
    if not values:
        return "-"
    bounds = interval(values)
    return f"{statistics.mean(values):+.1f}" + ("" if bounds is None else f" [{bounds[0]:+.1f}, {bounds[1]:+.1f}]")


if __name__ == "__main__":
    start(main)
