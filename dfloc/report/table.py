"""A table: what it says, and how it is written as HTML, Markdown and CSV."""

import csv
import html
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dfloc.metrics.intervals import holm
from dfloc.report.estimate import NO_INTERVAL, Estimate

DASH = "-"
LONG = 30


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says.
        small: what stands below it in small print.
        span: an interval, which stands below it too; empty where a number that should have one has none.
        mark: a CSS class (hole, bad, weak, strong), of which bad and weak are never the best; empty for none.
        exact: the number and the ends of its interval, not rounded, for the CSV; empty for words.
        lower: the least of such numbers is the best.
        p: of a difference that is put to the test with all others of the page (`starred`); NaN for all else.
    """

    text: str
    small: str = ""
    span: tuple[str, ...] | None = None
    mark: str = ""
    exact: tuple[float, ...] = ()
    lower: bool = False
    p: float = math.nan

    @property
    def below(self) -> list[str]:
        """The lines of small print."""
        return [line for line in (" … ".join(self.span or ()), self.small) if line]


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        starts: a rule stands above it.
        muted: a baseline.
    """

    cells: Sequence[Cell]
    starts: bool = False
    muted: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        id: its anchor, and the name of its CSV file.
        title: one sentence.
        caption: what is shown, and protocol, data and seeds.
        columns: heads.
        under: small print below heads, by their index.
        words: indices of the columns that hold words and are set flush left.
        across: indices of columns whose best number each row has; empty: each column has one of each block of rows;
            None: no number is the best.
        notes: footnotes.
        folded: the HTML page shows it on a click.
        trials: fingerprints of those that it, or a figure beside it, shows.
    """

    id: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    under: Mapping[int, str] = field(default_factory=dict)
    words: Sequence[int] = (0,)
    across: Sequence[int] | None = ()
    notes: Sequence[str] = ()
    folded: bool = False
    trials: frozenset[str] = frozenset()

    def html(self) -> str:
        """Return the table as a figure of HTML, everything escaped; it scrolls inside its own box."""
        heads = "".join(self._head_html(i, name) for i, name in enumerate(self.columns))
        body = "\n".join(self._row_html(row) for row in self.rows)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table>"
        box = "scroll long" if len(self.rows) > LONG else "scroll"
        table = f'<div class="{box}" tabindex="0">{table}</div>' + (f'<ul class="notes">{notes}</ul>' if notes else "")
        if self.folded:
            table = f"<details><summary>Show {len(self.rows)} rows</summary>{table}</details>"
        head = f"<b>{escape(self.title)}</b> {escape(self.caption)}"
        link = f'<a href="{escape(self.id)}.csv">CSV</a>'
        return f'<figure class="table" id="{escape(self.id)}"><figcaption>{head} {link}</figcaption>{table}</figure>'

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        lines = [
            f"**{_md(self.title)}** {_md(self.caption)} [CSV]({self.id}.csv)",
            "",
            "| " + " | ".join(_md(self.head(i)) for i in range(len(self.columns))) + " |",
            "|" + "|".join("---" if i in self.words else "---:" for i in range(len(self.columns))) + "|",
        ]
        for row in self.rows:
            texts = [f"{cell.text} ({', '.join(cell.below)})" if cell.below else cell.text for cell in row.cells]
            lines.append("| " + " | ".join(_md(text) for text in texts) + " |")
        return "\n".join([*lines, "", *(f"- {_md(note)}" for note in self.notes), ""])

    def csv(self) -> str:
        """Return the table as CSV, numbers not rounded; intervals and small print have columns of their own."""
        spans = {i for row in self.rows for i, cell in enumerate(row.cells) if cell.span}
        smalls = {i for row in self.rows for i, cell in enumerate(row.cells) if cell.small}
        lines: list[list[object]] = [[]]
        for i, name in enumerate(self.columns):
            lines[0] += [name, *([f"{name}: low", f"{name}: high"] if i in spans else [])]
            lines[0] += [f"{name}: note"] if i in smalls else []
        for row in self.rows:
            line: list[object] = []
            for i, cell in enumerate(row.cells):
                line += [cell.exact[0] if cell.exact else cell.text]
                line += (cell.exact[1:] if cell.span else ("", "")) if i in spans else ()
                line += [cell.small] if i in smalls else []
            lines.append(line)
        return csv_text(lines)

    def head(self, column: int) -> str:
        """Return a head with its small print in brackets."""
        return f"{self.columns[column]} ({self.under[column]})" if column in self.under else self.columns[column]

    def _head_html(self, column: int, name: str) -> str:
        below = f"<small>{escape(self.under[column])}</small>" if column in self.under else ""
        return f"<th{self._side(column)} scope=col>{_breakable(name)}{below}</th>"

    def _side(self, column: int) -> str:
        return " class=words" if column in self.words else ""

    def _row_html(self, row: Row) -> str:
        cells = "".join(self._cell_html(i, cell) for i, cell in enumerate(row.cells))
        classes = " ".join(name for name, on in (("starts", row.starts), ("muted", row.muted)) if on)
        return f'<tr class="{classes}">{cells}</tr>' if classes else f"<tr>{cells}</tr>"

    def _cell_html(self, column: int, cell: Cell) -> str:
        classes = " ".join(filter(None, ["words" if column in self.words else "", cell.mark]))
        below = "".join(f"<small>{escape(line)}</small>" for line in cell.below)
        return (
            f'<td class="{classes}">{_breakable(cell.text)}{below}</td>'
            if classes
            else f"<td>{_breakable(cell.text)}{below}</td>"
        )


def escape(text: object) -> str:
    """Return a text that HTML shows as it is."""
    return html.escape(str(text), quote=True)


def _breakable(name: str) -> str:
    return escape(name).replace("/", "/<wbr>")


def csv_text(lines: Sequence[Sequence[object]]) -> str:
    """Return lines as CSV."""
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows(lines)
    return sink.getvalue()


def number(value: float | None) -> Cell:
    """Return a plain number."""
    return Cell(f"{value:.3f}", exact=(value,)) if value is not None else Cell(DASH, mark="hole")


def share(value: float | None) -> Cell:
    """Return a fraction as per cent without decimals."""
    return Cell(f"{100 * value:.0f} %", exact=(value,)) if value is not None else Cell(DASH, mark="hole")


def runs(found: int, planned: int) -> str:
    """Return what to write of a number of fewer runs than were planned."""
    return f"{found} of {planned} runs" if found < planned else ""


def estimate(found: Estimate | None, hole: str, *, signed: bool = False, per_cent: bool = False) -> Cell:
    """Return a number with its interval, or the mark of a hole; what limits it is said below.

    Args:
        found: the number.
        hole: what to write where there is none.
        signed: whether a plus is written.
        per_cent: whether it stands beside published per cents.
    """
    if found is None:
        return Cell(hole, mark="bad" if hole == "failed" else "hole")
    form, scale = f"{'+' if signed else ''}.{1 if per_cent else 3}f", 100 if per_cent else 1
    exact = [scale * value for value in ((found.value, found.low, found.high) if found.known else (found.value,))]
    text, *span = (f"{value:{form}}" for value in exact)
    small = [runs(found.runs, found.planned)]
    small += ["on these two trainings"] if found.p is not None and found.runs == 1 else []
    small += [] if found.known else [NO_INTERVAL]
    p = math.nan if found.p is None else found.p
    lower = not found.metric.higher_is_better
    return Cell(text, "; ".join(filter(None, small)), tuple(span), exact=tuple(exact), lower=lower, p=p)


def starred(tables: Sequence[Table]) -> list[Table]:
    """Return the tables of a page with a star at each difference that luck does not explain, all tested together."""
    tested = [cell.p for table in tables for row in table.rows for cell in row.cells if not math.isnan(cell.p)]
    apart = iter(holm(tested))
    rule = (
        f" A star: not 0 at a level of 5 %, by Holm's procedure over the {len(tested)} differences of this page that "
        "have several trainings a side."
    )
    found = []
    for table in tables:
        rows = [replace(row, cells=[_star(cell, apart) for cell in row.cells]) for row in table.rows]
        mine = any(not math.isnan(cell.p) for row in table.rows for cell in row.cells)
        found.append(replace(table, rows=rows, caption=table.caption + rule) if mine else table)
    return found


def _star(cell: Cell, apart: Iterator[bool]) -> Cell:
    return cell if math.isnan(cell.p) or not next(apart) else replace(cell, text=f"{cell.text}*")


def _md(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
