"""Settings as they are written, in YAML or after `--set`: nested values, and who set each.

YAML 1.2 throughout: `no` is text, `1e-4` a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, Event, NodeEvent
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from nmt.errors import UserError
from nmt.records import whole_number
from nmt.told import is_text

Key = tuple[str, ...]

MOST_BYTES = 2**18
"""Of a file of settings: those of a large experiment are a fiftieth of it."""
MOST_VALUES = 5_000
"""In it, with each alias written out."""
MOST_DEPTH = 20
RENAMED: dict[Key, tuple[Key, ...]] = {("train", "keep"): (("train", "keep_last"), ("train", "keep_best"))}
"""What settings of earlier versions, which are read for ever, are called now."""


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

    def __post_init__(self) -> None:
        self._rename()

    def put(self, key: Key, value: Any, origin: Origin) -> None:
        """Sets the value at `key`, making the sections above it where there are none. An item of a list that is a
        section has its number, from 1, as key."""
        if key in RENAMED:
            for now in RENAMED[key]:
                self.put(now, value, origin)
            return
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
        self._rename()

    def _rename(self) -> None:
        """Gives what stands under an old name the new ones, but for those that are there as well."""
        for old, names in RENAMED.items():
            section, origin = look_up(self.values, old[:-1]), self.origins.pop(old, None)
            if not isinstance(section, dict) or old[-1] not in section:
                continue
            value = section.pop(old[-1])
            for name in names:
                section.setdefault(name[-1], value)
                if origin is not None:
                    self.origins.setdefault(name, origin)

    def origin(self, key: Key) -> Origin | None:
        """Who set the value at `key`, or the innermost section around it."""
        return next((self.origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.origins), None)


def look_up(values: Any, key: Key) -> Any:
    """The value at a key; None where there is none."""
    for name in key:
        if isinstance(values, list):
            number = whole_number(name) or 0
            values = values[number - 1] if 0 < number <= len(values) else None
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
        with path.open("rb") as file:  # which may be a pipe
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        hint = "`nmt init NAME` writes a configuration file to start from." if not path.exists() else None
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}", hint) from error
    if len(raw) > MOST_BYTES:
        raise UserError(f"{path}: larger than {MOST_BYTES:,} bytes", "A configuration file is much shorter.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text", "A configuration file is YAML in UTF-8.") from error
    parsed, root = _parse_yaml(text, str(path))
    values = {} if parsed is None else parsed
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: expected sections (data:, model:, train:, ...) at the top, found {found_text(values)}"
        )
    return Layers(values, {key: Origin(str(path), line) for key, line in _lines(root)})


def parse_override(text: str) -> tuple[Key, Any]:
    """Key and value of what stands after `--set`."""
    dotted, equals, value = text.partition("=")
    key = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(key):
        raise UserError(f"--set {text}: expected KEY=VALUE", "For example: --set model.encoder.layers=2")
    if len(key) > MOST_DEPTH:
        raise _too_much(len(key), f"--set {dotted[:60]}...")
    return key, _parse_yaml(value, f"--set {dotted}")[0]


def new_yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _parse_yaml(text: str, name: str) -> tuple[Any, Node | None]:
    """The value of a YAML text, in which no two keys share a section, and the node it was made of, which is measured
    before anything is made of it."""
    try:
        yaml = new_yaml()
        _bound(yaml.parse(text), name)
        root = yaml.compose(text)
        if root is None:
            return None, None
        _measure(root, name, {})
        return _unshared(yaml.constructor.construct_document(root)), root
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = name if mark is None or name.startswith("--set") else f"{name}:{mark.line + 1}:{mark.column + 1}"
        duplicate = re.match(r'found duplicate key "(.*?)"', error.problem or "")
        what = f"the key `{duplicate[1]}` is there twice" if duplicate else f"not YAML: {error.problem}"
        raise UserError(f"{where}: {what}") from error
    except (YAMLError, ValueError) as error:  # ValueError: a tag that does not fit, such as `!!int x` or a 13th month
        raise UserError(f"{name}: not YAML: {str(error).splitlines()[0]}") from error


def _bound(events: Iterable[Event], name: str) -> None:
    """UserError for a text that is nested too deeply or has too many values, as soon as that is plain."""
    depth = values = 0
    for event in events:
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        values += isinstance(event, NodeEvent)
        if depth > MOST_DEPTH or values > 2 * MOST_VALUES:  # keys are counted, too
            raise _too_much(depth, _place(event, name))


def _too_much(depth: int, where: str) -> UserError:
    if depth > MOST_DEPTH:
        return UserError(f"{where}: nested too deeply (an alias of a section within itself?)")
    return UserError(f"{where}: more than {MOST_VALUES:,} values, with each alias written out")


def _place(part: Event | Node, name: str) -> str:
    return name if name.startswith("--set") else f"{name}:{part.start_mark.line + 1}"


def _measure(node: Node, name: str, seen: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values and how many levels a node has with each alias written out, without writing them out. UserError
    for more than there may be, and for keys that are no text. `seen` are the nodes that have been measured."""
    if id(node) in seen:
        return seen[id(node)]
    seen[id(node)] = (0, MOST_DEPTH)  # until it is known: an alias of a section within itself is too deep
    parts: list[Node] = []
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                found = "a key" if isinstance(key, (MappingNode, SequenceNode)) else f"the key `{key.value or 'null'}`"
                raise UserError(f"{_place(key, name)}: {found} is no text", "If it is meant, put it in quotes.")
            parts.append(value)
    elif isinstance(node, SequenceNode):
        parts = node.value
    elif not is_text(node.value):
        raise UserError(f"{_place(node, name)}: not text: half a character, written as an escape")
    sizes = [_measure(part, name, seen) for part in parts]
    size, depth = 1 + sum(one for one, _ in sizes), 1 + max((levels for _, levels in sizes), default=0)
    if depth > MOST_DEPTH or size > MOST_VALUES:
        raise _too_much(depth, _place(node, name))
    seen[id(node)] = (size, depth)
    return size, depth


def _unshared(value: Any) -> Any:
    """A copy in which no two keys share a section, as YAML aliases would have it."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def _lines(node: Any, at: Key = ()) -> Iterator[tuple[Key, int]]:
    """The line, from 1, of each key below a YAML node. The key of an item of a list is its number, from 1."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield (*at, str(key.value)), key.start_mark.line + 1
            yield from _lines(value, (*at, str(key.value)))
    elif isinstance(node, SequenceNode):
        for number, value in enumerate(node.value, start=1):
            yield (*at, str(number)), value.start_mark.line + 1
            yield from _lines(value, (*at, str(number)))
