"""Fonts are chosen by the characters they have; on machines with made-up fonts, and on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties, fontManager

from nmt.align import fonts
from nmt.align.fonts import DEFAULT, choose_fonts, missing_fonts, script_of

Machine = Callable[[dict[str, str]], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Pretends that these are the installed fonts: names of families, and the characters of each."""
    monkeypatch.delenv("MPL_IGNORE_SYSTEM_FONTS", raising=False)
    own = [entry for entry in fontManager.ttflist if "mpl-data" in entry.fname]
    paths: list[str] = []

    def install(families: dict[str, str]) -> None:
        paths[:] = [write_font(tmp_path / f"{name}.ttf", name, characters) for name, characters in families.items()]
        monkeypatch.setattr(fontManager, "ttflist", list(own))
        fonts._installed.cache_clear()

    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    install({})
    yield install
    fonts._installed.cache_clear()


def write_font(path: Path, family: str, characters: str) -> str:
    """A font in which every character is the same square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 500), (500, 500), (500, 0)):
        pen.lineTo(point)
    pen.closePath()
    square = pen.glyph()
    names = {ord(char): f"u{ord(char):04X}" for char in characters}
    glyphs = [".notdef", *names.values()]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(glyphs, square))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.mark.parametrize(
    "text", ["", "Straße", "Привет", "ελληνικά", "שָׁלוֹם", "مرحبا،", "e\u0301", "a\u200db", "…«»—₽", "▁x␣"]
)
def test_the_default_font_does_without_looking_for_others(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_installed", lambda: pytest.fail("the machine's fonts are looked through"))
    chosen = choose_fonts([text])
    assert chosen.families(text) == [DEFAULT]
    assert chosen.missing == frozenset()


def test_by_characters_not_by_name(machine: Machine) -> None:
    machine({"Probe Sans Devanagari": "ab", "Other Font": "किताब", "Probe Serif": "किताब"})
    chosen = choose_fonts(["किताब", "abc"])
    assert chosen.families("किताब") == [DEFAULT, "Other Font"]
    assert chosen.families("abc") == [DEFAULT]
    assert chosen.missing == frozenset()


@pytest.mark.parametrize(
    ("installed", "best"),
    [
        ({"Probe": "ᎣᏏ", "Probe Sans Text": "ᎣᏏ", "Probe Serif": "ᎣᏏ"}, "Probe Sans Text"),
        ({"Probe Sans": "Ꭳ", "Probe Serif": "ᎣᏏ"}, "Probe Serif"),  # one font for all of a script
        ({"Probe Unifont": "ᎣᏏᏲ", "Probe Mono": "ᎣᏏ"}, "Probe Mono"),
        ({"Probe Unifont": "ᎣᏏ"}, "Probe Unifont"),
        ({"Probe Sans B": "ᎣᏏ", "Probe Sans A": "ᎣᏏ"}, "Probe Sans A"),
    ],
)
def test_which_of_several(machine: Machine, installed: dict[str, str], best: str) -> None:
    machine(installed)
    first = choose_fonts(["ᎣᏏ"])
    machine(dict(reversed(installed.items())))  # the order in which fonts are found
    assert choose_fonts(["ᎣᏏ"]) == first
    assert first.families("ᎣᏏ") == [DEFAULT, best]


def test_several_where_no_font_has_all(machine: Machine) -> None:
    machine({"Probe One": "ᎣᏏ", "Probe Two": "ᏲᎠ", "Probe Three": "Ꮣ"})
    chosen = choose_fonts(["ᎣᏏᏲᎠ", "Ꮈ"])
    assert chosen.families("ᎣᏲ") == [DEFAULT, "Probe One", "Probe Two"]
    assert chosen.missing == frozenset("Ꮈ")


def test_a_script_is_not_torn_between_fonts(machine: Machine) -> None:
    """The default font lacks U+06C1 of Urdu: letters join only within a font, so all of it comes from another."""
    machine({"Probe Urdu": "ہواور"})
    chosen = choose_fonts(["ہو", "اور", "שלום", "ok"])
    assert chosen.families("ہو") == chosen.families("اور") == ["Probe Urdu", DEFAULT]
    assert chosen.families("שלום") == chosen.families("ok") == [DEFAULT]


def test_every_script_of_a_text(machine: Machine) -> None:
    machine({"Probe East": "中あ한。", "Probe Cherokee": "Ꭳ", "Probe Stars": "🛰"})
    chosen = choose_fonts(["Ꭳ is 中。", "한", "あ", "🛰"])
    assert chosen.families("Ꭳ is 中。") == [DEFAULT, "Probe East", "Probe Cherokee"]
    assert chosen.families("한") == chosen.families("あ") == [DEFAULT, "Probe East"]
    assert "Probe Stars" in chosen.families("🛰")


@pytest.mark.parametrize(("text", "region"), [("中文", "SC"), ("食べる", "JP"), ("中 한국", "KR")])
def test_region_of_han(machine: Machine, text: str, region: str) -> None:
    machine({f"Probe CJK {name}": "中文食べる한국" for name in ("HK", "JP", "KR", "SC", "TC")})
    assert choose_fonts(text.split()).families(text) == [DEFAULT, f"Probe CJK {region}"]


def test_files_that_are_no_fonts(machine: Machine, tmp_path: Path) -> None:
    machine({"Probe": "Ꭳ"})
    (tmp_path / "Probe.ttf").write_bytes(b"no font")
    assert choose_fonts(["Ꭳ"]).missing == frozenset("Ꭳ")


def test_system_fonts_can_be_ignored(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib does not draw with them if this is set."""
    monkeypatch.setenv("MPL_IGNORE_SYSTEM_FONTS", "1")
    machine({"Probe": "Ꭳ"})
    assert choose_fonts(["Ꭳ"]).missing == frozenset("Ꭳ")


def test_message_on_missing_fonts(machine: Machine) -> None:
    missing = choose_fonts(["中文한", "Ꭳ", "किखगघङच।", "🛰", "abc"]).missing
    assert missing_fonts(missing) == (
        "no installed font has these characters, drawn as boxes: Devanagari क ख ग घ ङ ..., Cherokee Ꭳ, CJK 中 文 한, "
        "symbol 🛰. Install Noto Sans Devanagari, Noto Sans Cherokee, Noto Sans CJK, Noto Sans Symbols2 "
        "(Debian: fonts-noto-cjk, fonts-noto-core); an SVG shows them with the viewer's fonts"
    )


@pytest.mark.parametrize(
    ("char", "script"),
    [
        ("a", "Latin"),
        ("Ж", "Cyrillic"),
        ("ش", "Arabic"),
        ("٣", "Arabic"),
        ("क", "Devanagari"),
        ("ि", "Devanagari"),
        ("Ᏼ", "Cherokee"),
        ("𐎠", "Old Persian"),
        *((char, "CJK") for char in "中あアー한，。「"),
        ("!", "symbol"),
    ],
)
def test_script(char: str, script: str) -> None:
    assert script_of(char) == script


WORDS = {
    "CJK": ["中文。", "日本語", "食べる", "한국어"],
    "Cherokee": ["ᎣᏏᏲ", "ᏣᎳᎩ"],
    "Devanagari": ["क्षत्रिय", "हिन्दी।", "लड़की"],
    "Urdu": ["ہے۔", "پاکستان"],
    "Hebrew": ["שָׁלוֹם"],
}


@pytest.mark.parametrize("name", WORDS)
def test_fonts_of_this_machine(name: str) -> None:
    """What matplotlib will open for the chosen families has the characters, as fontTools reads its file."""
    chosen = choose_fonts(WORDS[name])
    if chosen.missing:
        pytest.skip(f"no font for {name} is installed")
    for word in WORDS[name]:
        characters: set[int] = set()
        for family in chosen.families(word):
            path = font_manager.findfont(FontProperties(family=[family]), fallback_to_default=False)
            with TTFont(path, fontNumber=getattr(path, "face_index", 0)) as font:
                characters |= set(font.getBestCmap())
        assert set(map(ord, word)) <= characters
