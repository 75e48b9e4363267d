"""The script that proves a GPU: what it packs, what a cut part costs, and all of it on a CPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

SPEED = Path(__file__).resolve().parents[2] / "recipes" / "speed"
ROOT = SPEED.parents[1]
THERE = {"torch", "numpy", "safetensors", "sentencepiece"}
NOT_USED = {"matplotlib", "pooch"}  # pictures, and what is fetched


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(SPEED))
    import gpu

    return gpu


def test_the_pack_has_every_library_that_is_not_there():
    listed = re.search(r"for name in (.*?); do\n +set --", (SPEED / "pack_gpu.sh").read_text(), re.DOTALL)[1]
    packed = {name.lower() for name in listed.replace("\\\n", "").split()}
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.match(r"[\w.-]+", line)[0].lower() for line in needed} - THERE - NOT_USED <= packed
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert packed <= pinned


SLOW = """
import json, subprocess, sys, time
from pathlib import Path

out = Path(sys.argv[1])
(out / "pid").write_text(str(subprocess.Popen(["sleep", "60"]).pid))
with (out / "results.jsonl").open("a") as file:
    file.write(json.dumps({"part": "packed", "bytes": 1 << 20}) + "\\n")
time.sleep(60)
"""


def options_of(gpu, folder):
    return gpu.Options(out=folder, pack=folder, scratch=folder, dry=True, part=None)


def test_a_part_that_takes_too_long_is_cut_with_what_it_started(gpu, tmp_path, monkeypatch):
    """What it had found stays, and the table tells."""
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "slow.py"))
    options = options_of(gpu, tmp_path)
    assert gpu.run_part("pack", 4.0, options) == "cut after 4 s"
    assert gpu.run_part("translate", 0.5, options) == "no time was left"
    text = gpu.table(gpu.results(options))
    assert "| 1.0 |" in text
    assert "| pack | cut after 4 s |" in text
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def alive(process):
    """Whether it runs; one that has ended, and whom nobody has asked for yet, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable, "PACK": str(tmp_path / "none"), "OUT": str(tmp_path / "out")}
    command = ["sh", str(SPEED / "gpu.sh"), "--dry"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    whole = json.loads(said.stdout.splitlines()[-1])
    assert whole["failed"] == []
    assert json.loads((tmp_path / "out/result.json").read_text()) == whole
    assert {row["part"] for row in whole["results"]} >= {"machine", "tests", "training", "search", "trained", "packed"}
    last = [row for row in whole["results"] if row["part"] == "translated"][-1]
    assert last["same"] == last["lines"]
    assert len(list((tmp_path / "out").iterdir())) <= 8  # which is all that some machines give back
