"""The figures of a report as SVG files: the data that Plotly draws on the page, by matplotlib; text stays text."""

import html
import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from upath import UPath

from dfloc import storage
from dfloc.errors import unknown
from dfloc.report.page import Report
from dfloc.report.plot import Figure, Key, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS, WIDTH, DPI = 4, 4.2, 100  # panels beside each other, inches of one, Plotly's pixels of an inch
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dfloc",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.max_open_warning": 0,
}
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "": ""}
MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "x": "x",
    "cross": "P",
    "line-ns": "|",
    "tick": "|",
    "frame": "s",
}


def write(report: Report, folder: UPath, figure: str | None = None) -> list[UPath]:
    """Write `<id>.svg` for each figure, or for one.

    Raises:
        ConfigError: the report has no figure of that id.
    """
    figures = {block.id: block for section in report.sections for block in section.blocks if isinstance(block, Figure)}
    if figure is not None and figure not in figures:
        raise unknown("figure of this report", figure, figures)
    wanted = [each for name, each in figures.items() if figure in (None, name)]
    paths = [folder / f"{each.id}.svg" for each in wanted]
    for path, each in zip(paths, wanted, strict=True):
        storage.put(path, svg(each))
    return paths


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG: its panels side by side, its legend below; the same bytes for the same data.

    Raises:
        ValueError: a panel has a trace of another kind than scatter, heatmap and bar.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    columns = max(1, min(COLUMNS, len(figure.panels)))
    rows = max(1, math.ceil(len(figure.panels) / columns))
    heights = [float(panel.figure.layout.height or 300) / DPI + 0.7 for panel in figure.panels] or [1.0]
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH * columns, max(heights) * rows + 0.4), layout="constrained")
        FigureCanvasSVG(canvas)
        axes = canvas.subplots(rows, columns, squeeze=False).ravel()
        for axis, panel in zip(axes, figure.panels, strict=False):
            _panel(axis, panel)
        for axis in axes[len(figure.panels) :]:
            axis.set_axis_off()
        _legend(canvas, figure.legend, columns)
        sink = io.BytesIO()
        canvas.savefig(sink, format="svg", metadata={"Date": None, "Creator": "dfloc", "Title": figure.title})
    return sink.getvalue()


def plain(text: str) -> str:
    """Return Plotly's text, which is a little HTML, as plain lines."""
    return html.unescape(re.sub(r"<(?!br)[^>]*>", "", text).replace("<br>", "\n"))


def line_id(name: str) -> str:
    """Return the id of the group that draws the line of this name."""
    return f"line-{re.sub('[^A-Za-z0-9.-]+', '-', name)}"


def _panel(axis: "Axes", panel: Panel) -> None:
    spec = panel.figure.to_plotly_json()
    layout = spec["layout"]
    for trace in spec["data"]:
        draw = _TRACES.get(trace["type"])
        if draw is None:
            raise ValueError(f"a {trace['type']} trace cannot be drawn as SVG")
        draw(axis, trace)
    for note in layout.get("annotations", ()):
        font = note.get("font", {})
        axis.text(
            note["x"], note["y"], plain(note["text"]), ha="center", va="center", color=font.get("color", "#222222")
        )
    for shape in layout.get("shapes", ()):
        _shape(axis, shape)
    axis.set_title(textwrap.fill(panel.title, 48), loc="left", fontsize=9, fontweight="bold")
    _scale(axis, "x", layout.get("xaxis", {}))
    _scale(axis, "y", layout.get("yaxis", {}))


def _scatter(axis: "Axes", trace: Mapping[str, Any]) -> None:
    x, y = list(trace.get("x") or ()), list(trace.get("y") or ())
    line, marker = trace.get("line", {}), trace.get("marker", {})
    mode = trace.get("mode", "lines+markers")
    colour = line.get("color") or _first(marker.get("color")) or "#222222"
    name = plain(trace.get("name") or "")
    if "lines" in mode:
        axis.plot(x, y, color=colour, linewidth=0.6 * line.get("width", 2), linestyle=_dash(line), gid=line_id(name))
    if "markers" in mode:
        for place, (left, up) in enumerate(zip(x, y, strict=True)):
            _mark(axis, left, up, {key: _at(value, place) for key, value in marker.items() if key != "line"}, colour)
    for side, key in (("yerr", "error_y"), ("xerr", "error_x")):
        error = trace.get(key) or {}
        if error.get("array") is not None and error.get("visible") is not False:
            ends = [error.get("arrayminus", error["array"]), error["array"]]
            axis.errorbar(x, y, fmt="none", ecolor=colour, elinewidth=0.8, **{side: np.abs(np.asarray(ends, float))})


def _heat(axis: "Axes", trace: Mapping[str, Any]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    z = np.asarray(trace["z"], float)
    stops = [(stop, colour) for stop, colour in trace["colorscale"]]
    map_ = LinearSegmentedColormap.from_list("scale", stops).with_extremes(bad="#ececec")
    low, high = trace.get("zmin", 0), trace.get("zmax", 1)
    edges = [np.arange(size + 1) - 0.5 for size in (z.shape[1], z.shape[0])]
    tiles = np.ma.masked_invalid(z)
    axis.pcolormesh(*edges, tiles, cmap=map_, vmin=low, vmax=high, edgecolor="white", linewidth=1.5)
    axis.set_facecolor("#ececec")
    for i, row in enumerate(trace.get("text") or ()):
        for j, text in enumerate(row):
            if not math.isnan(z[i, j]):
                dark = (z[i, j] - low) / (high - low) > 0.55
                axis.text(j, i, plain(str(text)), ha="center", va="center", color="white" if dark else "#222222")


def _bar(axis: "Axes", trace: Mapping[str, Any]) -> None:
    x, y = list(trace.get("x") or ()), list(trace.get("y") or ())
    colour = _first(trace.get("marker", {}).get("color")) or "#222222"
    if trace.get("orientation") == "h":
        axis.barh(y, x, color=colour)
    else:
        axis.bar(x, y, color=colour)


_TRACES = {"scatter": _scatter, "heatmap": _heat, "bar": _bar}


def _mark(axis: "Axes", x: Any, y: Any, marker: Mapping[str, Any], colour: str) -> None:
    symbol = str(marker.get("symbol") or "circle")
    size, own = float(marker.get("size") or 6), marker.get("color") or colour
    face = "white" if symbol.endswith("-open") else own
    shape = MARKERS.get(symbol.removesuffix("-open"), "o")
    axis.plot([x], [y], linestyle="", marker=shape, markersize=0.6 * size, color=own, markerfacecolor=face)


def _shape(axis: "Axes", shape: Mapping[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    line = shape.get("line", {})
    style = {"color": line.get("color", "#222222"), "linewidth": 0.7 * line.get("width", 1), "linestyle": _dash(line)}
    left, right, low, up = (shape[name] for name in ("x0", "x1", "y0", "y1"))
    if shape.get("type") == "rect":
        axis.add_patch(Rectangle((left, low), right - left, up - low, fill=False, zorder=3, **style))
    else:
        axis.plot([left, right], [low, up], **style)


def _scale(axis: "Axes", side: str, spec: Mapping[str, Any]) -> None:
    """Set title, ticks and range of one axis."""
    title = spec.get("title") or {}
    axis.set(**{f"{side}label": plain(title if isinstance(title, str) else title.get("text") or "")})
    if spec.get("type") == "log":
        axis.set(**{f"{side}scale": "log"})
    if spec.get("tickvals") is not None:
        values = list(spec["tickvals"])
        texts = [plain(str(text)) for text in spec.get("ticktext") or values]
        axis.set(**{f"{side}ticks": values, f"{side}ticklabels": texts})
    if spec.get("range") is not None:
        ends = [10.0**end for end in spec["range"]] if spec.get("type") == "log" else list(spec["range"])
        axis.set(**{f"{side}lim": ends})
    if spec.get("autorange") == "reversed":
        (axis.invert_xaxis if side == "x" else axis.invert_yaxis)()
    if spec.get("showgrid"):
        axis.grid(axis="x" if side == "x" else "y", color="#e6e6e6", linewidth=0.6)
        axis.set_axisbelow(True)


def _legend(canvas: Any, keys: Sequence[Key], columns: int) -> None:
    from matplotlib.lines import Line2D

    lines = []
    for key in keys:
        face = "white" if key.marker.endswith(("-open", "frame")) else key.colour
        shape = MARKERS.get(key.marker.removesuffix("-open"), "") if key.marker else ""
        style: dict[str, Any] = {
            "linestyle": DASHES.get(key.dash, "-"),
            "marker": shape,
            "markerfacecolor": face,
            "markersize": 5,
        }
        lines.append(Line2D([], [], color=key.colour, label=key.label, **style))
    if lines:
        canvas.legend(handles=lines, loc="outside lower center", ncols=2 * columns, frameon=False, fontsize=8)


def _dash(line: Mapping[str, Any]) -> str:
    return DASHES.get(line.get("dash") or "solid", "-")


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value if isinstance(value, str) else None


def _at(value: Any, place: int) -> Any:
    return value[place] if isinstance(value, list | tuple) else value
