"""How wide text is in a chart, and where it breaks into lines; lengths are points."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

FAMILY = "DejaVu Sans"  # ships with matplotlib, and is wider than what pages are mostly shown in
SMALLEST = 5.5
FINE = 10  # widths are whole dots: so many a point
WORDS = re.compile(r"[^ ]* *")  # between which a line ends gladly
PARTS = re.compile(r"[^/_,-]*[/_,-]*")  # at need


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
