"""The tables of a report for a paper: booktabs, the best number in bold, protocol and provenance in the caption."""

import re
from collections.abc import Sequence

from upath import UPath

from dfloc import storage
from dfloc.errors import unknown
from dfloc.report.page import Report
from dfloc.report.table import Cell, Row, Table

LONG, WIDE, WORDY = 40, 7, 28  # rows that do not fit a page, columns that do not fit a line, letters that are broken
METRIC = "Metric"
EMPHASIS = "set in bold", "underlined"  # bold is the best number here
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
    "\n": " ",
}
NEEDS = "% needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs,graphicx,longtable,array}\n"
DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[a4paper,landscape,margin=1.5cm]{geometry}
\usepackage{booktabs,graphicx,longtable,array}
\begin{document}
%s
\end{document}
"""


def write(report: Report, folder: UPath, table: str | None = None) -> list[UPath]:
    """Write `<id>.tex` for each table, or for one, and `all.tex`, a document that shows those of this call.

    Args:
        report: its tables are written.
        folder: where to.
        table: id of the one that is wanted; None = all.

    Returns:
        The files, `all.tex` last.

    Raises:
        ConfigError: the report has no table of that id.
    """
    tables = {each.id: each for each in report.tables}
    if table is not None and table not in tables:
        raise unknown("table of this report", table, tables)
    wanted = [each for name, each in tables.items() if table in (None, name)]
    paths = [folder / f"{each.id}.tex" for each in wanted]
    for path, each in zip(paths, wanted, strict=True):
        storage.put(path, latex(each).encode())
    inputs = "\n".join(f"\\input{{{each.id}}}\n\\clearpage" for each in wanted)
    storage.put(folder / "all.tex", (DOCUMENT % inputs).encode())
    return [*paths, folder / "all.tex"]


def latex(table: Table) -> str:
    """Return a table as LaTeX, for the packages that its first line names."""
    best = _best(table)
    body = [_row(table, place, row, best) for place, row in enumerate(table.rows)]
    heads = " & ".join(escape(table.head(place)) for place in range(len(table.columns))) + r" \\"
    columns = "".join(_alignment(table, place) for place in range(len(table.columns)))
    caption = _caption(table, bold=bool(best))
    notes = [rf"\par\smallskip{{\footnotesize {escape(note)}}}" for note in table.notes]
    parts = _long if len(table.rows) > LONG else _short
    return NEEDS + "\n".join(parts(table, columns, heads, body, caption, notes)) + "\n"


def escape(text: object) -> str:
    """Return a text that LaTeX prints as it is; control characters are dropped."""
    plain = "".join(letter for letter in str(text) if letter.isprintable() or letter == "\n")
    return "".join(SPECIAL.get(letter, letter) for letter in plain)


def _short(
    table: Table, columns: str, heads: str, body: Sequence[str], caption: str, notes: Sequence[str]
) -> list[str]:
    wide = len(table.columns) > WIDE
    return [
        r"\begin{table}[tp]",
        r"\centering\small",
        caption,
        *([r"\resizebox{\linewidth}{!}{%"] if wide else []),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        heads,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}" + ("%" if wide else ""),
        *(["}"] if wide else []),
        *notes,
        r"\end{table}",
    ]


def _long(table: Table, columns: str, heads: str, body: Sequence[str], caption: str, notes: Sequence[str]) -> list[str]:
    return [
        r"{\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\begin{{longtable}}{{{columns}}}",
        caption + r" \\",
        r"\toprule",
        heads,
        r"\midrule",
        r"\endfirsthead",
        r"\toprule",
        heads,
        r"\midrule",
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        *body,
        r"\end{longtable}",
        *notes,
        "}",
    ]


def _caption(table: Table, *, bold: bool) -> str:
    words = table.caption.replace(*EMPHASIS)
    told = f" Best of each {'row' if table.across else 'block'} in bold." if bold else ""
    return rf"\caption{{\textbf{{{escape(table.title)}}} {escape(words + told)}}}\label{{tab:{_label(table.id)}}}"


def _label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9:.-]", "-", name)


def _alignment(table: Table, place: int) -> str:
    if place not in table.words:
        return "r"
    longest = max((len(line) for row in table.rows for line in _lines(row.cells[place])), default=0)
    if longest <= WORDY:
        return "l"
    wordy = sum(_alignment_is_broken(table, each) for each in table.words)
    return rf">{{\raggedright\arraybackslash}}p{{{min(0.3, 0.85 / wordy):.2f}\linewidth}}"


def _alignment_is_broken(table: Table, place: int) -> bool:
    return any(len(line) > WORDY for row in table.rows for line in _lines(row.cells[place]))


def _lines(cell: Cell) -> list[str]:
    return [cell.text, *cell.below]


def _row(table: Table, place: int, row: Row, best: set[tuple[int, int]]) -> str:
    cells = " & ".join(_cell(cell, (place, column) in best, row.muted) for column, cell in enumerate(row.cells))
    cells = "{}" * cells.startswith(("[", "*")) + cells  # else the end of the row above takes it as its option
    return (r"\midrule" + "\n" if row.starts and place else "") + cells + r" \\"


def _cell(cell: Cell, best: bool, muted: bool) -> str:
    text = "--" if cell.text == "-" else re.sub(r"^-(?=\d)", "$-$", _breakable(cell.text))
    for command, on in (("textbf", best), ("underline", cell.mark == "strong"), ("textit", muted)):
        text = rf"\{command}{{{text}}}" if on and cell.text else text
    small = [_span(cell)] if cell.span else []
    small += [_breakable(cell.small)] if cell.small else []
    return " ".join([text, *(rf"{{\scriptsize {words}}}" for words in small)])


def _span(cell: Cell) -> str:
    assert cell.span is not None
    return "[" + ", ".join(re.sub(r"^-", "$-$", escape(end)) for end in cell.span) + "]"


def _breakable(text: str) -> str:
    return escape(text).replace("/", r"/\allowbreak{}")


def _best(table: Table) -> set[tuple[int, int]]:
    """Return (row, column) of the best of all numbers that rival, of those with an interval; differences have none.

    What has collapsed or is not above all fake rivals none.
    """
    found = set()
    for rivals in _rivals(table):
        scored = {place: cell for place in rivals if _is_score(cell := table.rows[place[0]].cells[place[1]])}
        values = {place: cell.exact[0] for place, cell in scored.items()}
        fit = {place: value for place, value in values.items() if scored[place].mark not in ("bad", "weak")}
        if len(values) > 1 and fit:
            pick = min if any(cell.lower for cell in scored.values()) else max
            found |= {place for place, value in fit.items() if value == pick(fit.values())}
    return found


def _rivals(table: Table) -> list[list[tuple[int, int]]]:
    """Return the places of numbers of which one is the best: along each row, or down each block of a column."""
    if table.across is None:
        return []
    if table.across:
        return [[(place, column) for column in table.across] for place, row in enumerate(table.rows) if not row.muted]
    return [[(place, column) for place in rows] for column in range(len(table.columns)) for rows in _blocks(table)]


def _is_score(cell: Cell) -> bool:
    return cell.span is not None and bool(cell.exact) and cell.text[:1] not in "+-"


def _blocks(table: Table) -> list[list[int]]:
    """Return the places of rows that can be compared: between two rules, or of one metric."""
    blocks: dict[object, list[int]] = {}
    number = 0
    for place, row in enumerate(table.rows):
        number += row.starts
        key = row.cells[table.columns.index(METRIC)].text if METRIC in table.columns else number
        if not row.muted:
            blocks.setdefault(key, []).append(place)
    return list(blocks.values())
