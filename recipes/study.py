"""What the studies share: trainings that are made once, gone on with where they were interrupted, and told apart by
their settings and text; and means over seeds.

A study is a script in a folder of its own. It finds this module from the root of the project:

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from recipes.study import nmt, train
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from nmt.errors import UserError
from nmt.files import json_text, write_atomically
from nmt.records import read_json
from nmt.settings.load import load_config


class Pair(NamedTuple):
    """Two files, source and target."""

    src: Path
    tgt: Path


class Terminated(KeyboardInterrupt):
    """SIGTERM came, to this process alone: the command that it waits for has to be told."""


def start(main: Callable[[], None]) -> None:
    """Runs the script: a mistake is told in a line, and an interrupted training saves before all ends."""
    signal.signal(signal.SIGTERM, _raise)
    name = Path(sys.argv[0]).name
    try:
        main()
    except UserError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; the same command goes on")


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated


def options_of(about: str | None, *, seeds: Sequence[int]) -> argparse.ArgumentParser:
    """A parser with the options that all studies have; `seeds` are trained where none are named."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--set", dest="settings", action="append", default=[], help="a setting, as of `nmt train`")
    return parser


def nmt(log: Path, *arguments: object) -> str:
    """Runs a command in a process of its own and gives what it prints; what it says besides goes to `log`."""
    command = [sys.executable, "-m", "nmt", *map(str, arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, encoding="utf-8") as child,
    ):
        try:
            said, _ = child.communicate()
        except KeyboardInterrupt as interruption:
            if isinstance(interruption, Terminated):
                child.terminate()
            child.wait()  # a training saves, and the next call goes on from there
            raise
    if child.returncode:
        raise UserError(f"nmt {arguments[0]} failed", f"see {log}")
    return said


def log_of(run: Path) -> Path:
    """Where it is written what the commands of a run say."""
    return run.with_name(f"{run.name}.log")


# What a training is made of


def fingerprint(settings: object, files: Iterable[Path]) -> str:
    """Of settings, as JSON has them, and of the content of files, in hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def settings_of(config: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """All settings that are not defaults."""
    return load_config(config, list(overrides)).model_dump(mode="json", exclude_unset=True)


def _check_made_of(run: Path, found: str, wanted: str) -> None:
    """UserError where a run has not the fingerprint that it should have."""
    if found != wanted:
        raise UserError(f"{run} is of other settings or text", "name another folder by -o, or delete it")


def is_made(run: Path, digest: str) -> bool:
    """Whether what came out of a run is there, in its cell.json; if not, what is about to be made of it is noted, see
    `claim`. UserError where what is there is of something else."""
    path = run / "cell.json"
    if not path.exists():
        claim(run, digest)
        return False
    _check_made_of(run, read_json(path)["fingerprint"], digest)
    return True


def claim(run: Path, digest: str) -> None:
    """Notes beside a run, before it begins, what it is made of; UserError where what is there is of something else."""
    path = run.with_name(f"{run.name}.made-of.json")
    if run.exists() and path.exists():
        _check_made_of(run, read_json(path)["fingerprint"], digest)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json_text({"fingerprint": digest}))


# Training


def train(
    run: Path, config: Path, texts: Sequence[object], overrides: Sequence[str], *, minutes: float | None = None
) -> None:
    """Trains a run, or goes on from its last checkpoint, until it is done or has trained for so many minutes in all.

    `texts` are the options that name the text.
    """
    begun = (run / "last").is_file()
    spent = facts(run)["seconds"] if begun and minutes is not None else 0.0
    left = None if minutes is None else round(60 * minutes - spent)
    if left is not None and left <= 0:
        return
    limit = () if left is None else ("--max-time", f"{left}s")
    if begun:
        nmt(log_of(run), "train", run, "--resume", *limit)
    else:
        changes = [option for change in overrides for option in ("--set", change)]
        nmt(log_of(run), "train", config, *texts, "-o", run, "--force", *changes, *limit)


def text_options(train: Pair, dev: Pair) -> list[object]:
    """The options of `nmt train` and `nmt prepare` that name the text."""
    return ["--src", train.src, "--tgt", train.tgt, "--dev-src", dev.src, "--dev-tgt", dev.tgt]


def facts(run: Path) -> dict[str, Any]:
    """What `nmt info` says; before `keep_best`, which takes away what it asks."""
    said: dict[str, Any] = json.loads(nmt(log_of(run), "info", run, "--json"))
    return said


def reports(run: Path, key: str) -> list[dict[str, Any]]:
    """The reports of a training that have the key."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [report for report in map(json.loads, lines) if key in report]


def training_speed(run: Path) -> float | None:
    """Target tokens a second between validations: the median of the reports; None before the first."""
    speeds = [report["tokens_per_second"] for report in reports(run, "tokens_per_second")]
    return round(statistics.median(speeds), 1) if speeds else None


def keep_best(run: Path) -> None:
    """Deletes all checkpoints but the best: of so many runs they would be gigabytes. There is no going on then."""
    best = (run / "best").read_text(encoding="utf-8").strip()
    (run / "last").unlink()
    for folder in (run / "checkpoints").iterdir():
        if folder.name != best:
            shutil.rmtree(folder)


# Tables


def spread(values: Sequence[float | None], form: str = ".2f") -> str:
    """Mean, and with several values their standard deviation; `-` where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    deviation = f" ± {statistics.stdev(known):{form}}" if len(known) > 1 else ""
    return f"{statistics.mean(known):{form}}{deviation}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]
