"""What a figure is: panels under one caption and legend, and the charts that they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfloc.metrics.metric import Metric
from dfloc.report.estimate import NO_INTERVAL, Estimate
from dfloc.report.table import Captioned

# Okabe and Ito (2008): told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#6E6E00")
GREY = "#555555"
DASHES = ("solid", "dash", "dot", "dashdot")


class Value(NamedTuple):
    """One number of a chart, as the table beside it has it.

    Attributes:
        series: what it belongs to.
        x: where it stands, in words.
        value: itself; None: a hole.
        span: its interval; None where it has none.
        notes: what else is said of it, a line each.
    """

    series: str
    x: str
    value: float | None
    span: tuple[float, float] | None
    notes: Sequence[str]


class Mark(NamedTuple):
    """One point of a series.

    Attributes:
        x: its place along the axis that the series runs along.
        value: its number.
        span: its interval; None where it has none.
        shape: of its marker; empty: the series'.
        notes: what is said of it on the page, in lines.
        size: of its marker, in pixels; None: the series'.
    """

    x: float
    value: float
    span: tuple[float, float] | None = None
    shape: str = ""
    notes: Sequence[str] = ()
    size: float | None = None


def mark(x: float, found: Estimate, notes: Sequence[str] = (), shape: str = "") -> Mark:
    """Return a point for a number with its interval."""
    return Mark(x, found.value, span_of(found), shape, [*([] if found.known else [NO_INTERVAL]), *notes])


def span_of(found: Estimate) -> tuple[float, float] | None:
    """Return the interval of a number; None where it has none."""
    return (found.low, found.high) if found.known else None


@dataclass(frozen=True)
class Series:
    """Points of one look.

    Attributes:
        dash: of the line between them: solid, dash, dot, dashdot; empty: no line.
        marker: circle, square, diamond, triangle-up, x, tick, any of them with -open; empty: none.
        width: of the line, in pixels.
        size: of the markers, in pixels.
        shift: pixels to the right, so that points of one place stand side by side.
        steps: whether the line stays at a value until the next.
        bars: whether intervals are drawn.
    """

    name: str
    marks: Sequence[Mark]
    colour: str
    dash: str = "solid"
    marker: str = "circle"
    width: float = 2
    size: float = 7
    shift: float = 0
    steps: bool = False
    bars: bool = True


@dataclass(frozen=True)
class Axis:
    """A direction of a chart.

    Attributes:
        label: its title; up to the first comma it names a value in words.
        ticks: places and what stands there; None: at each value.
        ends: what it runs between; None: what the values need.
        counts: values are 1, 2, 3, ... without gaps, so that few ticks do.
    """

    label: str
    ticks: Mapping[float, str] | None = None
    ends: tuple[float, float] | None = None
    counts: bool = False

    def at(self, x: float) -> str:
        """Return a place in words."""
        return self.ticks[x] if self.ticks and x in self.ticks else written(x)


UNIT = {place / 5: f"{place / 5:.1f}" for place in range(6)}


@dataclass(frozen=True)
class Lines:
    """Series over a common axis; sideways: their places run down, and their numbers to the right."""

    series: Sequence[Series]
    x: Axis
    y: Axis
    sideways: bool = False

    @property
    def values(self) -> list[Value]:
        """Every number."""
        places = self.y if self.sideways else self.x
        return [
            Value(each.name, places.at(point.x), point.value, point.span, point.notes)
            for each in self.series
            for point in each.marks
        ]

    @property
    def heads(self) -> tuple[str, str, str]:
        """What series, places and numbers are."""
        places, numbers = (self.y, self.x) if self.sideways else (self.x, self.y)
        return "series", places.label, numbers.label


class Tile(NamedTuple):
    """One cell of a heat map.

    Attributes:
        value: a fraction; None: a hole.
        text: what stands in it.
        notes: what is said of it, in lines.
        framed: whether it is in-domain, which a frame shows.
        span: the interval of the value; None where it has none.
    """

    value: float | None
    text: str
    notes: Sequence[str]
    framed: bool = False
    span: tuple[float, float] | None = None


def _said(tile: Tile) -> Sequence[str]:
    return tile.notes or ([tile.text] if tile.value is None else [])


@dataclass(frozen=True)
class Heat:
    """A heat map from 0 (white) to 1 (dark blue), the same for all: numbers in the cells, holes grey.

    Attributes:
        rows: heads of the rows, from the top.
        columns: heads of the columns.
        tiles: by row and column.
        x: title of the columns.
        y: title of the rows.
        of: what the numbers are.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    tiles: Sequence[Sequence[Tile]]
    x: str
    y: str
    of: str = "IoU"

    @property
    def values(self) -> list[Value]:
        """Every number and hole; a hole's word is its note."""
        return [
            Value(row, column, tile.value, tile.span, _said(tile))
            for row, line in zip(self.rows, self.tiles, strict=True)
            for column, tile in zip(self.columns, line, strict=True)
        ]

    @property
    def heads(self) -> tuple[str, str, str]:
        """What rows, columns and numbers are."""
        return self.y, self.x, self.of


@dataclass(frozen=True)
class Bars:
    """Shares of a whole, a bar to the right for each, from the top."""

    shares: Mapping[str, float]
    x: str

    @property
    def values(self) -> list[Value]:
        """Every share."""
        return [Value(name, "", share, None, ()) for name, share in self.shares.items()]

    @property
    def heads(self) -> tuple[str, str, str]:
        """What the names and numbers are."""
        return "", "", self.x


@dataclass(frozen=True)
class Points:
    """Places in a plane whose axes mean nothing, of series without lines; none of them is a number to be read."""

    series: Sequence[Series]

    @property
    def values(self) -> list[Value]:
        """No number."""
        return []

    @property
    def heads(self) -> tuple[str, str, str]:
        """What there is none of."""
        return "", "", ""


Chart = Lines | Heat | Bars | Points


@dataclass(frozen=True)
class Panel:
    """One chart with its heading and what it says in words; `wide`: it has a row of the page for itself."""

    title: str
    chart: Chart
    words: str
    wide: bool = False


@dataclass(frozen=True)
class LegendKey:
    """One entry of a legend: a line of a colour and dash, a marker (as of a series, or frame), or both."""

    label: str
    colour: str
    dash: str = "solid"
    marker: str = "circle"


@dataclass(frozen=True, kw_only=True)
class Figure(Captioned):
    """Panels under one legend.

    Attributes:
        numbers: id of the table that holds the numbers; empty where none does.
    """

    panels: Sequence[Panel]
    legend: Sequence[LegendKey] = ()
    numbers: str = ""


def scale(metric: Metric, words: str) -> Axis:
    """Return the axis of a metric's values, by its name after some words: all between which they lie."""
    low, high = metric.bounds
    places = [low + place * (high - low) / 5 for place in range(6)]
    return Axis(f"{words} {metric.label}".strip(), {place: f"{place:.1f}" for place in places}, metric.bounds)


def colours(names: Sequence[str]) -> Mapping[str, str]:
    """Return the colour of each of some names, such as the domains."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def looks(names: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Return the colour and dash of the line of each of some names."""
    return {
        name: (COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)])
        for place, name in enumerate(names)
    }


def written(x: float) -> str:
    """Return a place on an axis as a person writes it."""
    return f"{x:,.0f}" if float(x).is_integer() and abs(x) < 1e7 else f"{x:g}"


def told(value: Value) -> str:
    """Return a number with its interval in words; of a hole nothing."""
    if value.value is None:
        return ""
    span = f" ({value.span[0]:.3f} … {value.span[1]:.3f})" if value.span else ""
    return f"{value.value:.3f}{span}"


def title(chart: Chart, value: Value) -> str:
    """Return what is said of one number where a pointer rests on it, in lines."""
    series, place, _ = chart.heads
    if isinstance(chart, Heat):
        where = [f"{series} {value.series}".strip(), f"{place} {value.x}"]
    else:
        where = [value.series, f"{place.partition(',')[0]} {value.x}" if value.x else ""]
    head = ", ".join(filter(None, where))
    return "\n".join([": ".join(filter(None, [head, told(value)])), *value.notes])
