"""Who made it: what the images of each class are called, and the recall of each class beside published ones."""

from collections.abc import Mapping, Sequence

from dfloc.metrics import image_rows
from dfloc.metrics.image_rows import Called
from dfloc.metrics.metric import IMAGE_MACRO_AP, Metric
from dfloc.report import captions, cells, table
from dfloc.report.address import ATTRIBUTION
from dfloc.report.cells import ONE_CLASS
from dfloc.report.chart import (
    COLOURS,
    GREY,
    Axis,
    Figure,
    Heat,
    LegendKey,
    Lines,
    Mark,
    Panel,
    Series,
    Tile,
    mark,
    scale,
)
from dfloc.report.formulas.numbers import OVERALL
from dfloc.report.groups import Group, Study
from dfloc.report.models import Model, best
from dfloc.report.place import Pair, quoted
from dfloc.report.ranking import Trained, name
from dfloc.report.table import STRONG, Cell, Column, Table

MAX_PANELS = 12
MEAN = "mean of all"
OWN = LegendKey("its own class", "#111111", "", "frame")


def confusion(study: Study, found: Sequence[Model]) -> Figure:
    """Return a heat map for each training: rows are true classes, columns what they are called."""
    shown = [one for one in _trained(study, best(study, found, MAX_PANELS)) if called(one[1].group)][:MAX_PANELS]
    left = len(_trained(study, found)) - len(shown)
    fewer = f" {left} more are in the table alone." if left else ""
    return Figure(
        id="fig-confusion",
        title="What the images of each class are called.",
        caption="One panel for each model, that of highest validation "
        f"{study.measure} first, best epoch, all trainings together. A row is all test images of a class and sums to "
        "1: white is 0, dark blue is 1. A frame: its own class, whose share is its recall. A class that the model does "
        f"not tell apart has no frame: it can only be called as others are. COLLAPSED: {ONE_CLASS}.{fewer}",
        source=captions.provenance(study, [column.group for _, column in shown]),
        panels=[_confused(model, column.group) for model, column in shown],
        legend=[OWN],
        numbers="classes",
    )


def recalls(study: Study, found: Sequence[Model], published: Sequence[Pair] = ()) -> Figure:
    """Return the recall of each class with its interval, a panel for each model, beside the published ones."""
    there = [pair for pair in published if pair.table.axes == ATTRIBUTION and pair.matched]
    shown = _trained(study, best(study, found, MAX_PANELS))[:MAX_PANELS]
    keys = [LegendKey("ours", COLOURS[0], ""), LegendKey("share of each class", GREY, "", "tick")]
    keys += [LegendKey("published, as context", COLOURS[1], "", "diamond-open")] if there else []
    return Figure(
        id="fig-recall",
        title="Recall of each class.",
        caption=f"One panel for each model, and the mean of all classes below. {quoted(study, there)}",
        source=captions.provenance(study, [column.group for _, column in shown]),
        panels=[_recalls(study, model, column.group, there) for model, column in shown],
        legend=keys,
        numbers="classes",
    )


def classes(study: Study, found: Sequence[Model]) -> Table:
    """Return the recall of each class, their mean, and what else is said of all classes together."""
    columns: list[Column[Trained]] = [
        Column("Model", lambda one: name(one[0]), words=True),
        Column("Trained on", lambda one: Cell(one[1].name), words=True, small=True),
        Column(f"Valid. {study.measure}", lambda one: table.number(one[1].group.valid)),
        *(_recall(study, head, [domain]) for head, domain in _heads(study).items()),
        _recall(study, "Mean recall", study.tested),
        *(_whole(metric) for metric in (IMAGE_MACRO_AP,)),
        Column("Most often confused", lambda one: Cell(confused(one[1].group)), words=True, small=True),
    ]
    shown = _trained(study, found)
    solved = [
        {"Model": Cell(words)}
        | {head: cells.score(group, [domain]) for head, domain in _heads(study).items()}
        | {"Mean recall": cells.score(group, study.tested), IMAGE_MACRO_AP.label: _together(group, IMAGE_MACRO_AP)}
        for words, group in captions.solved(study).items()
    ]
    return Table(
        id="classes",
        title="Recall of each class.",
        caption="Recall: the share of a class's test images that are called so. Mean recall: each test list weighs the "
        "same, reals too; with one list a class it is the balanced accuracy. Macro AP: the mean over classes of "
        f"average precision, one against the rest. The highest mean recall is {STRONG}; rows are ranked by validation "
        f"{study.measure}.",
        source=captions.provenance(study, [column.group for _, column in shown]),
        columns=columns,
        rows=[*table.rows(columns, [shown]), *(table.baseline(columns, each) for each in solved)],
        best="column",
        trials=captions.trials(column.group for _, column in shown),
    )


def called(group: Group) -> Called | None:
    """Return what the test images of each class are called by a group's trainings together; None: none is scored."""
    scores = (score for result in group.scored for score in result.best.values())
    return image_rows.together(score.called for score in scores if score.called)


def confused(group: Group) -> str:
    """Return the two classes of which most images of one are called the other, with the share; empty: none are."""
    found = called(group)
    if found is None:
        return ""
    shares = found.counts / found.counts.sum(1, keepdims=True)
    wrong = {
        (true, other): float(shares[i, j])
        for i, true in enumerate(found.true)
        for j, other in enumerate(found.called)
        if true != other and shares[i, j]
    }
    pair = max(wrong, key=lambda each: wrong[each], default=None)
    return f"{pair[0]} called {pair[1]} ({100 * wrong[pair]:.0f} %)" if pair else ""


def _trained(study: Study, found: Sequence[Model]) -> list[Trained]:
    """Return every training of some models, that of highest validation first."""

    def rank(one: Trained) -> float:
        valid = one[1].group.valid
        return -1.0 if valid is None else valid

    return sorted(((model, column) for model in found for column in model.columns), key=rank, reverse=True)


def _confused(model: Model, group: Group) -> Panel:
    found = called(group)
    assert found is not None
    tiles = [
        [
            _tile(int(count), int(line.sum()), framed=true == other)
            for other, count in zip(found.called, line, strict=True)
        ]
        for true, line in zip(found.true, found.counts, strict=True)
    ]
    rows = [true if true in found.called else f"{true} (no class)" for true in found.true]
    said = "; ".join(
        f"{row} called " + ", ".join(f"{other} {tile.text}" for other, tile in zip(found.called, line, strict=True))
        for row, line in zip(rows, tiles, strict=True)
    )
    title = f"{model.name}: {group.collapsed}" if group.collapsed else model.name
    return Panel(title, Heat(rows, found.called, tiles, "called", "true class", "share"), f"{said}.")


def _tile(count: int, whole: int, *, framed: bool) -> Tile:
    return Tile(count / whole, f"{count / whole:.2f}", [f"{count:,} of {whole:,} images"], framed)


def _heads(study: Study) -> Mapping[str, str]:
    """Return the test lists by what heads them: their class where it has one alone."""
    short = [domain.partition("/")[2] for domain in study.tested]
    return {
        (each if short.count(each) == 1 else domain): domain for each, domain in zip(short, study.tested, strict=True)
    }


def _recall(study: Study, head: str, domains: Sequence[str]) -> Column[Trained]:
    return Column(head, lambda one: cells.score(one[1].group, domains))


def _whole(metric: Metric) -> Column[Trained]:
    return Column(metric.label, lambda one: _together(one[1].group, metric))


def _together(group: Group, metric: Metric) -> Cell:
    """Return the mean over trainings of a number of all classes together."""
    found = [result.together[metric.key] for result in group.scored if metric.key in result.together]
    return table.number(sum(found) / len(found) if found else None)


def _recalls(study: Study, model: Model, group: Group, published: Sequence[Pair]) -> Panel:
    places = {float(place): head for place, head in enumerate((*_heads(study), MEAN))}
    lists = [*([domain] for domain in _heads(study).values()), study.tested]
    found = {place: one for place, domains in enumerate(lists) if (one := group.score(domains))}
    solved = next(iter(captions.solved(study).values()), None)
    scale_ = [Mark(place, one.value) for place, of in enumerate(lists) if solved and (one := solved.score(of))]
    theirs = [pair for pair in published if any(of is group for of, _ in pair.place.cells)]
    series = [
        Series("share of each class", scale_, GREY, "", "tick", size=12),
        Series("ours", [mark(place, one) for place, one in found.items()], COLOURS[0], "", "circle", size=9),
        *_published(study, theirs),
    ]
    said = ", ".join(f"{places[place]} {one.value:.2f}" for place, one in found.items())
    chart = Lines(series, scale(study.first, ""), Axis("class", places), sideways=True)
    return Panel(model.name, chart, f"Recall: {said or 'not scored'}.")


def _published(study: Study, found: Sequence[Pair]) -> list[Series]:
    """Return the published recalls of a model, a series for each table."""
    place = {domain: row for row, domain in enumerate(study.tested)} | {OVERALL: len(study.tested)}
    by_table: dict[str, list[Mark]] = {}
    for pair in found:
        if str(pair.published.col) in place:
            at = place[str(pair.published.col)]
            by_table.setdefault(pair.table.id, []).append(Mark(at, pair.published.value, None, "", pair.told()))
    return [Series(name, marks, COLOURS[1], "", "diamond-open", size=8) for name, marks in by_table.items()]
