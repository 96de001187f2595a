import re
from dataclasses import replace

import pytest
from upath import UPath

from dfloc.errors import ConfigError
from dfloc.metrics.metric import FALSE_ALARM, IOU, Metric
from dfloc.report import claims, conclusions, exposure, latex, models, ranking
from dfloc.report.estimate import Estimate
from dfloc.report.page import Report, Section
from dfloc.report.table import Cell, Row, Table, estimate
from tests.report import crossed
from tests.report.conftest import curve_of
from tests.report.studies import DOLOS, MINI


def scores(*values: float, metric: Metric = IOU, **more) -> Row:
    found = [estimate(Estimate(value, value - 0.05, value + 0.05, 1, 9, metric=metric), "") for value in values]
    return Row([Cell(f"model {values}"), *found], **more)


def made(*rows: Row, **more) -> Table:
    fields = {
        "id": "t",
        "title": "Title.",
        "caption": "Protocol declip-2025.",
        "columns": ["Model", "A", "B"],
        "rows": rows,
    }
    return Table(**(fields | more))


def report(*tables: Table) -> Report:
    return Report("t", "", [], [], [Section("s", "s", "", tables)], [])


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
    (columns,) = re.findall(r"\\begin\{(?:tabular|longtable)\}\{(.*)\}\n", text)
    width = len(
        re.findall(r"[lrp]", re.sub(r">\{[^}]*\}|p\{[^}]*\}", lambda m: "p" if m[0][0] == "p" else "", columns))
    )
    lines = [line for line in text.splitlines() if line.endswith(r" \\") and not line.startswith(r"\caption")]
    rows = [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in lines]
    assert {len(row) for row in rows} == {width}
    plain = "\n".join(text.splitlines()[1:])
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
    assert r"\begin{tabular}{lrr}" in text
    assert "|" not in text.replace(r"\textbar", "")
    assert r"\caption{\textbf{Title.} Protocol declip-2025. Best of each block in bold.}\label{tab:t}" in text


def test_the_best_of_each_column_is_bold_and_intervals_are_small():
    rows = checked(latex.latex(made(scores(0.5, 0.4), scores(0.25, 0.75))))
    assert rows[1][1:] == [r"\textbf{0.500} {\scriptsize [0.450, 0.550]}", r"0.400 {\scriptsize [0.350, 0.450]}"]
    assert rows[2][1:] == [r"0.250 {\scriptsize [0.200, 0.300]}", r"\textbf{0.750} {\scriptsize [0.700, 0.800]}"]


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
    text = latex.latex(made(*rows, columns=["Test domain", "A", "B", "all fake"], across=(1, 2)))
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
    for domain, row in zip(DOLOS, checked(text)[1:], strict=True):
        values = {column.name: column.group.score([domain]).value for column in found[0].columns}
        bold = [name for name, cell in zip(table.columns, row, strict=True) if r"\textbf" in cell]
        assert bold == [name for name, value in values.items() if value == max(values.values())]


def test_differences_are_not_ranked_and_a_minus_is_one():
    found = Estimate(-0.1, -0.2, 0.05, 2, 9, metric=IOU)
    rows = checked(latex.latex(made(*[Row([Cell("m"), estimate(found, "", signed=True), Cell("-")])] * 2)))
    assert rows[1][1:] == [r"$-$0.100 {\scriptsize [$-$0.200, +0.050]}", "--"]


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
        columns=["Baseline", "Metric", "Mean"],
    )
    assert [r"\textbf" in row[2] for row in checked(latex.latex(table))[1:]] == [False, True, True, False]


@pytest.mark.parametrize("letter", list('&%$#_{}~^\\<>|"'))
def test_every_special_character_is_escaped_everywhere(letter):
    evil = f"a{letter}b"
    rows = [Row([Cell(evil, evil), Cell(evil), Cell(evil)]), Row([Cell("x" * 40), Cell("1"), Cell("2")])]
    text = latex.latex(made(*rows, title=evil, caption=evil, columns=[evil, "B", "C"], notes=[evil]))
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


def test_a_table_longer_than_a_page_goes_on_over_pages():
    text = latex.latex(made(*[scores(0.5, 0.4)] * 60))
    assert len(checked(text)) == 62
    assert r"\begin{longtable}{lrr}" in text
    assert r"\begin{table}" not in text
    assert text.index(r"\endfirsthead") < text.index(r"\endhead") < text.index(r"\endfoot")


def test_a_wide_table_is_shrunk_to_the_line():
    row = Row([Cell("m"), *[Cell("1")] * 9])
    text = latex.latex(made(row, columns=["Model", *"ABCDEFGHI"]))
    assert r"\resizebox{\linewidth}{!}{%" in text
    checked(text)
    assert r"\resizebox" not in latex.latex(made(scores(0.5, 0.4)))


def test_every_table_of_a_study_keeps_its_structure(mini_study):
    for table in (exposure.curves(mini_study), exposure.controls(mini_study), exposure.forgetting(mini_study)):
        rows = checked(latex.latex(table))
        assert len(rows) - (2 if len(table.rows) > latex.LONG else 1) == len(table.rows)
    found = claims.judge(mini_study)
    checked(latex.latex(conclusions.table(mini_study, found)))


def test_a_held_out_domain_is_underlined_where_bold_is_the_best(mini_study):
    table = exposure.curves(mini_study)
    text = latex.latex(table)
    assert "the held-out domain is underlined" in text
    assert "is set in bold" not in text
    rows = [row for row in checked(text) if row[0] == r"mini/\allowbreak{}telea"]
    column = table.columns.index("mini/telea")
    assert all(r"\underline{" in row[column] for row in rows)
    curve = curve_of(mini_study, "mini/telea")
    values = [group.score(["mini/telea"]).value for group in curve.values()]
    (best,) = [row for row in rows if r"\textbf" in row[column]]
    assert best[1] == f"{list(curve)[values.index(max(values))]:,}"
    assert "Protocol declip-2025" in text
    assert "Trial seeds 0" in text
    assert list(MINI)[3] == "mini/telea"


def test_files_and_a_document_that_shows_them(tmp_path):
    one, two = made(scores(0.5, 0.4)), replace(made(scores(0.1, 0.2)), id="u")
    paths = latex.write(report(one, two), UPath(tmp_path))
    assert [path.name for path in paths] == ["t.tex", "u.tex", "all.tex"]
    document = (tmp_path / "all.tex").read_text()
    assert re.findall(r"\\input\{(\w+)\}", document) == ["t", "u"]
    packages = set(re.findall(r"\\usepackage(?:\[[^]]*\])?\{([^}]*)\}", document))
    assert "booktabs,graphicx,longtable,array" in packages
    for name in ("t", "u"):
        checked((tmp_path / f"{name}.tex").read_text())


def test_one_table_or_a_clear_message(tmp_path):
    tables = report(made(scores(0.5, 0.4)), replace(made(scores(0.1, 0.2)), id="budgets"))
    assert [path.name for path in latex.write(tables, UPath(tmp_path), "budgets")] == ["budgets.tex", "all.tex"]
    assert not (tmp_path / "t.tex").exists()
    with pytest.raises(ConfigError, match=r'unknown table of this report "budgts".*did you mean "budgets"'):
        latex.write(tables, UPath(tmp_path), "budgts")
