"""What a drawing has, read back: for the tests of figures."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations
from typing import Any

import numpy as np

from dfloc.report.chart import Figure, Panel, Series
from dfloc.report.files import drawn, sheet
from dfloc.report.sheet import style

SVG = "{http://www.w3.org/2000/svg}"


def series(panel: Panel, name: str) -> Series:
    (found,) = [each for each in panel.chart.series if each.name == name]  # type: ignore[union-attr]
    return found


def root(figure: Figure) -> ET.Element:
    return ET.fromstring(drawn(figure, "svg"))


def texts(figure: Figure) -> list[str]:
    return [text for node in root(figure).iter(f"{SVG}text") if (text := "".join(node.itertext()).strip())]


def named(figure: Figure, name: str) -> list[ET.Element]:
    """Return the groups of a name: a series' line, then its markers of each look."""
    return [node for node in root(figure).iter(f"{SVG}g") if node.get("data-name") == name]


def points(node: ET.Element) -> np.ndarray:
    """Return the corners of a group's path, or where its markers are, [points, 2]."""
    if used := list(node.iter(f"{SVG}use")):
        return np.array([[float(each.get(side, "")) for side in "xy"] for each in used])
    (path,) = node.iter(f"{SVG}path")
    return np.array(re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d", "")), dtype=float)


def titles(figure: Figure) -> list[str]:
    """Return what is shown where a pointer rests."""
    return [node.text or "" for node in root(figure).iter(f"{SVG}title")]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of texts whose boxes meet, and the texts that leave the paper."""
    from matplotlib.text import Text

    with style():
        canvas = sheet(figure).figure
        canvas.draw_without_rendering()
        shown = [text for text in canvas.findobj(Text) if text.get_visible() and text.get_text().strip()]
        boxes = [text.get_window_extent() for text in shown]
    words = [text.get_text() for text in shown]
    meet = [(words[i], words[j]) for i, j in combinations(range(len(boxes)), 2) if _meet(boxes[i], boxes[j])]
    width, height = canvas.bbox.size
    outside = [
        (word, "the edge")
        for word, box in zip(words, boxes, strict=True)
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5
    ]
    return meet + outside


def _meet(one: Any, other: Any, slack: float = 0.5) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > slack and high > slack
