"""A table as a page shows it: what all its rows say is said once below it, and a row of holes is a line."""

from collections.abc import Sequence
from dataclasses import replace

from dfloc.report.table import TWO_TRAININGS, Cell, Row, Table

ONCE = "Each difference is of two trainings alone; others may differ by more."
WORDS = {"-": "no number"}
HEADS = {"Maps": "Features", "Test photographs": "Test source images"}  # on a page; a CSV keeps its heads
NUMBERED = ("n", "n chosen")  # heads of numbers that name a row


def brief(table: Table) -> Table:
    """Return a table for a reader; its CSV keeps every row and column.

    A folded one, which has everything, keeps them too.
    """
    if table.folded or not table.rows:
        return table
    for step in (_worded, _once, _without_holes, _without_constants):
        table = step(table)
    return table


def _worded(table: Table) -> Table:
    columns = [replace(column, head=HEADS.get(column.head, column.head)) for column in table.columns]
    return replace(table, columns=columns)


def _once(table: Table) -> Table:
    """Return the table without what stands below each of its differences."""
    cells = [cell for row in table.rows for cell in row.cells if cell.exact and cell.text[:1] in ("+", "-")]
    if not cells or not all(TWO_TRAININGS in cell.small for cell in cells):
        return table

    def bare(cell: Cell) -> Cell:
        return replace(cell, small="; ".join(part for part in cell.small.split("; ") if part != TWO_TRAININGS))

    rows = [replace(row, cells=[*map(bare, row.cells)]) for row in table.rows]
    return replace(table, rows=rows, notes=[*table.notes, ONCE])


def _without_holes(table: Table) -> Table:
    """Return the table without rows whose numbers are all missing for one reason; a line for each reason names them."""
    numbers = [place for place, _ in enumerate(table.columns) if any(row.cells[place].exact for row in table.rows)]
    holes: dict[str, list[str]] = {}
    kept, starts = list[Row](), False
    for row in table.rows:
        why = _hole([row.cells[place] for place in numbers])
        if why and not row.muted:
            holes.setdefault(why, []).append(_name(table, row, numbers))
            starts |= row.starts
        else:
            kept.append(replace(row, starts=row.starts or starts))
            starts = False
    if not holes or not numbers:
        return table
    lines = [f"{why[0].upper()}{why[1:]}: {'; '.join(names)}." for why, names in holes.items()]
    return replace(table, rows=kept, notes=[*table.notes, *lines])


def _hole(cells: Sequence[Cell]) -> str:
    """Return why all of some numbers are missing; empty where one is there, or no reason is given."""
    reasons = {cell.text for cell in cells if not cell.exact} - {"", "-", "held out", "not of the base"}
    return next(iter(reasons)) if len(reasons) == 1 and not any(cell.exact for cell in cells) else ""


def _name(table: Table, row: Row, numbers: Sequence[int]) -> str:
    """Return what a row is called: its words, and the numbers that name it."""
    named = [
        f"{column.head} = {cell.text}" if column.head in NUMBERED else cell.text
        for place, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True))
        if place not in numbers and not column.small and (column.words or column.head in NUMBERED)
    ]
    return ", ".join(filter(None, named))


def _without_constants(table: Table) -> Table:
    """Return the table without columns that say the same in all rows; a sentence says it. The first one stays."""
    gone = dict[int, str]()
    for place, column in enumerate(table.columns[1:], 1):
        cells = [row.cells[place] for row in table.rows if row.cells[place].shown or not row.muted]
        if len(cells) < 2 or column.muted or len({_said(cell) for cell in cells}) > 1 or _measures(cells[0]):
            continue
        value, *small = _said(cells[0])
        value = " ".join(filter(None, [WORDS.get(value, value), f"({'; '.join(small)})" if small else ""]))
        gone[place] = f"{column.label}: {value} in all rows." if value else ""
    keys = [key for place, key in enumerate(table.keys) if place not in gone]
    said = [sentence for sentence in gone.values() if sentence]
    return replace(table.pick(keys), notes=[*table.notes, *([" ".join(said)] if said else [])])


def _said(cell: Cell) -> tuple[str, ...]:
    return cell.shown, *cell.below


def _measures(cell: Cell) -> bool:
    return cell.metric is not None or cell.span is not None
