"""Mean IoU against what is ordered (a layer, a depth), validation IoU by epoch, and all models in one ranking."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from dfloc.measures import MEASURED
from dfloc.report import captions
from dfloc.report.chart import (
    COLOURS,
    GREY,
    UNIT,
    Axis,
    Figure,
    LegendKey,
    Lines,
    Mark,
    Panel,
    Series,
    looks,
    mark,
    scale,
)
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Study
from dfloc.report.models import KINDS, MatrixColumn, Model, Part, best, case_of, parts, settings
from dfloc.report.results import Result
from dfloc.report.words import counted, named

DASH = {"in-domain": "solid", "out-of-domain": "dot"}
SHAPES = ("circle", "square", "diamond", "triangle-up")
MARKER = {"in-domain": "circle", "out-of-domain": "circle-open"}
KEYS = [LegendKey("in-domain (ID)", GREY), LegendKey("out-of-domain (OOD)", GREY, "dot", "circle-open")]
AT = " (the mean IoU per image at 256 x 256)"
MAX_LINES, MAX_PANELS = 12, 12  # of a figure of epochs


class AxisPlace(NamedTuple):
    """Where a part stands in a figure of one axis."""

    panel: str
    line: str
    x: float
    part: Part


def trends(study: Study, found: Sequence[Model]) -> list[Figure]:
    """Return a figure for each axis whose values have an order and whose stage has two of them or more."""
    names = dict.fromkeys(axis for model in found for part in model.parts for axis in settings(part.groups[0]))
    figures = [_trend(study, found, axis) for axis in names]
    return [figure for figure in figures if figure.panels]


def ranking(study: Study, found: Sequence[Model]) -> Figure:
    """Return every model's mean IoU in and out of domain with its interval, ranked by validation IoU."""
    drawn, used = [], []
    for kind, block in parts(study, found).items():
        means = [(part, {words: part.mean(study, which) for words, which in KINDS.items()}) for part in block]
        there = [(part, each) for part, each in means if any(each.values())]
        if there:
            used += [group for part, _ in there for group in part.groups]
            words = "; ".join(f"{part.model.name}: {_said(each)}" for part, each in there)
            drawn.append(Panel(f"Trained on {kind}", _dots(there, study), f"Ranked by validation: {words}."))
    return Figure(
        id="fig-models",
        title=f"Models, ranked by validation {study.measure}.",
        caption=f"Mean test {study.first.word} over the cells in and out of domain, the model of highest validation "
        f"{study.measure} on top (its validation {study.measure} is the grey tick).",
        source=captions.provenance(study, used),
        panels=drawn,
        legend=[*KEYS, LegendKey(f"validation {study.measure}", GREY, "", "tick")],
        numbers="models",
    )


def _trend(study: Study, found: Sequence[Model], axis: str) -> Figure:
    places = [place for model in found for part in model.parts if (place := _place(part, axis))]
    by_panel: dict[str, dict[str, list[AxisPlace]]] = {}
    for place in places:
        by_panel.setdefault(place.panel, {}).setdefault(place.line, []).append(place)
    layers = any(isinstance(place.part.groups[0].axes[axis], str) for place in places)
    name = "layer" if layers else axis.rpartition(".")[2]
    drawn, used = [], []
    styles = _styles(list(dict.fromkeys(place.line for place in places)))
    for panel, by_line in by_panel.items():
        if max(len({place.x for place in line}) for line in by_line.values()) < 2:
            continue
        series, said = list[Series](), []
        for label, line in by_line.items():
            line.sort(key=lambda place: place.x)
            used += [group for place in line for group in place.part.groups]
            both = _line(study, label, line, styles[label])
            said.append(f"{label or panel}: {_spelled(both)}")
            series += both.values()
        drawn.append(Panel(panel, Lines(series, Axis(name), scale(study.first, "mean test")), " ".join(said)))
    keys = [LegendKey(line, colour, "solid", shape) for line, (colour, shape) in styles.items() if line]
    return Figure(
        id=f"fig-by-{re.sub('[^a-z0-9]+', '-', axis.lower())}",
        title=f"Mean test {study.first.word} by {name}.",
        caption="Means over the cells in and out of domain.",
        source=captions.provenance(study, used),
        panels=drawn,
        legend=[*keys, *KEYS],
        numbers="models",
    )


def _place(part: Part, axis: str) -> AxisPlace | None:
    group = part.groups[0]
    value = group.axes.get(axis)
    rest = [named(name, group.axes[name]) for name in settings(part.groups[0]) if name != axis]
    if isinstance(value, int | float):
        return AxisPlace(_head(group, part), ", ".join(rest), float(value), part)
    layer = re.fullmatch(r"(.*?)/?layer(\d+)", value) if isinstance(value, str) else None
    if layer is None:
        return None
    return AxisPlace(
        ", ".join([layer[1], part.kind]), ", ".join(filter(None, [case_of(group), *rest])), float(layer[2]), part
    )


def _head(group: Group, part: Part) -> str:
    return ", ".join(filter(None, [group.stage, case_of(group), part.kind]))


def _styles(lines: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the colour and marker of each line: another marker where the colours begin anew."""
    return {
        line: (COLOURS[place % len(COLOURS)], SHAPES[place // len(COLOURS) % len(SHAPES)])
        for place, line in enumerate(lines)
    }


def _line(study: Study, label: str, line: Sequence[AxisPlace], look: tuple[str, str]) -> dict[str, Series]:
    """Return the means in and out of domain along one line of places."""
    both = {}
    for words, which in KINDS.items():
        points = [(place, found) for place in line if (found := place.part.mean(study, which))]
        marks = [mark(place.x, found, [place.part.model.name]) for place, found in points]
        name = ", ".join(filter(None, [label, words]))
        colour, shape = look
        both[words] = Series(name, marks, colour, DASH[words], MARKER[words].replace("circle", shape))
    return both


def _spelled(both: dict[str, Series]) -> str:
    said = [
        f"{words} " + ", ".join(f"{point.x:g}: {point.value:.2f}" for point in series.marks)
        for words, series in both.items()
    ]
    return "; ".join(said) + "."


def _dots(means: Sequence[tuple[Part, dict[str, Estimate | None]]], study: Study) -> Lines:
    """Return a row for each model: its means, their intervals, and its validation IoU."""
    names = {float(place): part.model.name for place, (part, _) in enumerate(means)}
    valid = [Mark(place, part.valid) for place, (part, _) in enumerate(means) if part.valid is not None]
    series = [Series(f"validation {study.measure}", valid, "#999999", "", "tick", size=12)]
    for words in KINDS:
        there = [(place, found) for place, (_, each) in enumerate(means) if (found := each[words])]
        marks = [mark(place, found) for place, found in there]
        series.append(Series(words, marks, COLOURS[0], "", MARKER[words], size=9))
    return Lines(series, scale(study.first, ""), Axis("Model", names), sideways=True)


def _said(each: dict[str, Estimate | None]) -> str:
    return ", ".join(f"{words} {found.value:.2f}" for words, found in each.items() if found)


Course = Mapping[int, float]  # what validation measures first, by epoch


def _course(study: Study, result: Result) -> Course:
    """Return that of a training; empty where its task measures another thing than the study's."""
    key = MEASURED[study.task][0]
    return {epoch.epoch: epoch.valid[key] for epoch in result.epochs if key in epoch.valid}


class EpochLine(NamedTuple):
    """The trainings of one colour: those of some data, over seeds and draws."""

    label: str
    results: Sequence[Result]


def epochs(study: Study, found: Sequence[Model]) -> Figure:
    """Return a panel for each model and kind of training data, a line for each training.

    Where models have one training of a kind each, one panel has a line for each model.
    """
    drawn, used, labels, course = [], [], list[str](), partial(_course, study)
    for title, lines in _trained(study, found):
        lines = [line for line in lines if any(map(course, line.results))]
        if max((len(course(result)) for line in lines for result in line.results), default=0) < 2:
            continue
        labels += [line.label for line in lines if line.label not in labels]
        used += [result for line in lines for result in line.results]
        drawn.append(_epochs(title, lines, labels, study.measure, course))
    random = captions.random_weights(used)
    return Figure(
        id="fig-epochs",
        title=f"Validation {study.measure} by epoch.",
        caption=f"Each training on its own validation list{AT if study.measure == 'IoU' else ''}; a ring marks the "
        "epoch whose weights are tested. Of more models than have room, those of highest validation "
        f"{study.measure} are drawn. "
        f"Trainings still under way stand as far as they are.{random}",
        panels=drawn,
        legend=[LegendKey(label, *looks(labels)[label], "") for label in labels],
        numbers="trials",
    )


def _trained(study: Study, found: Sequence[Model]) -> list[tuple[str, list[EpochLine]]]:
    by_kind: dict[str, list[tuple[Model, list[MatrixColumn]]]] = {}
    for model in found:
        for part in model.parts:
            by_kind.setdefault(part.kind, []).append((model, list(part.columns)))
    panels = []
    for kind, each in by_kind.items():
        alone = len(each) > 1 and all(len(columns) == 1 for _, columns in each)
        kept = {id(model) for model in best(study, [model for model, _ in each], MAX_LINES if alone else MAX_PANELS)}
        shown = [(model, columns) for model, columns in each if id(model) in kept]
        if alone:
            data = {columns[0].name for _, columns in shown}
            name = f"Trained on {kind}: {data.pop()}" if len(data) == 1 else f"Trained on {kind}"
            panels.append((name, [EpochLine(model.name, columns[0].group.results) for model, columns in shown]))
            continue
        for model, columns in shown:
            panels.append(
                (f"{model.name}: {kind}", [EpochLine(column.name, column.group.results) for column in columns])
            )
    return panels


def _epochs(
    title: str, lines: Sequence[EpochLine], labels: Sequence[str], measure: str, course: Callable[[Result], Course]
) -> Panel:
    series, said = [], []
    for line in lines:
        for result in line.results:
            tested = result.done.best_epoch if result.done else None
            values = course(result)
            marks = [_epoch(number, value, tested) for number, value in values.items()]
            series.append(Series(line.label, marks, *looks(labels)[line.label], width=1.8, size=4))
            if values:
                said.append(f"{line.label}: {max(values.values()):.2f} in {counted(len(values), 'epoch')}")
    chart = Lines(series, Axis("epoch", counts=True), Axis(f"validation {measure}", UNIT, (0, 1)))
    return Panel(title, chart, f"Best validation {measure}: {'; '.join(said)}.")


def _epoch(epoch: int, valid: float, tested: int | None) -> Mark:
    return (
        Mark(epoch, valid, None, "circle-open", ["its weights are tested"], 10)
        if epoch == tested
        else Mark(epoch, valid)
    )
