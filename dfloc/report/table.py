"""A table: columns over rows, written as CSV; `render` writes it as HTML and Markdown, `latex` for a paper."""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from dfloc.errors import ConfigError
from dfloc.metrics.intervals import holm
from dfloc.metrics.metric import Metric
from dfloc.report.estimate import NO_INTERVAL, Estimate

DASH = "-"
TWO_TRAININGS = "on these two trainings"  # below a difference of one training a side
STRONG = "{strong}"  # stands in a caption for how the cells with that mark are set

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says.
        small: what stands below it in small print.
        span: an interval, which stands below it too; empty where a number that should have one has none.
        mark: a CSS class (hole, bad, weak, strong), of which bad and weak are never the best; empty for none.
        exact: the number and the ends of its interval, not rounded, for the CSV; empty for words.
        metric: what such a number measures, where it can be the best of several; None for differences and all else.
        p: of a difference that is put to the test with all others of the page (`starred`); NaN for all else.
        star: whether luck does not explain it.
        best: whether it is the best of those that it rivals (`best.with_best`).
        link: an address that the page links the text to; empty for none.
    """

    text: str
    small: str = ""
    span: tuple[str, ...] | None = None
    mark: str = ""
    exact: tuple[float, ...] = ()
    metric: Metric | None = None
    p: float = math.nan
    star: bool = False
    best: bool = False
    link: str = ""

    @property
    def shown(self) -> str:
        """The text, with its star."""
        return f"{self.text}*" if self.star else self.text

    def noted(self, *words: str) -> "Cell":
        """Return the cell with more small print, where there is some."""
        return replace(self, small="; ".join(filter(None, [self.small, *words])))

    @property
    def below(self) -> list[str]:
        """The lines of small print."""
        return [line for line in (" … ".join(self.span or ()), self.small) if line]


@dataclass(frozen=True)
class Column(Generic[T]):
    """A head, and what stands below it of each thing that has a row: a model, a group, a trial.

    Attributes:
        head: in the page and the CSV.
        cell: from a row's thing to what the column says of it.
        under: small print below the head.
        words: it holds words and is set flush left.
        small: small print (counts, settings, costs, digests): the first to leave a table that is too wide.
        muted: it holds a baseline, which is never the best of its row.
        turned: LaTeX writes its head upwards.
        code: it holds commands, to be copied.
    """

    head: str
    cell: Callable[[T], Cell]
    under: str = ""
    words: bool = False
    small: bool = False
    muted: bool = False
    turned: bool = False
    code: bool = False

    @property
    def label(self) -> str:
        """The head with its small print in brackets."""
        return f"{self.head} ({self.under})" if self.under else self.head


@dataclass(frozen=True)
class Row:
    """What the columns say of one thing.

    Attributes:
        starts: a rule stands above it.
        muted: a baseline.
    """

    cells: Sequence[Cell]
    starts: bool = False
    muted: bool = False


def row(columns: Sequence[Column[T]], thing: T, *, starts: bool = False, muted: bool = False) -> Row:
    """Return what columns say of a thing."""
    return Row([column.cell(thing) for column in columns], starts, muted)


def baseline(columns: Sequence[Column[T]], known: Mapping[str, Cell]) -> Row:
    """Return the row of a baseline: cells by their heads, others are empty."""
    assert not {*known} - {column.head for column in columns}
    return Row([known.get(column.head, Cell("")) for column in columns], muted=True)


def rows(columns: Sequence[Column[T]], blocks: Iterable[Iterable[T]]) -> list[Row]:
    """Return a row for each thing, with a rule above the first one of each block."""
    return [row(columns, thing, starts=place == 0) for block in blocks for place, thing in enumerate(block)]


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """What stands under a caption: a table or a figure.

    Attributes:
        id: its anchor, and the name of its file.
        title: one sentence.
        caption: what is shown; `STRONG` in it says how the cells of that mark are set.
        source: where its numbers come from, in sentences: protocol, data, seeds, intervals.
        shared: those of them that the page says once for all.
    """

    id: str
    title: str
    caption: str
    source: Sequence[str] = ()
    shared: frozenset[str] = frozenset()

    def said(self, strong: str = "") -> str:
        """Return the caption on a page, where cells of the mark strong are set so."""
        own = [sentence for sentence in self.source if sentence not in self.shared]
        return " ".join(filter(None, [self.caption.strip(), *own])).replace(STRONG, strong)

    def whole(self, strong: str = "") -> str:
        """Return the caption of the block alone."""
        return replace(self, shared=frozenset()).said(strong)


@dataclass(frozen=True, kw_only=True)
class Table(Captioned):
    """Columns over rows.

    Attributes:
        best: of which numbers of a metric one is the best: of each column, in each block of rows or in all of them, or
            of each row; "" = of none.
        notes: footnotes.
        folded: the HTML page shows it on a click.
        trials: fingerprints of those that it, or a figure beside it, shows.

    Raises:
        ValueError: a row has not a cell for each column.
    """

    columns: Sequence[Column[Any]]
    rows: Sequence[Row]
    best: Literal["block", "column", "row", ""] = "block"
    notes: Sequence[str] = ()
    folded: bool = False
    trials: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for place, each in enumerate(self.rows):
            if len(each.cells) != len(self.columns):
                raise ValueError(f"table {self.id}: row {place} has {len(each.cells)} cells, not {len(self.columns)}")

    @property
    def heads(self) -> list[str]:
        """The heads, in order."""
        return [column.head for column in self.columns]

    @cached_property
    def keys(self) -> list[str]:
        """What each column is picked by: its head in small letters, with hyphens; a number where two are alike."""
        names = [key_of(head) for head in self.heads]
        again = [names[:place].count(name) for place, name in enumerate(names)]
        return [f"{name}-{count + 1}" if count else name for name, count in zip(names, again, strict=True)]

    def pick(self, keys: Sequence[str]) -> "Table":
        """Return the table with some columns, in the order of their keys.

        Raises:
            ConfigError: it has no column of that key.
        """
        for key in keys:
            if key not in self.keys:
                raise ConfigError(f'table {self.id} has no column "{key}"; it has {", ".join(self.keys)}')
        places = [self.keys.index(key) for key in keys]
        kept = [replace(each, cells=[each.cells[place] for place in places]) for each in self.rows]
        return replace(self, columns=[self.columns[place] for place in places], rows=kept)

    def csv(self) -> str:
        """Return the table as CSV, numbers not rounded; intervals and small print have columns of their own."""
        spans = {i for row in self.rows for i, cell in enumerate(row.cells) if cell.span}
        smalls = {i for row in self.rows for i, cell in enumerate(row.cells) if cell.small}
        lines: list[list[object]] = [[]]
        for i, name in enumerate(self.heads):
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


def key_of(head: str) -> str:
    """Return a head in small letters, with hyphens."""
    return re.sub(r"[.,:]?\s+|,", "-", head.strip().lower())


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
    small += [TWO_TRAININGS] if found.p is not None and found.runs == 1 else []
    small += [] if found.known else [NO_INTERVAL]
    p = math.nan if found.p is None else found.p
    metric = None if signed else found.metric
    return Cell(text, "; ".join(filter(None, small)), tuple(span), exact=tuple(exact), metric=metric, p=p)


def starred(tables: Sequence[Table]) -> list[Table]:
    """Return the tables of a page with a star at each difference that luck does not explain, all tested together."""
    tested = [cell.p for table in tables for row in table.rows for cell in row.cells if not math.isnan(cell.p)]
    apart = iter(holm(tested))
    rule = (
        f"A star: not 0 at a level of 5 %, by Holm's procedure over the {len(tested)} differences of this page that "
        "have several trainings a side."
    )
    found = []
    for table in tables:
        rows = [replace(row, cells=[_star(cell, apart) for cell in row.cells]) for row in table.rows]
        mine = any(not math.isnan(cell.p) for row in table.rows for cell in row.cells)
        found.append(replace(table, rows=rows, source=[*table.source, rule]) if mine else table)
    return found


def _star(cell: Cell, apart: Iterator[bool]) -> Cell:
    return cell if math.isnan(cell.p) or not next(apart) else replace(cell, star=True)
