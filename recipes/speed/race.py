"""One run beside other toolkits, on one machine and one task: training, then beam search.

    python recipes/speed/race.py PEERS [-o results.json] [--lines 2000]
    python recipes/speed/race.py PEERS --model rnn [-o results-rnn.json]      training only

PEERS is a folder with `train.sh SYSTEM MODEL STEPS` and `decode.sh SYSTEM MODEL LINES`, which train and time the others
(see README.md here). Ours is timed before and after them. Nothing else may run meanwhile.
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
from pathlib import Path

HERE = Path(__file__).parent
TRAINED = {"transformer": {"joeynmt": 40, "eole": 60}, "rnn": {"opennmt": 60}}  # updates
DECODED = ("eole", "ctranslate2", "ctranslate2-int8")
OURS = {"nmt float32": "float32", "nmt bfloat16": "bfloat16"}
VARIANTS = {"transformer": {"": ()}, "rnn": {"": (), ", no input feeding": ("model.decoder.input_feeding=false",)}}
BASE = {"transformer": "eole float32", "rnn": "opennmt float32"}

Rates = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", type=Path)
    parser.add_argument("--model", choices=TRAINED, default="transformer")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--lines", type=int, default=2000)
    arguments = parser.parse_args()
    model = arguments.model
    arguments.output = arguments.output or Path("results.json" if model == "transformer" else f"results-{model}.json")
    data = Path(os.environ.get("PEERS", Path.home() / ".cache" / "nmt-peers")) / "data"
    for needed in (arguments.peers / "train.sh", arguments.peers / "decode.sh", data / "spm.model"):
        if not needed.exists():
            sys.exit(f"race.py: {needed} is missing (see {HERE / 'README.md'})")
    training: Rates = {}
    decoding: Rates = {}
    results = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "commit": output("git", "rev-parse", "--short", "HEAD").strip(),
        "model": model,
        "training, target tokens/s": training,
        "beam 5, 16 tokens, sentences/s": decoding,
        "peak": json.loads(nmt("bench", "decode", HERE / "transformer.yaml", "--json"))["peak"],
    }
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)

        def ours() -> None:
            for name, precision in OURS.items():
                for variant, settings in VARIANTS[model].items():
                    rate = train_ours(runs / (name + variant), data, f"{model}.yaml", precision, settings)
                    training.setdefault(name + variant, []).append(rate)
                    arguments.output.write_text(json.dumps(results, indent=2) + "\n")

        def ours_decoding() -> None:
            for name, precision in OURS.items():
                decoding.setdefault(name, []).append(decode_ours(runs / name, data, precision, arguments.lines))
                arguments.output.write_text(json.dumps(results, indent=2) + "\n")

        ours()
        if model == "transformer":
            training["eole bfloat16"] = [train_peer(in_bfloat16(arguments.peers, runs / "peers"), "eole", model)]
        for system in TRAINED[model]:
            training[f"{system} float32"] = [train_peer(arguments.peers, system, model)]
        ours()
        if model == "transformer":
            ours_decoding()
            for system in DECODED:
                decoding[system] = [decode_peer(arguments.peers, system, arguments.lines)]
            ours_decoding()
    print(table(results))


def nmt(*arguments: object) -> str:
    return output(sys.executable, "-m", "nmt", *arguments)


def output(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    print("+", *command, file=sys.stderr)
    return done.stdout


def train_ours(run: Path, data: Path, config: str, precision: str, settings: tuple[str, ...]) -> float:
    """`nmt train` on the text and pieces that the others have: the median of its reports but the first."""
    nmt(
        *("train", HERE / config, "-o", run, "--force"),
        *(f"--{side}={data / name}" for side, name in (("src", "train.en"), ("tgt", "train.de"))),
        *(f"--dev-{side}={data / name}" for side, name in (("src", "val.en"), ("tgt", "val.de"))),
        *("--set", f"tokenizer.path={data / 'spm.model'}", "--set", f"train.precision={precision}"),
        *(part for setting in settings for part in ("--set", setting)),
    )
    reports = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return statistics.median([report["tokens_per_second"] for report in reports if "nll" in report][1:])


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


def decode_ours(run: Path, data: Path, precision: str, lines: int) -> float:
    """As for the others: the time for all lines, less that for one line."""

    def seconds(count: int) -> float:
        start = time.perf_counter()
        source = data / "test_2016_flickr.en"
        output(sys.executable, HERE / "decode.py", run, source, "-n", count, "--precision", precision)
        return time.perf_counter() - start

    one = seconds(1)
    return (lines - 1) / (seconds(lines) - one)


def decode_peer(peers: Path, system: str, lines: int) -> float:
    text = output("bash", peers / "decode.sh", system, "transformer", lines)
    found = re.search(r"([\d.]+) sentences/s", text)
    if found is None:
        sys.exit(f"race.py: {system} says no sentences/s: {text}")
    return float(found[1])


def table(results: dict) -> str:
    """Markdown; ratios to one of the others in float32, as it ships."""
    rows = [f"{results['date']}, commit {results['commit']}, matrix peak {results['peak'] / 1e9:.0f} GFLOP/s", ""]
    for title, base in (
        ("training, target tokens/s", BASE[results["model"]]),
        ("beam 5, 16 tokens, sentences/s", "eole"),
    ):
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
    return "\n".join(rows)


if __name__ == "__main__":
    main()
