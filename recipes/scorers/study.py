"""Attention scorers beside each other, and the bottleneck without attention: all else equal, several seeds.

    python recipes/scorers/study.py -o runs/scorers [--seeds 1 2 3] [--only phrasebook chained] [--data FOLDER]

Trains what is missing in runs/scorers, one run for each text, scorer and seed, and writes results.jsonl (a line for
each), results.md and pictures there. FOLDER has the files of Multi30k, by default where `nmt fetch multi30k` puts them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dots import dot_products
from show import Bucket, Cell, write_results

from nmt.data.fetch import cache
from nmt.data.phrasebook import generate
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
    keep_best,
    log_of,
    nmt,
    options_of,
    settings_of,
    start,
    text_options,
    train,
    training_speed,
)

HERE = Path(__file__).parent
TEXTS = ("phrasebook", "chained", "multi30k")
SCORERS = {
    "none": "{kind: none}",
    "dot": "{kind: dot}",
    "scaled_dot": "{kind: scaled_dot}",
    "general": "{kind: general}",
    "additive": "{kind: additive, width: 128}",
}
LENGTHS = ((1, 5), (6, 10), (11, 15), (16, 20), (21, 24), (25, 29), (30, 34), (35, 39), (40, 45))
"""Source words, first and last, of the sentences that are scored together."""
FEWEST = 20
"""Fewer sentences of a length are not scored."""
CHAINED = {"train": (4000, 2), "dev": (200, 3)}
"""Sentences of 25 to 45 words added to a split for `chained`, and the seed that draws them; the split `long` has 1."""


class Text(NamedTuple):
    """What is trained on and what is tested on."""

    name: str
    config: Path
    train: Pair
    dev: Pair
    test: Pair
    long: Pair | None = None
    links: Path | None = None  # gold, of test


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_of(__doc__, seeds=(1,))
    parser.add_argument("--only", nargs="+", choices=TEXTS, default=list(TEXTS), help="texts")
    parser.add_argument("--data", type=Path, help="the folder of Multi30k")
    parser.add_argument("--steps", type=int, help="updates, instead of those in the YAML files")
    options = parser.parse_args(arguments)
    out: Path = options.output
    settings = [*options.settings, *([] if options.steps is None else [f"train.steps={options.steps}"])]
    names = [name for name in TEXTS if name in options.only and (name != "multi30k" or multi30k_is_there(options))]
    texts = [make_text(name, out, options.data or cache() / "multi30k") for name in names]
    for text in texts:
        check_same(out, text, settings)
    dots = dot_products()
    cells = read_cells(out)
    write_results(out, cells, dots)
    for text, scorer, seed in missing(cells, texts, options.seeds):
        print(f"{text.name} {scorer} {seed} ...", file=sys.stderr, flush=True)
        cells.append(complete(out, text, scorer, seed, settings))
        write_results(out, cells, dots)
        keep_best(run_of(out, text, scorer, seed))
    print((out / "results.md").read_text(encoding="utf-8"))


def missing(cells: Sequence[Cell], texts: Sequence[Text], seeds: Sequence[int]) -> list[tuple[Text, str, int]]:
    """What is not there yet, a seed of everything first."""
    done = {(cell.text, cell.scorer, cell.seed) for cell in cells}
    return [
        (text, scorer, seed)
        for seed in dict.fromkeys(seeds)
        for text in texts
        for scorer in SCORERS
        if (text.name, scorer, seed) not in done
    ]


def read_cells(out: Path) -> list[Cell]:
    path = out / "results.jsonl"
    if not path.exists():
        return []
    try:
        return [Cell.from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: {error}", "delete it: all is trained again") from error


# The text


def multi30k_is_there(options: argparse.Namespace) -> bool:
    """Its absence is an error only where it was asked for by name."""
    folder = options.data or cache() / "multi30k"
    absent = [path for pair in multi30k_pairs(folder) for path in pair if not path.is_file()]
    if not absent:
        return True
    problem, hint = f"{absent[0]} is missing", "`nmt fetch multi30k` gets it, or --data names the folder that has it"
    if options.data is not None or options.only == ["multi30k"]:
        raise UserError(problem, hint)
    print(f"Multi30k is left out: {problem}; {hint}", file=sys.stderr)
    return False


def multi30k_pairs(folder: Path) -> list[Pair]:
    """Train, dev, test."""
    return [Pair(folder / f"{part}.en", folder / f"{part}.de") for part in ("train", "val", "test_2016_flickr")]


def make_text(name: str, out: Path, multi30k: Path) -> Text:
    if name == "multi30k":
        train, dev, test = multi30k_pairs(multi30k)
        return Text(name, HERE / "multi30k.yaml", train, dev, test)
    folder = out / "text" / "phrasebook"
    if not (folder / "README.txt").is_file():
        nmt(out / "text" / "fetch.log", "fetch", "phrasebook", "-o", folder, "--overwrite")
    parts = {part: Pair(folder / f"{part}.en", folder / f"{part}.fr") for part in ("train", "dev", "test", "long")}
    if name == "chained":
        parts |= {part: add_long(parts[part], part, parts["long"].src, out / "text" / name) for part in CHAINED}
    return Text(name, HERE / "phrasebook.yaml", **parts, links=folder / "test.talp")


def add_long(pair: Pair, part: str, held_out: Path, folder: Path) -> Pair:
    """The sentences of a split and as many long ones as CHAINED says, none of which is in the file `held_out`."""
    count, seed = CHAINED[part]
    tested = set(read_lines(held_out))
    drawn = [example for example in generate("long", count, seed=seed) if example.src not in tested]
    added = Pair(folder / pair.src.name, folder / pair.tgt.name)
    folder.mkdir(parents=True, exist_ok=True)
    for old, new, lines in (
        (pair.src, added.src, [x.src for x in drawn]),
        (pair.tgt, added.tgt, [x.tgt for x in drawn]),
    ):
        write_atomically(new, "".join(f"{line}\n" for line in [*read_lines(old), *lines]))
    return added


def check_same(out: Path, text: Text, settings: Sequence[str]) -> None:
    """A folder holds runs of one kind: UserError where those of a text were made of other settings or lines."""
    made_of = [settings_of(text.config, settings), SCORERS]
    found = {"fingerprint": fingerprint(made_of, (*text.train, *text.dev, *text.test))}
    path = out / text.name / "made-of.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json_text(found))
    elif read_json(path) != found:
        raise UserError(f"{path.parent} was made of other settings or text", "name another folder with -o")


# Training


def run_of(out: Path, text: Text, scorer: str, seed: int) -> Path:
    return out / text.name / f"{scorer}-{seed}"


def complete(out: Path, text: Text, scorer: str, seed: int, settings: Sequence[str]) -> Cell:
    """Trains a cell, from where it was interrupted, and tests its best checkpoint."""
    run = run_of(out, text, scorer, seed)
    log = log_of(run)
    corpus = prepared(out, text, settings)
    changes = [f"model.decoder.attention={SCORERS[scorer]}", f"train.seed={seed}", *settings]
    train(run, text.config, ["--data", corpus], changes)
    info = facts(run)
    test, long = test_on(run, text.test, "test", log), test_on(run, text.long, "long", log)
    return Cell(
        text.name,
        scorer,
        seed,
        parameters=info["parameters"]["total"],
        steps=info["steps"],
        minutes=round(info["seconds"] / 60, 3),
        speed=training_speed(run),
        dev_bleu=info["score"],
        bleu=test["BLEU"],
        chrf=test["chrF"],
        long_bleu=long.get("BLEU"),
        long_chrf=long.get("chrF"),
        aer=None if text.links is None or scorer == "none" else error_rate(run, text, log),
        lengths=by_length(run, text),
    )


def prepared(out: Path, text: Text, settings: Sequence[str]) -> Path:
    """The corpus of a text, made once, so that all models have the same tokens."""
    corpus = out / text.name / "corpus"
    if not corpus.exists():
        options = [option for change in settings for option in ("--set", change)]
        files = text_options(text.train, text.dev)
        nmt(out / text.name / "corpus.log", "prepare", text.config, *files, "-o", corpus, *options)
    return corpus


def test_on(run: Path, pair: Pair | None, split: str, log: Path) -> Mapping[str, float]:
    """BLEU and chrF of the best checkpoint on a split; nothing where there is none."""
    if pair is None:
        return {}
    output = run / f"{split}.hyp"
    nmt(log, "translate", run, pair.src, "-o", output, "--force")
    said = nmt(log, "evaluate", "--hyp", output, "--ref", pair.tgt, "--metric", "bleu", "--metric", "chrf", "--json")
    return {score["name"]: score["value"] for score in json.loads(said)["scores"]}


def error_rate(run: Path, text: Text, log: Path) -> float:
    """AER of the most attended source words on the test set, its references being forced."""
    links = run / "test.talp"
    nmt(log, "align", run, *text.test, "-o", links, "--force")
    return json.loads(nmt(log, "aer", links, text.links, "--json"))["aer"]


def by_length(run: Path, text: Text) -> list[Bucket]:
    """Scores of the translations by the length of the source, over test and long together."""
    rows: list[tuple[int, str, str]] = []
    for split, pair in (("test", text.test), ("long", text.long)):
        if pair is not None:
            lines = zip(read_lines(pair.src), read_lines(run / f"{split}.hyp"), read_lines(pair.tgt), strict=True)
            rows += [(len(src.split()), hyp, ref) for src, hyp, ref in lines]
    buckets = []
    for first, last in LENGTHS:
        some = [(hyp, ref) for length, hyp, ref in rows if first <= length <= last]
        if len(some) >= FEWEST:
            hyps, refs = zip(*some, strict=True)
            bleu, chrf = (score.value for score in evaluate(hyps, [refs], metrics=["bleu", "chrf"]))
            buckets.append(Bucket(first, last, len(some), bleu, chrf))
    return buckets


if __name__ == "__main__":
    start(main)
