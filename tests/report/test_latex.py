import re
from dataclasses import replace

import pytest
from upath import UPath

from dfloc.errors import ConfigError
from dfloc.metrics.metric import FALSE_ALARM, IOU, Metric
from dfloc.report import claims, conclusions, exposure, latex, models, narrow, ranking
from dfloc.report.estimate import Estimate
from dfloc.report.page import Report, Section
from dfloc.report.table import Cell, Column, Row, Table, estimate
from tests.report import crossed
from tests.report.conftest import curve_of
from tests.report.studies import DOLOS, MINI
from tests.report.tables import columns


def scores(*values: float, metric: Metric = IOU, **more) -> Row:
    found = [estimate(Estimate(value, value - 0.05, value + 0.05, 1, 9, metric=metric), "") for value in values]
    return Row([Cell(f"model {values}"), *found], **more)


def made(*rows: Row, **more) -> Table:
    fields = {
        "id": "t",
        "title": "Title.",
        "caption": "Protocol declip-2025.",
        "columns": columns("Model", "A", "B"),
        "rows": rows,
    }
    return Table(**(fields | more))


def report(*tables: Table) -> Report:
    return Report("t", "", [], [], [Section("s", "s", "", tables)], [])


def aligned(columns: str) -> list[str]:
    """Return how each column is set: l, r, or p where its lines are broken."""
    return re.findall(r"[lrp]", re.sub(r">\{[^}]*\}|(?<=p)\{[^}]*\}", "", columns))


def checked(text: str) -> list[list[str]]:
    """Return the rows of a table, split at its own ampersands; braces, environments and columns are checked."""
    environments = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            environments.append(name)
        else:
            assert environments.pop() == name
    assert not environments
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    (widths,) = {len(aligned(found)) for found in re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}\n", text)}
    lines = [line for line in text.splitlines() if line.endswith(r" \\") and not line.startswith(r"\caption")]
    rows = [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in lines]
    assert {len(row) for row in rows} == {widths}
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("% "))
    assert not re.search(r"(?<!\\)[#_]", re.sub(r"\\(label|input|linewidth)\{[^}]*\}", "", plain))
    assert not re.search(r"(?<!\\)%(?!$)", plain, re.M)
    assert len(re.findall(r"(?<!\\)\$", plain)) % 2 == 0
    return [[cell.strip() for cell in row] for row in rows]


def test_a_table_in_the_manner_of_booktabs():
    text = latex.latex(made(scores(0.5, 0.4), scores(0.25, 0.75)))
    rows = checked(text)
    assert rows[0] == ["Model", "A", "B"]
    assert [text.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == sorted(
        text.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")
    )
    assert r"\begin{tabular}{@{}lrr@{}}" in text
    assert "|" not in text.replace(r"\textbar", "")
    assert r"\caption{\textbf{Title.} Protocol declip-2025. Best of each block in bold.}\label{tab:t}" in text


def test_the_best_of_each_column_is_bold_and_intervals_are_small():
    rows = checked(latex.latex(made(scores(0.5, 0.4), scores(0.25, 0.75))))
    assert rows[1][1:] == [r"\textbf{0.500} {\tiny \mbox{[0.450, 0.550]}}", r"0.400 {\tiny \mbox{[0.350, 0.450]}}"]
    assert rows[2][1:] == [r"0.250 {\tiny \mbox{[0.200, 0.300]}}", r"\textbf{0.750} {\tiny \mbox{[0.700, 0.800]}}"]


def test_blocks_between_rules_have_each_their_best_and_baselines_none():
    text = latex.latex(
        made(scores(0.5, 0.4), scores(0.6, 0.3), scores(0.1, 0.2, starts=True), scores(0.9, 0.9, muted=True))
    )
    rows = checked(text)
    assert r"\textbf" in rows[1][2]
    assert r"\textbf" in rows[2][1]
    assert r"\textbf" not in "".join(rows[3] + rows[4])
    assert text.count(r"\midrule") == 2
    assert r"\textit{0.900}" in rows[4][1]


def test_the_best_of_each_row_among_some_columns():
    low, high = (estimate(Estimate(value, 0.0, 1.0, 1, 9, metric=IOU), "") for value in (0.2, 0.8))
    rows = [Row([Cell("easy"), low, high, high]), Row([Cell("hard"), low, Cell("failed"), high])]
    text = latex.latex(
        made(*rows, columns=[*columns("Test domain", "A", "B"), *columns("all fake", words=(), muted=True)], best="row")
    )
    bold = [[r"\textbf" in cell for cell in row[1:]] for row in checked(text)[1:]]
    assert bold == [[False, True, False], [False] * 3]
    assert "Best of each row in bold." in text


def test_train_x_test_has_the_best_training_of_each_test_domain(study_of):
    record = crossed.cross_domain()
    study = study_of(record, of=crossed.truth)
    found = models.models(study)
    table = ranking.crossed(study, found)
    text = latex.latex(table)
    assert "In-domain cells are underlined" in text
    heads = [re.sub(r"\\rotatebox\{90\}\{(.*)\}", r"\1", head) for head in checked(text)[0]]
    for domain, row in zip(DOLOS, checked(text)[1:], strict=True):
        values = {column.name: column.group.score([domain]).value for column in found[0].columns}
        bold = [name for name, cell in zip(heads, row, strict=True) if r"\textbf" in cell]
        assert bold == [name for name, value in values.items() if value == max(values.values())]


def test_differences_are_not_ranked_and_a_minus_is_one():
    found = Estimate(-0.1, -0.2, 0.05, 2, 9, metric=IOU)
    rows = checked(latex.latex(made(*[Row([Cell("m"), estimate(found, "", signed=True), Cell("-")])] * 2)))
    assert rows[1][1:] == [r"$-$0.100 {\tiny \mbox{[$-$0.200, +0.050]}}", "--"]


def test_numbers_of_which_less_is_better():
    rows = checked(latex.latex(made(*(scores(*values, metric=FALSE_ALARM) for values in ((0.5, 0.4), (0.25, 0.75))))))
    assert [r"\textbf" in cell for row in rows[1:] for cell in row[1:]] == [False, True, True, False]


def test_metrics_in_rows_are_compared_each_with_its_own():
    low, high = (estimate(Estimate(value, 0.1, 0.9, 1, 9, metric=IOU), "") for value in (0.2, 0.8))
    table = made(
        Row([Cell("a"), Cell("IoU"), low], starts=True),
        Row([Cell(""), Cell("AP"), high]),
        Row([Cell("b"), Cell("IoU"), high], starts=True),
        Row([Cell(""), Cell("AP"), low]),
        columns=columns("Baseline", "Metric", "Mean", words=(0, 1)),
        best="column",
    )
    assert [r"\textbf" in row[2] for row in checked(latex.latex(table))[1:]] == [False, True, True, False]


@pytest.mark.parametrize("letter", list('&%$#_{}~^\\<>|"'))
def test_every_special_character_is_escaped_everywhere(letter):
    evil = f"a{letter}b"
    rows = [Row([Cell(evil, evil), Cell(evil), Cell(evil)]), Row([Cell("x" * 40), Cell("1"), Cell("2")])]
    text = latex.latex(made(*rows, title=evil, caption=evil, columns=columns(evil, "B", "C"), notes=[evil]))
    found = checked(text)
    assert found[0][0] == f"a{latex.SPECIAL[letter]}b"
    assert text.count(latex.SPECIAL[letter]) >= 8


def test_a_row_that_begins_with_a_bracket_is_no_option_of_the_row_above():
    text = latex.latex(made(scores(0.5, 0.4), Row([Cell("[2,8]"), Cell("1"), Cell("2")])))
    assert "\n{}[2,8] & 1 & 2" in text
    checked(text)


def test_escapes_are_those_of_latex():
    assert latex.escape("50 % of A_b & {c} ~ ^ # $ \\") == (
        r"50 \% of A\_b \& \{c\} \textasciitilde{} \textasciicircum{} \# \$ \textbackslash{}"
    )
    assert latex.escape("a\x00\x1bb\nc") == "ab c"


def test_a_table_longer_than_a_page_goes_on_in_other_floats():
    text = latex.latex(made(*[scores(0.5, 0.4)] * 120, notes=["n"]))
    assert len(checked(text)) == 120 + 3
    assert text.count(r"\begin{table}") == 3
    assert text.count(r"\caption") == text.count(r"\par\smallskip n") == 1
    assert text.count(r"Table~\ref{tab:t}, continued.") == 2


def wide(**more) -> Table:
    """Return a table of 12 columns of numbers, of which two hold small print, one the same all over, one a baseline."""
    found = [
        *columns("Model"),
        *columns("Steps", "Batch", words=(), small=True),
        *columns("Same", *"ABCDEFG", words=()),
        *columns("all fake", words=(), muted=True),
    ]
    rows = [
        Row([Cell("m"), Cell(f"{of}0", "of two"), Cell("4"), Cell("1"), *scores(*[of] * 7).cells[1:], Cell(f"{of}")])
        for of in (0.25, 0.5)
    ]
    return made(*rows, columns=found, **more)


def said(text: str) -> list[str]:
    return [line.removeprefix("% left out: ") for line in text.splitlines() if line.startswith("% left out")]


def test_what_is_constant_leaves_first_then_small_print_then_intervals():
    text = latex.latex(wide())
    assert said(text) == ["the same in each row: same = 1, batch = 4", "small print: steps", "intervals"]
    assert "In each row: same = 1, batch = 4. Intervals are left out here." in text
    assert checked(text)[0] == ["Model", *"ABCDEFG", "all fake"]
    assert "Intervals are left out here." in text
    assert "% --columns picks some of model, steps, batch, same, a, b, c, d, e, f, g, all-fake" in text
    narrower = latex.latex(wide().pick(["model", "steps", "same", "a", "b"]))
    assert said(narrower) == []
    assert r"\mbox{[0.200, 0.300]}" in narrower


def test_a_number_whose_maps_say_nothing_keeps_a_sign_where_its_note_leaves():
    low, high = scores(0.2).cells[1], scores(0.8).cells[1]
    collapsed = replace(low, small="COLLAPSED (empty)", mark="bad")
    rows = [Row([Cell("m"), *[collapsed] * 7]), Row([Cell("n"), *[high] * 7])]
    text = latex.latex(made(*rows, columns=columns("Model", *"ABCDEFG")))
    assert said(text) == ["notes below numbers", "intervals"]
    assert checked(text)[1][1] == r"0.200 {\tiny \textdagger{}}"
    assert r"\textdagger{}: collapsed or not above all fake." in text
    assert "COLLAPSED (empty)" in latex.latex(made(*rows, columns=columns("Model", *"ABCDEFG")), ["model", "a"])


def test_a_difference_that_is_no_answer_is_in_italics():
    doubtful = Cell("+0.1", exact=(0.1,), mark="doubt")
    assert checked(latex.latex(made(Row([Cell("m"), doubtful, Cell("1")]))))[1][1] == r"\textit{+0.1}"


def test_columns_are_picked_by_their_keys_in_their_order():
    text = latex.latex(wide(), ["model", "b", "steps"])
    assert checked(text) == [
        ["Model", "B", "Steps"],
        ["m", r"0.250 {\tiny \mbox{[0.200, 0.300]}}", r"0.250 {\tiny of two}"],
        ["m", r"\textbf{0.500} {\tiny \mbox{[0.450, 0.550]}}", r"0.50 {\tiny of two}"],
    ]
    assert said(text) == []
    with pytest.raises(ConfigError, match=r'table t has no column "stps"; it has model, steps, batch, same, a, b,'):
        latex.latex(wide(), ["model", "stps"])


def test_a_column_is_picked_by_its_head_on_the_page_too():
    heads = [Column[Cell](head, lambda cell: cell) for head in ("Model", "Maps", "Valid. IoU")]
    table = Table(id="t", title="T.", caption="", columns=heads, rows=[Row([Cell(name) for name in "abc"])])
    by_key = latex.latex(table, ["maps", "valid-iou"])
    assert latex.latex(table, ["Features", "Valid. IoU"]) == latex.latex(table, ["features", "valid-iou"]) == by_key
    with pytest.raises(ConfigError, match=r"it has model, maps, valid-iou; as the page says it: features$"):
        latex.latex(table, ["map"])


def test_all_columns_that_are_picked_stay_and_are_shrunk_at_last():
    long = made(
        Row([Cell("m"), *[Cell("1" * 9)] * 9]), Row([Cell("n"), *[Cell("1" * 9)] * 9]), columns=columns(*"ABCDEFGHIJ")
    )
    text = latex.latex(long, [*"abcdefghij"])
    assert r"\resizebox{\linewidth}{!}{%" in text
    assert len(checked(text)[0]) == 10
    assert r"\resizebox" not in latex.latex(long)


def test_heads_that_are_wider_than_their_numbers_are_turned_before_a_column_leaves():
    heads = [f"celebahq/generator-number{place}" for place in range(7)]
    text = latex.latex(made(scores(*[0.5] * 7), scores(*[0.4] * 7), columns=columns("Model", *heads)))
    assert checked(text)[0][1:] == [rf"\rotatebox{{90}}{{{head}}}" for head in heads]
    assert said(text) == ["intervals"]


def test_every_table_of_a_study_keeps_its_structure(mini_study):
    for table in (exposure.curves(mini_study), exposure.controls(mini_study), exposure.forgetting(mini_study)):
        text = latex.latex(table)
        assert len(checked(text)) == len(table.rows) + text.count(r"\begin{table}")
    found = claims.judge(mini_study)
    checked(latex.latex(conclusions.table(mini_study, found)))


def test_a_held_out_domain_is_underlined_where_bold_is_the_best(mini_study):
    table = exposure.curves(mini_study)
    text = latex.latex(table)
    assert "the held-out domain is underlined" in text
    assert "is set in bold" not in text
    rows = [row for row in checked(text) if row[0] == r"mini/\allowbreak{}telea"]
    column = next(
        place for place, head in enumerate(checked(text)[0]) if "mini/telea" in head.replace(r"\allowbreak{}", "")
    )
    assert all(r"\underline{" in row[column] for row in rows)
    curve = curve_of(mini_study, "mini/telea")
    values = [group.score(["mini/telea"]).value for group in curve.values()]
    (best,) = [row for row in rows if r"\textbf" in row[column]]
    assert best[1] == f"{list(curve)[values.index(max(values))]:,}"
    assert "Protocol declip-2025" in text
    assert "Training seeds 0" in text
    assert list(MINI)[3] == "mini/telea"


def test_files_and_a_document_that_shows_them(tmp_path):
    one, two = made(scores(0.5, 0.4)), replace(made(scores(0.1, 0.2)), id="u")
    paths = latex.write(report(one, two), UPath(tmp_path))
    assert [path.name for path in paths] == ["t.tex", "u.tex", "all.tex"]
    document = (tmp_path / "all.tex").read_text()
    assert re.findall(r"\\input\{(\w+)\}", document) == ["t", "u"]
    packages = set(re.findall(r"\\usepackage(?:\[[^]]*\])?\{([^}]*)\}", document))
    assert "booktabs,graphicx,array" in packages
    for name in ("t", "u"):
        checked((tmp_path / f"{name}.tex").read_text())


def test_one_table_or_a_clear_message(tmp_path):
    tables = report(made(scores(0.5, 0.4)), replace(made(scores(0.1, 0.2)), id="budgets"))
    assert [path.name for path in latex.write(tables, UPath(tmp_path), "budgets")] == ["budgets.tex", "all.tex"]
    assert not (tmp_path / "t.tex").exists()
    with pytest.raises(ConfigError, match=r'unknown table of this report "budgts".*did you mean "budgets"'):
        latex.write(tables, UPath(tmp_path), "budgts")


def test_a_minus_is_as_wide_as_a_plus():
    """LaTeX's minus is no hyphen: 0.89 of 7 points."""
    texts = [narrow.points(text, 7.0) for text in ("-0.1", "+0.1", "x-0.1")]
    assert texts[0] == texts[1]
    assert texts[2] < texts[1] + narrow.points("x", 7.0)


def test_what_no_font_has_is_a_number():
    assert latex.escape("a\N{CJK UNIFIED IDEOGRAPH-6570}\N{GRINNING FACE}ü") == "a[U+6570][U+1F600]ü"
