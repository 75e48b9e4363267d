"""One run beside other toolkits, on one machine and one task: training, then beam search.

    python recipes/speed/race.py PEERS [-o results.json]
    python recipes/speed/race.py PEERS --model rnn [-o results-rnn.json]
    python recipes/speed/race.py PEERS --only search --trained RUN --shortlist FILE --test SRC REF

PEERS is a folder with `train.sh SYSTEM MODEL STEPS` and `decode.sh SYSTEM MODEL LINES`, which train and time the others
(see README.md here). Ours is timed before and after them. With a trained RUN (see to_ctranslate2.py for its kind), its
search is also timed as it stops by itself, beside CTranslate2 with the same weights. Nothing else may run meanwhile.
On a processor that only emulates bfloat16, which takes many times as long as float32, that is left out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import torch

from nmt.device import is_emulated

HERE = Path(__file__).parent
TRAINED = {"transformer": {"joeynmt": 40, "eole": 60}, "rnn": {"opennmt": 60}}  # updates
DECODED = {"transformer": ("eole", "ctranslate2", "ctranslate2-int8"), "rnn": ("opennmt",)}
OURS = {"nmt float32": "float32"}
if not is_emulated("bfloat16", torch.device("cpu")):
    OURS["nmt bfloat16"] = "bfloat16"
VARIANTS = {"transformer": {"": ()}, "rnn": {"": (), ", no input feeding": ("model.decoder.input_feeding=false",)}}
BASE = {"transformer": "eole float32", "rnn": "opennmt float32"}

SEARCH, NATURAL = "beam 5, 16 tokens, sentences/s", "beam 5, a trained model, sentences/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", type=Path)
    parser.add_argument("--model", choices=TRAINED, default="transformer")
    parser.add_argument("--only", choices=["training", "search"])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--trained", type=Path, metavar="RUN")
    parser.add_argument("--shortlist", type=Path)
    parser.add_argument("--test", type=Path, nargs=2, metavar=("SRC", "REF"))
    options = parser.parse_args()
    if "nmt bfloat16" not in OURS:
        print("race.py: bfloat16 is left out: this processor only emulates it", file=sys.stderr)
    options.output = options.output or Path(f"results-{options.model}.json")
    home = Path(os.environ.get("PEERS", Path.home() / ".cache" / "nmt-peers"))
    for needed in (options.peers / "train.sh", options.peers / "decode.sh", home / "data" / "spm.model"):
        if not needed.exists():
            sys.exit(f"race.py: {needed} is missing (see {HERE / 'README.md'})")
    results = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "commit": output("git", "rev-parse", "--short", "HEAD").strip(),
        "model": options.model,
        "training, target tokens/s": {},
        SEARCH: {},
        NATURAL: {},
        "BLEU": {},
        "peak": json.loads(nmt("bench", "decode", HERE / "transformer.yaml", "--json"))["peak"],
    }
    with tempfile.TemporaryDirectory() as folder:
        race = Race(options, home, Path(folder), results)
        if options.only != "search":
            race.train()
        if options.only != "training":
            race.search()
        if options.trained is not None:
            race.search_trained()
    print(table(results))


class Race:
    """What has been timed so far is always in the output file."""

    def __init__(self, options: argparse.Namespace, home: Path, runs: Path, results: dict) -> None:
        self.options, self.home, self.runs, self.results = options, home, runs, results
        self.data, self.model = home / "data", options.model

    def note(self, title: str, name: str, rate: float) -> None:
        self.results[title].setdefault(name, []).append(rate)
        self.options.output.write_text(json.dumps(self.results, indent=2) + "\n")

    def train(self) -> None:
        title = "training, target tokens/s"
        for half in range(2):
            for name, precision in OURS.items():
                for variant, settings in VARIANTS[self.model].items():
                    run = self.runs / (name + variant)
                    self.note(title, name + variant, train_ours(run, self.data, self.model, precision, settings))
            if half == 0:
                peers = self.options.peers
                if self.model == "transformer" and "nmt bfloat16" in OURS:
                    other = in_bfloat16(peers, self.runs / "peers")
                    self.note(title, "eole bfloat16", train_peer(other, "eole", self.model))
                for system in TRAINED[self.model]:
                    self.note(title, f"{system} float32", train_peer(peers, system, self.model))

    def search(self) -> None:
        """Each output has 16 tokens and, ours, an end: untrained models work as hard as any."""
        run = self.runs / "searched"
        train_ours(run, self.data, self.model, "auto", ("train.steps=20", "train.validate_every=20"))
        source = repeated(self.data / "test_2016_flickr.en", self.options.lines, self.runs / "many.en")
        exact = ("--set", "search.min_length=17", "--set", "search.max_length=17")
        for half in range(2):
            for name, precision in OURS.items():
                self.note(SEARCH, name, self.rate_of_ours(run, source, precision, exact))
            for system in DECODED[self.model] if half == 0 else ():
                self.note(SEARCH, system, decode_peer(self.options.peers, system, self.model, self.options.lines))

    def search_trained(self) -> None:
        run, (src, ref) = self.options.trained, self.options.test
        ctranslate2 = CTranslate2(self.home, run, self.runs / "ctranslate2")
        source = repeated(src, self.options.lines, self.runs / "trained.en")
        short = () if self.options.shortlist is None else ("--shortlist", self.options.shortlist)
        for half in range(2):
            for name, precision in OURS.items():
                for more, extra in (("", ()), (", shortlist", short)):
                    if extra or not more:
                        self.note(NATURAL, name + more, self.rate_of_ours(run, source, precision, extra))
                        if half == 0:
                            hypotheses = self.runs / "ours"
                            settings = ("--beam", 5, "--set", f"search.precision={precision}", *extra)
                            nmt("translate", run, src, "-o", hypotheses, "--force", *settings)
                            self.results["BLEU"][name + more] = bleu(hypotheses, ref)
            for precision in ("float32", "int8") if half == 0 else ():
                for more, vmap in (("", None), (", shortlist", self.options.shortlist)):
                    if vmap is not None or not more:
                        name = f"ctranslate2 {precision}{more}"
                        self.note(NATURAL, name, ctranslate2.rate(source, precision, vmap))
                        self.results["BLEU"][name] = bleu(ctranslate2.translate(src, precision, vmap), ref)

    def rate_of_ours(self, run: Path, source: Path, precision: str, extra: tuple[object, ...]) -> float:
        """As for the others: the time of the command for all lines, less that for one line."""

        def seconds(path: Path) -> float:
            start = time.perf_counter()
            settings = ("--beam", 5, "--set", f"search.precision={precision}", *extra)
            nmt("translate", run, path, "-o", self.runs / "translated", "--force", *settings)
            return time.perf_counter() - start

        one = seconds(repeated(source, 1, self.runs / "one.en"))
        return (self.options.lines - 1) / (seconds(source) - one)


class CTranslate2:
    """The run's weights there; see to_ctranslate2.py."""

    def __init__(self, home: Path, run: Path, folder: Path) -> None:
        self.run, self.folder, self.python = run, folder, home / "eole" / "bin" / "python"
        folder.mkdir()
        self.call(sys.executable, "weights", run, folder / "weights.npz")
        (folder / "model").mkdir()
        self.call(self.python, "build", folder / "weights.npz", folder / "model")

    def call(self, python: Path | str, *arguments: object) -> str:
        return output(python, HERE / "to_ctranslate2.py", *arguments)

    def rate(self, source: Path, precision: str, vmap: Path | None) -> float:
        self.call(sys.executable, "pieces", self.run, source, self.folder / "in")
        vmap_options = () if vmap is None else ("--vmap", vmap)
        said = self.call(
            self.python,
            "translate",
            self.folder / "model",
            self.folder / "in",
            self.folder / "out",
            "--precision",
            precision,
            *vmap_options,
        )
        return float(said.split()[0])

    def translate(self, source: Path, precision: str, vmap: Path | None) -> Path:
        self.rate(source, precision, vmap)
        self.call(sys.executable, "text", self.run, self.folder / "out", self.folder / "text")
        return self.folder / "text"


def repeated(source: Path, lines: int, target: Path) -> Path:
    """So many lines of a file, over and over."""
    target.write_text("".join(islice(cycle(source.open(encoding="utf-8").readlines()), lines)), encoding="utf-8")
    return target


def bleu(hypotheses: Path, reference: Path) -> float:
    said = json.loads(nmt("evaluate", "--hyp", hypotheses, "--ref", reference, "--metric", "bleu", "--json"))
    return said["scores"][0]["value"]


def nmt(*arguments: object) -> str:
    return output(sys.executable, "-m", "nmt", *arguments)


def output(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    print("+", *command, file=sys.stderr)
    return done.stdout


def train_ours(run: Path, data: Path, model: str, precision: str, settings: tuple[str, ...]) -> float:
    """`nmt train` on the text and pieces that the others have: the median of its reports but the first."""
    nmt(
        *("train", HERE / f"{model}.yaml", "-o", run, "--force"),
        *(f"--{side}={data / name}" for side, name in (("src", "train.en"), ("tgt", "train.de"))),
        *(f"--dev-{side}={data / name}" for side, name in (("src", "val.en"), ("tgt", "val.de"))),
        *("--set", f"tokenizer.path={data / 'spm.model'}", "--set", f"train.precision={precision}"),
        *(part for setting in settings for part in ("--set", setting)),
    )
    reports = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [report["tokens_per_second"] for report in reports if "nll" in report]
    return statistics.median(rates[1:] or rates or [0.0])


def train_peer(peers: Path, system: str, model: str) -> float:
    """The median of its last reports, `source/target tok/s` or `...: target tokens/s`."""
    text = output("bash", peers / "train.sh", system, model, TRAINED[model][system])
    return statistics.median([float(number) for number in re.findall(r"[:/]\s*(\d+)(?: tok/s)?$", text, re.MULTILINE)])


def in_bfloat16(peers: Path, copy: Path) -> Path:
    """The same scripts, with the setting of Eole's that asks for bfloat16."""
    shutil.copytree(peers, copy)
    config = copy / "configs" / "eole-transformer.yaml"
    text = config.read_text()
    assert 'compute_dtype: "fp32"' in text
    config.write_text(text.replace('compute_dtype: "fp32"', 'compute_dtype: "bf16"'))
    return copy


def decode_peer(peers: Path, system: str, model: str, lines: int) -> float:
    text = output("bash", peers / "decode.sh", system, model, lines)
    found = re.search(r"([\d.]+) sentences/s", text)
    if found is None:
        sys.exit(f"race.py: {system} says no sentences/s: {text}")
    return float(found[1])


def table(results: dict) -> str:
    """Markdown; ratios to one of the others in float32, as it ships."""
    rows = [f"{results['date']}, commit {results['commit']}, matrix peak {results['peak'] / 1e9:.0f} GFLOP/s", ""]
    bases = BASE[results["model"]], DECODED[results["model"]][0], "ctranslate2 float32"
    for title, base in zip(("training, target tokens/s", SEARCH, NATURAL), bases, strict=True):
        rates = results[title]
        if not rates:
            continue
        rows += [f"| {title} | each time | mean | ratio to {base} |", "|---|---|---|---|"]
        reference = statistics.mean(rates[base])
        for name, values in sorted(rates.items(), key=lambda item: -statistics.mean(item[1])):
            mean = statistics.mean(values)
            each = ", ".join(f"{value:,.0f}" for value in values)
            rows.append(f"| {name} | {each} | {mean:,.0f} | {mean / reference:.2f} |")
        rows.append("")
    if results["BLEU"]:
        rows.append("BLEU: " + ", ".join(f"{name} {value:.2f}" for name, value in results["BLEU"].items()))
    return "\n".join(rows)


if __name__ == "__main__":
    main()
