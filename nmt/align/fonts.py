"""Fonts for the labels of a picture: what is installed, which characters it has, what to install otherwise.

matplotlib shapes text itself (joined Arabic, Devanagari clusters, words from right to left) and goes through a list of
families letter cluster by letter cluster. A script is best drawn in one font: letters join only within a font. So the
list is made per text, with the fonts of its own scripts first.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

DEFAULT = "DejaVu Sans"  # comes with matplotlib: the same picture everywhere; Latin, Greek, Cyrillic, Hebrew, Arabic

_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH"}
_SHAPING = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # joiners, variation selectors: no glyphs


@dataclass(frozen=True)
class Fonts:
    """Fonts for texts that belong together, such as the words of one sentence."""

    by_script: Mapping[str, tuple[str, ...]]  # families for scripts that DEFAULT does not have in full
    others: tuple[str, ...]  # families for symbols
    missing: frozenset[str]  # characters that no installed font has

    def families(self, text: str) -> list[str]:
        """Families for `text`, the best first."""
        families = [family for char in text for family in self.by_script.get(script_of(char), ())]
        rest = set(text) - _characters(DEFAULT)
        return list(dict.fromkeys([*families, DEFAULT, *(self.others if rest else ())]))


def choose_fonts(texts: Iterable[str]) -> Fonts:
    """Picks installed fonts by the characters they have. Equal texts and equal fonts installed, equal choice.

    Fonts beyond DEFAULT are looked for only where it lacks a character, once per process.
    """
    characters = frozenset(_SHAPING.sub("", "".join(texts)))
    lacking = characters - _characters(DEFAULT)
    letters = {char for char in lacking if unicodedata.category(char)[0] in "LMN"}
    region = _region(characters)
    by_script: dict[str, tuple[str, ...]] = {}
    for script in sorted(set(map(script_of, letters))):
        by_script[script] = _cover({char for char in characters if script_of(char) == script}, region)
    chosen = list(dict.fromkeys(family for families in by_script.values() for family in families))
    rest = lacking.difference(*map(_characters, chosen))
    others = _cover(rest, region)
    return Fonts(by_script, (*chosen, *others), rest.difference(*map(_characters, others)))


def missing_fonts(characters: frozenset[str]) -> str:
    """One line on characters that no installed font has, and what to install."""
    scripts: dict[str, list[str]] = {}
    for char in sorted(characters):
        letter = unicodedata.category(char)[0] in "LMN"
        scripts.setdefault(script_of(char) if letter or script_of(char) == "CJK" else "symbol", []).append(char)
    names = {script: script if script in ("CJK", "symbol") else script.title() for script in sorted(scripts)}
    found = ", ".join(
        f"{names[script]} {' '.join(scripts[script][:5])}{' ...' if len(scripts[script]) > 5 else ''}"
        for script in names
    )
    fonts = [f"Noto Sans {'Symbols2' if script == 'symbol' else name}" for script, name in names.items()]
    packages = sorted({"fonts-noto-cjk" if script == "CJK" else "fonts-noto-core" for script in names})
    return (
        f"drawn as boxes, for no installed font has them: {found}. "
        f"Install {', '.join(fonts)} (Debian: {', '.join(packages)}), or draw SVG, which the viewer's fonts show"
    )


def script_of(char: str) -> str:
    """The writing system as Unicode's character names begin: LATIN, DEVANAGARI, ...; CJK stands for all East Asian."""
    first = re.split("[ -]", unicodedata.name(char, "UNNAMED"))[0]
    return "CJK" if first in _EAST_ASIAN or "\u3000" <= char <= "\u303f" else first


def _region(characters: Iterable[str]) -> str:
    """Han characters look different by region; fonts for all regions have the same characters."""
    names = {unicodedata.name(char, "UNNAMED").split()[0] for char in characters}
    return "JP" if names & {"HIRAGANA", "KATAKANA"} else "KR" if "HANGUL" in names else "SC"


def _cover(characters: Iterable[str], region: str) -> tuple[str, ...]:
    """Families that have as many of the characters as can be had, a single one wherever possible."""
    families: list[str] = []
    rest = set(characters)
    while rest:
        family = min(_installed(), key=lambda name: (-_quality(name), -len(rest & _characters(name))))
    return tuple(families)
