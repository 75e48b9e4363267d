"""The files that settings name: made absolute when read, and looked for before work begins."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nmt.config import Config
from nmt.errors import UserError
from nmt.settings.layers import Key, Layers, look_up, read_file
from nmt.settings.mistakes import one_error

FILES: tuple[Key, ...] = (
    ("data", "src"),
    ("data", "tgt"),
    ("data", "more", "src"),
    ("data", "more", "tgt"),
    ("data", "links"),
    ("data", "dev_src"),
    ("data", "dev_tgt"),
    ("data", "prepared"),
    ("tokenizer", "path"),
    ("tokenizer", "tgt_path"),
)
"""Settings that name files (`prepared`: a folder), relative to where they are written; those of each item of a list."""

DEV: tuple[Key, ...] = (("data", "dev_src"), ("data", "dev_tgt"))
HELD_OUT = (
    "Name others with --dev-src and --dev-tgt; or without development files, pairs are held out of the training text: "
    "--set data.dev_src=null --set data.dev_tgt=null."
)

VECTORS: tuple[Key, ...] = (("model", "embedding", "src_vectors"), ("model", "embedding", "tgt_vectors"))
"""The same, of files that are read once, when training starts from nothing."""


def absolute(key: Key, value: Any, folder: Path) -> Any:
    """The value with all file names in it made absolute (it is one itself if `key` says so)."""
    if isinstance(value, dict):
        return {name: absolute((*key, name), inner, folder) for name, inner in value.items()}
    if isinstance(value, list):
        return [absolute(key, inner, folder) for inner in value]
    unnumbered = tuple(name for name in key if not name.isdecimal())
    if unnumbered in (*FILES, *VECTORS) and value and isinstance(value, str | Path):
        return os.path.normpath(folder.resolve() / Path(value).expanduser())
    return value


def without_files(values: Mapping[str, Any], at: Key = ()) -> dict[str, Any]:
    """Nested settings that name no file, and have no section that needs one."""
    names = (*FILES, *VECTORS)
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = (*at, name)
        if isinstance(value, Mapping):
            found[name] = without_files(value, key)
        elif isinstance(value, list | tuple) and any(file[: len(key)] == key for file in names):
            found[name] = []
        else:
            found[name] = None if key in names else value
    return found


def read_settings(path: Path) -> Layers:
    """A YAML file of settings, with absolute file names."""
    layers = read_file(path)
    return Layers(absolute((), layers.values, path.parent), layers.origins)


def check_files(config: Config, path: Path | None = None, *, vectors: bool = False) -> None:
    """Raises UserError that lists every file the settings name and that is not there; pretrained vectors, too, with
    `vectors`.

    `path` is the file the settings came from, for its line numbers.
    """
    written = Layers() if path is None else read_settings(path)
    problems, missing = [], set()
    values, wanted = config.model_dump(), (*FILES, *VECTORS) if vectors else FILES
    for key, name in (found for one in wanted for found in _named(values, one)):
        file, origin = Path(name), written.origins.get(key)
        if not file.exists():
            problem = _missing(file)
            missing.add(key)
        elif file.is_dir() != (key[-1] == "prepared"):
            problem = f"{file} is a folder, not a file" if file.is_dir() else f"{file} is a file, not a folder"
        else:
            continue
        from_file = origin is not None and look_up(written.values, key) == name
        problems.append((origin if from_file else None, f"{'.'.join(key)}: {problem}"))
    if problems:
        raise UserError(one_error(problems).message, HELD_OUT if missing & {*DEV} else None)


def _named(values: Any, wanted: Key, at: Key = ()) -> Iterator[tuple[Key, str]]:
    """The files that a setting names, with the key of each: a list on the way may have several."""
    if isinstance(values, tuple):
        for number, value in enumerate(values, start=1):
            yield from _named(value, wanted, (*at, str(number)))
    elif wanted and isinstance(values, dict):
        yield from _named(values.get(wanted[0]), wanted[1:], (*at, wanted[0]))
    elif not wanted and values is not None:
        yield at, values


def _missing(file: Path) -> str:
    if file.name == "-":
        return "standard input (-) is read but once, and this file more often: write it to a file first"
    others = os.listdir(file.parent) if file.parent.is_dir() else []
    near = [other for other in others if other.startswith(file.name)] or get_close_matches(file.name, others, 1)
    return f"no such file: {file}" + (f"; did you mean `{near[0]}`?" if near else "")
