import csv
import io

import pytest

from dfloc.errors import ConfigError
from dfloc.metrics.metric import IOU
from dfloc.report import render, table
from dfloc.report.estimate import Estimate
from dfloc.report.table import Cell, Column, Row, Table
from tests.report.tables import columns

EVIL = "<script>alert('1')</script>|"


def make(**update) -> Table:
    fields = {
        "id": "t",
        "title": "Title.",
        "caption": "Caption.",
        "columns": columns("Name", "IoU"),
        "rows": [Row([Cell("a"), table.estimate(Estimate(0.5, 0.4, 0.61, 1, 9, 3, metric=IOU), "not run")])],
    }
    return Table(**(fields | update))


def test_a_number_stands_with_its_interval_and_missing_runs():
    cell = table.estimate(Estimate(0.5, 0.4, 0.61, 1, 9, 3, metric=IOU), "not run")
    assert (cell.text, cell.below) == ("0.500", ["0.400 … 0.610", "1 of 3 runs"])
    signed = table.estimate(Estimate(-0.05, -0.1, 0.02, 1, 9, metric=IOU), "", signed=True)
    assert (signed.text, signed.span) == ("-0.050", ("-0.100", "+0.020"))


def test_an_interval_as_narrow_as_its_number_holds_it():
    cell = table.estimate(Estimate(0.9979, 0.9961, 0.9987, 1, 9, metric=IOU), "")
    assert cell.span == ("0.996", "0.999")
    assert float(cell.span[0]) <= float(cell.text) <= float(cell.span[1])


def test_a_hole_is_written():
    assert table.estimate(None, "not run") == Cell("not run", mark="hole")
    assert table.estimate(None, "failed").mark == "bad"
    assert table.number(None).mark == "hole"
    assert table.share(0.066).text == "7 %"


def test_html_is_escaped():
    evil = make(title=EVIL, caption=EVIL, columns=columns(EVIL, EVIL), rows=[Row([Cell(EVIL, EVIL)] * 2)], notes=[EVIL])
    text = render.html("table", block=evil)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 9


def test_markdown_has_one_line_per_row_and_escapes_bars():
    made = make(rows=[Row([Cell("a|b\nc"), Cell("1", span=("0", "2"))])], notes=["n"])
    lines = render.markdown("table", block=made).splitlines()
    assert lines[2:5] == ["| Name | IoU |", "|---|---:|", "| a\\|b c | 1 (0 … 2) |"]
    assert lines[-1] == "- n"


def test_csv_has_columns_for_intervals_and_notes_and_numbers_that_are_not_rounded():
    rows = [
        Row([Cell("a"), table.estimate(Estimate(1 / 3, 0.1234567, 0.61, 1, 9, 3, metric=IOU), "")]),
        Row([Cell("b"), table.number(2 / 3)]),
        Row([Cell("c"), table.estimate(None, "failed")]),
    ]
    lines = list(csv.reader(io.StringIO(make(rows=rows).csv())))
    assert lines == [
        ["Name", "IoU", "IoU: low", "IoU: high", "IoU: note"],
        ["a", "0.3333333333333333", "0.1234567", "0.61", "1 of 3 runs"],
        ["b", "0.6666666666666666", "", "", ""],
        ["c", "failed", "", "", ""],
    ]


def test_a_long_table_gets_a_box_and_a_folded_one_a_click():
    row = Row([Cell("a"), Cell("1")])
    assert 'class="scroll long"' in render.html("table", block=make(rows=[row] * 31))
    assert 'class="scroll"' in render.html("table", block=make(rows=[row]))
    assert "<details><summary>Show 2 rows" in render.html("table", block=make(rows=[row] * 2, folded=True))


def test_a_row_of_another_length_than_the_heads_is_refused():
    with pytest.raises(ValueError, match="table t: row 1 has 1 cells, not 2"):
        make(rows=[Row([Cell("a"), Cell("1")]), Row([Cell("b")])])


def test_columns_say_of_each_thing_what_they_are_asked_and_blocks_begin_with_a_rule():
    heads = [Column[int]("Number", lambda n: Cell(str(n))), Column[int]("Twice", lambda n: Cell(str(2 * n)))]
    found = table.rows(heads, [[1, 2], [3]])
    assert [[cell.text for cell in row.cells] for row in found] == [["1", "2"], ["2", "4"], ["3", "6"]]
    assert [row.starts for row in found] == [True, False, True]
    assert [cell.text for cell in table.baseline(heads, {"Twice": Cell("8")}).cells] == ["", "8"]


def test_columns_are_picked_by_their_keys():
    heads = columns("Valid. IoU", "celebahq/ldm", "AP, mean", "Seen: replay", "epochs", "Epochs")
    made = make(columns=heads, rows=[Row([Cell(str(place)) for place in range(6)])])
    assert made.keys == ["valid-iou", "celebahq/ldm", "ap-mean", "seen-replay", "epochs", "epochs-2"]
    picked = made.pick(["epochs-2", "valid-iou"])
    assert picked.heads == ["Epochs", "Valid. IoU"]
    assert [cell.text for cell in picked.rows[0].cells] == ["5", "0"]
    with pytest.raises(
        ConfigError,
        match=r'table t has no column "iou"; it has valid-iou, celebahq/ldm, ap-mean, seen-replay, epochs, epochs-2$',
    ):
        made.pick(["iou"])


def test_how_strong_cells_are_set_is_said_by_each_way_of_writing():
    made = make(caption=f"The held-out domain is {table.STRONG}.")
    assert "The held-out domain is set in bold." in render.html("table", block=made)
    assert "The held-out domain is set in bold." in render.markdown("table", block=made)
