"""Settings as they are written, in YAML or after `--set`: nested values, and who set each.

YAML 1.2 throughout: `no` is text, `1e-4` a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from nmt.errors import UserError

Key = tuple[str, ...]


class Origin(NamedTuple):
    """Who set a value: a file and a line from 1, or an option of the command line."""

    name: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}" if self.line else self.name


@dataclass
class Layers:
    """Nested values, and for each key on the way who set it."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)

    def put(self, key: Key, value: Any, origin: Origin) -> None:
        """Sets the value at `key`, making the sections above it where there are none. An item of a list that is a
        section has its number, from 1, as key."""
        section: Any = self.values
        for depth, name in enumerate(key[:-1], start=1):
            if isinstance(section, dict) and section.get(name) is None:
                section[name] = {}
                self.origins.setdefault(key[:depth], origin)
            section = look_up(section, (name,))
            if not isinstance(section, dict) and (depth == len(key) - 1 or not isinstance(section, list)):
                name = ".".join(key[:depth])
                raise UserError(
                    f"{origin}: {name} is not a section, but {found_text(section)}",
                    f"If it may be a section, give all of it: {name}={{...}}.",
                )
        section[key[-1]] = value
        self.origins = {old: who for old, who in self.origins.items() if old[: len(key)] != key}
        self.origins[key] = origin

    def origin(self, key: Key) -> Origin | None:
        """Who set the value at `key`, or the innermost section around it."""
        return next((self.origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.origins), None)


def look_up(values: Any, key: Key) -> Any:
    """The value at a key; None where there is none."""
    for name in key:
        if isinstance(values, list):
            values = values[int(name) - 1] if name.isdecimal() and 0 < int(name) <= len(values) else None
        else:
            values = values.get(name) if isinstance(values, dict) else None
    return values


def leaves(values: Mapping[str, Any], at: Key = ()) -> Iterator[tuple[Key, Any]]:
    """All values that are no section, with their keys."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*at, name))
        else:
            yield (*at, name), value


def found_text(value: Any) -> str:
    """What a message says that it has found."""
    match value:
        case None | bool():
            return {None: "nothing", True: "true", False: "false"}[value]
        case str():
            return f'the text "{value[:60]}"'
        case dict() | list():
            return "a section" if isinstance(value, dict) else "a list"
        case int() | float():
            return str(value)
    return f"the {type(value).__name__} {value}"


def read_file(path: Path) -> Layers:
    """A YAML file as it stands: its file names are relative to its folder."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        hint = "`nmt init NAME` writes a configuration file to start from." if not path.exists() else None
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}", hint) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text", "A configuration file is YAML in UTF-8.") from error
    parsed = _parse_yaml(text, str(path))
    values = {} if parsed is None else parsed
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: expected sections (data:, model:, train:, ...) at the top, found {found_text(values)}"
        )
    lines = _lines(new_yaml().compose(text))
    return Layers(values, {key: Origin(str(path), line) for key, line in lines})


def parse_override(text: str) -> tuple[Key, Any]:
    """Key and value of what stands after `--set`."""
    dotted, equals, value = text.partition("=")
    key = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(key):
        raise UserError(f"--set {text}: expected KEY=VALUE", "For example: --set model.encoder.layers=2")
    return key, _parse_yaml(value, f"--set {dotted}")


def new_yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _parse_yaml(text: str, name: str) -> Any:
    try:
        return _unshared(new_yaml().load(text), name)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = name if mark is None or name.startswith("--set") else f"{name}:{mark.line + 1}:{mark.column + 1}"
        duplicate = re.match(r'found duplicate key "(.*?)"', error.problem or "")
        what = f"the key `{duplicate[1]}` is there twice" if duplicate else f"not YAML: {error.problem}"
        raise UserError(f"{where}: {what}") from error
    except (YAMLError, ValueError) as error:  # ValueError: a tag that does not fit, such as `!!int x` or a 13th month
        raise UserError(f"{name}: not YAML: {str(error).splitlines()[0]}") from error


def _unshared(value: Any, name: str, depth: int = 0) -> Any:
    """A copy in which no two keys share a section, as YAML aliases would have it."""
    if depth > 20:
        raise UserError(f"{name}: nested too deeply (an alias of a section within itself?)")
    if isinstance(value, dict):
        return {key: _unshared(inner, name, depth + 1) for key, inner in value.items()}
    return [_unshared(inner, name, depth + 1) for inner in value] if isinstance(value, list) else value


def _lines(node: Any, at: Key = ()) -> Iterator[tuple[Key, int]]:
    """The line, from 1, of each key below a YAML node. The key of an item of a list is its number, from 1."""
    if len(at) >= 20:
        return
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield (*at, str(key.value)), key.start_mark.line + 1
            yield from _lines(value, (*at, str(key.value)))
    elif isinstance(node, SequenceNode):
        for number, value in enumerate(node.value, start=1):
            yield (*at, str(number)), value.start_mark.line + 1
            yield from _lines(value, (*at, str(number)))
