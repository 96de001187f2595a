"""Validation IoU by epoch, as the ledger has it."""

from collections.abc import Sequence
from typing import NamedTuple

from dfloc.registry import WATCHED
from dfloc.report import captions
from dfloc.report.chart import COLOURS, DASHES, UNIT, Axis, Figure, Key, Lines, Mark, Panel, Series
from dfloc.report.groups import Study
from dfloc.report.models import Column, Model, best
from dfloc.report.results import Result

MAX_LINES, MAX_PANELS = 12, 12


class Line(NamedTuple):
    """The trainings of one colour: those of some data, over seeds and draws."""

    label: str
    results: Sequence[Result]


def figure(study: Study, found: Sequence[Model]) -> Figure:
    """Return a panel for each model and kind of training data, a line for each training.

    Where models have one training of a kind each, one panel has a line for each model.
    """
    drawn, used, labels = [], [], list[str]()
    for title, lines in _panels(study, found):
        lines = [line for line in lines if any(result.epochs for result in line.results)]
        if max((len(result.epochs) for line in lines for result in line.results), default=0) < 2:
            continue
        labels += [line.label for line in lines if line.label not in labels]
        used += [result for line in lines for result in line.results]
        drawn.append(_panel(title, lines, labels))
    random = captions.random_weights(used)
    return Figure(
        id="fig-epochs",
        title="Validation IoU by epoch.",
        caption="Each training on its own validation list (the mean IoU per image at 256 x 256); a ring marks the "
        "epoch whose weights are tested. Of more models than have room, those of highest validation IoU are drawn. "
        f"Trainings still under way stand as far as they are.{random}",
        panels=drawn,
        legend=[Key(label, _colour(labels, label), _dash(labels, label), "") for label in labels],
        numbers="trials",
    )


def _panels(study: Study, found: Sequence[Model]) -> list[tuple[str, list[Line]]]:
    by_kind: dict[str, list[tuple[Model, list[Column]]]] = {}
    for model in found:
        for part in model.parts:
            by_kind.setdefault(part.kind, []).append((model, list(part.columns)))
    panels = []
    for kind, each in by_kind.items():
        alone = len(each) > 1 and all(len(columns) == 1 for _, columns in each)
        kept = {id(model) for model in best(study, [model for model, _ in each], MAX_LINES if alone else MAX_PANELS)}
        shown = [(model, columns) for model, columns in each if id(model) in kept]
        if alone:
            name = f"Trained on {kind}: {shown[0][1][0].name}"
            panels.append((name, [Line(model.name, columns[0].group.results) for model, columns in shown]))
            continue
        for model, columns in shown:
            panels.append((f"{model.name}: {kind}", [Line(column.name, column.group.results) for column in columns]))
    return panels


def _panel(title: str, lines: Sequence[Line], labels: Sequence[str]) -> Panel:
    series, said = [], []
    for line in lines:
        for result in line.results:
            tested = result.done.best_epoch if result.done else None
            marks = [_mark(epoch.epoch, epoch.valid[WATCHED], tested) for epoch in result.epochs]
            colour, dash = _colour(labels, line.label), _dash(labels, line.label)
            series.append(Series(line.label, marks, colour, dash, width=1.8, size=4))
            if result.epochs:
                best = max(epoch.valid[WATCHED] for epoch in result.epochs)
                said.append(f"{line.label}: {best:.2f} in {len(result.epochs)} epochs")
    chart = Lines(series, Axis("epoch", counts=True), Axis("validation IoU", UNIT, (0, 1)))
    return Panel(title, chart, f"Best validation IoU: {'; '.join(said)}.")


def _mark(epoch: int, valid: float, tested: int | None) -> Mark:
    return (
        Mark(epoch, valid, None, "circle-open", ["its weights are tested"], 10)
        if epoch == tested
        else Mark(epoch, valid)
    )


def _colour(labels: Sequence[str], label: str) -> str:
    return COLOURS[labels.index(label) % len(COLOURS)]


def _dash(labels: Sequence[str], label: str) -> str:
    return DASHES[labels.index(label) // len(COLOURS) % len(DASHES)]
