"""Tables of published numbers beside ours, in per cent, with the reason where they may not be subtracted."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import NamedTuple

from dfloc.report import captions
from dfloc.report.address import BUDGETS, DETECTION, EXPOSURE
from dfloc.report.groups import Study
from dfloc.report.place import Pair, terms
from dfloc.report.table import DASH, Cell, Column, Table, estimate, rows

RULE = (
    "difference = ours less published, only where the published value is sound and our trial meets what its table "
    "requires and was trained as its document or code says; a letter says why there is none. Intervals are of ours "
    "alone, also that of a difference: how uncertain a published number is, is not known. Weights out of a file are "
    "not known to be the published ones."
)

PARTED = " Ours is the mean of what is called right of the fakes and of the reals; beside it that of the fakes alone."

PairRow = tuple[tuple[str, ...], Mapping[str, Pair]]  # the words of a row's heads, and what stands under each column


class Layout(NamedTuple):
    """Where a published number stands among the tables of a page: what the heads say, and what it has under them."""

    id: str
    title: str
    heads: Mapping[str, str]
    columns: str


def tables(study: Study, found: Sequence[Pair]) -> list[Table]:
    """Return a table for each published one, those of curves in one: ours beside each number that has a place."""
    by_table: dict[str, list[Pair]] = {}
    for pair in found:
        by_table.setdefault(_layout(pair).id, []).append(pair)
    return [_table(study, each) for each in by_table.values() if any(pair.matched for pair in each)]


def _layout(pair: Pair) -> Layout:
    source = pair.table
    rows, columns = (axis.replace("_", " ").replace("/", ", ") for axis in source.axes)
    if source.axes == EXPOSURE:
        return Layout("published-exposure", "fine-tuning", {"Held out": pair.where, "n": pair.row}, rows)
    if source.axes == BUDGETS:
        return Layout("published-budgets", "data seen from domains", {"Data seen": pair.row}, columns)
    heads = {"Our model": pair.where, rows: pair.row}
    return Layout(f"published-{source.id.replace('.', '-')}", source.where, heads, columns)


def _table(study: Study, found: Sequence[Pair]) -> Table:
    """Return some numbers by row and column; a row and a column in which none has a place is a note."""
    layout, source = _layout(found[0]), found[0].table
    reasons: dict[str, str] = {}
    placed = {(*_layout(pair).heads.values(),): pair for pair in found if pair.matched}
    shown = dict.fromkeys(pair.col for pair in found if pair.matched)
    cells = {((*_layout(pair).heads.values(),), pair.col): pair for pair in found}
    columns: list[Column[PairRow]] = [
        *(_head(place, name) for place, name in enumerate(layout.heads)),
        *(one for column in shown for one in columns_of(study, column, reasons, parted=source.axes == DETECTION)),
    ]
    lines = [(head, {column: cells[head, column] for column in shown if (head, column) in cells}) for head in placed]
    filled = rows(columns, [list(block) for _, block in groupby(lines, lambda line: line[0][0])])  # names the reasons
    left = Counter(pair.gaps[0] for (head, col), pair in cells.items() if head not in placed or col not in shown)
    parted = PARTED if source.axes == DETECTION else ""
    return Table(
        id=layout.id,
        title=f"{source.kind} beside measured: {layout.title}.",
        caption=f"Columns: {layout.columns}; in per cent.{parted} {RULE} Source: {_cites(found)}. "
        f"{terms(study, found)}",
        source=captions.provenance(study, study.groups),
        columns=columns,
        rows=filled,
        best="",
        notes=[
            *(f"{letter}: {reason}" for reason, letter in reasons.items()),
            *(f"{count} published values are left out: {reason}." for reason, count in left.items()),
            *captions.baseline_note(study, per_cent=True),
        ],
    )


def ends_of(study: Study) -> tuple[str, str, str]:
    """Return what stands in the three columns of a published number."""
    return "published", "ours", "context" if study.random_weights else "difference"


def columns_of(study: Study, name: str, reasons: dict[str, str], *, parted: bool = False) -> list[Column[PairRow]]:
    """Return published, ours and difference of a column, in per cent; a letter for each reason for no third.

    Args:
        study: whose numbers ours are.
        name: of the column.
        reasons: the letters, to which new ones are added.
        parted: ours is of fakes and reals, a half each, and of fakes alone too: which of the two a published number is
            like is not known.
    """

    def of(cell: Callable[[Pair], Cell]) -> Callable[[PairRow], Cell]:
        return lambda line: cell(line[1][name]) if name in line[1] else Cell(DASH, mark="hole")

    def less(pair: Pair) -> Cell:
        letters = [reasons.setdefault(gap, _letter(len(reasons))) for gap in pair.gaps]
        if pair.ours is None or pair.difference is None:
            return Cell(" ".join(letters), mark="hole")
        return replace(estimate(pair.difference, DASH, signed=True, per_cent=True), small="")

    cells = (_published, _ours, less)
    found = [Column(f"{name} {end}", of(cell)) for end, cell in zip(ends_of(study), cells, strict=True)]
    alone = Column(f"{name} ours, fakes alone", of(partial(_alone, study)))
    return [*found[:2], *([alone] if parted else []), found[2]]


def _alone(study: Study, pair: Pair) -> Cell:
    """Return our number on the fakes alone."""
    fakes = [(group, domains[:1]) for group, domains in pair.place.cells]
    return estimate(study.mean_of(fakes, pair.place.metric), DASH, per_cent=True)


def _head(place: int, name: str) -> Column[PairRow]:
    return Column(name, lambda line: Cell(line[0][place]), words=name != "n")


def _published(pair: Pair) -> Cell:
    return Cell(f"{100 * pair.published.value:.1f}", mark="" if pair.published.status == "ok" else "doubt")


def _ours(pair: Pair) -> Cell:
    found = estimate(pair.ours, DASH, per_cent=True)
    return found.noted(pair.note) if pair.ours else found


def _cites(found: Sequence[Pair]) -> str:
    ids: dict[str, list[str]] = {}
    for source in {pair.table.id: pair.table for pair in found}.values():
        ids.setdefault(source.cite, []).append(source.id)
    return "; ".join(f"{cite} ({', '.join(names)})" for cite, names in ids.items())


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else f"{chr(ord('a') + place // 26 - 1)}{chr(ord('a') + place % 26)}"
