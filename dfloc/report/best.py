"""Which numbers of a table are the best: by the direction of their metric, among those that rival."""

from collections.abc import Iterator
from dataclasses import replace

from dfloc.report.table import Cell, Table

Place = tuple[int, int]  # of a row and a column


def with_best(table: Table) -> Table:
    """Return a table whose best numbers are marked; ties all are, and a number without a rival is not.

    What has collapsed or is not above all fake is never the best.
    """
    rivals: dict[object, dict[Place, Cell]] = {}
    for key, place, cell in _scores(table):
        rivals.setdefault(key, {})[place] = cell
    found: set[Place] = set()
    for scores in (each for each in rivals.values() if len(each) > 1):
        fit = {place: cell for place, cell in scores.items() if cell.mark not in ("bad", "weak")}
        for metric in {cell.metric for cell in fit.values() if cell.metric}:
            best = metric.best(cell.exact[0] for cell in fit.values())
            found |= {place for place, cell in fit.items() if cell.exact[0] == best}
    rows = [
        replace(row, cells=[replace(cell, best=(i, j) in found) for j, cell in enumerate(row.cells)])
        for i, row in enumerate(table.rows)
    ]
    return replace(table, rows=rows)


def _scores(table: Table) -> Iterator[tuple[object, Place, Cell]]:
    """Yield the numbers that can be the best, each with what those of its rivals have in common."""
    block = 0
    for i, row in enumerate(table.rows):
        block += row.starts
        among = {"block": block, "column": 0, "row": i}
        for j, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True)):
            if table.best and cell.metric and cell.exact and not row.muted:
                if table.best != "row":
                    yield (j, among[table.best], cell.metric), (i, j), cell
                elif not column.muted:
                    yield (i, cell.metric), (i, j), cell
