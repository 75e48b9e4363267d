"""Pictures of attention: source words across the top, target words down the side, darker where more is looked at.

Rows and columns keep the order of the text, in right-to-left languages too; each word is written in its own direction.
"""

from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from nmt.align.fonts import DEFAULT, choose_fonts
from nmt.align.maps import AttentionMap, Weights
from nmt.errors import UserError
from nmt.text.links import Gold, Link

FORMATS = ("png", "svg", "pdf")

_COLORS = "Blues"  # light to dark: prints well, and colour-blind readers see it
_GOLD = "#d95f02"
_SMALLEST_FONT = 8.0  # points
_LONGEST_LABEL = 32  # characters
_MOST_PIXELS = 8000  # a side of a PNG
_PLAIN: dict[str, Any] = {"parse_math": False, "usetex": False}


def draw_heatmap(
    attention: AttentionMap,
    path: Path,
    *,
    form: str | None = None,
    title: str | None = None,
    gold: Gold | None = None,
    copied: Sequence[float] | None = None,
) -> frozenset[str]:
    """Writes a picture to `path`, of the format `form`, or of its suffix: png, svg or pdf. Equal input, equal file.

    Colours run from 0 to 1. `gold` links are outlined: sure ones solid, possible ones dotted. `copied` [T] is a column
    beside the map: the probability with which each target word was copied, not generated. Labels are drawn literally,
    never read as markup; control characters are shown as escapes.
    Returns the characters that no installed font has (drawn as boxes), for the caller to report: see `missing_fonts`.
    Raises UserError for another suffix.
    """
    kind = form or path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(f"{path}: no picture format is called {kind!r}", f"Choose one of {', '.join(FORMATS)}.")
    with _settings():
        directed = _directed if kind == "svg" else str
        src, tgt = ([directed(_label(word)) for word in words] for words in (attention.src, attention.tgt))
        shown = AttentionMap(src, tgt, attention.weights)
        figure, missing = _figure(shown, directed(_title(title or "")), gold, copied)
        if any(text.get_fontfamily() != [DEFAULT] for text in figure.findobj(Text)):
            matplotlib.rcParams["pdf.fonttype"] = 3  # fonts for East Asia are often CFF, which 42 embeds wrongly
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
    return missing


@contextmanager
def _settings() -> Iterator[None]:
    """The same for every picture: the user's own settings of matplotlib must not change it, or switch on TeX."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {"font.family": [DEFAULT], "svg.fonttype": "none", "svg.hashsalt": "nmt", "pdf.fonttype": 42}
        )
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # one per glyph and pass; returned instead
        log.setLevel(logging.ERROR)  # it tells of fonts that come in other weights only
        try:
            yield
        finally:
            log.setLevel(level)


def _figure(
    attention: AttentionMap, title: str, gold: Gold | None, copied: Sequence[float] | None
) -> tuple[Figure, frozenset[str]]:
    """The picture with words and title as they are, and the characters that no font has.

    All sizes are in inches and fixed beforehand, so that cells are square and labels never overlap.
    """
    rows, columns = max(len(attention.tgt), 1), max(len(attention.src), 1)
    cell = max(0.2, min(0.42, 7.5 / max(rows, columns)))
    font = max(_SMALLEST_FONT, min(11.0, cell * 36))  # points; the smallest cell has 14.4
    width, height = cell * columns, cell * rows
    gap, bar = 0.15, 0.12
    strip = 0.0 if copied is None else gap + cell
    full = width + strip + gap + bar
    figure = Figure(figsize=(full, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, width / full, 1))
    _fill(axes, attention.weights, rows, columns)
    missing = _name_ticks(axes, attention, font)
    if copied is not None:
        beside = figure.add_axes(((width + gap) / full, 0, cell / full, 1))
        _fill(beside, np.asarray(copied, np.float32)[:, None], rows, 1)
        beside.set_yticks([])
        beside.set_xticks([0.5])
        _label_columns(beside, ["copied"], font)
    if gold is not None:
        for link in sorted(gold.possible):
            _outline(axes, link, sure=link in gold.sure)
    if title:
        shown = axes.set_title(title, fontsize=font + 1, pad=10, parse_math=False, usetex=False)
        missing |= _set_fonts([shown])
    bar_height = min(height, 2.5) / height
    colors = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _COLORS),
        cax=figure.add_axes(((width + strip + gap) / full, 1 - bar_height, bar / full, bar_height)),
        ticks=[0, 0.5, 1],
    )
    colors.ax.tick_params(length=2, labelsize=8)
    colors.outline.set(linewidth=0.5)
    return figure, missing


def _fill(axes: Axes, weights: Weights, rows: int, columns: int) -> None:
    if weights.size:
        axes.pcolormesh(weights, cmap=_COLORS, vmin=0, vmax=1, edgecolors="#e4e4e4", linewidth=0.4)
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.tick_params(length=0, pad=3, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_color("#999999")


def _name_ticks(axes: Axes, attention: AttentionMap, font: float) -> frozenset[str]:
    axes.set_xticks([column + 0.5 for column in range(len(attention.src))])
    axes.set_yticks([row + 0.5 for row in range(len(attention.tgt))])
    across = _label_columns(axes, attention.src, font)
    down = axes.set_yticklabels(attention.tgt, fontsize=font, **_PLAIN)
    return _set_fonts(across) | _set_fonts(down)


def _label_columns(axes: Axes, labels: list[str], font: float) -> list[Text]:
    return axes.set_xticklabels(
        labels,
        rotation=45 if font > _SMALLEST_FONT else 90,  # upright, small labels have a whole cell each
        rotation_mode="anchor",
        ha="left",
        va="baseline" if font > _SMALLEST_FONT else "center_baseline",
        fontsize=font,
        **_PLAIN,
    )


def _set_fonts(texts: Sequence[Text]) -> frozenset[str]:
    """Gives texts of one language their fonts; returns the characters that no font has."""
    fonts = choose_fonts(text.get_text() for text in texts)
    for text in texts:
        text.set_fontfamily(fonts.families(text.get_text()))
    return fonts.missing


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


def _directed(text: str) -> str:
    """Right-to-left text for an SVG, whose viewers put "word." from left to right as far as the full stop goes.

    They find no direction by the first letter, as matplotlib does: an isolate around the text says it.
    """
    first = next((kind for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL")), "L")
    return text if first == "L" else f"\u2067{text}\u2069"


def _visible(char: str) -> str:
    if char.isspace():
        return "␣"
    # zero-width joiners shape the letters around them; other such characters reorder text or break an SVG
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn") and char not in "\u200c\u200d":
        return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
    return char
