"""A table: what it says, and how it is written as HTML, Markdown and CSV."""

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from dfloc.report.estimate import Estimate

DASH = "-"
LONG = 30


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says.
        small: what stands below it in small print.
        span: an interval, which stands below it too.
        mark: a CSS class (hole, bad, weak, strong), of which bad and weak are never the best; empty for none.
        exact: the number and the ends of its interval, not rounded, for the CSV; empty for words.
    """

    text: str
    small: str = ""
    span: tuple[str, str] | None = None
    mark: str = ""
    exact: tuple[float, ...] = ()

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
        words: indices of the columns that hold words and are set flush left.
        across: indices of columns whose best number each row has; empty: each column has one of each block of rows.
        notes: footnotes.
        folded: the HTML page shows it on a click.
    """

    id: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    words: Sequence[int] = (0,)
    across: Sequence[int] = ()
    notes: Sequence[str] = ()
    folded: bool = False

    def html(self) -> str:
        """Return the table as a figure of HTML, everything escaped; it scrolls inside its own box."""
        heads = "".join(f"<th{self._side(i)} scope=col>{_breakable(name)}</th>" for i, name in enumerate(self.columns))
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
            "| " + " | ".join(_md(name) for name in self.columns) + " |",
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


def estimate(found: Estimate | None, hole: str, *, signed: bool = False) -> Cell:
    """Return a number with its interval, or the mark of a hole; where fewer runs count than were planned, it says so.

    Args:
        found: the number.
        hole: what to write where there is none.
        signed: whether a plus is written.
    """
    if found is None:
        return Cell(hole, mark="bad" if hole == "failed" else "hole")
    sign = "+" if signed else ""
    span = f"{found.low:{sign}.3f}", f"{found.high:{sign}.3f}"
    short = runs(found.runs, found.planned)
    return Cell(f"{found.value:{sign}.3f}", short, span, exact=(found.value, found.low, found.high))


def _md(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
