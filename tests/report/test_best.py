"""Which number is the best: by the metric's direction, whatever a head says."""

import pytest

from dfloc.metrics.metric import FALSE_ALARM, IOU, Metric
from dfloc.report.estimate import Estimate
from dfloc.report.latex import with_best
from dfloc.report.table import Cell, Row, Table, estimate
from tests.report.tables import columns


def cell(value: float, metric: Metric = IOU, mark: str = "") -> Cell:
    found = estimate(Estimate(value, 0.0, 1.0, 1, 9, metric=metric), "")
    return Cell(found.text, span=found.span, mark=mark, exact=found.exact, metric=found.metric)


def best(rows: list[Row], along: str, **more: bool) -> list[list[bool]]:
    heads = [*columns("false alarm", words=()), *columns("B", words=(), **more)]
    table = with_best(Table(id="t", title="", caption="", columns=heads, rows=rows, best=along))  # type: ignore[arg-type]
    return [[each.best for each in row.cells] for row in table.rows]


@pytest.mark.parametrize(
    ("metric", "found"), [(IOU, [[True] * 2, [False] * 2]), (FALSE_ALARM, [[False] * 2, [True] * 2])]
)
def test_the_direction_decides_and_not_the_head(metric, found):
    rows = [Row([cell(0.6, metric)] * 2), Row([cell(0.5, metric)] * 2)]
    assert best(rows, "block") == found


def test_what_has_collapsed_is_never_the_best_and_one_without_a_rival_is_not():
    assert best([Row([cell(0.6, mark="bad"), cell(0.6)]), Row([cell(0.5), Cell("-")])], "block") == [
        [False, False],
        [True, False],
    ]


def test_along_columns_rows_or_nothing():
    rows = [Row([cell(0.6), cell(0.7)]), Row([cell(0.5), cell(0.8)], starts=True)]
    assert best(rows, "column") == [[True, False], [False, True]]
    assert best(rows, "row") == [[False, True]] * 2
    assert best(rows, "") == best(rows, "block") == [[False] * 2] * 2
    assert best(rows, "row", muted=True) == [[False] * 2] * 2, "a baseline is no rival"


def test_numbers_of_two_metrics_do_not_rival():
    assert best([Row([cell(0.6), cell(0.7)]), Row([cell(0.5, FALSE_ALARM), cell(0.4)])], "column") == [
        [False, True],
        [False, False],
    ]
