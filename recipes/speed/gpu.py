"""What a GPU does with all of this: tests, speed, a training to its end. gpu.sh calls it.

Each part is a process of its own with a limit in time. What it finds is in OUT/results.jsonl at once, and OUT/table.md
is written anew after each part, so that a cut loses only what would have come; a part that fails is told, and the next
one runs. OUT is the argument, the environment variable of this name, or runs/gpu.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_multi30k import packed, to_the_end, translating
from gpu_parts import RECIPES, Options, machine, searching, searching_on_cpu, tests, training

TIERS = {"tests": 120, "speed": 180, "multi30k": 210}
"""Seconds; what one leaves over the next ones have. A dry run has more: its machine may have other work."""


class Part(NamedTuple):
    tier: str  # whose time it takes
    leaves: int  # seconds of that, at least, to those after it
    look: Callable[[Options], None]


PARTS = {
    "machine": Part("tests", 60, machine),
    "tests": Part("tests", 0, tests),
    "train base": Part("speed", 120, training("base")),
    "train big": Part("speed", 120, training("big")),
    "train rnn": Part("speed", 100, training("rnn")),
    "search": Part("speed", 80, searching),
    "search on the CPU": Part("speed", 60, searching_on_cpu),
    "train big, compiled": Part("speed", 30, training("big", compiled=True)),
    "train base, compiled": Part("speed", 0, training("base", compiled=True)),
    "multi30k": Part("multi30k", 35, to_the_end),
    "pack": Part("multi30k", 25, packed),
    "translate": Part("multi30k", 0, translating),
}
"""In order."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=Path(os.environ.get("OUT", "runs/gpu")))
    parser.add_argument("--dry", action="store_true", help="on a CPU, with tiny sizes")
    parser.add_argument("--pack", type=Path, default=RECIPES / "speed/pack", help="what pack_gpu.sh has made")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for what is not to stay")
    parser.add_argument("--part", choices=PARTS, help="this one alone, in this process")
    options = parser.parse_args(namespace=Options())
    if options.part is not None:
        PARTS[options.part].look(options)
        return
    if not options.dry and not (options.pack / "prepared").is_dir():
        sys.exit(f"{options.pack} is not there: make it first, by recipes/speed/pack_gpu.sh")
    options.out.mkdir(parents=True, exist_ok=True)
    for old in ("results.jsonl", "log.txt", "run.tar.gz", "test.de"):
        (options.out / old).unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a part, which is a session of its own, ends, too
    began, failed = time.monotonic(), []
    patience = 5 if options.dry else 1
    ends = dict(zip(TIERS, accumulate(patience * seconds for seconds in TIERS.values()), strict=True))
    for name, part in PARTS.items():
        ended = run_part(name, began + ends[part.tier] - part.leaves - time.monotonic(), options)
        failed += [] if ended == "whole" else [f"{name}: {ended}"]
        (options.out / "table.md").write_text(table(results(options)), encoding="utf-8")
    text = table(results(options))
    line = json.dumps({"seconds": round(time.monotonic() - began), "failed": failed, "results": results(options)})
    (options.out / "result.json").write_text(line + "\n", encoding="utf-8")
    print(f"\n{text}\n{line}")
    sys.exit(bool(failed))


def run_part(name: str, limit: float, options: Options) -> str:
    """How it ended."""
    command = [sys.executable, __file__, str(options.out), "--part", name, *(["--dry"] if options.dry else [])]
    command += ["--pack", str(options.pack), "--scratch", str(options.scratch)]
    threads = {"OMP_NUM_THREADS": "1"} if options.dry else {}  # tiny sizes gain nothing by a second one
    start = time.monotonic()
    if limit < 3:
        ended = "no time was left"
    else:
        with (options.out / "log.txt").open("ab") as log:
            log.write(f"\n=== {name}\n".encode())
            log.flush()
            environment = {**os.environ, **threads}
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
            ended = ending(process, limit)
    options.found("part", name=name, ended=ended, seconds=round(time.monotonic() - start, 1))
    return ended


def ending(process: subprocess.Popen[bytes], limit: float) -> str:
    try:
        code = process.wait(limit)
        return "whole" if code == 0 else f"exit code {code}"
    except subprocess.TimeoutExpired:
        return f"cut after {limit:.0f} s"
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started
            process.wait()


def results(options: Options) -> list[dict[str, Any]]:
    path = options.out / "results.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def table(rows: list[dict[str, Any]]) -> str:
    """All results as Markdown."""
    lines = [f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {platform.machine()}"]
    for row in rows:
        if row["part"] == "machine":
            names = ("hardware", "memory GiB", "cores", "torch", "cuda", "python", "commit")
            lines[0] += ", " + ", ".join(f"{name} {row[name]}" for name in names if row.get(name))
            peaks = ", ".join(f"{name} {row[f'peak {name}']}" for name in ("bfloat16", "tf32", "float32"))
            lines.append(f"Matrix peak measured there, TFLOP/s: {peaks}.")
        elif row["part"] == "tests":
            lines.append(f"tests/gpu: {row['said']} (exit code {row['code']}).")

    def add(part: str, titles: str, cells: Callable[[dict[str, Any]], list[Any]]) -> None:
        chosen = [row for row in rows if row["part"] == part]
        if chosen:
            heads = titles.split("|")
            lines.extend(["", *(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads)))])
            lines.extend(
                f"| {' | '.join('' if cell is None else str(cell) for cell in cells(row))} |" for row in chosen
            )

    add(
        "training",
        "training, bfloat16|tokens a batch|target tokens/s|of the bfloat16 peak|ms an update|first updates, s|GiB",
        lambda r: [
            r["model"] + (", compiled" if r["compiled"] else ""),
            f"{r['batch']:,}",
            f"{r['rate']:,}",
            f"{r['share']:.1%}",
            *(r["milliseconds"], r["first"], r["memory"]),
        ],
    )
    add(
        "search",
        "search|precision|beam|sentences at once|sentences/s|target tokens/s|ms a step|GiB",
        lambda r: [
            f"{r['model']}, {r['device']}",
            *(r["precision"], r["beam"], f"{r['sentences']:,}", f"{r['rate']:,}", f"{r['tokens']:,}", r["step"]),
            r["memory"],
        ],
    )
    add(
        "choice",
        "the best 8 of each row|rows|by blocks, ms|topk, ms",
        lambda r: ["", r["rows"], r["blocks"], r["topk"]],
    )
    add(
        "plan",
        "Multi30k|updates|R-Drop|ms an update|with R-Drop, ms",
        lambda r: ["", r["steps"], "yes" if r["rdrop"] else "no", r["ms_plain"], r["ms_rdrop"]],
    )
    add("trained", "trained, s|target tokens/s|dev BLEU", lambda r: [r["seconds"], f"{r['rate']:,}", r["dev"]])
    add("packed", "archive, MiB", lambda r: [round(r["bytes"] / 2**20, 2)])
    add(
        "translated",
        "test_2016_flickr by|device|BLEU|sentences/s|lines|as the row before",
        lambda r: [r["of"], r["device"], r["bleu"], r["rate"], r["lines"], r["same"]],
    )
    add("part", "part|ended|s", lambda r: [r["name"], r["ended"], r["seconds"]])
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    torch.manual_seed(1)
    main()
