"""Published numbers beside ours, matched by (model, mixture, domain, n, protocol), never by position."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from dfloc.metrics.metric import IOU
from dfloc.report import captions
from dfloc.report.budgets import Line, lines
from dfloc.report.comparable import Setting, gaps
from dfloc.report.controls import blocks
from dfloc.report.estimate import Estimate
from dfloc.report.exposure import name_of
from dfloc.report.groups import Group, Model, Study
from dfloc.report.marks import notes
from dfloc.report.published import Cell as Published
from dfloc.report.published import Table as PublishedTable
from dfloc.report.results import Score
from dfloc.report.table import DASH, Cell, Column, Table, estimate, rows

PLACES = (  # axes of the tables that `placed` finds a place for
    ("test_domain", "train_domain"),
    ("test_domain", "training_data"),
    ("decoder_and_map", "split"),
    ("train_and_test_domain", "quantity"),
    ("held_out_test_domain", "quantity"),
    ("setup", "train_source/metric"),
    ("setup", "metric/method"),
    ("method", "test_set/metric"),
    ("model", "quantity"),
)
EXPOSURE = ("test_domain", "num_samples_of_held_out_domain")
BUDGETS = ("training_data", "test_domain")
RULE = (
    "difference = ours less published, only where the published value is sound and our trial meets what its table "
    "requires and was trained as its document or code says; a letter says why there is none. Intervals are of ours "
    "alone, also that of a difference: how uncertain a published number is, is not known. Weights out of a file are "
    "not known to be the published ones."
)


@dataclass(frozen=True)
class Pair:
    """A published number, ours, and why they may not be subtracted.

    Attributes:
        where: the row that it stands in: held-out domain or budget.
        n: images of the held-out domain; None for a budget.
        scores: what ours is the mean of.
        note: what must be said of our maps; empty where nothing.
        gaps: empty where the two can be compared.
    """

    table: PublishedTable
    published: Published
    where: str
    n: int | None
    domain: str
    ours: Estimate | None
    scores: tuple[Score, ...]
    note: str
    gaps: tuple[str, ...]

    @property
    def difference(self) -> Estimate | None:
        """Ours less the published number, with the interval of ours; None where they may not be subtracted."""
        return self.ours.less(self.published.value) if self.ours and not self.gaps else None


Compared = tuple[str, str, Mapping[str, Pair]]  # two words for a row, and what stands in it on each domain


def pairs(study: Study, tables: Sequence[PublishedTable]) -> list[Pair]:
    """Return every published number of the study's tables; none for built-in data."""
    placed = [] if study.built_in else [table for table in tables if _has_place(table)]
    return [pair for table in placed for pair in (_exposure if _axes(table) == EXPOSURE else _budgets)(study, table)]


def unplaced(study: Study, tables: Sequence[PublishedTable]) -> list[str]:
    """Return a sentence for each published table that the page has no place for."""
    return [
        f"Published table {table.id} is not shown: no table here has {table.metric} by {' and '.join(_axes(table))}."
        for table in tables
        if not study.built_in and not _has_place(table) and _axes(table) not in PLACES
    ]


def _axes(table: PublishedTable) -> tuple[str, str]:
    return table.rows_axis, table.cols_axis


def _has_place(table: PublishedTable) -> bool:
    return _axes(table) in (EXPOSURE, BUDGETS) and table.metric == IOU.key


def tables(study: Study, found: Sequence[Pair]) -> list[Table]:
    """Return one table for the curves and one for the budgets, each where it has a row; numbers in per cent."""
    curves = [pair for pair in found if pair.n is not None]
    budgets = [pair for pair in found if pair.n is None]
    result = []
    if curves:
        result.append(_table(study, "published-exposure", "Published beside measured: fine-tuning.", curves))
    if budgets:
        result.append(_table(study, "published-budgets", "Published beside measured: data seen from domains.", budgets))
    return result


def _exposure(study: Study, table: PublishedTable) -> Iterator[Pair]:
    named = {name_of(facet, held): curve for facet, held, curve in blocks(study) if held == table.held_out}
    for where, curve in (named or {table.held_out: {}}).items():
        for (row, col), cell in table.cells.items():
            domain, n = str(row), int(col)
            yield _pair(study, table, cell, where, n, domain, curve.get(n))


def _budgets(study: Study, table: PublishedTable) -> Iterator[Pair]:
    known: Mapping[str, Line] = {line.name: line for line in lines(study)}
    for (row, col), cell in table.cells.items():
        line, domain = known.get(str(row)), str(col)
        yield _pair(study, table, cell, str(row), None, domain, line.models.get(domain) if line else None)


def _pair(
    study: Study,
    table: PublishedTable,
    cell: Published,
    where: str,
    n: int | None,
    domain: str,
    group: Group | None,
) -> Pair:
    ours = group.score([domain], IOU.key) if group else None
    why = ["not planned" if group is None else group.hole] if group is None or ours is None else []
    if not table.comparable:
        why.append("the table is context: its protocol or main settings are not known")
    if group is not None:
        why += gaps(cell, table.protocol, domain, setting(study, group, n))
    elif cell.status != "ok":
        why.append(f"published value {cell.status}: {cell.reason}")
    scores = scores_of([(group, [domain])] if group and ours else [])
    said = "; ".join(notes(group, [domain])) if group else ""
    return Pair(table, cell, where, n, domain, ours, scores, said, tuple(why))


def scores_of(models: Sequence[Model]) -> tuple[Score, ...]:
    """Return what some groups answer for, each on its domains, best epoch."""
    every = [(result, domain) for group, domains in models for result in group.scored for domain in domains]
    return tuple(result.scores["best", domain] for result, domain in every if ("best", domain) in result.scores)


def setting(study: Study, group: Group, n: int | None = None) -> Setting:
    """Return where our number comes from; `n`: images of the held-out domain, where the study has such an axis."""
    trial = group.first.trial
    root = study.results.by_fingerprint.get(trial.spec.lineage.root)
    base = trial.spec if n == 0 else root.trial.spec if root else None
    return Setting(
        random=study.random_weights,
        tested={one.domain: one.test.size for one in trial.evaluations if one.split == "test"},
        protocol=study.record.protocol,
        spec=trial.spec,
        words=study.record.weights,
        base=base,
        n=n,
        chained=trial.parent is not None and trial.parent != trial.spec.lineage.root,
    )


def _table(study: Study, name: str, title: str, found: Sequence[Pair]) -> Table:
    reasons: dict[str, str] = {}
    by_row: dict[tuple[str, int | None], dict[str, Pair]] = {}
    for pair in found:
        by_row.setdefault((pair.where, pair.n), {})[pair.domain] = pair
    columns: list[Column[Compared]] = [
        Column("Held out" if found[0].n is not None else "Data seen", lambda line: Cell(line[0]), words=True),
        *([Column[Compared]("n", lambda line: Cell(line[1]))] if found[0].n is not None else []),
        *(column for domain in study.record.domains for column in columns_of(study, domain, reasons)),
    ]
    lines = [(where, "" if n is None else f"{n:,}", pairs_) for (where, n), pairs_ in by_row.items()]
    blocks = [list(each) for _, each in groupby(lines, lambda line: line[0])]
    filled = rows(columns, blocks)  # which names the reasons
    return Table(
        id=name,
        title=title,
        caption=f"IoU in per cent; {RULE} Source: {_cites(found)}. {terms(study, found)} "
        f"{captions.provenance(study, study.groups)}",
        columns=columns,
        rows=filled,
        best="",
        notes=[
            *(f"{letter}: {reason}" for reason, letter in reasons.items()),
            *_not_tested(study, found),
            *captions.baseline_note(study, per_cent=True),
        ],
    )


def terms(study: Study, found: Sequence[Pair]) -> str:
    """Return which masks and lists some published numbers and ours are of."""
    sources = {pair.table.id: pair.table for pair in found}
    return captions.compared(study, list(sources.values()), [score for pair in found for score in pair.scores])


def quoted(study: Study, found: Sequence[Pair]) -> str:
    """Return what the caption of a figure says of the published numbers in it, and a space; nothing where none is."""
    words = "How uncertain a published number is, is not known: the interval of a difference is that of ours alone."
    return f"{words} {terms(study, found)} " if found else ""


def ends_of(study: Study) -> tuple[str, str, str]:
    """Return what stands in the three columns of a published number."""
    return "published", "ours", "context" if study.random_weights else "difference"


def _cites(found: Sequence[Pair]) -> str:
    ids: dict[str, list[str]] = {}
    for source in {pair.table.id: pair.table for pair in found}.values():
        ids.setdefault(source.cite, []).append(source.id)
    return "; ".join(f"{cite} ({', '.join(names)})" for cite, names in ids.items())


def _not_tested(study: Study, found: Sequence[Pair]) -> list[str]:
    counts = Counter(pair.domain for pair in found if pair.domain not in study.record.domains)
    return [
        f"{count} published values of {domain} are left out: this study does not test on it."
        for domain, count in counts.items()
    ]


def columns_of(study: Study, domain: str, reasons: dict[str, str]) -> list[Column[Compared]]:
    """Return published, ours and difference on a domain, in per cent; a letter for each reason for no third."""

    def on(cell: Callable[[Pair], Cell]) -> Callable[[Compared], Cell]:
        return lambda line: cell(line[2][domain]) if domain in line[2] else Cell(DASH, mark="hole")

    def less(pair: Pair) -> Cell:
        letters = [reasons.setdefault(gap, _letter(len(reasons))) for gap in pair.gaps]
        if pair.ours is None or pair.difference is None:
            return Cell(" ".join(letters), mark="hole")
        return replace(estimate(pair.difference, DASH, signed=True, per_cent=True), small="")

    cells = (_published, _ours, less)
    return [Column(f"{domain} {end}", on(cell)) for end, cell in zip(ends_of(study), cells, strict=True)]


def _published(pair: Pair) -> Cell:
    return Cell(f"{100 * pair.published.value:.1f}", mark="" if pair.published.status == "ok" else "doubt")


def _ours(pair: Pair) -> Cell:
    found = estimate(pair.ours, DASH, per_cent=True)
    return found.noted(pair.note) if pair.ours else found


def told(pair: Pair) -> list[str]:
    """Return ours and the difference in words, as fractions, or why there is none; nothing where ours is a hole."""
    if pair.ours is None:
        return []
    lines = [f"ours: {pair.ours.words()}"]
    if (less := pair.difference) is None:
        return [*lines, f"no difference: {'; '.join(pair.gaps)}"]
    return [*lines, f"difference: {less.words('+')}"]


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else f"{chr(ord('a') + place // 26 - 1)}{chr(ord('a') + place % 26)}"
