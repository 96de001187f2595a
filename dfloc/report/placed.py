"""Which of our models, data and test domains a published number speaks of: by name, never by position."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

from dfloc.data import dolos
from dfloc.metrics.metric import IOU
from dfloc.report import captions
from dfloc.report.beside import RULE, Compared, Pair, columns_of, scores_of, setting, terms
from dfloc.report.comparable import fits, gaps
from dfloc.report.groups import Model as Cells
from dfloc.report.groups import Study
from dfloc.report.marks import notes
from dfloc.report.models import ONE, Column, Model, Which, budgets, known, unknown
from dfloc.report.published import Cell as Published
from dfloc.report.published import Table as PublishedTable
from dfloc.report.table import Cell, Table, rows
from dfloc.report.table import Column as Printed

SPLITS: Mapping[str, Which] = {"id": known, "ood": unknown}
MEANS = ("model", "quantity")
SETUP = "C"  # of Dolos: full supervision
SOURCES_TEST = "celebahq/repaint-p2"
UNSEEN = "s004.table4"  # its models stand in other tables


class Ours(NamedTuple):
    """What of ours stands beside a published number: the mean over some trainings, each on some test domains.

    Attributes:
        requires: instead of what the number requires, where that has words for its column.
        gap: what tells the domains apart, where a document does not say which set of a family it means.
    """

    cells: Sequence[Cells]
    metric: str = IOU.key
    requires: Mapping[str, Any] | None = None
    gap: str = ""


Place = Callable[[Study, Model, Published], Ours]


def pairs(study: Study, models: Sequence[Model], tables: Sequence[PublishedTable]) -> list[Pair]:
    """Return every published number that has a place, for each of our models that it may speak of; none if built in."""
    placed = [] if study.built_in else [table for table in tables if _axes(table) in _PLACES]
    alone = models or budgets(study)  # the exposure study has budgets, and they have means
    return [pair for table in placed for pair in _pairs(study, alone if _axes(table) == MEANS else models, table)]


def tables(study: Study, found: Sequence[Pair]) -> list[Table]:
    """Return a table for each published one: its rows and columns, ours beside each number; in per cent."""
    by_table: dict[str, list[Pair]] = {}
    for pair in found:
        by_table.setdefault(pair.table.id, []).append(pair)
    return [_table(study, each) for each in by_table.values()]


def _pairs(study: Study, models: Sequence[Model], table: PublishedTable) -> Iterator[Pair]:
    place = _PLACES[_axes(table)]
    candidates = {model.name: model for model in models if any(_fits(cell, model) for cell in table.cells.values())}
    named: dict[str, Model | None] = {**candidates} if candidates else {"": None}
    for name, model in named.items():
        for cell in table.cells.values():
            fitting = model if model and _fits(cell, model) else None
            if fitting or not _elsewhere(cell, candidates.values()):
                yield _pair(study, table, cell, name, fitting, place)


def _elsewhere(cell: Published, candidates: Any) -> bool:
    """Return whether a number speaks of another one of our models than the one whose rows are written."""
    return any(_fits(cell, model) for model in candidates)


def _pair(study: Study, table: PublishedTable, cell: Published, name: str, model: Model | None, place: Place) -> Pair:
    ours = place(study, model, cell) if model else Ours([])
    value = study.mean_of(ours.cells, ours.metric)
    why = [] if value else [_missing(cell, model, ours)]
    why += [ours.gap] if ours.gap else []
    if not table.comparable:
        why.append("the table is context: its protocol or main settings are not known")
    if cell.status != "ok":
        why.append(f"published value {cell.status}: {cell.reason}")
    asked = replace(cell, status="ok", requires=cell.requires if ours.requires is None else ours.requires)
    for group, domains in ours.cells:
        for domain in domains:
            why += gaps(asked, table.protocol, domain, setting(study, group))
    told = dict.fromkeys(note for group, domains in ours.cells for note in notes(group, domains))
    scores, gap = scores_of(ours.cells if value else []), tuple(dict.fromkeys(why))
    return Pair(table, cell, name, None, _named(study, cell.col), value, scores, "; ".join(told), gap)


def _missing(cell: Published, model: Model | None, ours: Ours) -> str:
    if not {"model", "maps", "table"} & cell.requires.keys() and cell.table != UNSEEN:
        return "the source does not record its model"
    if model is None:
        return "not planned: no model here is what the table requires"
    if not ours.cells:
        return "not planned: no training or test set here is what the table requires"
    return next((group.hole for group, _ in ours.cells if not group.scored), "unfinished")


def _table(study: Study, found: Sequence[Pair]) -> Table:
    source = found[0].table
    reasons: dict[str, str] = {}
    domains = list(dict.fromkeys(pair.domain for pair in found))
    by_row: dict[tuple[str, str], dict[str, Pair]] = {}
    for pair in found:
        by_row.setdefault((pair.where, str(pair.published.row)), {})[pair.domain] = pair
    columns: list[Printed[Compared]] = [
        Printed("Our model", lambda line: Cell(line[0] or "none"), words=True),
        Printed(_words(source.rows_axis), lambda line: Cell(line[1]), words=True),
        *(each for domain in domains for each in columns_of(study, domain, reasons)),
    ]
    lines = [(*key, pairs_) for key, pairs_ in by_row.items()]
    filled = rows(columns, [list(each) for _, each in groupby(lines, lambda line: line[0])])  # which names the reasons
    return Table(
        id=f"published-{source.id.replace('.', '-')}",
        title=f"{source.kind} beside measured: {source.where}.",
        caption=f"Rows: {_words(source.rows_axis)}; columns: {_words(source.cols_axis)}; in per cent. {RULE} "
        f"Source: {source.cite} ({source.id}). {terms(study, found)} {captions.provenance(study, study.groups)}",
        columns=columns,
        rows=filled,
        best="",
        notes=[
            *(f"{letter}: {reason}" for reason, letter in reasons.items()),
            *captions.baseline_note(study, per_cent=True),
        ],
    )


def _words(axis: str) -> str:
    return axis.replace("_", " ").replace("/", ", ")


def _axes(table: PublishedTable) -> tuple[str, str]:
    return table.rows_axis, table.cols_axis


def _requires(cell: Published) -> Mapping[str, Any]:
    """Return what a number requires, with what its method and setup say."""
    method = str(cell.col).rpartition("/")[2]
    found: dict[str, Any] = dict(cell.requires) | cell.requires.get("by_method", {}).get(method, {})
    epochs = found.get("epochs")
    if isinstance(epochs, Mapping):
        found["epochs"] = epochs.get(cell.row)
    found.pop("by_method", None)
    return found


def _fits(cell: Published, model: Model) -> bool:
    if cell.table == UNSEEN:
        return str(cell.row) == f"patches-trained-setup-{SETUP.lower()}" and fits(_PATCHES, model.spec)
    return fits(_requires(cell), model.spec)


_PATCHES = {"model": "Xception to block 2 + 1x1"}


def _at(model: Model, training: str, domains: Sequence[str]) -> list[Cells]:
    return _of(model.column(training), domains)


def _of(column: Column | None, domains: Sequence[str]) -> list[Cells]:
    there = [name for name in domains if column and ("best", name) in _asked(column.group)]
    return [(column.group, there)] if column and len(there) == len(domains) else []


def _asked(group: Any) -> set[tuple[str, str]]:
    """Return what a group is tested on, scored or not."""
    return {(each.checkpoint, each.domain) for each in group.first.trial.evaluations}


def _matrix(study: Study, model: Model, cell: Published) -> Ours:
    return Ours(_at(model, _named(study, cell.col), [str(cell.row)]))


def _named(study: Study, training: str | int) -> str:
    """Return the name of training data with its domain in full: the documents write `without-ldm`."""
    head, without, short = str(training).partition("without-")
    full = [domain for domain in study.record.domains if domain.rpartition("/")[2] == short]
    return f"{without}{full[0]}" if without and not head and len(full) == 1 else str(training)


def _split(study: Study, model: Model, cell: Published) -> Ours:
    part = next((part for part in model.parts if part.kind == ONE), None)
    whole = part and {column.name for column in part.columns} == set(study.tested)
    return Ours(part.cells(study, SPLITS[str(cell.col)]) if part and whole else [])


def _same(study: Study, model: Model, cell: Published) -> Ours:
    domain = _of_family(study, str(cell.row))
    return Ours(_at(model, domain, [domain]), gap=_other(cell, domain))


def _held_out(study: Study, model: Model, cell: Published) -> Ours:
    domain = _of_family(study, str(cell.row))
    return Ours(_at(model, f"without-{domain}", [domain]), gap=_other(cell, domain))


def _of_family(study: Study, domain: str) -> str:
    """Return a domain, or the study's one of its family: a document may not say which of two sets it means."""
    said = study.record.families
    of = [name for name in study.tested if dolos.family(name, said) == dolos.family(domain, said)]
    return of[0] if of and domain not in study.tested else domain


def _other(cell: Published, domain: str) -> str:
    return "" if cell.row == domain else f"{cell.row}, ours {domain}"


def _source(_: Study, model: Model, cell: Published) -> Ours:
    source, metric = str(cell.col).split("/")
    training = f"{source}/{SOURCES_TEST.split('/')[1]}"
    return Ours(_at(model, training, [SOURCES_TEST]) if cell.row == SETUP else [], metric)


def _method(_: Study, model: Model, cell: Published) -> Ours:
    metric = str(cell.col).split("/")[0]
    cells = _at(model, SOURCES_TEST, [SOURCES_TEST]) if cell.row == SETUP else []
    return Ours(cells, metric, _requires(cell))


def _unseen(study: Study, model: Model, cell: Published) -> Ours:
    test, metric = str(cell.col).split("/")
    tested = [*study.tested, *study.extra]
    domain = next((name for name in tested if name.partition("/")[2] == test or name.replace("/", "-") == test), "")
    return Ours(_at(model, SOURCES_TEST, [domain]) if domain else [], metric)


def _mean(study: Study, model: Model, cell: Published) -> Ours:
    """Find a mixture by its counts; where they were scaled, one of as many of each domain by its name."""
    counts = cell.requires.get("train", {})
    exact = (one for one in model.columns if one.group.first.trial.spec.train.counts == counts)
    name = next(iter(counts)) if len(counts) == 1 else f"train_all_{len(counts)}"
    named = model.column(name) if len(set(counts.values())) == 1 else None
    return Ours(_of(next(exact, named), study.tested))


_PLACES: Mapping[tuple[str, str], Place] = {
    ("test_domain", "train_domain"): _matrix,
    ("test_domain", "training_data"): _matrix,
    ("decoder_and_map", "split"): _split,
    ("train_and_test_domain", "quantity"): _same,
    ("held_out_test_domain", "quantity"): _held_out,
    ("setup", "train_source/metric"): _source,
    ("setup", "metric/method"): _method,
    ("method", "test_set/metric"): _unseen,
    MEANS: _mean,
}
