"""Charts as matplotlib draws them: one way for the page and for files."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dfloc.report.chart import COLOURS, Axis, Bars, Heat, Lines, Panel, Points, Series, Tile, title
from dfloc.report.sheet import DASHES, FONT, INK, LINE, SMALL, Sheet, fitted, styled, text_width, unbroken, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Lengths are points.
WIDTH, WIDE, HEIGHT = 300.0, 560.0, 210.0  # of a panel; heat maps and rows of models are as high as they need
ROW, TILE = 18.0, 33.0  # heights of a row of names, and of one of a heat map
SOFT, HOLE, FRAME, GRID = "#777777", "#ececec", "#111111", "#e6e6e6"
_BELOW: Any = {"ha": "center", "va": "top", "annotation_clip": False}
SHADES = ((0.0, "#ffffff"), (0.25, "#cfe1f2"), (0.5, "#7fb5dc"), (0.75, "#2f7ebc"), (1.0, "#08306b"))


def size(panel: Panel) -> tuple[float, float]:
    """Return the width and height that a panel needs."""
    chart, width = panel.chart, WIDE if panel.wide else WIDTH
    if isinstance(chart, Heat):
        *_, foot = _heat_heads(chart, width)
        return width, TILE * max(2, len(chart.rows)) + foot + 4
    if isinstance(chart, Points):
        return width, 0.8 * width
    if isinstance(chart, Bars) or chart.sideways:
        names, row = _names(chart, width)
        return width, row * len(names) + 34
    return width, HEIGHT


def draw(sheet: Sheet, panel: Panel, left: float, top: float) -> None:
    """Draw the chart of a panel on a sheet, in a box of its size."""
    width, height = size(panel)
    chart = panel.chart
    if isinstance(chart, Heat):
        _heat(sheet, chart, left, top, width)
    elif isinstance(chart, Bars):
        _bars(sheet, chart, left, top, width, height)
    elif isinstance(chart, Points):
        _points(sheet, chart, left, top, width, height)
    else:
        _lines(sheet, chart, left, top, width, height)


def _lines(sheet: Sheet, chart: Lines, left: float, top: float, width: float, height: float) -> None:
    names, _ = _names(chart, width) if chart.sideways else ({}, 0)
    head = max((text_width(line, SMALL) for lines in names.values() for line in lines), default=32) + 8
    box = (left + head, top + 6, width - head - 14, height - 35)
    axes = sheet.axes(*box)
    titles = iter([title(chart, value) for value in chart.values])
    ends = (chart.x if chart.sideways else chart.y).ends or (0.0, 1.0)
    for series in chart.series:
        _series(sheet, axes, series, [next(titles) for _ in series.marks], ends, sideways=chart.sideways)
    places = sorted({mark.x for series in chart.series for mark in series.marks})
    if chart.sideways:
        axes.set(xlim=chart.x.ends, xlabel=chart.x.label, ylim=(len(names) - 0.5, -0.5))
        axes.set_xticks(list(chart.x.ticks or ()), list((chart.x.ticks or {}).values()))
        _heads_left(axes, names)
        axes.grid(axis="x", color=GRID, lw=0.6, clip_on=False)
        return
    axes.set_ylim(chart.y.ends)
    axes.set_yticks(list(chart.y.ticks or ()), list((chart.y.ticks or {}).values()))
    axes.set_ylabel(chart.y.label, labelpad=3)
    axes.grid(axis="y", color=GRID, lw=0.6, clip_on=False)
    rows = _ticks(axes, chart.x, places)
    if rows > 1:
        sheet.move(axes, box[0], box[1], box[2], box[3] - LINE)
    scale = {"log": " (log scale)", "symlog": f" (log scale from {chart.x.at(places[1])} on)" if places[1:] else ""}
    label = chart.x.label + scale.get(axes.get_xscale(), "")
    axes.annotate(label, (0.5, 0), (0, -16 - LINE * (rows - 1)), "axes fraction", "offset points", **_BELOW)
    if not any(series.marks for series in chart.series if series.marker or series.steps):
        axes.text(0.5, 0.5, "no point is finished", color=SOFT, ha="center", va="center", transform=axes.transAxes)


def _points(sheet: Sheet, chart: Points, left: float, top: float, width: float, height: float) -> None:
    axes = sheet.axes(left + 4, top + 4, width - 8, height - 8)
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    axes.spines[:].set_visible(True)
    for series in chart.series:
        look = styled(series.marker, series.colour, 0.75 * series.size)
        along, up = [mark.x for mark in series.marks], [mark.value for mark in series.marks]
        (artist,) = axes.plot(along, up, ls="none", alpha=0.7, **look)
        sheet.say(artist, series.name, [])


def _series(
    sheet: Sheet, axes: "Axes", series: Series, titles: Sequence[str], within: tuple[float, float], *, sideways: bool
) -> None:
    from matplotlib.transforms import ScaledTranslation

    moved = axes.transData + ScaledTranslation(0.75 * series.shift / 72, 0, sheet.figure.dpi_scale_trans)

    def plot(along: Sequence[float], values: Sequence[float], **look: Any) -> Any:
        ends = (values, along) if sideways else (along, values)
        (line,) = axes.plot(*ends, color=series.colour, transform=moved, clip_on=False, **look)
        return line

    bars = [(mark.x, *(min(within[1], max(within[0], end)) for end in mark.span)) for mark in series.marks if mark.span]
    if bars and series.bars:
        along = [x for x, _, _ in bars for x in (x, x, math.nan)]
        plot(along, [end for _, *ends in bars for end in (*ends, math.nan)], lw=0.75, alpha=0.5, zorder=2)
    if series.dash and series.marks:
        drawn = "steps-post" if series.steps else "default"
        line = plot(
            [mark.x for mark in series.marks],
            [mark.value for mark in series.marks],
            lw=0.75 * series.width,
            ls=DASHES[series.dash],
            drawstyle=drawn,
            zorder=2.5,
        )
        sheet.say(line, series.name, [])
    for (shape, across), those in _looks(series).items():
        points = [series.marks[place] for place in those]
        look = styled(shape, series.colour, 0.75 * across)
        artist = plot([mark.x for mark in points], [mark.value for mark in points], ls="none", zorder=3, **look)
        sheet.say(artist, series.name, [titles[place] for place in those])


def _looks(series: Series) -> Mapping[tuple[str, float], list[int]]:
    """Return the places of the marks of each look: shape and size."""
    found: dict[tuple[str, float], list[int]] = {}
    for place, mark in enumerate(series.marks):
        if shape := mark.shape or series.marker:
            found.setdefault((shape, mark.size or series.size), []).append(place)
    return found


def _ticks(axes: "Axes", axis: Axis, places: Sequence[float]) -> int:
    """Put the ticks below a chart, at each value but for what is counted; return how many lines their texts need."""
    ticks = list(axis.ticks) if axis.ticks else _counted(places) if axis.counts else list(places)
    axes.set_xscale(**_scale(ticks))
    trans = axes.xaxis.get_transform()
    low, high = trans.transform([min(places, default=0), max(places, default=1)])
    pad = 0.04 * (high - low) or 0.5
    axes.set_xlim(*(axis.ends or trans.inverted().transform([low - pad, high + pad])))
    axes.set_xticks(ticks, [])
    axes.minorticks_off()
    texts = [axis.at(tick) for tick in ticks]
    centres = [float(axes.transData.transform((tick, 0))[0]) for tick in ticks]
    for font in (FONT, SMALL):
        rows = _rows(centres, [text_width(text, font) for text in texts])
        if not any(rows):
            break
    for tick, text, row in zip(ticks, texts, rows, strict=True):
        if row is not None:
            at = axes.get_xaxis_transform()
            axes.annotate(text, (tick, 0), (0, -5 - LINE * row), at, "offset points", size=font, **_BELOW)
    return max((row for row in rows if row is not None), default=0) + 1


def _counted(places: Sequence[float]) -> list[float]:
    """Return a few of the values of an axis that counts."""
    from matplotlib.ticker import MaxNLocator

    if not places:
        return []
    found = MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]).tick_values(places[0], places[-1])
    return sorted({float(place) for place in found if places[0] <= place <= places[-1]} | {places[0]})


def _scale(ticks: Sequence[float]) -> dict[str, Any]:
    """Return the scale of an axis: by factors where the gaps between its values differ fivefold."""
    gaps = [right - left for left, right in pairwise(ticks)]
    if len(gaps) < 2 or ticks[0] < 0 or max(gaps) < 5 * min(gaps):
        return {"value": "linear"}
    if ticks[0] > 0:
        return {"value": "log"}
    return {"value": "symlog", "linthresh": ticks[1], "linscale": 0.4}


def _rows(centres: Sequence[float], widths: Sequence[float]) -> list[int | None]:
    """Return on which of two lines each text below an axis stands, so that none overlap; None: it has no room.

    Many texts stand on one line: of values in equal steps each second one, or each third, and so on.
    """
    spans = [(centre - width / 2 - 2, centre + width / 2 + 2) for centre, width in zip(centres, widths, strict=True)]
    if len(spans) > 9:
        for step in range(1, len(spans)):
            kept = spans[::step]
            if all(right[0] >= left[1] for left, right in pairwise(kept)):
                return [0 if place % step == 0 else None for place in range(len(spans))]
    ends = [-math.inf, -math.inf]
    found: list[int | None] = []
    for low, high in spans:
        row = next((row for row, end in enumerate(ends) if low >= end), None)
        found.append(row)
        if row is not None:
            ends[row] = high
    return found


def _heat(sheet: Sheet, chart: Heat, left: float, top: float, width: float) -> None:
    (names, columns), font, foot = _heat_heads(chart, width)
    label = LINE + 2 if chart.y else 0
    head = label + max(text_width(line, SMALL) for lines in names.values() for line in lines) + 6
    high = TILE * max(2, len(chart.rows))
    axes = sheet.axes(left + head, top + 2, width - head - 4, high)
    axes.set(xlim=(-0.5, len(chart.columns) - 0.5), ylim=(len(chart.rows) - 0.5, -0.5), yticks=[], xticks=[])
    axes.spines[:].set_visible(False)
    across = (width - head - 4) / len(chart.columns)
    titles = iter([title(chart, value) for value in chart.values])
    for row, line in enumerate(chart.tiles):
        for column, tile in enumerate(line):
            _tile(sheet, axes, tile, (column, row), next(titles), across)
    _heads_left(axes, names)
    for place, lines in columns.items():
        at = axes.get_xaxis_transform()
        axes.annotate("\n".join(lines), (place, 0), (0, -4), at, "offset points", size=font, **_BELOW)
    axes.annotate(chart.x, (0.5, 0), (0, LINE - foot), "axes fraction", "offset points", **_BELOW)
    if chart.y:
        turned: Any = {"rotation": 90, "ha": "left", "va": "center", "annotation_clip": False}
        axes.annotate(chart.y, (0, 0.5), (-head, 0), "axes fraction", "offset points", **turned)


def _tile(sheet: Sheet, axes: "Axes", tile: Tile, place: tuple[int, int], said: str, across: float) -> None:
    from matplotlib.patches import Rectangle

    column, row = place
    gap, thick = 1.5 / across, 1.5 / TILE
    corner, sides = (column - 0.5 + gap, row - 0.5 + thick), (1 - 2 * gap, 1 - 2 * thick)
    face = HOLE if tile.value is None else _shades()(tile.value)
    edge: Any = {"ec": FRAME, "lw": 1.2} if tile.framed else {"ec": "#f0f0f0", "lw": 0.6}
    patch = Rectangle(corner, *sides, fc=face, clip_on=False, **edge)
    sheet.say(axes.add_patch(patch), "", [said])
    colour = SOFT if tile.value is None else "white" if tile.value > 0.55 else INK
    slant = "italic" if tile.value is None else "normal"
    lines, font = fitted(tile.text, across - 5, FONT if tile.value is not None else SMALL, most=3)
    axes.text(column, row, "\n".join(lines), size=font, color=colour, style=slant, ha="center", va="center")


@cache
def _shades() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", list(SHADES))


def _heat_heads(
    chart: Heat, width: float
) -> tuple[tuple[dict[float, list[str]], dict[float, list[str]]], float, float]:
    """Return the heads of rows and columns in lines, the font of these, and how much they need below a heat map."""
    names = _cut(chart.rows, 0.27 * width, SMALL, 3)
    head = (LINE + 2 if chart.y else 0) + max(text_width(line, SMALL) for lines in names.values() for line in lines) + 6
    room = (width - head - 4) / len(chart.columns) - 4
    font = min(unbroken(name, room, SMALL) for name in chart.columns)
    columns = _cut(chart.columns, room, font, 5)
    return (names, columns), font, max(map(len, columns.values())) * 1.2 * font + 2 * LINE + 2


def _names(chart: Lines | Bars, width: float) -> tuple[dict[float, list[str]], float]:
    """Return the names of rows in lines, and how high a row is."""
    found = list(chart.shares) if isinstance(chart, Bars) else list((chart.y.ticks or {}).values())
    names = _cut(found, 0.42 * width, SMALL, 4)
    return names, max([ROW, *(len(lines) * LINE + 5 for lines in names.values())])


def _cut(names: Sequence[str], width: float, font: float, most: int) -> dict[float, list[str]]:
    """Return names in lines, no more than some, by their place."""
    lines = {float(place): wrapped(name, width, font) for place, name in enumerate(names)}
    return {place: each if len(each) <= most else [*each[: most - 1], "…"] for place, each in lines.items()}


def _heads_left(axes: "Axes", names: Mapping[float, list[str]]) -> None:
    axes.set_yticks([])
    for place, lines in names.items():
        at = axes.get_yaxis_transform()
        side: Any = {"ha": "right", "va": "center", "multialignment": "right", "annotation_clip": False}
        axes.annotate("\n".join(lines), (0, place), (-5, 0), at, "offset points", size=SMALL, **side)


def _bars(sheet: Sheet, chart: Bars, left: float, top: float, width: float, height: float) -> None:
    from matplotlib.patches import Rectangle

    names, _ = _names(chart, width)
    head = max((text_width(line, SMALL) for lines in names.values() for line in lines), default=0) + 8
    axes = sheet.axes(left + head, top + 2, width - head - 34, height - 34)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xlabel=chart.x)
    axes.set_xticks([place / 5 for place in range(6)])
    axes.grid(axis="x", color=GRID, lw=0.6, clip_on=False)
    _heads_left(axes, names)
    for place, (value, share) in enumerate(zip(chart.values, chart.shares.values(), strict=True)):
        bar = axes.add_patch(Rectangle((0, place - 0.35), share, 0.7, fc=COLOURS[0], lw=0))
        sheet.say(bar, value.series, [title(chart, value)])
        beside: Any = {"va": "center", "annotation_clip": False, "size": SMALL}
        axes.annotate(f"{100 * share:.0f} %", (share, place), (4, 0), "data", "offset points", **beside)
