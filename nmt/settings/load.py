"""From YAML files and `--set` to a `Config`, and back.

Layers are applied in turn: the file, what options of the command line say (`base`), then the overrides.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nmt.config import Config
from nmt.errors import UserError
from nmt.settings.layers import Key, Layers, Origin, found_text, leaves, look_up, new_yaml, parse_override
from nmt.settings.mistakes import explain, one_error
from nmt.settings.paths import absolute, read_settings
from nmt.settings.sections import complete, kinds_of, own_name, sections_at, written_out


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
        return Config.model_validate(complete(layers.values, Config))
    except ValidationError as error:
        raise one_error([explain(problem, layers) for problem in error.errors()]) from error


def said(path: Path | None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """What `load_config` would be told, nested, without defaults."""
    return _layers(path, overrides, base).values


def contradictions(
    path: Path | None,
    overrides: Sequence[str],
    base: Mapping[str, Any] | None,
    fixed: Mapping[str, Any],
    where: object,
) -> UserError | None:
    """An error that lists each setting that is said to be another than in `fixed`, nested settings of `where`; a key
    that they lack may be anything."""
    layers, settled, problems = _layers(path, overrides, base), dict(leaves(fixed)), []
    for key, value in leaves(layers.values):
        if key in settled and value != settled[key]:
            origin, dotted = layers.origin(key), ".".join(key)
            subject = "" if origin is not None and origin.name == f"--set {dotted}" else f"{dotted}: "
            ours, theirs = (found_text(one).removeprefix("the text ") for one in (value, settled[key]))
            problems.append((origin, f"{subject}{ours}, but {theirs} in {where}"))
    return one_error(problems) if problems else None


def dump_config(config: Config) -> str:
    """YAML, every default spelled out, that `load_config` reads back to an equal Config."""
    stream, yaml = io.StringIO(), new_yaml()
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel declares it None
    yaml.width = 10**6  # no line is broken
    values = config.model_dump()
    yaml.allow_unicode = "\\x85" not in repr(values)  # this one character is a line break to ruamel unless escaped
    yaml.dump(values, stream)
    return stream.getvalue()


def _layers(path: Path | None, overrides: Sequence[str], base: Mapping[str, Any] | None) -> Layers:
    layers = Layers() if path is None else read_settings(path)
    layers.values = written_out(layers.values, [Config])
    for key, value in leaves(base or {}):
        _put(layers, key, value, Origin("command line"))
    for override in overrides:
        key, value = parse_override(override)
        _put(layers, key, value, Origin(f"--set {'.'.join(key)}"))
    return layers


def _put(layers: Layers, key: Key, value: Any, origin: Origin) -> None:
    """Sets a value from the command line. Where it is another kind of section, the keys that only others know go."""
    value = written_out(absolute(key, value, Path.cwd()), sections_at(key))
    there = look_up(layers.values, key[:-1])
    if key[-1] == "kind" and isinstance(there, dict):
        sections = sections_at(key[:-1])
        value = own_name(value, [kind for section in sections for kind in kinds_of(section)])
        known = {name for section in sections if value in kinds_of(section) for name in section.model_fields}
        others = {name for section in sections for name in section.model_fields} - known if known else set()
        for name in others & there.keys():
            if not str(layers.origin((*key[:-1], name))).startswith("--set"):
                del there[name]
    layers.put(key, value, origin)


def _lay_beneath(layers: Layers, values: Mapping[str, Any], at: Key = ()) -> None:
    there = look_up(layers.values, at) or {}
    if not isinstance(there, dict) or ("kind" in values and there.get("kind", values["kind"]) != values["kind"]):
        return
    for name, value in values.items():
        key = (*at, name)
        if isinstance(value, Mapping):
            _lay_beneath(layers, value, key)
        elif name not in there:
            layers.put(key, value, Origin("taken or chosen where nothing is said"))
