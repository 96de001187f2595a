import csv
import io

from dfloc.metrics.metric import IOU
from dfloc.report import table
from dfloc.report.estimate import Estimate
from dfloc.report.table import Cell, Row, Table

EVIL = "<script>alert('1')</script>|"


def make(**update) -> Table:
    fields = {
        "id": "t",
        "title": "Title.",
        "caption": "Caption.",
        "columns": ["Name", "IoU"],
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
    text = make(title=EVIL, caption=EVIL, columns=[EVIL, EVIL], rows=[Row([Cell(EVIL, EVIL)] * 2)], notes=[EVIL]).html()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 9


def test_markdown_has_one_line_per_row_and_escapes_bars():
    lines = make(rows=[Row([Cell("a|b\nc"), Cell("1", span=("0", "2"))])], notes=["n"]).markdown().splitlines()
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
    assert 'class="scroll long"' in make(rows=[row] * 31).html()
    assert 'class="scroll"' in make(rows=[row]).html()
    assert "<details><summary>Show 2 rows" in make(rows=[row] * 2, folded=True).html()
