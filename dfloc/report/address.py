"""Which of our trainings and test domains a published number speaks of: by the axes of its table, never by position."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from dfloc.data import dolos
from dfloc.metrics.metric import IMAGE_AP, IMAGE_RECALL, IMAGE_RIGHT, IOU
from dfloc.metrics.pairs import reals_of
from dfloc.report import setups
from dfloc.report.budgets import Budget, lines
from dfloc.report.comparable import fits
from dfloc.report.controls import blocks, name_of
from dfloc.report.formulas.numbers import CLASSES, OVERALL, REAL
from dfloc.report.groups import Group, GroupOn, Study
from dfloc.report.models import ONE, MatrixColumn, Model, Which, budgets, known, models, unknown
from dfloc.report.published import PublishedNumber, PublishedTable

EXPOSURE = ("test_domain", "num_samples_of_held_out_domain")
BUDGETS = ("training_data", "test_domain")
MATRICES = (("test_domain", "train_domain"), ("test_domain", "training_data"))
DETECTION, ATTRIBUTION = IMAGES = (("train_domain", "test_domain"), ("model", "class"))  # of what images are called
SPLITS: Mapping[str, Which] = {"id": known, "ood": unknown}
SETUP = "C"  # of Dolos: full supervision
METRICS = {"ap": IMAGE_AP.key}  # of fakes beside reals, where they stand with metrics of maps
SOURCES_TEST = "celebahq/repaint-p2"
UNSEEN = "s004.table4"  # its models stand in other tables
PATCHES = {"model": setups.PATCHES}
CLIP_LINEAR, THESIS = {"model": "CLIP frozen, linear"}, "classifier"
CLASSIFIERS: Mapping[str, Mapping[str, str]] = {
    "xception41_scratch": {"model": "timm xception41", "weights": "random"},
    "xception41_pretrained": {"model": "timm xception41", "weights": "imagenet"},
    "clip": CLIP_LINEAR,
    "sam": {"model": "SAM frozen, linear"},
    THESIS: CLIP_LINEAR,
}
"""What a classifier is that a table has in a row of its own."""
NO_TEST = "not planned: no detector here is tested on the fakes and reals of the table"
NO_DATA = "not planned: no training or test set here is what the table requires"


class Ours(NamedTuple):
    """What of ours a published number speaks of: the mean over some trainings, each on some test domains.

    Attributes:
        cells: empty where it has no place.
        n: images of the held-out domain, where the study has such an axis.
        other: the set that stands for a published one, where a document does not say which of a family it means.
        why: it has no place.
    """

    cells: Sequence[GroupOn] = ()
    metric: str = IOU.key
    n: int | None = None
    other: str = ""
    why: str = NO_DATA


Find = Callable[[PublishedNumber], Ours | None]
"""Returns what of one curve, model or list of budgets a number speaks of; None: of another model."""


def find(study: Study, table: PublishedTable) -> dict[str, Find]:
    """Return what of ours a table may speak of, by name: its curves, its models, or its budgets together."""
    return AXES[table.axes](study, table)


def named(study: Study, training: str | int) -> str:
    """Return the name of training data with its domain in full: the documents write `without-ldm`."""
    head, without, short = str(training).partition("without-")
    full = [domain for domain in study.record.domains if domain.rpartition("/")[2] == short]
    return f"{without}{full[0]}" if without and not head and len(full) == 1 else str(training)


def _curves(study: Study, table: PublishedTable) -> dict[str, Find]:
    held_out = [(facet, curve) for facet, domain, curve in blocks(study) if domain == table.held_out]
    return {name_of(facet, table.held_out): partial(_on_curve, study, curve) for facet, curve in held_out}


def _on_curve(study: Study, curve: Mapping[int, Group], cell: PublishedNumber) -> Ours:
    n = int(cell.col)
    return _planned(study, curve.get(n), str(cell.row))._replace(n=n)


def _budgets(study: Study, _: PublishedTable) -> dict[str, Find]:
    return {"": partial(_on_budget, study, {line.name: line for line in lines(study)})}


def _on_budget(study: Study, named: Mapping[str, Budget], cell: PublishedNumber) -> Ours:
    line, domain = named.get(str(cell.row)), str(cell.col)
    return _planned(study, line.models.get(domain) if line else None, domain)


def _planned(study: Study, group: Group | None, domain: str) -> Ours:
    if domain not in study.tested:
        return Ours(why=f"this study does not test on {domain}")
    return Ours(_tested(group, [domain]), why="not planned")


def _of(column: MatrixColumn | None, domains: Sequence[str]) -> list[GroupOn]:
    return _tested(column.group, domains) if column else []


def _tested(group: Group | None, domains: Sequence[str]) -> list[GroupOn]:
    """Return a training with test domains, if it is tested on all of them, scored or not."""
    asked = {each.domain for each in group.first.trial.evaluations if each.checkpoint == "best"} if group else set()
    return [(group, list(domains))] if group and asked.issuperset(domains) else []


OnModel = Callable[[Study, Model, PublishedNumber], Ours]


def _models(at: OnModel) -> Callable[[Study, PublishedTable], dict[str, Find]]:
    """Return what finds numbers among a study's models; where it has none but budgets, among those."""

    def sources(study: Study, _: PublishedTable) -> dict[str, Find]:
        return {model.name: partial(on, study, model) for model in models(study) or budgets(study)}

    def on(study: Study, model: Model, cell: PublishedNumber) -> Ours | None:
        patches = str(cell.row) == f"patches-trained-setup-{SETUP.lower()}"
        asked = cell.requires if cell.table != UNSEEN else PATCHES if patches else {}
        asked = CLASSIFIERS.get(str(cell.row), asked)
        return at(study, model, cell) if fits(asked, model.spec) else None

    return sources


def _at(model: Model, training: str, domains: Sequence[str], cell: PublishedNumber) -> list[GroupOn]:
    """Return the column of some training data: of several the one with as many images as the number requires."""
    called = [column for column in model.columns if column.name == training]
    return _of(next(iter([*_exact(called, cell), *called]), None), domains)


def _exact(columns: Sequence[MatrixColumn], cell: PublishedNumber) -> list[MatrixColumn]:
    counts = cell.requires.get("train")
    return [column for column in columns if column.group.first.trial.spec.train.counts == counts]


def _matrix(study: Study, model: Model, cell: PublishedNumber) -> Ours:
    return Ours(_at(model, named(study, cell.col), [str(cell.row)], cell))


def _split(study: Study, model: Model, cell: PublishedNumber) -> Ours:
    part = next((part for part in model.parts if part.kind == ONE), None)
    whole = part and {column.name for column in part.columns} == set(study.tested)
    return Ours(part.cells(study, SPLITS[str(cell.col)]) if part and whole else [])


def _same(study: Study, model: Model, cell: PublishedNumber) -> Ours:
    domain = _of_family(study, str(cell.row))
    return Ours(_at(model, domain, [domain], cell), other=_other(cell, domain))


def _held_out(study: Study, model: Model, cell: PublishedNumber) -> Ours:
    domain = _of_family(study, str(cell.row))
    return Ours(_at(model, f"without-{domain}", [domain], cell), other=_other(cell, domain))


def _of_family(study: Study, domain: str) -> str:
    """Return a domain, or the study's one of its family: a document may not say which of two sets it means."""
    said = study.record.families
    of = [name for name in study.tested if dolos.family(name, said) == dolos.family(domain, said)]
    return of[0] if of and domain not in study.tested else domain


def _other(cell: PublishedNumber, domain: str) -> str:
    return "" if cell.row == domain else f"{cell.row}, ours {domain}"


def _source(_: Study, model: Model, cell: PublishedNumber) -> Ours:
    return _supervised(model, cell, str(cell.col).partition("/")[2])


def _method(_: Study, model: Model, cell: PublishedNumber) -> Ours:
    return _supervised(model, cell, str(cell.col).partition("/")[0])


def _supervised(model: Model, cell: PublishedNumber, metric: str) -> Ours:
    """Find a localizer by what it is trained with, masks or labels, and on which domains."""
    wanted = str(cell.row), frozenset(cell.requires["train"])
    found = [one for one in model.columns if _setup_of(one) == wanted]
    column = next(iter([*_exact(found, cell), *found]), None)
    return Ours(_of(column, [SOURCES_TEST]), METRICS.get(metric, metric))


def _setup_of(column: MatrixColumn) -> tuple[str, frozenset[str]]:
    spec = column.group.first.trial.spec
    return setups.setup(spec), setups.trained(spec)


def _unseen(study: Study, model: Model, cell: PublishedNumber) -> Ours:
    test, metric = str(cell.col).split("/")
    tested = [*study.tested, *study.extra, *study.reals]
    domain = next((name for name in tested if name.partition("/")[2] == test or name.replace("/", "-") == test), "")
    return Ours(_at(model, SOURCES_TEST, [domain], cell) if domain else [], metric)


def _mean(study: Study, model: Model, cell: PublishedNumber) -> Ours:
    """Find a mixture by its counts; where they were scaled, one of as many of each domain by its name."""
    counts = cell.requires.get("train", {})
    name = next(iter(counts)) if len(counts) == 1 else f"train_all_{len(counts)}"
    alike = model.column(name) if len(set(counts.values())) == 1 else None
    return Ours(_of(next(iter(_exact(model.columns, cell)), alike), study.tested))


def _detector(study: Study, model: Model, cell: PublishedNumber) -> Ours:
    """Find balanced accuracy: the mean of what is called right of a domain's fakes and of its source's reals."""
    trained = [one.group for one in model.columns if _fakes(one.group) == {cell.row}]
    test = str(cell.col)
    cells = _tested(next(iter(trained), None), [test, reals_of(test)])
    return Ours(cells, right(study) or IMAGE_RIGHT.key, why=NO_TEST if trained else NO_DATA)


def _class(study: Study, model: Model, cell: PublishedNumber) -> Ours:
    """Find the recall of a class, or the plain mean over all of them."""
    thesis = model.spec.optimizer.name == "adamw"  # the poster's is of Adam
    trained = [one.group for one in model.columns if _fakes(one.group) == {*CLASSES} - {REAL}]
    if thesis != (cell.row == THESIS) or not trained:
        return Ours(why="not planned: no classifier here is what the table requires")
    domains = CLASSES if cell.col == OVERALL else [str(cell.col)]
    return Ours(_tested(trained[0], domains), right(study) or IMAGE_RIGHT.key)


def right(study: Study) -> str | None:
    """Return the metric of a study's protocol that says of an image whether it is called what it is."""
    return next((one.key for one in (IMAGE_RIGHT, IMAGE_RECALL) if one.key in study.protocol.per_image), None)


def _fakes(group: Group) -> set[str]:
    counts = group.first.trial.spec.train.counts
    return {domain for domain, count in counts.items() if count and not dolos.is_real(domain)}


AXES: Mapping[tuple[str, str], Callable[[Study, PublishedTable], dict[str, Find]]] = {
    EXPOSURE: _curves,
    BUDGETS: _budgets,
    **dict.fromkeys(MATRICES, _models(_matrix)),
    DETECTION: _models(_detector),
    ATTRIBUTION: _models(_class),
    ("decoder_and_map", "split"): _models(_split),
    ("train_and_test_domain", "quantity"): _models(_same),
    ("held_out_test_domain", "quantity"): _models(_held_out),
    ("setup", "train_source/metric"): _models(_source),
    ("setup", "metric/method"): _models(_method),
    ("method", "test_set/metric"): _models(_unseen),
    ("model", "quantity"): _models(_mean),
}
"""Of the axes of each kind of published table: by name, what of ours may answer for its numbers."""
