"""The sections there are, read off the types of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from nmt.config import Config, Settings
from nmt.settings.layers import Key

SYNONYMS = {"bilinear": "general"}
"""Kinds by names that they have elsewhere."""


def sections_of(annotation: Any) -> list[type[Settings]]:
    """The kinds of section a setting may hold; none if it is a plain value."""
    if get_origin(annotation) is Annotated:
        return sections_of(get_args(annotation)[0])
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, Settings) else []
    return [section for part in get_args(annotation) for section in sections_of(part)]


def kinds_of(section: type[Settings]) -> list[str]:
    """What its `kind` may be; nothing where it has none."""
    return list(get_args(section.model_fields["kind"].annotation)) if "kind" in section.model_fields else []


def sections_at(key: Key) -> list[type[Settings]]:
    """The kinds of section that may stand at a key."""
    found: list[type[Settings]] = [Config]
    for name in key:
        settings = [section.model_fields[name] for section in found if name in section.model_fields]
        found = [inner for setting in settings for inner in sections_of(setting.annotation)]
    return found


def written_out(value: Any, sections: Sequence[type[Settings]]) -> Any:
    """A value with sections in place of the names of kinds that are short for them, and with our names of kinds."""
    kinds = [kind for section in sections for kind in kinds_of(section)]
    if isinstance(value, str):
        kind = own_name(value, kinds)
        return {"kind": kind} if kind in kinds else value
    if not isinstance(value, dict):
        return value
    written = {}
    for name, inner in value.items():
        settings = [section.model_fields[name] for section in sections if name in section.model_fields]
        written[name] = written_out(inner, [one for setting in settings for one in sections_of(setting.annotation)])
    return written | ({"kind": own_name(value["kind"], kinds)} if "kind" in value else {})


def own_name(kind: Any, kinds: Sequence[str]) -> Any:
    """What a kind is called here, if it has another name elsewhere."""
    other = SYNONYMS.get(kind) if isinstance(kind, str) else None
    return other if other in kinds else kind


def all_keys(section: type[Settings], at: Key = (), kind: str = "") -> Iterator[tuple[str, Key, str]]:
    """Every key there is: its name, the section it belongs in, and the kind of that section if there are several."""
    for name, setting in section.model_fields.items():
        yield name, at, kind
        sections = sections_of(setting.annotation)
        for inner in sections:
            yield from all_keys(inner, (*at, name), kinds_of(inner)[0] if len(sections) > 1 else "")


def complete(values: Mapping[str, Any], section: type[Settings]) -> dict[str, Any]:
    """The values with what a user may leave out: the kind, where it is the default one, and all of a section whose
    heading stands alone."""
    completed: dict[str, Any] = {}
    for name, value in values.items():
        completed[name] = value
        setting = section.model_fields.get(name)
        sections = [] if setting is None else sections_of(setting.annotation)
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
            completed[name] = value if chosen is None else complete(value, chosen)
    return completed


def _choose(sections: Sequence[type[Settings]], values: Mapping[str, Any]) -> type[Settings] | None:
    """The one of several kinds of section that `values` are meant for."""
    if len(sections) == 1:
        return sections[0]
    return next((section for section in sections if values.get("kind") in kinds_of(section)), None)
