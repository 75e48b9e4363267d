"""report.html of a run: curves, sample translations with their attention, data, settings, sessions. One file that needs
no other and no network; everything in it comes from the run directory, so it can be made again at any time.

Here the run's records become one JSON object, small enough to open at once; report.html beside this file draws it.
"""

from __future__ import annotations

import datetime
import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from nmt.data.corpus import Corpus
from nmt.data.prepare import read_about
from nmt.errors import UserError
from nmt.files import write_atomically
from nmt.records import Count, Seconds, parse_json, read_json, whole_lines
from nmt.rundir import MODEL, STATE, RunDir
from nmt.told import shell, visible
from nmt.weights import open_tensors

TEMPLATE = Path(__file__).with_name("report.html")

MOST_POINTS = 1000
"""Points of a curve; of more, neighbours are averaged."""
MOST_VALIDATIONS = (40, 20, 10, 5, 2)
"""Validations whose samples are shown: the first of these numbers with which the page has at most MOST_BYTES."""
MOST_BYTES = 1_500_000
MOST_SENTENCES = 8
MOST_LETTERS = 1000
"""Longer samples are cut off."""
MOST_WORDS = 60
"""Attention is drawn for sentences with at most so many rows and columns."""
MOST_SESSIONS = 20

CURVES = ("epoch", "nll", "tokens_per_second", "lr", "grad_norm", "seconds")
SCORES = ("dev_loss", "dev_bleu", "dev_chrf", "seconds")

Record = dict[str, Any]
Rows = list[list[str]]


class Entry(TypedDict):
    """A line of metrics.jsonl: numbers by their names."""

    step: Count
    seconds: NotRequired[Seconds]
    tokens: NotRequired[Count]
    dev_bleu: NotRequired[float]
    dev_chrf: NotRequired[float]


class Report(Entry):
    epoch: float
    nll: float
    tokens_per_second: float
    lr: float
    grad_norm: float


class Validation(Entry):
    dev_loss: float


class Sample(TypedDict):
    step: Count
    source: str
    reference: str
    output: str


class Weights(TypedDict):
    """A line of attention.jsonl: `weights` has a row for each word of `tgt`, a column for each of `src`."""

    step: Count
    src: list[str]
    tgt: list[str]
    weights: list[list[float]]


KINDS = {"samples": Sample, "attention": Weights}


def write_report(run: RunDir, *, training: bool) -> Path:
    """Writes report.html into the run, and gives its path. `training` says that the run is going on right now.

    Raises UserError if a record of the run is damaged.
    """
    entries = [parse_line("metrics", *line) for line in record_lines(run.path / "metrics.jsonl")]
    reports = [entry for entry in entries if "nll" in entry]
    validations = [entry for entry in entries if "dev_loss" in entry]
    samples: dict[int, list[Record]] = {}
    for line in record_lines(run.path / "samples.jsonl"):
        sample = parse_line("samples", *line)
        samples.setdefault(sample["step"], []).append(sample)
    state = _state(run, entries)
    about = {
        "run": str(run.path),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "training": training,
        "step": state.get("step", 0),
        "steps": run.config.train.steps,
        "resume": shell("nmt", "train", run.path, "--resume"),
        "reports": _columns(_averaged(reports), CURVES),
        "perPoint": _group_size(reports),
        "validations": _columns(_thinned(validations, MOST_POINTS), SCORES),
        "facts": _facts(run, state, reports, validations),
        "data": _data(run),
        "settings": (run.path / "config.yaml").read_text("utf-8"),
        "sessions": _sessions(run.facts.get("sessions", [])),
    }
    for most in MOST_VALIDATIONS:
        text = _page(run, {**about, "samples": _samples(run, samples, validations, most)})
        if len(text.encode()) <= MOST_BYTES:
            break
    path = run.path / "report.html"
    write_atomically(path, text)
    return path


def _page(run: RunDir, data: Mapping[str, Any]) -> str:
    name = visible(run.path.resolve().name)
    # No `<` in the data: nothing in a sentence can end the script element that holds it.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    page = TEMPLATE.read_text("utf-8").replace("<!--name-->", html.escape(name))
    return page.replace("<!--data-->", text)


def record_lines(path: Path) -> Iterator[tuple[bytes, str]]:
    """The whole lines of a record, each with what to call it."""
    return ((line, f"{path}, line {number}") for number, line in whole_lines(path))


def parse_line(record: str, line: bytes, where: str) -> Record:
    """What a line of a record (metrics, samples or attention) holds; UserError if it is damaged."""
    kind: Any = KINDS.get(record)
    if kind is None:  # each kind of line has a name that the other has not
        kind = Report if b'"nll"' in line else Validation if b'"dev_loss"' in line else Entry
    entry: Record = parse_json(line, where, kind)
    if kind is Weights and {len(row) for row in entry["weights"]} - {len(entry["src"])}:
        raise UserError(f"{where} is damaged: the weights are not as many as the words")
    return entry


def _state(run: RunDir, entries: Sequence[Record]) -> Record:
    """How far training has come: the state in the last checkpoint, brought up to date by what was reported since."""
    state: Record = {"step": 0, **run.progress}
    since = [entry for entry in entries[-2:] if entry["step"] > state["step"]]  # a report and a validation
    return {key: value for values in (state, *since) for key, value in values.items()}


def _thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` (2 or more) of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]


def _group_size(reports: Sequence[Record]) -> int:
    return max(1, math.ceil(len(reports) / MOST_POINTS))


def _averaged(reports: Sequence[Record]) -> list[Record]:
    """At most MOST_POINTS reports: means over groups of neighbours, each at the last step of its group."""
    size = _group_size(reports)
    groups = [reports[n : n + size] for n in range(0, len(reports), size)]
    means = {"nll", "tokens_per_second", "lr", "grad_norm"}
    return [
        {**group[-1], **{key: math.fsum(report[key] for report in group) / len(group) for key in means}}
        for group in groups
    ]


def _columns(entries: Sequence[Record], names: Sequence[str]) -> dict[str, list[float | None]]:
    return {name: [_number(entry.get(name)) for entry in entries] for name in ("step", *names)}


def _number(value: float | None) -> float | None:
    """What JSON can hold, with six digits: no infinity, no NaN."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _samples(
    run: RunDir, samples: Mapping[int, list[Record]], validations: Sequence[Record], most: int
) -> dict[str, Any]:
    """Sentences, each with its outputs and maps at (at most `most`) validations, beside the scores of these."""
    steps = _thinned(sorted(samples), most)
    maps = _maps(run, set(steps))
    scores = {entry["step"]: entry for entry in validations}
    sentences: dict[tuple[str, str], Record] = {}
    for step in reversed(steps):  # those of the last validation come first: train.samples may have changed
        for n, sample in enumerate(samples[step]):
            key = (sample["source"], sample["reference"])
            sentence = sentences.setdefault(
                key, {**dict(zip(("source", "reference"), map(_cut, key), strict=True)), "outputs": {}, "maps": {}}
            )
            sentence["outputs"][step] = _cut(sample["output"])
            sentence["maps"][step] = maps.get((step, n))
    shown = list(sentences.values())[:MOST_SENTENCES]
    for sentence in shown:
        for what in ("outputs", "maps"):
            sentence[what] = [sentence[what].get(step) for step in steps]
    return {
        **_columns([scores.get(step, {"step": step}) for step in steps], SCORES),
        "validations": len(samples),
        "sentences": shown,
        "hidden": len(sentences) - len(shown),
        "mostWords": MOST_WORDS,
    }


def _maps(run: RunDir, steps: set[int]) -> dict[tuple[int, int], Record]:
    """Attention of these steps, by step and number of the sample, in percent. Left out where it is too large."""
    counts: dict[int, int] = dict.fromkeys(steps, 0)
    found = {}
    for line, where in record_lines(run.path / "attention.jsonl"):
        start = re.match(rb'\{"step": (\d{1,15}),', line)
        if start is not None and int(start[1]) not in counts:
            continue  # not even parsed: the record of a long run is large
        entry = parse_line("attention", line, where)
        step = entry["step"]
        if step not in counts:
            continue
        if 0 < len(entry["src"]) <= MOST_WORDS and 0 < len(entry["tgt"]) <= MOST_WORDS:
            percent = [[round(100 * w) if math.isfinite(w) else 0 for w in row] for row in entry["weights"]]
            words = {side: [_cut(word) for word in entry[side]] for side in ("src", "tgt")}
            found[step, counts[step]] = {**words, "weights": percent}
        counts[step] += 1
    return found


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[:MOST_LETTERS] + " […]"


def _facts(run: RunDir, state: Record, reports: Sequence[Record], validations: Sequence[Record]) -> Rows:
    """What training has come to, as names and texts."""
    settings = run.config.train
    rows = [["steps", f"{state.get('step', 0):,} of {settings.steps:,}"]]
    if reports:
        rows.append(["epochs", f"{reports[-1]['epoch']:.2f}"])
    if state.get("seconds"):
        rows.append(["time", f"{datetime.timedelta(seconds=round(state['seconds']))} (h:mm:ss), validations included"])
    if state.get("tokens"):
        rows.append(["target tokens", f"{state['tokens']:,}"])
    key = f"dev_{settings.metric}"
    if scored := [entry for entry in validations if key in entry]:
        sign = -1 if settings.metric == "loss" else 1
        best = max(scored, key=lambda entry: sign * entry[key])
        name = {"loss": "loss", "bleu": "BLEU", "chrf": "chrF"}[settings.metric]
        rows.append(["best of the validations", f"dev {name} {best[key]:.2f} at step {best['step']:,}"])
    if pointed := run.pointed("best"):
        rows.append(["used by default", f"checkpoint {pointed}{_score_of_average(run, pointed)}"])
    last = run.pointed("last")
    if last is not None:
        rows.append(["parameters", f"{_parameters(run.checkpoints / last / MODEL):,}"])
    return rows


def _score_of_average(run: RunDir, name: str) -> str:
    """That of training's own checkpoints is in their validations."""
    path = run.checkpoints / name / STATE
    score = read_json(path).get("score") if path.is_file() else None
    return f" (dev {run.config.train.metric} {score:.2f})" if isinstance(score, int | float) else ""


def _parameters(path: Path) -> int:
    """The size of the model, by the header of its file, where a shared tensor is once and all are parameters."""
    with open_tensors(path) as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _data(run: RunDir) -> Rows:
    """A table of two columns, training and development: where the text is from and what became of it."""
    settings, folder = run.config.data, run.corpus
    if not (folder / "data.json").is_file():
        return [["corpus", f"no longer in {folder}", ""]]
    about = read_about(folder)
    counts = [about[part]["counts"] for part in ("train", "dev")]
    tokens = [Corpus.open(folder / part).tokens for part in ("train", "dev")]
    limit = f" (limit {about['max_length']:,} tokens)" if about["max_length"] else " (no limit)"
    held_out = settings.prepared is None and settings.dev_src is None
    rows = [["text", f"prepared in {folder}", ""]]
    if settings.prepared is None:
        dev = "held out of the training text, by a hash of the source line" if held_out else ""
        rows = [
            ["source text", f"{settings.src}", dev or f"{settings.dev_src}"],
            ["target text", f"{settings.tgt}", dev or f"{settings.dev_tgt}"],
        ]
    rows += [
        ["pairs", *(f"{count.pairs:,}" for count in counts)],
        ["left out: a side is empty", *(f"{count.empty:,}" for count in counts)],
        ["left out: too long", f"{counts[0].too_long:,}{limit}", "0 (no limit)"],
        ["left out: not UTF-8", f"{counts[0].bad:,}", "counted with training" if held_out else f"{counts[1].bad:,}"],
    ]
    for n, side in enumerate(("source", "target")):
        rows.append([f"{side} tokens", *(f"{part[n]:,}" for part in tokens)])
    tokenizer, sizes = about["tokenizer"], [f"{size:,}" for size in about["vocabulary"]]
    vocabulary = f"{sizes[0]}, joint" if tokenizer.get("joint") else f"{sizes[0]} source, {sizes[1]} target"
    return [*rows, ["vocabulary", f"{vocabulary} ({tokenizer['kind']})", ""]]


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> list[Rows]:
    """Each start of training: the first with all that is known, the others with what is not as it was before."""
    tables = []
    before: Mapping[str, Any] = {}
    for number, session in enumerate(sessions, start=1):
        changed = {key: value for key, value in session.items() if before.get(key) != value}
        tables.append([["session", str(number)], *([key, str(value)] for key, value in changed.items())])
        before = session
    return tables if len(tables) <= MOST_SESSIONS else [tables[0], *tables[1 - MOST_SESSIONS :]]
