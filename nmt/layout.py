"""The names that this program makes in a run. What bears another, and every link, is somebody else's: it is never
deleted, nor replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
LOCK = "lock"
STEP = re.compile(r"step-(\d{8,})")
"""The name of a checkpoint that training writes."""
STEP_DRAFT = re.compile(rf"\.{STEP.pattern}\.\d+\.(old\.)?tmp")
"""Its name until it is complete."""

SIDES = "sides.json"
_TOKENIZER = rf"tokenizer(/((src|tgt|joint)\.(json|model)|{re.escape(SIDES)}))?"
_CORPUS = r"(train|dev)(/(meta\.json|((src|tgt)\.(ids|text)|links)(\.offsets)?))?"
_CHECKPOINT = rf"({STEP.pattern}|average-(best|last)-\d+)(/({'|'.join(map(re.escape, (MODEL, OPTIMIZER, STATE)))}))?"
_DRAFT = r"(.+/)?\.[^/]+\.\d+\.((old|data)\.)?tmp(/.+)?"
_RUN = re.compile(
    rf"config\.yaml|run\.json|best|last|{LOCK}|report\.html|(metrics|samples|attention)\.jsonl"
    rf"|{_TOKENIZER}|data(/(data\.json|{_TOKENIZER}|{_CORPUS}))?|checkpoints(/{_CHECKPOINT})?"
    rf"|tensorboard(/events\.out\.tfevents\.[^/]+)?|{_DRAFT}"
)


def is_run(folder: Path) -> bool:
    """Whether this program has made a run there; a config.yaml alone may be anybody's."""
    return all((folder / name).is_file() for name in ("config.yaml", "run.json")) and (folder / "checkpoints").is_dir()


def strangers(run: Path) -> Iterator[Path]:
    """What lies in a run and is not of it, folders before what is in them."""
    for path in sorted(run.rglob("*")):
        if path.is_symlink() or not _RUN.fullmatch(path.relative_to(run).as_posix()):
            yield path


def run_of(path: Path) -> Path | None:
    """The run to which a file of this name belongs, or would if it were there."""
    final = path.resolve()
    return next((p for p in final.parents if is_run(p) and _RUN.fullmatch(final.relative_to(p).as_posix())), None)


def is_checkpoint(folder: Path) -> bool:
    """Whether it is a folder, no link to one, and holds files of a checkpoint and nothing else."""
    names = (MODEL, OPTIMIZER, STATE)
    return folder.is_dir() and not folder.is_symlink() and all(path.name in names for path in folder.iterdir())
