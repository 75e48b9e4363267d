"""Pictures of attention: source words across the top, target words down the side, darker where more is looked at."""

from __future__ import annotations

import unicodedata
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle

from nmt.align.links import Gold, Link
from nmt.align.maps import AttentionMap
from nmt.errors import UserError

FORMATS = ("png", "svg", "pdf")

_FONT = "DejaVu Sans"  # comes with matplotlib: the same picture everywhere
_COLORS = "Blues"  # light to dark: prints well, and colour-blind readers see it
_GOLD = "#d95f02"
_SMALLEST_FONT = 8.0  # points
_LONGEST_LABEL = 32  # characters
_MOST_PIXELS = 8000  # a side of a PNG


def draw_heatmap(
    attention: AttentionMap, path: Path, *, title: str | None = None, gold: Gold | None = None
) -> frozenset[str]:
    """Writes a picture to `path`, its format given by the suffix: .png, .svg or .pdf. Equal input, equal file.

    Colours run from 0 to 1. `gold` links are outlined: sure ones solid, possible ones dotted. Labels are drawn
    literally, never read as markup; control characters are shown as escapes.
    Returns the characters that the font lacks (drawn as boxes), for the caller to report; see `missing_scripts`.
    Raises UserError for another suffix.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(f"{path}: no picture format is called {kind!r}", f"Choose one of {', '.join(FORMATS)}.")
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # the user's own matplotlib settings must not change the picture (or switch on TeX)
        matplotlib.rcParams.update(
            {"font.family": [_FONT], "svg.fonttype": "none", "svg.hashsalt": "nmt", "pdf.fonttype": 42}
        )
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # one per glyph and pass; returned instead
        figure = _figure(attention, title, gold)
        inches = max(figure.get_size_inches())
        metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        figure.savefig(
            path,
            format=kind,
            dpi=min(150, _MOST_PIXELS / inches),
            bbox_inches="tight",
            pad_inches=0.1,
            metadata=metadata,
        )
    shown = "".join([*map(_label, attention.src), *map(_label, attention.tgt), _title(title or "")])
    return frozenset(shown) - _known_characters()


def missing_scripts(characters: frozenset[str]) -> str:
    """One line on characters without a glyph, such as "DejaVu Sans has no CJK, HANGUL: 中 文 한"."""
    scripts = sorted({unicodedata.name(char, "UNNAMED").split()[0] for char in characters})
    some = " ".join(sorted(characters)[:10])
    return f"{_FONT} has no {', '.join(scripts)} characters: {some}{' ...' if len(characters) > 10 else ''}"


@lru_cache(maxsize=1)
def _known_characters() -> frozenset[str]:
    font = FT2Font(font_manager.findfont(_FONT))
    return frozenset(map(chr, font.get_charmap()))


def _figure(attention: AttentionMap, title: str | None, gold: Gold | None) -> Figure:
    """All sizes are in inches and fixed beforehand, so that cells are square and labels never overlap."""
    rows, columns = max(len(attention.tgt), 1), max(len(attention.src), 1)
    cell = max(0.2, min(0.42, 7.5 / max(rows, columns)))
    font = max(_SMALLEST_FONT, min(11.0, cell * 36))  # points; the smallest cell has 14.4
    width, height = cell * columns, cell * rows
    gap, bar = 0.15, 0.12
    full = width + gap + bar
    figure = Figure(figsize=(full, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, width / full, 1))
    if attention.weights.size:
        axes.pcolormesh(attention.weights, cmap=_COLORS, vmin=0, vmax=1, edgecolors="#e4e4e4", linewidth=0.4)
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.tick_params(length=0, pad=3, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_color("#999999")
    _name_ticks(axes, attention, font)
    if gold is not None:
        for link in sorted(gold.possible):
            _outline(axes, link, sure=link in gold.sure)
    if title:
        axes.set_title(_title(title), fontsize=font + 1, pad=10, parse_math=False, usetex=False)
    bar_height = min(height, 2.5) / height
    colors = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _COLORS),
        cax=figure.add_axes(((width + gap) / full, 1 - bar_height, bar / full, bar_height)),
        ticks=[0, 0.5, 1],
    )
    colors.ax.tick_params(length=2, labelsize=8)
    colors.outline.set(linewidth=0.5)
    return figure


def _name_ticks(axes: Axes, attention: AttentionMap, font: float) -> None:
    plain: dict[str, Any] = {"parse_math": False, "usetex": False, "fontsize": font}
    axes.set_xticks([column + 0.5 for column in range(len(attention.src))])
    axes.set_yticks([row + 0.5 for row in range(len(attention.tgt))])
    axes.set_xticklabels(
        [_label(word) for word in attention.src],
        rotation=45 if font > _SMALLEST_FONT else 90,  # upright, small labels have a whole cell each
        rotation_mode="anchor",
        ha="left",
        va="baseline" if font > _SMALLEST_FONT else "center_baseline",
        **plain,
    )
    axes.set_yticklabels([_label(word) for word in attention.tgt], **plain)


def _outline(axes: Axes, link: Link, *, sure: bool) -> None:
    src, tgt = link
    style = "-" if sure else ":"
    axes.add_patch(
        Rectangle((src + 0.12, tgt + 0.12), 0.76, 0.76, fill=False, edgecolor=_GOLD, linewidth=1.4, linestyle=style)
    )


def _label(word: str) -> str:
    """Literal text that is safe to draw: white space visible, control characters escaped, very long words cut."""
    if len(word) > _LONGEST_LABEL:
        word = word[: _LONGEST_LABEL - 1] + "…"
    return "".join(map(_visible, word))


def _title(text: str) -> str:
    return " ".join("".join(map(_visible, word)) for word in text.split(" "))


def _visible(char: str) -> str:
    if char.isspace():
        return "␣"
    # zero-width joiners shape the letters around them; other such characters reorder text or break an SVG
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn") and char not in "\u200c\u200d":
        return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
    return char
