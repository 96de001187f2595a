"""What charts are drawn on: matplotlib's figure, measured in points, with our own settings and markers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dfloc.report.chart import Key
from dfloc.report.lettering import FAMILY

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

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

    def key(self, key: Key, left: float, top: float) -> None:
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
