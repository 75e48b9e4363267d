"""From YAML files and `--set` to a `Config`, and back; every mistake is named with its file, line and key.

YAML 1.2 throughout: `no` is text, `1e-4` a number. Layers are applied in turn: the file, what options of the command
line say (`base`), then the overrides.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from nmt.config import Config, Settings
from nmt.errors import UserError

Key = tuple[str, ...]

FILES: tuple[Key, ...] = (
    ("data", "src"),
    ("data", "tgt"),
    ("data", "more", "src"),
    ("data", "more", "tgt"),
    ("data", "dev_src"),
    ("data", "dev_tgt"),
    ("data", "prepared"),
    ("tokenizer", "path"),
    ("tokenizer", "tgt_path"),
)
"""Settings that name files (`prepared`: a folder), relative to where they are written; those of each item of a list."""
VECTORS: tuple[Key, ...] = (("model", "embedding", "src_vectors"), ("model", "embedding", "tgt_vectors"))
"""The same, of files that are read once, when training starts from nothing."""


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
            section = _look_up(section, (name,))
            if not isinstance(section, dict) and (depth == len(key) - 1 or not isinstance(section, list)):
                name = ".".join(key[:depth])
                raise UserError(
                    f"{origin}: {name} is not a section, but {_found(section)}",
                    f"If it may be a section, give all of it: {name}={{...}}.",
                )
        section[key[-1]] = value
        self.origins = {old: who for old, who in self.origins.items() if old[: len(key)] != key}
        self.origins[key] = origin

    def origin(self, key: Key) -> Origin | None:
        """Who set the value at `key`, or the innermost section around it."""
        return next((self.origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.origins), None)


def load_config(
    path: Path | None,
    overrides: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
    *,
    beneath: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of a YAML file (None or empty: all defaults), changed by `base` (nested mappings, merged key by
    key), then by `overrides` ("model.encoder.layers=2": a dotted key and a YAML value). `beneath` stands for defaults:
    it holds where none of these says anything, and not in a section that they give another kind.

    File names become absolute: those in the file are relative to its folder, the others to the current one.
    Raises UserError that lists every problem.
    """
    layers = _layers(path, overrides, base)
    _lay_beneath(layers, beneath or {})
    try:
        return Config.model_validate(_complete(layers.values, Config))
    except ValidationError as error:
        raise _one_error([_explain(problem, layers) for problem in error.errors()]) from error


def said(path: Path | None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """What `load_config` would be told, nested, without defaults."""
    return _layers(path, overrides, base).values


def _layers(path: Path | None, overrides: Sequence[str], base: Mapping[str, Any] | None) -> Layers:
    layers = Layers() if path is None else _read_file(path)
    for key, value in _leaves(base or {}):
        layers.put(key, _absolute(key, value, Path.cwd()), Origin("command line"))
    for override in overrides:
        key, value = _parse_override(override)
        layers.put(key, _absolute(key, value, Path.cwd()), Origin(f"--set {'.'.join(key)}"))
    return layers


def _lay_beneath(layers: Layers, values: Mapping[str, Any], at: Key = ()) -> None:
    there = _look_up(layers.values, at) or {}
    if not isinstance(there, dict) or ("kind" in values and there.get("kind", values["kind"]) != values["kind"]):
        return
    for name, value in values.items():
        key = (*at, name)
        if isinstance(value, Mapping):
            _lay_beneath(layers, value, key)
        elif name not in there:
            layers.put(key, value, Origin("chosen for the size of the corpus"))


def dump_config(config: Config) -> str:
    """YAML, every default spelled out, that `load_config` reads back to an equal Config."""
    stream, yaml = io.StringIO(), _yaml()
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel declares it None
    yaml.width = 10**6  # no line is broken
    values = config.model_dump()
    yaml.allow_unicode = "\\x85" not in repr(values)  # this one character is a line break to ruamel unless escaped
    yaml.dump(values, stream)
    return stream.getvalue()


def check_files(config: Config, path: Path | None = None, *, vectors: bool = False) -> None:
    """Raises UserError that lists every file the settings name and that is not there; pretrained vectors, too, with
    `vectors`.

    `path` is the file the settings came from, for its line numbers.
    """
    written = Layers() if path is None else _read_file(path)
    problems = []
    values, wanted = config.model_dump(), (*FILES, *VECTORS) if vectors else FILES
    for key, name in (found for one in wanted for found in _named(values, one)):
        file, origin = Path(name), written.origins.get(key)
        if not file.exists():
            problem = _missing(file)
        elif file.is_dir() != (key[-1] == "prepared"):
            problem = f"{file} is a folder, not a file" if file.is_dir() else f"{file} is a file, not a folder"
        else:
            continue
        from_file = origin is not None and _look_up(written.values, key) == name
        problems.append((origin if from_file else None, f"{'.'.join(key)}: {problem}"))
    if problems:
        raise _one_error(problems)


def _read_file(path: Path) -> Layers:
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
        raise UserError(f"{path}: expected sections (data:, model:, train:, ...) at the top, found {_found(values)}")
    lines = _lines(_yaml().compose(text))
    return Layers(_absolute((), values, path.parent), {key: Origin(str(path), line) for key, line in lines})


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _parse_yaml(text: str, name: str) -> Any:
    try:
        return _unshared(_yaml().load(text), name)
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


def _parse_override(text: str) -> tuple[Key, Any]:
    dotted, equals, value = text.partition("=")
    key = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(key):
        raise UserError(f"--set {text}: expected KEY=VALUE", "For example: --set model.encoder.layers=2")
    return key, _parse_yaml(value, f"--set {dotted}")


def _leaves(values: Mapping[str, Any], at: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*at, name))
        else:
            yield (*at, name), value


def _absolute(key: Key, value: Any, folder: Path) -> Any:
    """The value with all file names in it made absolute (it is one itself if `key` says so)."""
    if isinstance(value, dict):
        return {name: _absolute((*key, name), inner, folder) for name, inner in value.items()}
    if isinstance(value, list):
        return [_absolute(key, inner, folder) for inner in value]
    unnumbered = tuple(name for name in key if not name.isdecimal())
    if unnumbered in (*FILES, *VECTORS) and value and isinstance(value, str | Path):
        return os.path.normpath(folder.resolve() / Path(value).expanduser())
    return value


def _look_up(values: Any, key: Key) -> Any:
    for name in key:
        if isinstance(values, list):
            values = values[int(name) - 1] if name.isdecimal() and 0 < int(name) <= len(values) else None
        else:
            values = values.get(name) if isinstance(values, dict) else None
    return values


def _named(values: Any, wanted: Key, at: Key = ()) -> Iterator[tuple[Key, str]]:
    """The files that a setting names, with the key of each: a list on the way may have several."""
    if isinstance(values, tuple):
        for number, value in enumerate(values, start=1):
            yield from _named(value, wanted, (*at, str(number)))
    elif wanted and isinstance(values, dict):
        yield from _named(values.get(wanted[0]), wanted[1:], (*at, wanted[0]))
    elif not wanted and values is not None:
        yield at, values


def _sections(annotation: Any) -> list[type[Settings]]:
    """The kinds of section a setting may hold; none if it is a plain value."""
    if get_origin(annotation) is Annotated:
        return _sections(get_args(annotation)[0])
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, Settings) else []
    return [section for part in get_args(annotation) for section in _sections(part)]


def _kinds(section: type[Settings]) -> list[str]:
    return list(get_args(section.model_fields["kind"].annotation)) if "kind" in section.model_fields else []


def _choose(sections: Sequence[type[Settings]], values: Mapping[str, Any]) -> type[Settings] | None:
    """The one of several kinds of section that `values` are meant for."""
    if len(sections) == 1:
        return sections[0]
    return next((section for section in sections if values.get("kind") in _kinds(section)), None)


def _complete(values: Mapping[str, Any], section: type[Settings]) -> dict[str, Any]:
    """The values with what a user may leave out: the kind, where it is the default one, and all of a section whose
    heading stands alone."""
    completed: dict[str, Any] = {}
    for name, value in values.items():
        completed[name] = value
        setting = section.model_fields.get(name)
        sections = [] if setting is None else _sections(setting.annotation)
        if setting is None or not sections:
            continue
        if value is None and type(None) not in get_args(setting.annotation):
            value = [] if get_origin(setting.annotation) is tuple else {}
            completed[name] = value
        if isinstance(value, dict):
            default = getattr(setting.get_default(call_default_factory=True), "kind", None)
            if len(sections) > 1 and "kind" not in value and default is not None:
                value = {"kind": default, **value}
            chosen = _choose(sections, value)
            completed[name] = value if chosen is None else _complete(value, chosen)
    return completed


EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
}
"""What pydantic wanted, by the type of its error."""

Problem = tuple[Origin | None, str]


def _one_error(problems: Sequence[Problem]) -> UserError:
    ordered = sorted(problems, key=lambda problem: problem[0] or Origin(""))
    lines = [message if origin is None else f"{origin}: {message}" for origin, message in ordered]
    if len(lines) == 1:
        return UserError(lines[0])
    return UserError("\n  ".join([f"{len(lines)} problems in the settings:", *lines]))


def _explain(error: ErrorDetails, layers: Layers) -> Problem:
    key, holder = _trace(error["loc"], layers.values)
    if error["type"] == "union_tag_invalid":
        key = (*key, "kind")
    if error["type"] == "value_error":  # a combination that one of our validators refused
        message = str(error["ctx"]["error"])
        named = [(*key, *word.split(".")) for word in re.findall(r"\w+(?:\.\w+)*", message)]
        origin = next((layers.origins[name] for name in named if name in layers.origins), layers.origin(key))
    else:
        message = _message(error, key, holder)
        origin = layers.origin(key)
    dotted = ".".join(key)
    said = not key or (origin is not None and origin.name == f"--set {dotted}")
    return origin, message if said else f"{dotted}: {message}"


def _trace(location: Sequence[str | int], values: Any) -> tuple[Key, type[Settings] | None]:
    """The key pydantic speaks of (it inserts the kinds of sections), and the section that should hold it."""
    key: Key = ()
    holder: type[Settings] | None = None
    section: type[Settings] | None = Config
    rest = [str(part + 1) if isinstance(part, int) else part for part in location]
    while rest:
        if isinstance(values, list):  # an item, which is a section of the kind that the list is of
            key, holder = (*key, rest[0]), None
            values = _look_up(values, (rest.pop(0),))
            continue
        key, holder = (*key, rest[0]), section
        values = _look_up(values, (rest.pop(0),))
        setting = None if holder is None else holder.model_fields.get(key[-1])
        sections = [] if setting is None else _sections(setting.annotation)
        tagged = next((one for one in sections if rest and rest[0] in _kinds(one)), None) if len(sections) > 1 else None
        if tagged is not None:
            rest.pop(0)
        section = tagged or (sections[0] if len(sections) == 1 else None)
    return key, holder


def _message(error: ErrorDetails, key: Key, holder: type[Settings] | None) -> str:
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden" | "invalid_key" if holder is not None:
            return f"unknown key; {_advice(key, holder)}"
        case "union_tag_invalid":
            return _not_among(context["expected_tags"], value["kind"])
        case "missing":
            return "missing"
        case "literal_error":
            return _not_among(context["expected"], value)
        case kind if kind in EXPECTED:
            return f"expected {EXPECTED[kind]}, found {_found(value)}{_repair(kind, value, key, holder)}"
    return f"{error['msg'].replace('Input should', 'must')}, found {_found(value)}"


def _not_among(quoted: str, value: Any) -> str:
    names = re.findall(r"'(.*?)'", quoted)
    near = get_close_matches(str(value), names, 1)
    choice = f"one of {', '.join(names)}" if len(names) > 1 else names[0]
    meant = f"; did you mean `{near[0]}`?" if near else ""
    return f"expected {choice}, found {_found(value)}{meant}"


def _repair(kind: str, value: Any, key: Key, holder: type[Settings] | None) -> str:
    """How to put a value of the wrong type right, where it is plain."""
    if kind.startswith("int") and isinstance(value, float) and value.is_integer():
        return f": write {int(value)}"
    if (
        kind in ("int_type", "float_type")
        and isinstance(value, str)
        and re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", value)
    ):
        return ": write it without quotes"
    if kind == "string_type" and value is not None and not isinstance(value, dict | list):
        return ": put it in quotes"
    if kind.startswith("model") and isinstance(value, str) and holder is not None:
        sections = _sections(holder.model_fields[key[-1]].annotation)
        if any(value in _kinds(section) for section in sections):
            return f": write {{kind: {value}}}"
    return ""


def _found(value: Any) -> str:
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


def _places(section: type[Settings], at: Key = (), kind: str = "") -> Iterator[tuple[str, Key, str]]:
    """Every key there is: its name, the section it belongs in, and the kind of that section if there are several."""
    for name, setting in section.model_fields.items():
        yield name, at, kind
        sections = _sections(setting.annotation)
        for inner in sections:
            yield from _places(inner, (*at, name), _kinds(inner)[0] if len(sections) > 1 else "")


def _advice(key: Key, holder: type[Settings]) -> str:
    """Where an unknown key belongs, or which one was meant."""
    name, here = key[-1], key[:-1]
    valid = list(holder.model_fields)
    if near := get_close_matches(name, valid, 1, cutoff=0.8):
        return f"did you mean `{near[0]}`?"
    places = list(_places(Config))
    if kinds := [kind for other, at, kind in places if (other, at) == (name, here)]:
        return f"it belongs to kind {' or '.join(kinds)}"
    if elsewhere := [at for other, at, _ in places if other == name and at and name != "kind"]:
        nearest = sorted(dict.fromkeys(elsewhere), key=lambda at: at[:1] != here[:1])[:3]
        return f"{name} belongs under {' or '.join('.'.join(at) for at in nearest)}"
    if near := get_close_matches(name, valid, 1):
        return f"did you mean `{near[0]}`?"
    if near := get_close_matches(name, [other for other, _, _ in places], 1, cutoff=0.75):
        at = next(at for other, at, _ in places if other == near[0])
        return f"did you mean `{'.'.join((*at, near[0]))}`?"
    return f"valid here: {', '.join(valid)}" if valid else "no keys are valid here"


def _missing(file: Path) -> str:
    others = os.listdir(file.parent) if file.parent.is_dir() else []
    near = [other for other in others if other.startswith(file.name)] or get_close_matches(file.name, others, 1)
    return f"no such file: {file}" + (f"; did you mean `{near[0]}`?" if near else "")
