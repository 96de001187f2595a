from dfloc.metrics.metric import IOU
from dfloc.report.brief import ONCE, brief
from dfloc.report.chart import Figure
from dfloc.report.page import Report, Section
from dfloc.report.table import TWO_TRAININGS, Cell, Column, Row, Table

HOLE = Cell("not run", mark="hole")


def made(rows: list[list[Cell]], heads: str = "Model n Steps IoU", **more: object) -> Table:
    columns = [Column(head, lambda _: Cell(""), words=head == "Model", small=head == "Steps") for head in heads.split()]
    return Table(id="t", title="T.", caption="C.", columns=columns, rows=[Row(cells) for cells in rows], **more)


def number(value: float) -> Cell:
    return Cell(f"{value:.3f}", exact=(value,), metric=IOU)


def test_a_column_with_one_value_is_a_sentence_and_stays_in_the_csv():
    table = made([[Cell("a"), Cell("2"), Cell("40"), number(0.5)], [Cell("a"), Cell("4"), Cell("40"), number(0.5)]])
    found = brief(table)
    assert found.heads == ["Model", "n", "IoU"], "what is measured stays, and the first column"
    assert found.notes == ["Steps: 40 in all rows."]
    assert table.csv().splitlines()[:2] == ["Model,n,Steps,IoU", "a,2,40,0.5"]


def test_what_only_some_rows_say_stays():
    rows = [[Cell("a"), Cell("2"), Cell("40"), number(0.5)], [Cell("b"), Cell("4"), Cell("80"), number(0.4)]]
    table = made(rows)
    assert brief(table).heads == table.heads
    muted = made(rows[:1] * 2)
    found = brief(
        Table(**{**vars(muted), "rows": [*muted.rows, Row([Cell("x"), *map(Cell, ("", "9", "1"))], muted=True)]})
    )
    assert "Steps" in found.heads, "a baseline says another number"
    assert "n" not in found.heads, "a baseline says nothing"


def test_a_row_of_holes_is_a_line_that_names_it_and_the_next_row_keeps_the_rule():
    rows = [[Cell("a"), Cell("2"), Cell("40"), HOLE], [Cell("b"), Cell("4"), Cell("80"), number(0.4)]]
    rows += [[Cell("c"), Cell("8"), Cell("90"), Cell("unfinished", mark="hole")], rows[1]]
    table = made(rows)
    table = Table(
        **{**vars(table), "rows": [Row(row.cells, starts=place == 0) for place, row in enumerate(table.rows)]}
    )
    found = brief(table)
    assert [row.cells[0].text for row in found.rows] == ["b", "b"]
    assert found.rows[0].starts
    assert found.notes[:2] == ["Not run: a, n = 2.", "Unfinished: c, n = 8."]
    assert "a,2,40,not run" in table.csv()
    assert brief(made(rows, folded=True)).rows == made(rows, folded=True).rows


def test_two_trainings_are_said_once_where_all_differences_are_of_two():
    def less(small: str) -> Cell:
        return Cell("+0.100", small, ("0", "1"), exact=(0.1, 0, 1))

    rows = [[Cell(name), Cell(name), Cell(name), less(f"{TWO_TRAININGS}; also x")] for name in "ab"]
    found = brief(made(rows))
    assert [row.cells[3].small for row in found.rows] == ["also x", "also x"]
    assert ONCE in found.notes
    mixed = brief(made([*rows, [*map(Cell, "ccc"), less("")]]))
    assert mixed.rows[0].cells[3].small == f"{TWO_TRAININGS}; also x"


def test_what_all_captions_say_stands_once_on_the_page_and_in_each_file():
    source = ["Protocol p.", "Test: 4 images.", "Training seeds 0, sampling seeds 0.", "Intervals: 95 %."]
    other = [*source[:1], "Test: 8 images.", *source[2:]]
    blocks = [
        made([], source=source),
        Figure(id="f", title="F.", caption="D.", panels=[], source=source),
        made([], source=other),
    ]
    report = Report("R", "", [], [], [Section("s", "S", "", blocks)], []).said_once()
    table, figure, last = report.sections[0].blocks
    assert table.said("") == "C."
    assert figure.said() == "D."
    assert last.said("") == "C. Test: 8 images."
    assert table.whole("") == f"C. {' '.join(source)}"
    assert figure.whole() == f"D. {' '.join(source)}"
    ((_, once),) = report.reading
    assert once == f"{' '.join(source)} Where one differs, its caption says so."
