"""What a figure is: panels under one caption and legend, and the plots that they hold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import plotly.graph_objects as go

from dfloc.report.estimate import Estimate
from dfloc.report.table import NO_INTERVAL, escape

# Okabe and Ito (2008): told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#6E6E00")
GREY = "#555555"
DASHES = ("solid", "dash", "dot", "dashdot")
GRID = {"gridcolor": "#e6e6e6", "linecolor": "#888888", "zerolinecolor": "#cccccc", "ticks": "outside"}
SEQUENTIAL = ((0.0, "#ffffff"), (0.25, "#cfe1f2"), (0.5, "#7fb5dc"), (0.75, "#2f7ebc"), (1.0, "#08306b"))
TILE, MARGIN = 44, 62  # pixels: height of a heat map's row, and of what stands above and below its rows


@dataclass(frozen=True)
class Panel:
    """One plot with its heading and what it says in words; `wide`: it has a row of the page for itself."""

    title: str
    figure: go.Figure
    words: str
    wide: bool = False


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a line of a colour and dash, or a marker (circle, diamond, diamond-open)."""

    label: str
    colour: str
    dash: str = "solid"
    marker: str = "circle"
    width: float = 2


@dataclass(frozen=True)
class Figure:
    """Panels under one caption and one legend.

    Attributes:
        numbers: id of the table that holds the numbers; empty where none does.
    """

    id: str
    title: str
    caption: str
    panels: Sequence[Panel]
    legend: Sequence[Key]
    numbers: str


class Tile(NamedTuple):
    """One cell of a heat map.

    Attributes:
        value: a fraction; None: a hole.
        text: what stands in it.
        hover: what is said of it, in lines.
        framed: whether it is in-domain, which a frame shows.
    """

    value: float | None
    text: str
    hover: Sequence[str]
    framed: bool = False


def colours(names: Sequence[str]) -> Mapping[str, str]:
    """Return the colour of each of some names, such as the domains."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def axes(x: str, y: str, *, unit: bool = True) -> go.Figure:
    """Return an empty plot.

    Args:
        x: title of the horizontal axis.
        y: title of the vertical one.
        unit: whether y runs from 0 to 1.
    """
    figure = go.Figure()
    figure.update_layout(
        template=None,
        height=300,
        margin={"l": 48, "r": 10, "t": 8, "b": 42},
        showlegend=False,
        hovermode="closest",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#222222"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        xaxis={**GRID, "title": {"text": escape(x), "standoff": 6}, "showgrid": False, "zeroline": False},
        yaxis={
            **GRID,
            "title": {"text": escape(y), "standoff": 4},
            **({"range": [0, 1], "dtick": 0.2} if unit else {"rangemode": "tozero"}),
        },
    )
    return figure


def heat(rows: Sequence[str], columns: Sequence[str], tiles: Sequence[Sequence[Tile]], x: str, y: str) -> go.Figure:
    """Return a heat map from 0 (white) to 1 (dark blue), the same for all: numbers in the cells, holes grey.

    Args:
        rows: heads of the rows, from the top.
        columns: heads of the columns.
        tiles: by row and column.
        x: title of the columns.
        y: title of the rows.
    """
    figure = axes(x, y, unit=False)
    figure.add_heatmap(
        z=[[math.nan if tile.value is None else tile.value for tile in line] for line in tiles],
        text=[[escape(tile.text) for tile in line] for line in tiles],
        customdata=[["<br>".join(map(escape, tile.hover)) for tile in line] for line in tiles],
        texttemplate="%{text}",
        hovertemplate="%{customdata}<extra></extra>",
        hoverongaps=False,
        colorscale=[list(stop) for stop in SEQUENTIAL],
        zmin=0,
        zmax=1,
        xgap=3,
        ygap=3,
        showscale=False,
    )
    cells = [(i, j, tile) for i, line in enumerate(tiles) for j, tile in enumerate(line)]
    for i, j, tile in cells:
        if tile.value is None:
            figure.add_annotation(
                x=j, y=i, text=f"<i>{escape(tile.text)}</i>", showarrow=False, font={"color": "#777777"}
            )
    frames = [_frame(i, j) for i, j, tile in cells if tile.framed]
    figure.update_layout(
        height=MARGIN + TILE * max(2, len(rows)),
        margin={"l": 8, "r": 8, "t": 4, "b": 8},
        plot_bgcolor="#ececec",
        shapes=frames,
        xaxis=_heads(columns, max(8, 40 // max(1, len(columns)))) | {"side": "bottom", "title": {"text": escape(x)}},
        yaxis=_heads(rows, 16) | {"autorange": "reversed", "title": {"text": escape(y)}},
    )
    return figure


def bars(found: Sequence[Estimate]) -> dict[str, Any]:
    """Return the error bars of some numbers, as Plotly has them for one axis."""
    return {
        "type": "data",
        "array": [each.high - each.value if each.known else 0.0 for each in found],
        "arrayminus": [each.value - each.low if each.known else 0.0 for each in found],
        "thickness": 1,
        "width": 0,
    }


def told(found: Estimate) -> str:
    """Return a number and its interval in words."""
    span = f"{found.low:.3f} … {found.high:.3f}" if found.known else NO_INTERVAL
    return f"{found.value:.3f} ({span})"


def _heads(names: Sequence[str], width: int) -> dict[str, Any]:
    return {
        "tickvals": list(range(len(names))),
        "ticktext": ["<br>".join(map(escape, _lines(name, width))) for name in names],
        "ticks": "",
        "showgrid": False,
        "zeroline": False,
        "automargin": True,
        "tickangle": 0,
        "fixedrange": True,
    }


def _lines(name: str, width: int) -> list[str]:
    """Return a name in lines that end after a slash or hyphen where they are longer than the width."""
    lines = [""]
    for part in name.replace("/", "/\0").replace("-", "-\0").replace(" ", " \0").replace("_", "_\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append(part)
        else:
            lines[-1] += part
    return lines


def _frame(row: int, column: int) -> dict[str, Any]:
    ends = {"x0": column - 0.48, "x1": column + 0.48, "y0": row - 0.47, "y1": row + 0.47}
    return {"type": "rect", **ends, "line": {"color": "#111111", "width": 1.6}, "layer": "above"}
