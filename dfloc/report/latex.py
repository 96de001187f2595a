"""The tables of a report for one column of a paper: booktabs, the best in bold, provenance in the caption."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from upath import UPath

from dfloc import storage
from dfloc.errors import ConfigError, unknown
from dfloc.report.brief import HEADS
from dfloc.report.narrow import GAP, INTERVALS, SAME, SIGN, Narrow, interval, narrow
from dfloc.report.page import Report
from dfloc.report.table import Cell, Column, Row, Table, key_of

PAGE = 55  # lines of a column of a page, less those of a caption
UNDERLINED = "underlined"  # bold is the best number here
UNSET = 0x180  # from here on T1 fonts have no letters
SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "…": r"\ldots{}",
    SIGN: r"\textdagger{}",
}
NEEDS = "% needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs,graphicx,array}"
DOCUMENT = r"""\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage[letterpaper,textwidth=6.8125in,textheight=9in,columnsep=0.3125in]{geometry}
\usepackage{booktabs,graphicx,array}
\begin{document}
%s
\end{document}
"""


def write(report: Report, folder: UPath, table: str | None = None, columns: Sequence[str] | None = None) -> list[UPath]:
    """Write `<id>.tex` for each table, or for one, and `all.tex`, a document that shows those of this call.

    Args:
        report: its tables are written.
        folder: where to.
        table: id of the one that is wanted; None = all.
        columns: keys or heads of its columns, in order; None = those that fit.

    Returns:
        The files, `all.tex` last.

    Raises:
        ConfigError: the report has no table of that id, or the table no column of that key.
    """
    tables = {each.id: each for each in report.tables}
    if table is not None and table not in tables:
        raise unknown("table of this report", table, tables)
    wanted = [each for name, each in tables.items() if table in (None, name)]
    paths = [folder / f"{each.id}.tex" for each in wanted]
    texts = [latex(each, columns) for each in wanted]
    for path, text in zip(paths, texts, strict=True):
        storage.put(path, text.encode())
    inputs = "\n".join(f"\\input{{{each.id}}}\n\\clearpage" for each in wanted)
    storage.put(folder / "all.tex", (DOCUMENT % inputs).encode())
    return [*paths, folder / "all.tex"]


def latex(table: Table, columns: Sequence[str] | None = None) -> str:
    """Return a table as LaTeX that fits a column of 3.25 in at 7 pt; a comment says which packages, and what left.

    Args:
        table: what is written.
        columns: keys or heads of its columns, in order; None = those that fit.

    Raises:
        ConfigError: the table has no column of that key.
    """
    whole = with_best(table)
    fitted = narrow(whole.pick(_keys(whole, columns)) if columns else whole, picked=bool(columns))
    left = [f"% left out: {why}{': ' if any(keys) else ''}{', '.join(keys)}" for why, keys in fitted.left.items()]
    left += [f"% --columns picks some of {', '.join(table.keys)}"] if left else []
    parts = [_float(fitted, rows, part) for part, rows in enumerate(_parts(fitted))]
    return "\n".join([NEEDS, *map(_printable, left), *parts, ""])


def _keys(table: Table, columns: Sequence[str]) -> list[str]:
    """Return the keys of columns that are named by a key, or as a page shows their heads.

    Raises:
        ConfigError: there is no such column.
    """
    shown = replace(table, columns=[replace(each, head=HEADS.get(each.head, each.head)) for each in table.columns]).keys
    alias = dict(zip(shown, table.keys, strict=True)) | {key: key for key in table.keys}
    for column in columns:
        if key_of(column) not in alias:
            also = [other for key, other in zip(table.keys, shown, strict=True) if key != other]
            said = f"; as the page says it: {', '.join(also)}" if also else ""
            raise ConfigError(f'table {table.id} has no column "{column}"; it has {", ".join(table.keys)}{said}')
    return [alias[key_of(column)] for column in columns]


def escape(text: object) -> str:
    """Return a text that LaTeX prints as it is; control characters are dropped, others that it lacks are numbers."""
    return "".join(
        SPECIAL.get(letter, letter if ord(letter) < UNSET else f"[U+{ord(letter):04X}]")
        for letter in _printable(str(text))
    )


def _printable(text: str) -> str:
    return "".join(letter for letter in text.replace("\n", " ") if letter.isprintable())


def _parts(fitted: Narrow) -> list[list[Row]]:
    """Return the rows of each page: LaTeX breaks no table over pages in two columns."""
    parts: list[list[Row]] = [[]]
    lines = 0
    for row in fitted.table.rows:
        lines += fitted.lines(row)
        if lines > PAGE and parts[-1]:
            parts.append([])
            lines = fitted.lines(row)
        parts[-1].append(row)
    return parts


def _float(fitted: Narrow, rows: Sequence[Row], part: int) -> str:
    table, shrink = fitted.table, fitted.shrink
    turned = [f"{column.head}: {column.under}" for column in table.columns if column.turned and column.under]
    notes = [rf"\par\smallskip {_breakable(note)}" for note in (*turned, *table.notes)]
    aligned = "".join(_alignment(table, place, width) for place, width in enumerate(fitted.widths))
    lines = [
        r"\begin{table}[tp]",
        r"\sloppy\fontsize{7}{8.4}\selectfont",
        _caption(fitted) if part == 0 else rf"Table~\ref{{tab:{_label(table.id)}}}, continued.\par\smallskip",
        r"\centering" + rf"\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}",
        *([r"\resizebox{\linewidth}{!}{%"] if shrink else []),
        rf"\begin{{tabular}}{{@{{}}{aligned}@{{}}}}",
        r"\toprule",
        " & ".join(map(_head, table.columns)) + r" \\",
        r"\midrule",
        *(_row(row, place) for place, row in enumerate(rows)),
        r"\bottomrule",
        r"\end{tabular}" + ("}" if shrink else ""),
        *(notes if not rows or rows[-1] is table.rows[-1] else []),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _caption(fitted: Narrow) -> str:
    table = fitted.table
    words = [table.whole(UNDERLINED)]
    words += [f"In each row: {', '.join(same)}."] if (same := fitted.left.get(SAME)) else []
    words += ["Intervals are left out here."] if INTERVALS in fitted.left else []
    cells = [cell for row in table.rows for cell in row.cells]
    words += [f"Best of each {table.best} in bold."] if any(cell.best for cell in cells) else []
    words += [f"{SIGN}: collapsed or not above all fake."] if any(cell.small == SIGN for cell in cells) else []
    title = rf"\textbf{{{_breakable(table.title)}}}"
    return rf"\caption{{{title} {_breakable(' '.join(words))}}}\label{{tab:{_label(table.id)}}}"


def _label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9:.-]", "-", name)


def _alignment(table: Table, place: int, width: float | None) -> str:
    words = table.columns[place].words
    if width is None:
        return "l" if words else "r"
    return rf">{{\{'raggedright' if words else 'raggedleft'}\arraybackslash}}p{{{width:.1f}pt}}"


def _head(column: Column[Any]) -> str:
    return rf"\rotatebox{{90}}{{{escape(column.head)}}}" if column.turned else _breakable(column.label)


def _row(row: Row, place: int) -> str:
    cells = " & ".join(_cell(cell, row.muted) for cell in row.cells)
    cells = "{}" * cells.startswith(("[", "*")) + cells  # else the end of the row above takes it as its option
    return (r"\midrule" + "\n" if row.starts and place else "") + cells + r" \\"


def _cell(cell: Cell, muted: bool) -> str:
    text = "--" if cell.text == "-" else re.sub(r"^-(?=\d)", "$-$", _breakable(cell.shown))
    for command, on in (
        ("textbf", cell.best),
        ("underline", cell.mark == "strong"),
        ("textit", muted or cell.mark == "doubt"),
    ):
        text = rf"\{command}{{{text}}}" if on and cell.text else text
    between = re.sub(r"(?<=[\[ ])-(?=\d)", "$-$", escape(interval(cell)))
    small = [rf"\mbox{{{between}}}"] if between else []
    small += [_breakable(cell.small)] if cell.small else []
    return " ".join([text, *(rf"{{\tiny {words}}}" for words in small)])


def _breakable(text: str) -> str:
    return escape(text).replace("/", r"/\allowbreak{}")


def with_best(table: Table) -> Table:
    """Return a table whose best numbers are marked; ties all are, and a number without a rival is not.

    What has collapsed or is not above all fake is never the best.
    """
    rivals: dict[object, dict[tuple[int, int], Cell]] = {}
    for key, place, cell in _scores(table):
        rivals.setdefault(key, {})[place] = cell
    found: set[tuple[int, int]] = set()
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


def _scores(table: Table) -> Iterator[tuple[object, tuple[int, int], Cell]]:
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
