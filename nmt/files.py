"""Files that are there completely or not at all, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nmt.errors import UserError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; UserError where it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object")
    return value


def write_atomically(path: Path, text: str) -> None:
    """Replaces a small file: whoever reads it, even after a power cut, sees the old text or the new."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8")
    _fsync(draft)
    os.replace(draft, path)
    _fsync(path.parent)


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Gives an empty folder that becomes `target` once the block has ended well, and vanishes if it has not.

    Every file is on the disk before the name changes, so `target` is complete or absent. An older `target` is
    replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft, old = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("tmp", "old.tmp"))
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        for path in (*draft.rglob("*"), draft):
            _fsync(path)
        if target.exists():
            os.rename(target, old)
        os.rename(draft, target)
        _fsync(target.parent)
    except BaseException:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def json_text(value: Mapping[str, Any]) -> str:
    """An object as indented JSON, as it stands in files."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
