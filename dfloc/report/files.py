"""The figures of a report as files: panels side by side under their titles, the legend below."""

import io
import math
from collections.abc import Iterator, Sequence

from upath import UPath

from dfloc import storage
from dfloc.errors import unknown
from dfloc.report import svg
from dfloc.report.chart import Figure, LegendKey
from dfloc.report.draw import WIDTH, draw, size
from dfloc.report.page import Report
from dfloc.report.sheet import FONT, GLYPH, LINE, SMALL, Sheet, style, text_width, wrapped

KINDS = ("svg", "pdf", "png")
COLUMNS, GAP, EDGE = 4, 16.0, 4.0  # panels beside each other, points between them, and around all
DPI = 200  # of a PNG
FONTS = "font-family:'DejaVu Sans',sans-serif;stroke-linejoin:round;stroke-linecap:butt"


def write(report: Report, folder: UPath, kind: str, figure: str | None = None) -> list[UPath]:
    """Write `<id>.<kind>` for each figure, or for one.

    Raises:
        ConfigError: the report has no figure of that id.
    """
    figures = {block.id: block for block in report.blocks if isinstance(block, Figure)}
    if figure is not None and figure not in figures:
        raise unknown("figure of this report", figure, figures)
    wanted = [each for name, each in figures.items() if figure in (None, name)]
    paths = [folder / f"{each.id}.{kind}" for each in wanted]
    for path, each in zip(paths, wanted, strict=True):
        storage.put(path, drawn(each, kind))
    return paths


def drawn(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file: svg, pdf or png, its whole caption in it; the same bytes for the same figure."""
    with style():
        page = sheet(figure)
        if kind == "svg":
            said = {"role": "img", "aria-label": f"{figure.title} {figure.whole()}"}
            text = svg.written(page.figure, figure.id, page.titles, **said, style=FONTS)
            return text.encode()
        sink = io.BytesIO()
        if kind == "pdf":
            about = {"CreationDate": None, "Title": figure.title, "Subject": figure.whole()}
            page.figure.savefig(sink, format="pdf", metadata=about)
        else:
            page.figure.patch.set_visible(True)
            page.figure.savefig(sink, format="png", dpi=DPI, metadata={"Software": None, "Description": figure.whole()})
        return sink.getvalue()


def sheet(figure: Figure) -> Sheet:
    """Return a figure as matplotlib has it."""
    sizes = [size(panel) for panel in figure.panels]
    across = max((width for width, _ in sizes), default=WIDTH)
    columns = max(1, min(COLUMNS if across <= WIDTH else COLUMNS // 2, len(sizes)))
    titles = [wrapped(panel.title, across - 8, FONT, "bold") for panel in figure.panels]
    rows = range(math.ceil(len(sizes) / columns))
    heads = [max(len(lines) for lines in titles[row * columns :][:columns]) * LINE + 4 for row in rows]
    heights = [max(height for _, height in sizes[row * columns :][:columns]) for row in rows]
    width = columns * across + (columns - 1) * GAP + 2 * EDGE
    lines = list(_flowed(figure.legend, width - 2 * EDGE))
    tops = [EDGE + sum(heads[:row]) + sum(heights[:row]) + GAP * row for row in (*rows, len(rows))]
    page = Sheet(width, tops[-1] + (LINE + 4) * len(lines) + 4)
    for place, panel in enumerate(figure.panels):
        row, left = place // columns, EDGE + place % columns * (across + GAP)
        page.text(left, tops[row], "\n".join(titles[place]), weight="bold")
        draw(page, panel, left, tops[row] + heads[row])
    for row, line in enumerate(lines):
        for left, key in line:
            page.key(key, EDGE + left, tops[-1] + row * (LINE + 4))
            page.text(EDGE + left + GLYPH + 4, tops[-1] + row * (LINE + 4), key.label, SMALL)
    return page


def _flowed(keys: Sequence[LegendKey], width: float) -> Iterator[list[tuple[float, LegendKey]]]:
    """Yield the entries of a legend line by line, each with its place."""
    line, left = list[tuple[float, LegendKey]](), 0.0
    for key in keys:
        needs = GLYPH + 4 + text_width(key.label, SMALL) + GAP
        if line and left + needs - GAP > width:
            yield line
            line, left = [], 0.0
        line.append((left, key))
        left += needs
    if line:
        yield line
