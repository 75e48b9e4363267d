"""Pictures: what is drawn, read from the SVG; sizes and formats."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from nmt.align import heatmap
from nmt.align.fonts import choose_fonts
from nmt.align.heatmap import draw_heatmap
from nmt.align.maps import AttentionMap
from nmt.errors import UserError
from nmt.text.links import Gold


def attention(src: list[str], tgt: list[str]) -> AttentionMap:
    weights = np.random.default_rng(5).random((len(tgt), len(src)), np.float32)
    return AttentionMap(src, tgt, weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9))


def texts(path: Path) -> list[str]:
    """All text of an SVG, in the order of drawing."""
    return ["".join(node.itertext()).strip() for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_formats_and_equal_files_for_equal_input(tmp_path: Path, suffix: str, start: bytes) -> None:
    for name in ("one", "two"):
        assert draw_heatmap(attention(["he", "hit"], ["il", "m'", "a"]), tmp_path / f"{name}.{suffix}") == frozenset()
    one = (tmp_path / f"one.{suffix}").read_bytes()
    assert one.startswith(start)
    assert one == (tmp_path / f"two.{suffix}").read_bytes()


@pytest.mark.parametrize("name", ["map.gif", "map"])
def test_unknown_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no picture format"):
        draw_heatmap(attention(["a"], ["b"]), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_source_runs_across_and_target_down(tmp_path: Path) -> None:
    path = tmp_path / "map.svg"
    draw_heatmap(attention(["he", "hit", "me"], ["il", "m'", "a", "entarté"]), path)
    assert texts(path) == ["he", "hit", "me", "il", "m'", "a", "entarté", "0.0", "0.5", "1.0"]
    x, y = {}, {}
    for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text"):
        place = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", node.get("transform", ""))
        where = place.groups() if place else (node.get("x"), node.get("y"))
        x[node.text], y[node.text] = (float(value) for value in where if value is not None)
    assert x["he"] < x["hit"] < x["me"]
    assert y["il"] < y["m'"] < y["a"] < y["entarté"]
    assert max(y["he"], y["hit"], y["me"]) < y["il"]


def test_colours_fall_on_the_right_cells(tmp_path: Path) -> None:
    weights = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    path = tmp_path / "map.png"
    draw_heatmap(AttentionMap(["", "", ""], ["", ""], weights), path)
    dark = (imread(path)[:, :, :3] < (0.1, 0.25, 0.5)).all(axis=2)  # the darkest blue
    dark[:, int(dark.shape[1] * 0.7) :] = False  # the colour bar
    rows, columns = np.nonzero(dark)
    cell = 0.42 * 150  # pixels
    assert np.ptp(rows) == pytest.approx(cell, abs=3)
    assert np.ptp(columns) == pytest.approx(cell, abs=3)
    assert columns.min() == pytest.approx(cell + 15, abs=8)  # the second column, after the margin
    assert rows.min() < cell  # the first row


MARKUP = ["$x^2$", "$\\frac$", "$_$", "a_1", "\\alpha", "<b>bold</b>", "&amp;", "%d", "{}", "#", "$", "▁piece", "日"]


def test_labels_are_never_markup(tmp_path: Path) -> None:
    path = tmp_path / "map.svg"
    draw_heatmap(attention(MARKUP, ["$\\frac{1}{2}$"]), path, title="$\\frac$ and $_$ <i>")
    drawn = texts(path)
    assert drawn[: len(MARKUP) + 1] == [*MARKUP, "$\\frac{1}{2}$"]
    assert "$\\frac$ and $_$ <i>" in drawn
    for kind in ("png", "pdf"):
        draw_heatmap(attention(MARKUP, ["$\\frac{1}{2}$"]), tmp_path / f"map.{kind}", title="$\\frac$ and $_$ <i>")


def test_the_users_matplotlib_settings_do_not_count(tmp_path: Path) -> None:
    draw_heatmap(attention(["a"], ["b"]), tmp_path / "plain.svg")
    with matplotlib.rc_context({"text.usetex": True, "svg.fonttype": "path", "savefig.transparent": True}):
        draw_heatmap(attention(["a"], ["b"]), tmp_path / "styled.svg")
        assert matplotlib.rcParams["text.usetex"] is True
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "styled.svg").read_bytes()


def test_white_space_and_control_characters_are_made_visible(tmp_path: Path) -> None:
    path = tmp_path / "map.svg"
    draw_heatmap(attention(["a b", "\x07", "x\ny", "\u202eabc", "\ufeff", "\x85", "\uffff", "\ue000"], ["\x00"]), path)
    shown = ["a␣b", "\\x07", "x␣y", "\\u202eabc", "\\ufeff", "␣", "\\uffff", "\\ue000", "\\x00"]
    assert texts(path)[:9] == shown


def test_long_words_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "map.svg"
    draw_heatmap(attention(["x" * 500], ["y" * 32]), path)
    assert texts(path)[:2] == ["x" * 31 + "…", "y" * 32]


def test_missing_glyphs_are_returned_not_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmt.align.fonts._installed", dict)  # a machine without fonts
    for kind in ("png", "svg", "pdf"):
        path = tmp_path / f"map.{kind}"
        missing = draw_heatmap(attention(["中文", "한", "abc"], ["مرحبا", "été"]), path, title="Ꭳ")
        assert missing == frozenset("中文한Ꭳ")


WORDS = {
    "Latin": "Straße,",
    "Cyrillic": "Привет!",
    "CJK": "日本語。",
    "Cherokee": "ᎣᏏᏲ",
    "Devanagari": "क्षत्रिय",
    "Arabic": "مرحبا،",
    "Hebrew": "(שלום)",
}
RIGHT_TO_LEFT = {"Arabic", "Hebrew"}


def test_an_svg_has_labels_in_logical_order_and_says_their_direction(tmp_path: Path) -> None:
    """Viewers order and join the letters; reversed ones would come out reversed. The same file each time."""
    one, two = tmp_path / "one.svg", tmp_path / "two.svg"
    words = list(WORDS.values())
    for path in (one, two):
        draw_heatmap(attention(words, words[::-1]), path, title=WORDS["Hebrew"])
    directed = [f"\u2067{word}\u2069" if name in RIGHT_TO_LEFT else word for name, word in WORDS.items()]
    drawn = texts(one)
    assert drawn[: len(words)] == directed
    assert drawn[len(words) : 2 * len(words)] == directed[::-1]
    assert directed[-1] in drawn[2 * len(words) :], "the title"
    assert one.read_bytes() == two.read_bytes()


def pixels(word: str, path: Path) -> np.ndarray:
    draw_heatmap(attention(["a"], [word]), path)
    return imread(path)


def by_hand(shown: str) -> str:
    """Glyphs from left to right, whatever their direction."""
    return f"\u202d{shown}\u202c"


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("שלום", "םולש"),
        ("שלום,", ",םולש"),  # the comma ends the word: it stands to the left
        ("שלום2024", "2024םולש"),  # numbers run from left to right
        ("▁של", "לש▁"),
        ("بب", "\ufe90\ufe91"),  # final and initial form: joined
        ("مرحبا", "\ufe8e\ufe92\ufea3\ufeae\ufee3"),  # what follows ra and alif is not joined to it
    ],
)
def test_right_to_left_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, shown: str) -> None:
    """The picture of a word is the one of its glyphs, put from left to right by hand."""
    drawn = pixels(word, tmp_path / "word.png")
    monkeypatch.setattr(heatmap, "_visible", str)  # the override is shown as an escape otherwise
    np.testing.assert_array_equal(drawn, pixels(by_hand(shown), tmp_path / "shown.png"))
    reverse = pixels(by_hand(shown[::-1]), tmp_path / "reverse.png")
    assert drawn.shape != reverse.shape or not np.array_equal(drawn, reverse)


@pytest.mark.parametrize("name", WORDS)
def test_matplotlib_misses_no_glyph(name: str) -> None:
    """It warns of those it misses, and warnings are errors here."""
    word = WORDS[name]
    fonts = choose_fonts([word])
    if fonts.missing:
        pytest.skip(f"no font for {name} is installed")
    figure = Figure()
    figure.text(0.5, 0.5, word, fontfamily=fonts.families(word))
    FigureCanvasAgg(figure).draw()


def test_fonts_in_a_pdf(tmp_path: Path) -> None:
    """Only TrueType outlines, those of the default font, are embedded as they are."""
    draw_heatmap(attention(["a"], ["b"]), tmp_path / "plain.pdf")
    assert b"/CIDFontType2" in (tmp_path / "plain.pdf").read_bytes()
    if draw_heatmap(attention(["a"], ["中"]), tmp_path / "cjk.pdf"):
        pytest.skip("no font for CJK is installed")
    assert b"/CIDFontType2" not in (tmp_path / "cjk.pdf").read_bytes()
    assert b"/Type3" in (tmp_path / "cjk.pdf").read_bytes()


def test_gold_is_outlined(tmp_path: Path) -> None:
    plain, overlaid = tmp_path / "plain.svg", tmp_path / "gold.svg"
    pair = attention(["a", "b"], ["x", "y"])
    draw_heatmap(pair, plain)
    draw_heatmap(pair, overlaid, gold=Gold(frozenset({(0, 0)}), frozenset({(0, 0), (1, 0), (1, 1)})))
    outlines = re.findall(r'style="fill: none; [^"]*stroke: #d95f02[^"]*"', overlaid.read_text("utf-8"))
    assert [("stroke-dasharray" in style) for style in outlines] == [False, True, True]
    assert "#d95f02" not in plain.read_text("utf-8")


@pytest.mark.parametrize("shape", [(0, 0), (0, 2), (2, 0), (1, 1)])
def test_empty_sides(tmp_path: Path, shape: tuple[int, int]) -> None:
    rows, columns = shape
    path = tmp_path / "map.svg"
    draw_heatmap(attention([f"s{n}" for n in range(columns)], [f"t{n}" for n in range(rows)]), path)
    assert len(texts(path)) == rows + columns + 3


def test_labels_keep_their_distance_whatever_the_length(tmp_path: Path) -> None:
    for size in (3, 18, 30, 60):
        path = tmp_path / f"{size}.svg"
        draw_heatmap(attention([f"Wort{n}" for n in range(size)], [f"word{n}" for n in range(size)]), path)
        rows = []
        for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text"):
            if (node.text or "").startswith("word"):
                font = float(re.search(r"([\d.]+)px", node.get("style", ""))[1])  # type: ignore[index]
                rows.append(float(node.get("y") or 0))
        assert len(rows) == size
        assert 8 <= font <= 11
        assert min(np.diff(rows)) >= 1.2 * font


def test_a_very_long_sentence_keeps_the_picture_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    draw_heatmap(attention(["a"], ["b"] * 500), path)
    assert max(imread(path).shape) < 9000
