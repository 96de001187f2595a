"""What charts are drawn on: a figure of matplotlib, measured in points, with our settings, markers and text lines."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from dfloc.report.chart import LegendKey

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

FAMILY = "DejaVu Sans"  # ships with matplotlib, and is wider than what pages are mostly shown in
SMALLEST = 5.5
FINE = 10  # widths are whole dots: so many a point
WORDS = re.compile(r"[^ ]* *")  # between which a line ends gladly
PARTS = re.compile(r"[^/_,-]*[/_,-]*")  # at need
FONT, SMALL, LINE = 9.0, 8.0, 10.5  # points, 3/4 of a pixel of the page: sizes of text, and a line's height
GLYPH = 21.0  # width of what a legend shows beside a name
INK, RULE = "#222222", "#888888"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dfloc",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": [FAMILY],
    "font.size": FONT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.75,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "lines.solid_capstyle": "round",
    "figure.dpi": 72,
}
DASHES = {"solid": "-", "dash": (0, (4, 2)), "dot": (0, (1, 1.6)), "dashdot": (0, (4, 1.6, 1, 1.6))}
MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "x": "x", "tick": "|", "frame": "s"}


@contextmanager
def style() -> Iterator[None]:
    """Draw with our own settings, whatever the user's are; they are as before afterwards."""
    from matplotlib.style import context

    with context(["default", STYLE]):
        yield


class Sheet:
    """A sheet of paper with charts on it; lengths are points from its upper left corner.

    Attributes:
        figure: matplotlib's.
        titles: what is said of the parts of an artist, by its gid: a name, and a text for each part.
    """

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        self.figure.patch.set_visible(False)
        self.titles: dict[str, tuple[str, Sequence[str]]] = {}

    def axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        """Return a place to plot."""
        axes = self.figure.add_axes(self._box(left, top, width, height))
        axes.patch.set_visible(False)
        return axes

    def move(self, axes: "Axes", left: float, top: float, width: float, height: float) -> None:
        """Put a place to plot elsewhere."""
        axes.set_position(self._box(left, top, width, height))

    def text(self, left: float, top: float, words: str, size: float = FONT, **more: Any) -> None:
        """Write words whose first line starts there."""
        self.figure.text(left / self.width, 1 - top / self.height, words, size=size, va="top", **more)

    def key(self, key: LegendKey, left: float, top: float) -> None:
        """Draw what a legend shows beside a name."""
        from matplotlib.lines import Line2D

        for ends, dash, marker in (((0.0, GLYPH), key.dash, ""), ((GLYPH / 2,), "", key.marker)):
            if dash or marker:
                x = [(left + end) / self.width for end in ends]
                look = styled(marker, key.colour, 9 if key.marker == "frame" else 5.5) if marker else {"marker": ""}
                dashes = DASHES[dash] if dash else "none"
                y = [1 - (top + LINE / 2) / self.height] * len(x)
                self.figure.add_artist(Line2D(x, y, color=key.colour, lw=1.6, ls=dashes, **look))

    def say(self, artist: "Artist", name: str, titles: Sequence[str]) -> None:
        """Give an artist a name, and each of its parts a text that is shown where a pointer rests."""
        gid = f"said-{len(self.titles)}"
        artist.set_gid(gid)
        self.titles[gid] = (name, titles)

    def _box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        return left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height


def styled(shape: str, colour: str, across: float) -> dict[str, Any]:
    """Return how matplotlib draws a marker."""
    hollow, plain = shape.endswith("-open"), shape.removesuffix("-open")
    face = "none" if plain == "frame" else "white" if hollow else colour
    edge = {"x": 1.5, "tick": 1.5, "frame": 1.2}.get(plain, 1.0 if hollow else 0.4)
    white = not hollow and plain == "diamond"
    return {
        "marker": MARKERS[plain],
        "markersize": across,
        "markerfacecolor": face,
        "markeredgecolor": "white" if white else colour,
        "markeredgewidth": edge,
    }


def fitted(text: str, width: float, font: float, most: int) -> tuple[list[str], float]:
    """Return a text in lines of a width, no more than some, in the largest font that does it."""
    while len(lines := wrapped(text, width, font)) > most and font > SMALLEST:
        font -= 0.5
    return lines[:most], font


def unbroken(text: str, width: float, font: float) -> float:
    """Return the largest font, up to one, in which no part of a text is wider than a line."""
    while font > SMALLEST and any(text_width(part.rstrip(), font) > width for part in _parts(text, 0, font, "normal")):
        font -= 0.5
    return font


def wrapped(text: str, width: float, font: float, weight: str = "normal") -> list[str]:
    """Return a text in lines of a width, that end after a space, else a slash, hyphen or underscore, else anywhere."""
    lines = [""]
    for part in _parts(text, width, font, weight):
        for piece in _pieces(part, width, font, weight):
            if lines[-1] and text_width((lines[-1] + piece).rstrip(), font, weight) > width:
                lines.append(piece)
            else:
                lines[-1] += piece
    return [line.rstrip() for line in lines]


def _parts(text: str, width: float, font: float, weight: str) -> Iterator[str]:
    """Yield the words of a text, those that are wider than a line in parts."""
    for word in WORDS.findall(text):
        yield from [word] if text_width(word.rstrip(), font, weight) <= width else PARTS.findall(word)


def _pieces(part: str, width: float, font: float, weight: str) -> Iterator[str]:
    """Yield a word in pieces, none wider than a line."""
    while text_width(part.rstrip(), font, weight) > width and len(part.rstrip()) > 1:
        fits = next((n for n in range(len(part) - 1, 1, -1) if text_width(part[:n], font, weight) <= width), 1)
        yield part[:fits]
        part = part[fits:]
    yield part


@cache
def text_width(text: str, font: float, weight: str = "normal") -> float:
    """Return how wide a line of text is."""
    from matplotlib.font_manager import FontProperties

    properties = FontProperties(family=FAMILY, size=font, weight=weight)
    return float(_renderer().get_text_width_height_descent(text, properties, False)[0]) / FINE


@cache
def _renderer() -> Any:
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, 72 * FINE)
