"""The tables of models: every cell of train x test, models ranked by validation, and what else was measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from dfloc.config import TrialSpec
from dfloc.metrics.metric import F1_CHOSEN, FALSE_ALARM, POOLED_IOU, Metric
from dfloc.report import captions, cells, differs, false_alarms, recipe, table
from dfloc.report.cells import is_not_above
from dfloc.report.controls import besides
from dfloc.report.exposure import SHORT_BASELINES
from dfloc.report.groups import Group, Study
from dfloc.report.models import (
    MatrixColumn,
    Model,
    Part,
    Which,
    every,
    foreign,
    heads,
    known,
    narrow,
    parts,
    unknown,
    wide,
)
from dfloc.report.score import Score
from dfloc.report.table import DASH, STRONG, Cell, Table

MEANS: Mapping[str, Which] = {"ID": known, "OOD": unknown, "All": every}
TOLD = (  # fields that have a column, or stand below one
    *("maps", "decoder", "loss", "augment", "optimizer", "precision"),
    *("batch", "schedule", "select", "epochs", "epoch_steps", "train"),
)
CHOICE = (
    " The validation threshold is the one whose mean F1 is best on the training's own validation images; IoU by mask "
    "area has a table of its own."
)
POOLED = " Pooled IoU counts all pixels of a test set together, then takes the mean over cells."
ALARM = " False-alarm area: share of a source image without a fake that is called fake, mean over all of them."
PATH_ONLY = "random weights: path only, numbers mean nothing"
KNOWN = f"In-domain cells are {STRONG}: the model was trained on the test domain's family."

Settings = Mapping[str, Callable[[TrialSpec], str]]
Tested = tuple[Model, str]  # and a test domain
Trained = tuple[Model, MatrixColumn]

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
    columns: list[table.Column[Tested]] = [
        table.Column("Model", lambda row: name(row[0]), words=True),
        table.Column("Test domain", lambda row: Cell(row[1]), words=True),
        *(_trained(study, head) for head in heads(shown)),
        *(_scale(study, words, group) for words, group in _baselines(study).items()),
    ]
    reals = [false_alarms.HEAD] if false_alarms.scored(study) else []
    blocks = [[(model, domain) for domain in (*study.tested, *study.extra, *reals)] for model in shown]
    return Table(
        id="train-test",
        title=f"Test {study.first.word} by training data and test domain.",
        caption=f"Rows: test domain; columns: training data. {KNOWN}{_sources(study, shown)}",
        source=[*captions.provenance(study, _groups(shown)), *false_alarms.source(study)],
        columns=columns,
        rows=table.rows(columns, blocks),
        best="row",
    )


def tested(study: Study, found: Sequence[Model]) -> Table:
    """Return every cell of models that are trained on the same: rows are models, columns test domains."""
    shown = narrow(found)
    columns: list[table.Column[Trained]] = [
        table.Column("Model", lambda row: name(row[0]), words=True),
        table.Column("Trained on", lambda row: Cell(row[1].name), words=True),
        *map(_on, (*study.tested, *study.extra)),
        *false_alarms.columns(study, lambda row: [row[1].group]),
    ]
    solved = [
        {"Model": Cell(words)}
        | {name: cells.score(group, [name]) for name in (*study.tested, *study.extra)}
        | false_alarms.of_baseline(study, group)
        for words, group in _baselines(study).items()
        if shown
    ]
    used = [column.group for block in shown.values() for _, column in block]
    return Table(
        id="tested",
        title=f"Test {study.first.word} of models that are trained on the same.",
        caption=f"Columns: test domain. {KNOWN}",
        source=[*captions.provenance(study, used), *false_alarms.source(study)],
        columns=columns,
        rows=[*table.rows(columns, shown.values()), *(table.baseline(columns, each) for each in solved)],
    )


def ranked(study: Study, found: Sequence[Model]) -> Table:
    """Return a row for each model and kind of training data, ranked by validation IoU."""
    specs, blocks = [model.spec for model in found], list(parts(study, found).values())
    own = {label: words for label, words in SHARED.items() if len({words(spec) for spec in specs}) > 1}
    same = ", ".join(f"{label.lower()} {words(specs[0])}" for label, words in SHARED.items() if label not in own)
    columns = [
        *PART,
        _valid(study.measure, [chosen(study, block) for block in blocks]),
        *(_mean(study, blocks, *each) for each in MEANS.items()),
        *false_alarms.columns(study, lambda part: part.groups),
        *_settings(study, own),
        table.Column[Part]("Images/s", lambda part: _amount(part.images_per_second), small=True),
        table.Column[Part]("Hours", lambda part: _amount(part.hours), small=True),
    ]
    none = Cell(DASH, mark="hole")
    above = " above all fake" if study.protocol.reads == "map" else ""
    solved = [
        {"Model": Cell(words), f"Valid. {study.measure}": table.number(group.valid), "ID": none, "OOD": none}
        | {"All": cells.score(group, study.tested)}
        | false_alarms.of_baseline(study, group)
        for words, group in captions.solved(study).items()
    ]
    return Table(
        id="models",
        title=f"Models, ranked by validation {study.measure}.",
        caption=f"ID: mean test {study.first.word} over the cells whose test domain's family was trained on; OOD: "
        "over the others; rows between two rules are of one kind of training data, ranked by the mean "
        f"validation {study.measure} of the trainings, of the runs that all of them have, as are their means; "
        f"its best{above} is {STRONG}, and an oracle is the best test number, which nobody could choose. "
        "Parameters and convolutions are counted on the decoder as it is built."
        f"{_mixed(study, found)} The same for all: {same}.{_also(study, found)}",
        source=[*captions.provenance(study, _groups(found)), *false_alarms.source(study)],
        columns=columns,
        rows=[*table.rows(columns, blocks), *(table.baseline(columns, each) for each in solved)],
        notes=_unknown_sizes(found),
        trials=captions.trials(_groups(found)),
    )


def measured(study: Study, found: Sequence[Model]) -> Table:
    """Return what else the protocol measures, in and out of domain, and numbers of a whole test set."""
    first, *others = study.shown
    maps = study.protocol.reads == "map"
    images = [metric for metric in others if not metric.of_set and (maps or _has(study, metric))]
    sets = [metric for metric in others if metric.of_set and (metric == POOLED_IOU or _has(study, metric))]
    chosen, alarms = F1_CHOSEN in sets, FALSE_ALARM in sets
    shown = [*((metric.label, metric) for metric in images)]
    shown += [(f"{first.label} per image", first)] if maps else []
    shown += [(metric.label, metric) for metric in sets if metric != FALSE_ALARM]
    alarm = partial(Score.number, metric=FALSE_ALARM)
    columns = [
        replace(PART[0], cell=lambda part: name(part.model)),
        replace(PART[1], cell=lambda part: Cell(part.kind)),
        *(_over(study, f"{label}, {mean}", metric, MEANS[mean]) for label, metric in shown for mean in ("ID", "OOD")),
    ]
    if alarms:
        columns.append(table.Column(FALSE_ALARM.label, lambda part: table.number(part.everywhere(study, alarm))))
    return Table(
        id="measures-models",
        title="Other measures of the same models.",
        caption="Means over the same cells as above, best epoch, in the same order."
        f"{POOLED if POOLED_IOU in sets else ''}{CHOICE if chosen else ''}{ALARM if alarms else ''}"
        f"{_mixed(study, found)}",
        source=captions.provenance(study, _groups(found)),
        columns=columns,
        rows=table.rows(columns, parts(study, found).values()),
        notes=captions.baseline_note(study),
    )


def _has(study: Study, metric: Metric) -> bool:
    return any(score.number(metric) is not None for score in study.results.scores())


def name(model: Model) -> Cell:
    """Return the head of a model's row; numbers of random weights are marked."""
    head = cells.name(model.name, model.groups)
    random = any(result.path_only for group in model.groups for result in group.results)
    return head.noted(PATH_ONLY if random else "")


def _baselines(study: Study) -> dict[str, Group]:
    names = [*SHORT_BASELINES, "prior"]
    return {words: group for short in names for words, group in captions.baselines(study, short).items()}


def chosen(study: Study, block: Sequence[Part]) -> Part | None:
    """Return the best of some ranked parts by validation: the first that is above all fake on the test domains."""
    there = (part for part in block if part.valid is not None)
    return next((part for part in there if not is_not_above(part.cells(study, every))), None)


def _part(part: Part) -> Cell:
    sizes = [group.first.trial.spec.train.size for group in part.groups]
    each = " … ".join(f"{size:,}" for size in sorted(set(sizes)))
    return Cell(part.kind, f"{len(sizes)} x {each} images" if len(sizes) > 1 else f"{each} images")


PART = (
    table.Column[Part]("Model", lambda part: name(part.model), words=True),
    table.Column[Part]("Trained on", _part, words=True),
)


def _trained(study: Study, head: str) -> table.Column[Tested]:
    """Return the scores of a training of each model, marked where it knows the test domain."""

    def cell(row: Tested) -> Cell:
        model, domain = row
        column = model.column(head)
        if column and domain == false_alarms.HEAD:
            return false_alarms.cell(study, [column.group])
        return _score(column, domain) if column else Cell("not planned", mark="hole")

    return table.Column(head, cell)


def _on(domain: str) -> table.Column[Trained]:
    return table.Column(domain, lambda row: _score(row[1], domain))


def _score(column: MatrixColumn, domain: str) -> Cell:
    cell = cells.score(column.group, [domain])
    return replace(cell, mark=cell.mark or ("strong" if column.knows(domain) else ""))


def _scale(study: Study, words: str, group: Group) -> table.Column[Tested]:
    def cell(row: Tested) -> Cell:
        reals = row[1] == false_alarms.HEAD
        return false_alarms.cell(study, [group]) if reals else cells.score(group, [row[1]])

    return table.Column(words, cell, muted=True)


def _valid(measure: str, strong: Sequence[Part | None]) -> table.Column[Part]:
    def cell(part: Part) -> Cell:
        found = cells.valid(part.groups)
        return replace(found, mark="strong") if part in strong else found

    return table.Column(f"Valid. {measure}", cell)


def _mean(study: Study, blocks: Sequence[Sequence[Part]], head: str, which: Which) -> table.Column[Part]:
    """Return the means over some cells; the best of each block, if nothing speaks against it, is an oracle."""
    means = {part: part.mean(study, which) for block in blocks for part in block}
    oracles: set[Part] = set()
    for block in (block for block in blocks if len(block) > 1):
        if values := [found.value for part in block if (found := means[part])]:
            best = study.first.best(values)
            oracles |= {part for part in block if (found := means[part]) and found.value == best}

    def cell(part: Part) -> Cell:
        of = part.cells(study, which)
        found = cells.mean(means[part], part.hole if of else DASH, of)
        return found.noted("oracle") if part in oracles and not found.mark else found

    return table.Column(head, cell)


def _over(study: Study, head: str, metric: Metric, which: Which) -> table.Column[Part]:
    value = partial(Score.number, metric=metric)
    return table.Column(head, lambda part: table.number(part.over(study, which, value)))


def _settings(study: Study, own: Settings) -> list[table.Column[Part]]:
    def told(label: str, words: Callable[[TrialSpec], str]) -> table.Column[Part]:
        return table.Column(label, lambda part: Cell(words(_spec(part))), words=True, small=True)

    def epochs(part: Part) -> str:
        return " … ".join(dict.fromkeys(recipe.epochs(group.first.trial.spec) for group in part.groups))

    return [
        told("Maps", lambda spec: recipe.maps(spec) or "pixels"),
        table.Column(
            "Decoder", lambda part: Cell(recipe.decoder(_spec(part)), recipe.plan(_spec(part))), words=True, small=True
        ),
        table.Column("Parameters trained", _parameters, small=True),
        table.Column("Convolutions", _convolutions, small=True),
        *(told(label, words) for label, words in own.items()),
        replace(told("Batch", lambda spec: str(spec.batch)), words=False),
        told("Schedule", lambda spec: spec.schedule.called),
        told("Selection", lambda spec: recipe.SELECTIONS[spec.select]),
        told("Initialisation", lambda spec: recipe.start(spec, study.record.weights)),
        table.Column("Epochs", lambda part: Cell(epochs(part)), words=True, small=True),
    ]


def _spec(part: Part) -> TrialSpec:
    return part.groups[0].first.trial.spec


def _parameters(part: Part) -> Cell:
    size = recipe.size(_spec(part))
    return Cell(f"{size.parameters:,}", exact=(size.parameters,)) if size else Cell("unknown", mark="hole")


def _convolutions(part: Part) -> Cell:
    size = recipe.size(_spec(part))
    return Cell(str(size.convolutions)) if size else Cell("unknown", mark="hole")


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
    return f" Also where its source images are of another dataset ({others})." if others else ""


def _mixed(study: Study, found: Sequence[Model]) -> str:
    """Return a sentence where a mean over in-domain cells mixes trainings on several sources of photographs."""
    others = ", ".join(foreign(study, [column for model in found for column in model.columns]))
    return (
        f" A family is a generator's, whatever the source images: the mean ID is also over trainings on {others}; the "
        "cells above tell the sources apart."
        if others
        else ""
    )
