"""What is wrong with settings, in words: pydantic's errors with file, line, key, and what was meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic_core import ErrorDetails

from nmt.config import Config, Settings
from nmt.errors import UserError
from nmt.settings.layers import Key, Layers, Origin, found_text, look_up
from nmt.settings.sections import all_keys, kinds_of, sections_at, sections_of

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
"""Where it is, if that is known, and what it is."""


def one_error(problems: Sequence[Problem]) -> UserError:
    """All of them, file by file and line by line."""
    ordered = sorted(problems, key=lambda problem: problem[0] or Origin(""))
    lines = [message if origin is None else f"{origin}: {message}" for origin, message in ordered]
    if len(lines) == 1:
        return UserError(lines[0])
    return UserError("\n  ".join([f"{len(lines)} problems in the settings:", *lines]))


def explain(error: ErrorDetails, layers: Layers) -> Problem:
    """A mistake that pydantic has found in the values of `layers`."""
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
            values = look_up(values, (rest.pop(0),))
            continue
        key, holder = (*key, rest[0]), section
        values = look_up(values, (rest.pop(0),))
        setting = None if holder is None else holder.model_fields.get(key[-1])
        sections = [] if setting is None else sections_of(setting.annotation)
        tagged = (
            next((one for one in sections if rest and rest[0] in kinds_of(one)), None) if len(sections) > 1 else None
        )
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
            return _not_among(
                context["expected_tags"], value["kind"], _with_option(value["kind"], sections_at(key[:-1]))
            )
        case "missing":
            return "missing"
        case "literal_error":
            return _not_among(context["expected"], value)
        case "model_type" | "model_attributes_type" if isinstance(value, str) and (
            sections := _with_kinds(key, holder)
        ):
            kinds = [kind for section in sections for kind in kinds_of(section)]
            return _not_among(", ".join(map(repr, kinds)), value, _with_option(value, sections))
        case kind if kind in EXPECTED:
            return f"expected {EXPECTED[kind]}, found {found_text(value)}{_repair(kind, value, key, holder)}"
    return f"{error['msg'].replace('Input should', 'must')}, found {found_text(value)}"


def _with_kinds(key: Key, holder: type[Settings] | None) -> list[type[Settings]]:
    """The sections that a key may hold, if they have kinds."""
    sections = [] if holder is None else sections_of(holder.model_fields[key[-1]].annotation)
    return [section for section in sections if kinds_of(section)]


def _with_option(value: Any, sections: Sequence[type[Settings]]) -> str:
    """The kind that knows something of this name, which is none itself, such as `bpe`."""
    for section in sections:
        for name, setting in section.model_fields.items():
            if isinstance(value, str) and value in get_args(setting.annotation):
                return f"{kinds_of(section)[0]}` with `{name}: {value}"
    return ""


def _not_among(quoted: str, value: Any, meant: str = "") -> str:
    names = re.findall(r"'(.*?)'", quoted)
    near = [meant] if meant else get_close_matches(str(value), names, 1)
    choice = f"one of {', '.join(names)}" if len(names) > 1 else names[0]
    meant = f"; did you mean `{near[0]}`?" if near else ""
    return f"expected {choice}, found {found_text(value)}{meant}"


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
    if value == "none" and holder is not None and type(None) in get_args(holder.model_fields[key[-1]].annotation):
        return ": write null"
    return ""


def _advice(key: Key, holder: type[Settings]) -> str:
    """Where an unknown key belongs, or which one was meant."""
    name, here = key[-1], key[:-1]
    valid = list(holder.model_fields)
    if near := get_close_matches(name, valid, 1, cutoff=0.8):
        return f"did you mean `{near[0]}`?"
    places = list(all_keys(Config))
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
