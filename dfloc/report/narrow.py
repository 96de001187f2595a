"""What of a table fits one column of a two-column paper, and how wide its columns are there."""

import math
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from dfloc.report.table import Cell, Column, Row, Table

INCH = 72.27  # points of TeX
WIDTH = 3.25 * INCH  # of IEEE's and CVPR's columns
SPARE = 2.0
GAP = 4.0  # between two columns
LINE = 8.4
FONT, SMALL = 7.0, 6.1  # of small print (5 pt): its letters are wider for their size
HEAVY = 1.14  # how much wider bold and italic digits are
LETTERS = {  # widths of Computer Modern's letters at 7 pt, in units of the font's size, rounded up
    0.35: "!',.:;[]`il| ",
    0.4: "-fj",
    0.45: "()Irt",
    0.5: "s",
    0.55: "?cez",
    0.6: '"$*/0123456789J\\ago{}',
    0.65: "Sbdhknpquvxy",
    0.7: "Z^~",
    0.75: "FL",
    0.8: "BEP",
    0.85: "ACHNRTUVXYw",
    0.95: "&+<=>@DGKOQ_#%m",
    1.05: "M",
    1.2: "W…",
}
EM = {letter: width for width, letters in LETTERS.items() for letter in letters}
SIGN = "†"  # of a number whose maps say nothing
SAME, INTERVALS = "the same in each row", "intervals"
Step = tuple[Table, str, str]  # what is left of it, why something left, the key of its column
Leaves = Callable[[Column[Any], Sequence[Cell]], bool]
MINUS = re.compile(r"(?<!\w)-(?=\d)")
BREAKS = re.compile(r"\s+|(?<=/)|(?<=\w-)")  # where LaTeX may end a line


class Narrow(NamedTuple):
    """A table that fits.

    Attributes:
        widths: of its columns, in points; None: as wide as its text.
        left: what left it: columns by the reason, small print and intervals.
        shrink: it is still too wide, and is to be scaled.
    """

    table: Table
    widths: Sequence[float | None]
    left: Mapping[str, Sequence[str]]
    shrink: bool = False

    def lines(self, row: Row) -> int:
        """Return how many lines a row takes, about."""
        wide = [(_full(cell, row), width) for cell, width in zip(row.cells, self.widths, strict=True) if width]
        return max((math.ceil(1.1 * full / width) for full, width in wide), default=1)


def narrow(table: Table, *, picked: bool = False) -> Narrow:
    """Return what of a table fits.

    What says nothing leaves first: columns that are empty or the same in each row; then small print: columns of counts,
    settings and costs, notes below numbers (of degenerate maps a sign stays), and intervals. Then heads that are wider
    than their numbers are turned. Then baselines leave, and at last other columns, from the right; the first one stays.

    Args:
        table: with its best numbers marked.
        picked: a person has picked the columns; they stay.
    """
    left: dict[str, list[str]] = {}
    for smaller, why, key in chain([(table, "", "")], _leaving(table, picked=picked)):
        table = smaller
        if why:
            left.setdefault(why, []).append(key)
        if widths := _widths(table):
            return Narrow(table, widths, left)
    return Narrow(table, [None] * len(table.columns), left, shrink=True)


def _leaving(table: Table, *, picked: bool) -> Iterator[Step]:
    """Yield a table with less and less, and what left it last."""
    if not picked:
        table = yield from _without(table, "empty", lambda _, cells: not any(cell.text for cell in cells))
        table = yield from _without(table, SAME, lambda _, cells: _is_constant(cells))
        table = yield from _without(table, "small print", lambda column, _: column.small)
    table = yield from _bare(table, "notes below numbers", _without_notes)
    table = yield from _bare(table, INTERVALS, lambda cell: replace(cell, span=None))
    table = replace(table, columns=[_turned(table, place) for place in range(len(table.columns))])
    yield table, "", ""
    if not picked:
        table = yield from _without(table, "baseline", lambda column, _: column.muted)
        table = yield from _without(table, "too wide", lambda column, _: not column.words)
        yield from _without(table, "too wide", lambda *_: True)


def _without(table: Table, why: str, leaves: Leaves) -> Generator[Step, None, Table]:
    """Yield a table without one, two, ... of the columns that may leave, from the right; return what is left of it."""
    for place in reversed(range(1, len(table.columns))):
        cells = [row.cells[place] for row in table.rows if not row.muted]
        if leaves(table.columns[place], cells):
            key = table.keys[place]
            table = table.pick([each for each in table.keys if each != key])
            yield table, why, f"{key} = {cells[0].text}" if why == SAME else key
    return table


def _bare(table: Table, name: str, bare: Callable[[Cell], Cell]) -> Generator[Step, None, Table]:
    """Yield a table whose cells say less, where any of them does; return it."""
    rows = [replace(row, cells=[bare(cell) for cell in row.cells]) for row in table.rows]
    if rows != [*table.rows]:
        table = replace(table, rows=rows)
        yield table, name, ""
    return table


def _without_notes(cell: Cell) -> Cell:
    return replace(cell, small=SIGN if cell.small and cell.exact and cell.mark in ("bad", "weak") else "")


def _turned(table: Table, place: int) -> Column[Any]:
    column, cells = table.columns[place], max((_needed(row.cells[place], row) for row in table.rows), default=0.0)
    return replace(column, turned=not column.words and _longest(column.label, FONT) > cells + LINE)


def _is_constant(cells: Sequence[Cell]) -> bool:
    return len(cells) > 1 and len({(cell.text, cell.small, cell.span) for cell in cells}) == 1


def _widths(table: Table) -> list[float | None]:
    """Return the widths of the columns, none where their longest words do not fit."""
    needs, full = [], []
    for place, column in enumerate(table.columns):
        cells = [(row.cells[place], row) for row in table.rows]
        needs.append(
            max([LINE if column.turned else _longest(column.label, FONT), *(_needed(*each) for each in cells)])
        )
        full.append(max([LINE if column.turned else points(column.label, FONT), *(_full(*each) for each in cells)]))
    slack = WIDTH - SPARE - GAP * (len(needs) - 1) - sum(needs)
    if slack < 0:
        return []
    widths: list[float | None] = [*needs]
    broken = sorted(range(len(needs)), key=lambda place: full[place] - needs[place])
    while broken and full[broken[0]] - needs[broken[0]] <= slack:
        place = broken.pop(0)
        slack -= full[place] - needs[place]
        widths[place] = None
    for place in broken:
        widths[place] = needs[place] + slack / len(broken)
    return widths


def points(text: str, font: float) -> float:
    """Return how wide a text is, about, in points; a little more rather than less."""
    return font * sum(EM.get(letter, 0.95) for letter in MINUS.sub("+", text))  # a minus is as wide


def _longest(text: str, font: float) -> float:
    return max((points(piece, font) for piece in BREAKS.split(text)), default=0.0)


def _heavy(cell: Cell, row: Row) -> float:
    return HEAVY if cell.best or row.muted or cell.mark == "doubt" else 1.0


def interval(cell: Cell) -> str:
    """Return an interval as it stands beside its number, in one piece."""
    return f"[{', '.join(cell.span)}]" if cell.span else ""


def _needed(cell: Cell, row: Row) -> float:
    small = [points(interval(cell), SMALL), _longest(cell.small, SMALL)]
    return max(_heavy(cell, row) * _longest(cell.shown, FONT), *small)


def _full(cell: Cell, row: Row) -> float:
    small = " ".join(["", *filter(None, [interval(cell), cell.small])])
    return _heavy(cell, row) * points(cell.shown, FONT) + points(small.rstrip(), SMALL)
