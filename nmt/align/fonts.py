"""Fonts for the texts of a picture: what is installed, which characters it has, what to install otherwise.

matplotlib shapes text by itself (joined Arabic, Devanagari clusters, words from right to left) and takes what one font
lacks from the next in a list of families. Letters join only within a font, so all of a script is drawn in one: if
DEFAULT lacks a letter of the text's script, none of that script comes from DEFAULT.
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
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font

DEFAULT = "DejaVu Sans"  # comes with matplotlib, so that most pictures look the same on all machines

_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH"}
_NAME = re.compile("([A-Z ]+?)(?:-| LETTER| CAPITAL| SMALL| VOWEL| SIGN| SYLLABLE| DIGIT| NUMBER)")
_SHAPING = re.compile("[\u200c\u200d\u2066-\u2069\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # these need no glyphs
_SYMBOL = "symbol"


@dataclass(frozen=True)
class Fonts:
    """Fonts for texts that belong together, such as the words of one sentence."""

    by_script: Mapping[str, tuple[str, ...]]  # families for scripts of which DEFAULT lacks a character
    extra: tuple[str, ...]  # all families beyond DEFAULT
    missing: frozenset[str]  # characters that no installed font has

    def families(self, text: str) -> list[str]:
        """Families to draw `text` with, the best first."""
        letters = {char for char in text if script_of(char) in self.by_script}
        own = [family for script in sorted(set(map(script_of, letters))) for family in self.by_script[script]]
        torn = bool(letters & _characters(DEFAULT))  # what DEFAULT has of the script, it would take
        rest = self.extra if _lacking(text).difference(*map(_characters, own)) else ()
        return list(dict.fromkeys([*own, DEFAULT, *rest] if torn else [DEFAULT, *own, *rest]))


def choose_fonts(texts: Iterable[str]) -> Fonts:
    """Picks installed fonts by the characters they have. Equal texts and equal fonts installed, equal choice.

    The machine's fonts are looked through only where DEFAULT lacks a character, and once per process.
    """
    characters = frozenset("".join(texts))
    lacking = _lacking(characters)
    region = _region(characters)
    by_script = {}
    for script in sorted({script_of(char) for char in lacking} - {_SYMBOL}):
        by_script[script] = _cover({char for char in characters if script_of(char) == script}, region)
    chosen = [family for families in by_script.values() for family in families]
    symbols = lacking.difference(*map(_characters, chosen))
    extra = tuple(dict.fromkeys([*chosen, *_cover(symbols, region)]))
    return Fonts(by_script, extra, lacking.difference(*map(_characters, extra)))


def missing_fonts(characters: frozenset[str]) -> str:
    """One line on characters that no installed font has, and what to install."""
    scripts: dict[str, list[str]] = {}
    base = {char for char in characters if unicodedata.category(char)[0] not in "MP"}
    for char in sorted(base or characters):  # marks do not stand alone, and punctuation comes with the letters
        scripts.setdefault(script_of(char), []).append(char)
    some = [f"{name} {' '.join(found[:5])}{' ...' if len(found) > 5 else ''}" for name, found in scripts.items()]
    fonts = [f"Noto Sans {'Symbols2' if name == _SYMBOL else name}" for name in scripts]
    packages = sorted({"fonts-noto-cjk" if name == "CJK" else "fonts-noto-core" for name in scripts})
    return (
        f"no installed font has these characters, drawn as boxes: {', '.join(some)}. "
        f"Install {', '.join(fonts)} (Debian: {', '.join(packages)}); an SVG shows them with the viewer's fonts"
    )


def script_of(char: str) -> str:
    """The writing system, as names of characters in Unicode begin: Latin, Devanagari, ...; CJK is all East Asian."""
    name = unicodedata.name(char, "UNNAMED")
    first = re.split("[ -]", name)[0]
    if first in _EAST_ASIAN or "\u3000" <= char <= "\u303f":
        return "CJK"
    if unicodedata.category(char)[0] not in "LMN":
        return _SYMBOL  # punctuation too: it goes with letters of any script
    match = _NAME.match(name)
    return (match[1] if match else first).title()


def _lacking(characters: Iterable[str]) -> frozenset[str]:
    """Characters that need another font than DEFAULT."""
    return frozenset(char for char in characters if not _SHAPING.match(char)) - _characters(DEFAULT)


def _region(characters: Iterable[str]) -> str:
    """Fonts for China, Japan and Korea have the same characters and draw some differently; text does not say which."""
    names = {re.split("[ -]", unicodedata.name(char, "UNNAMED"))[0] for char in characters}
    return "JP" if names & {"HIRAGANA", "KATAKANA"} else "KR" if "HANGUL" in names else "SC"


def _cover(characters: Iterable[str], region: str) -> tuple[str, ...]:
    """Families that have the characters, as far as any has: a single one if possible."""
    families: list[str] = []
    rest = {char for char in characters if not _SHAPING.match(char)}
    while rest:
        found = {family: len(rest & has) for family, has in _installed().items() if rest & has}
        if not found:
            break
        best = min(found, key=lambda family: _order(family, found[family], region))
        families.append(best)
        rest -= _characters(best)
    return tuple(families)


def _order(family: str, found: int, region: str) -> tuple[bool, int, int, bool, int, str]:
    """Unifont has everything, in coarse bitmaps: last. Then the more characters the better, sans serif, plain names."""
    words = set(family.split())
    style = 2 if words & {"Serif", "Mono", "Display"} else 0 if "Sans" in words else 1
    return "unifont" in family.lower(), -found, style, not family.endswith(region), len(family), family


@lru_cache(maxsize=1)
def _default_characters() -> frozenset[str]:
    return _read_characters(font_manager.findfont(FontProperties(family=[DEFAULT])), 0)


def _characters(family: str) -> frozenset[str]:
    return _default_characters() if family == DEFAULT else _installed()[family]


@lru_cache(maxsize=1)
def _installed() -> dict[str, frozenset[str]]:
    """The characters of each family's upright, regular font."""
    manager = font_manager.fontManager
    known = {entry.fname for entry in manager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):  # installed since matplotlib made its list
        try:
            manager.addfont(path)
        except Exception:  # of any kind, as matplotlib has it: what it cannot read (bitmap fonts) is no font to it
            continue
    own = Path(matplotlib.get_data_path())
    best: dict[str, font_manager.FontEntry] = {}
    for entry in manager.ttflist:
        if entry.style != "normal" or "lastresort" in Path(entry.fname).name.lower():
            continue  # the last resort has a box for every character
        if os.getenv("MPL_IGNORE_SYSTEM_FONTS") and own not in Path(entry.fname).parents:
            continue
        if entry.name not in best or _distance(entry) < _distance(best[entry.name]):
            best[entry.name] = entry
    return {name: _read_characters(entry.fname, entry.index) for name, entry in sorted(best.items())}


def _distance(entry: font_manager.FontEntry) -> tuple[bool, int]:
    return entry.stretch != "normal", abs(int(entry.weight) - 400)


def _read_characters(path: str, face: int) -> frozenset[str]:
    try:
        return frozenset(map(chr, FT2Font(path, face_index=face).get_charmap()))
    except (OSError, RuntimeError):  # in matplotlib's list, but gone from the disk
        return frozenset()
