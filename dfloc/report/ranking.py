"""The tables of models: every cell of train x test, models ranked by validation, and what else was measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from dfloc.config import TrialSpec
from dfloc.metrics.metric import F1_CHOSEN, FALSE_ALARM, POOLED_IOU, Metric
from dfloc.report import captions, cells, differs, recipe, table
from dfloc.report.controls import besides
from dfloc.report.exposure import SHORT_BASELINES
from dfloc.report.groups import Group, Study
from dfloc.report.marks import is_not_above
from dfloc.report.models import Column, Model, Part, Which, every, foreign, heads, known, narrow, parts, unknown, wide
from dfloc.report.results import Score
from dfloc.report.table import DASH, Cell, Row, Table

MEANS: Mapping[str, Which] = {"ID": known, "OOD": unknown, "All": every}
RECIPE = ("Batch", "Schedule", "Selection", "Initialisation", "Epochs")
COSTS = ("Images/s", "Hours")
TOLD = (  # fields that have a column, or stand below one
    *("maps", "decoder", "loss", "augment", "optimizer", "precision"),
    *("batch", "schedule", "select", "epochs", "epoch_steps", "train"),
)
CHOICE = (
    " The validation threshold is the one whose mean F1 is best on the training's own validation images; IoU by mask "
    "area has a table of its own."
)
ALARM = " False-alarm area: share of a photograph without a fake that is called fake, mean over all of them."
PATH_ONLY = "random weights: path only, numbers mean nothing"
BOLD = "In-domain cells are set in bold: the model was trained on the test domain's family."

Settings = Mapping[str, Callable[[TrialSpec], str]]

# Settings that have a column of their own where models differ in them, and stand in the caption where they do not.
SHARED: Settings = {
    "Input": lambda spec: recipe.inputs(spec.maps[0]),
    "Loss": lambda spec: recipe.loss(spec.loss),
    "Augmentation": lambda spec: recipe.augment(spec.augment),
    "Optimizer": recipe.optimizer,
    "Precision": lambda spec: spec.precision,
}


def crossed(study: Study, found: Sequence[Model]) -> Table:
    """Return every cell of the models with a matrix: rows are test domains, columns training data."""
    shown = wide(found)
    columns, rows = heads(shown), []
    baseline = _baselines(study)
    for model in shown:
        for place, domain in enumerate([*study.tested, *study.extra]):
            line = [name(model), Cell(domain)]
            line += [_cell(model.column(head), domain) for head in columns]
            line += [cells.score(group, [domain]) for group in baseline.values()]
            rows.append(Row(line, starts=place == 0))
    return Table(
        id="train-test",
        title=f"Test {study.first.label} by training data and test domain.",
        caption=f"Rows: test domain; columns: training data. {BOLD}{_sources(study, shown)} "
        f"{captions.provenance(study, _groups(shown))}",
        columns=["Model", "Test domain", *columns, *baseline],
        rows=rows,
        words=(0, 1),
        across=range(2, 2 + len(columns)),
    )


def tested(study: Study, found: Sequence[Model]) -> Table:
    """Return every cell of models that are trained on the same: rows are models, columns test domains."""
    domains = [*study.tested, *study.extra]
    shown, rows = narrow(found), []
    for training, block in shown.items():
        for place, (model, column) in enumerate(block):
            line = [name(model), Cell(training), *(_cell(column, domain) for domain in domains)]
            rows.append(Row(line, starts=place == 0))
    for words, group in _baselines(study).items() if shown else ():
        rows.append(Row([Cell(words), Cell(""), *(cells.score(group, [domain]) for domain in domains)], muted=True))
    used = [column.group for block in shown.values() for _, column in block]
    return Table(
        id="tested",
        title=f"Test {study.first.label} of models that are trained on the same.",
        caption=f"Columns: test domain. {BOLD} {captions.provenance(study, used)}",
        columns=["Model", "Trained on", *domains],
        rows=rows,
        words=(0, 1),
    )


def ranked(study: Study, found: Sequence[Model]) -> Table:
    """Return a row for each model and kind of training data, ranked by validation IoU."""
    specs = [model.spec for model in found]
    own = {label: words for label, words in SHARED.items() if len({words(spec) for spec in specs}) > 1}
    same = ", ".join(f"{label.lower()} {words(specs[0])}" for label, words in SHARED.items() if label not in own)
    settings = ["Maps", "Decoder", "Parameters trained", "Convolutions", *own, *RECIPE]
    columns = ["Model", "Trained on", "Valid. IoU", *MEANS, *settings, *COSTS]
    rows = [row for block in parts(study, found).values() for row in _block(study, block, own)]
    for words, group in captions.solved(study).items():
        none = Cell(DASH, mark="hole")
        line = [Cell(words), Cell(""), table.number(group.valid), none, none, cells.score(group, study.tested)]
        rows.append(Row([*line, *[Cell("")] * len([*settings, *COSTS])], muted=True))
    return Table(
        id="models",
        title="Models, ranked by validation IoU.",
        caption=f"ID: mean test {study.first.label} over the cells whose test domain's family was trained on; OOD: "
        "over the others; rows between two rules are of one kind of training data, ranked by the mean "
        "validation IoU of the trainings, of the runs that all of them have, as are their means; "
        "its best above all fake is set in bold, and an oracle is the best test number, which nobody could choose. "
        "Parameters and convolutions are counted on the decoder as it is built."
        f"{_mixed(study, found)} The same for all: {same}.{_also(study, found)} "
        f"{captions.provenance(study, _groups(found))}",
        columns=columns,
        rows=rows,
        words=[0, 1, *(columns.index(head) for head in ("Maps", "Decoder", *own, *RECIPE[1:]))],
        notes=_unknown_sizes(found),
        trials=captions.trials(_groups(found)),
    )


def measured(study: Study, found: Sequence[Model]) -> Table:
    """Return what else the protocol measures, in and out of domain, and numbers of a whole test set."""
    first, *others = study.protocol.metrics
    images = [metric for metric in others if not metric.of_set]
    sets = [metric for metric in others if metric.of_set and (metric == POOLED_IOU or _has(study, metric))]
    chosen, alarms = F1_CHOSEN in sets, FALSE_ALARM in sets
    heads = {metric.label: metric for metric in images} | {f"{first.label} per image": first}
    heads |= {metric.label: metric for metric in sets if metric != FALSE_ALARM}
    values = {head: partial(Score.number, metric=metric) for head, metric in heads.items()}
    rows: list[Row] = []
    for block in parts(study, found).values():
        for place, part in enumerate(block):
            line = [name(part.model), Cell(part.kind)]
            line += [table.number(part.over(study, which, of)) for of in values.values() for which in (known, unknown)]
            line += [table.number(part.everywhere(study, partial(Score.number, metric=FALSE_ALARM)))] if alarms else []
            rows.append(Row(line, starts=place == 0))
    names = [f"{label}, {mean}" for label in values for mean in ("ID", "OOD")]
    return Table(
        id="measures-models",
        title="Other measures of the same models.",
        caption="Means over the same cells as above, best epoch, in the same order. Pooled IoU counts all pixels of a "
        f"test set together, then takes the mean over cells.{CHOICE if chosen else ''}{ALARM if alarms else ''}"
        f"{_mixed(study, found)} {captions.provenance(study, _groups(found))}",
        columns=["Model", "Trained on", *names, *([FALSE_ALARM.label] if alarms else [])],
        rows=rows,
        words=(0, 1),
        notes=captions.baseline_note(study),
    )


def _has(study: Study, metric: Metric) -> bool:
    return any(score.number(metric) is not None for score in study.results.scores())


def name(model: Model) -> Cell:
    """Return the head of a model's row; numbers of random weights are marked."""
    head = cells.name(model.name, model.groups)
    random = any(result.path_only for group in model.groups for result in group.results)
    return replace(head, small="; ".join(filter(None, [head.small, PATH_ONLY if random else ""])))


def _cell(column: Column | None, domain: str) -> Cell:
    if column is None:
        return Cell("not planned", mark="hole")
    cell = cells.score(column.group, [domain])
    return replace(cell, mark=cell.mark or ("strong" if column.knows(domain) else ""))


def _baselines(study: Study) -> dict[str, Group]:
    return {words: group for short in SHORT_BASELINES for words, group in captions.baselines(study, short).items()}


def _block(study: Study, block: Sequence[Part], own: Settings) -> list[Row]:
    means = {mean: [part.mean(study, which) for part in block] for mean, which in MEANS.items()}
    values = {mean: [each.value for each in column if each] for mean, column in means.items()}
    best = {mean: study.first.best(each) for mean, each in values.items() if each}
    rows, first = [], chosen(study, block)
    for place, part in enumerate(block):
        valid = cells.valid(part.groups)
        numbers = [replace(valid, mark="strong") if part is first else valid]
        for mean, which in MEANS.items():
            found, of = means[mean][place], part.cells(study, which)
            cell = cells.mean(found, part.hole if of else DASH, of)
            oracle = "oracle" if len(block) > 1 and found and found.value == best[mean] and not cell.mark else ""
            numbers.append(replace(cell, small="; ".join(filter(None, [cell.small, oracle]))))
        costs = [_amount(part.images_per_second), _amount(part.hours)]
        rows.append(Row([*_head(part), *numbers, *_settings(study, part, own), *costs], starts=place == 0))
    return rows


def chosen(study: Study, block: Sequence[Part]) -> Part | None:
    """Return the best of some ranked parts by validation: the first that is above all fake on the test domains."""
    there = (part for part in block if part.valid is not None)
    return next((part for part in there if not is_not_above(part.cells(study, every))), None)


def _head(part: Part) -> list[Cell]:
    sizes = [group.first.trial.spec.train.size for group in part.groups]
    each = " … ".join(f"{size:,}" for size in sorted(set(sizes)))
    return [name(part.model), Cell(part.kind, f"{len(sizes)} x {each} images" if len(sizes) > 1 else f"{each} images")]


def _settings(study: Study, part: Part, own: Settings) -> list[Cell]:
    specs = [group.first.trial.spec for group in part.groups]
    spec, size = specs[0], recipe.size(specs[0])
    return [
        Cell(recipe.maps(spec) or "pixels"),
        Cell(recipe.decoder(spec), recipe.plan(spec)),
        Cell(f"{size.parameters:,}", exact=(size.parameters,)) if size else Cell("unknown", mark="hole"),
        Cell(str(size.convolutions)) if size else Cell("unknown", mark="hole"),
        *(Cell(words(spec)) for words in own.values()),
        Cell(str(spec.batch)),
        Cell(spec.schedule.called),
        Cell(recipe.SELECTIONS[spec.select]),
        Cell(recipe.start(spec, study.record.weights)),
        Cell(" … ".join(dict.fromkeys(recipe.epochs(each) for each in specs))),
    ]


def _amount(value: float | None) -> Cell:
    return Cell(f"{value:,.1f}" if value >= 10 else f"{value:.2g}", exact=(value,)) if value is not None else Cell(DASH)


def _groups(found: Sequence[Model]) -> list[Group]:
    return [group for model in found for group in model.groups]


def _unknown_sizes(found: Sequence[Model]) -> list[str]:
    there = all(recipe.size(model.spec) for model in found)
    return [] if there else ["unknown: the decoder's library or plug-in is not there where this page was built."]


def _also(study: Study, found: Sequence[Model]) -> str:
    """Return a sentence where models that are trained on the same differ in more than what has a column."""
    pairs = [
        (first.group, column.group)
        for block in parts(study, found).values()
        for part in block[1:]
        for column in part.columns
        if (first := block[0].model.column(column.name))
    ]
    words = differs.words(besides(pairs, TOLD))
    return f" The first of a block and the others also differ in {words}." if words else ""


def _sources(study: Study, found: Sequence[Model]) -> str:
    """Return a sentence where a model is trained on photographs of a source that is not tested on."""
    others = ", ".join(foreign(study, [column for model in found for column in model.columns]))
    return f" Also where its photographs are of another source ({others})." if others else ""


def _mixed(study: Study, found: Sequence[Model]) -> str:
    """Return a sentence where a mean over in-domain cells mixes trainings on several sources of photographs."""
    others = ", ".join(foreign(study, [column for model in found for column in model.columns]))
    return (
        f" A family is a generator's, whatever the photographs: the mean ID is also over trainings on {others}; the "
        "cells above tell the sources apart."
        if others
        else ""
    )
