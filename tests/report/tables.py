"""Tables of given cells, for tests of how a table is written."""

from typing import Any

from dfloc.report.table import Cell, Column


def columns(*heads: str, words: tuple[int, ...] = (0,), **more: Any) -> list[Column[Any]]:
    """Return columns of these heads, of rows whose cells are there already."""
    return [Column(head, lambda _: Cell(""), words=place in words, **more) for place, head in enumerate(heads)]
