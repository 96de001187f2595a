"""Every evaluation of a sweep, one a row, each number once: evaluations.csv, and the frame of notebooks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dfloc.metrics.alarms import ALARMS
from dfloc.metrics.metric import Metric
from dfloc.metrics.pointing import NUMBERS
from dfloc.report import explained, false_alarms
from dfloc.report.estimate import Estimate, pooled
from dfloc.report.groups import Study, run
from dfloc.report.results import Result, Results
from dfloc.report.roles import Role, roles
from dfloc.report.score import Score
from dfloc.report.table import csv_text
from dfloc.storage import Workspace
from dfloc.summary import relation

if TYPE_CHECKING:
    import pandas as pd

NONE = type(None)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A trial on one list of test images.

    Attributes:
        score: the rows that every view reads; None: the trial was not scored yet.
    """

    study: Study
    result: Result
    role: Role
    score: Score | None

    @cached_property
    def interval(self) -> Estimate | None:
        """The mean of the protocol's first metric with its interval; None where it has none."""
        found = pooled([run(self.result, [self.score])]) if self.score and not self.score.of_reals else None
        return found if found and found.known else None

    @property
    def in_domain(self) -> bool | None:
        """Whether the trial or an ancestor was trained on the domain's family; None: of reals, or nobody knows."""
        if self.score is None or self.score.of_reals:
            return None
        found = relation(self.result.trial.spec, self.score.spec.domain, self.study.record.families)
        return None if found == "unknown" else found == "in"


FrameColumn = tuple[str, Callable[[Evaluation], object]]


def read(studies: Sequence[Study]) -> list[Evaluation]:
    """Return every evaluation in the order of the plan; a trial without one has a row without numbers.

    Args:
        studies: of one record, one for each protocol (`by_protocol`).
    """
    return [
        Evaluation(study, result, role, score)
        for study in studies
        for result, role in zip(study.results.all, roles(study.record.trials, study.record.families), strict=True)
        for score in (*result.scores.values(),) or (None,)
    ]


def by_protocol(workspace: Workspace, study: Study) -> list[Study]:
    """Return what a page shows one after the other: a study of the trials and scores of each protocol, mostly one."""
    record = study.record
    if len(record.protocols) == 1:
        return [study]
    views = (record.by(protocol) for protocol in record.protocols)
    return [Study(view, Results(workspace, view)) for view in views]


def csv(studies: Sequence[Study]) -> str:
    """Return evaluations.csv: trial, axes, test domain and numbers, not rounded.

    An axis keeps its name; one that is called as another column is `axis_<name>`.
    """
    every = read(studies)
    fixed = {head for head, _ in (*_planned(), *_numbers(studies))}
    axes = dict[str, Callable[[Evaluation], object]]()
    for axis, cell in _axes(every):
        while axis in fixed or axis in axes:
            axis = f"axis_{axis}"
        axes[axis] = cell
    columns = [*_planned(), *axes.items(), *_numbers(studies)]
    return csv_text([[head for head, _ in columns], *([cell(one) for _, cell in columns] for one in every)])


def frame(studies: Sequence[Study]) -> "pd.DataFrame":
    """Return evaluations.csv with what each trial is in its study.

    A hole is NaN, among whole numbers and truths NA. An axis keeps its name; one that is called as another column is
    `axis_<name>`, or left out where it says no more than that column. `attrs` has the sweep, its title, and the domains
    that means run over.
    """
    import pandas as pd

    every = read(studies)
    fixed = [*_planned(), *_roles(), *_numbers(studies)]
    cells = {head: [cell(one) for one in every] for head, cell in fixed}
    for axis, cell in _axes(every):
        values = [cell(one) for one in every]
        while axis in cells and any(own not in (None, other) for own, other in zip(values, cells[axis], strict=True)):
            axis = f"axis_{axis}"
        cells.setdefault(axis, values)
    record = studies[0].record
    made = pd.DataFrame({head: pd.Series(values, dtype=_dtype(values)) for head, values in cells.items()})
    made.attrs = {"sweep": record.sweep, "title": record.title, "domains": list(studies[0].tested)}
    return made


def _dtype(values: Sequence[object]) -> str | None:
    """Return what keeps whole numbers and truths what they are where there are holes; None: what pandas takes."""
    kinds = {type(value) for value in values}
    if kinds == {NONE}:
        return "float64"
    return {frozenset([int, NONE]): "Int64", frozenset([bool, NONE]): "boolean"}.get(frozenset(kinds))


def _planned() -> list[FrameColumn]:
    return [("stage", lambda one: one.result.trial.stage), ("case", lambda one: one.result.trial.case)]


def _roles() -> list[FrameColumn]:
    return [
        ("role", lambda one: " ".join(sorted(one.role.kinds))),
        ("held_out", lambda one: one.role.held_out or None),
        ("n", lambda one: one.role.n),
        ("draw", lambda one: one.result.trial.repetition[0]),
        ("seed", lambda one: one.result.trial.repetition[1]),
        ("in_domain", lambda one: one.in_domain),
    ]


def _axes(every: Sequence[Evaluation]) -> list[FrameColumn]:
    axes = dict.fromkeys(axis for one in every for axis in one.result.trial.axes)
    return [_axis(axis) for axis in axes]


def _axis(axis: str) -> FrameColumn:
    return axis, lambda one: one.result.trial.axes.get(axis)


def _numbers(studies: Sequence[Study]) -> list[FrameColumn]:
    metrics = dict.fromkeys(metric for study in studies for metric in _measured(study))
    maps = any(study.protocol.reads == "map" for study in studies)
    firsts = dict.fromkeys(study.first.key for study in studies)
    reals = ALARMS.values() if any(map(false_alarms.scored, studies)) else ()
    return [
        ("state", lambda one: one.result.state),
        ("checkpoint", _of(lambda score: score.spec.checkpoint)),
        ("test_domain", _of(lambda score: score.spec.domain)),
        ("protocol", lambda one: one.study.record.protocol),
        ("num_images", _of(lambda score: score.num_images)),
        ("num_photographs", _of(lambda score: score.num_photographs)),
        *map(_number, metrics),
        *(column for first in firsts for column in _judged(first, maps=maps)),
        *map(_number, reals),
        *(LOOKS if any(map(explained.scored, studies)) else ()),
        *(KINDS if maps else [("image_threshold", _of(lambda score: score.of_set.get("image_threshold")))]),
        ("collapsed", lambda one: bool(one.result.collapsed) if one.score else None),
        ("steps", lambda one: one.result.trial.spec.steps),
        ("train_images", lambda one: one.result.trial.spec.train.size),
        ("trial", lambda one: one.result.trial.fingerprint),
        ("evaluation", _of(lambda score: score.spec.key)),
    ]


def _measured(study: Study) -> list[Metric]:
    """Return what stands in a row: of maps what is of images, of images as a whole what their page shows."""
    return [*study.protocol.per_image.values()] if study.protocol.reads == "map" else [*study.shown]


def _number(metric: Metric) -> FrameColumn:
    return metric.key, _of(lambda score: score.number(metric))


def _judged(first: str, *, maps: bool) -> list[FrameColumn]:
    """Return the ends of the interval of a protocol's first metric, and what calling every pixel fake scores."""

    def of(cell: Callable[[Evaluation], object]) -> Callable[[Evaluation], object]:
        return lambda one: cell(one) if one.study.first.key == first else None

    return [
        (f"{first}_low", of(lambda one: one.interval and one.interval.low)),
        (f"{first}_high", of(lambda one: one.interval and one.interval.high)),
        *([(f"{first}_all_fake", of(_of(lambda score: score.all_fake_mean)))] if maps else []),
    ]


def _of(cell: Callable[[Score], object]) -> Callable[[Evaluation], object]:
    """Return the cell of a number of a score; a hole where there is none."""
    return lambda one: None if one.score is None else cell(one.score)


def _looks(name: str) -> FrameColumn:
    return name, _of(lambda score: score.looks.numbers.get(name) if score.looks else None)


LOOKS: Sequence[FrameColumn] = (
    ("explained_by", _of(lambda score: score.spec.explain.called if score.spec.explain else None)),
    *map(_looks, NUMBERS),
)
"""By what fakes are explained, and where the explanations lie."""

KINDS: Sequence[FrameColumn] = (
    ("empty", _of(lambda score: score.kinds.empty / score.num_images)),
    ("all_fake", _of(lambda score: score.kinds.all_fake / score.num_images)),
    ("constant", _of(lambda score: score.kinds.constant / score.kinds.recorded if score.kinds.recorded else None)),
)
"""What shares of the maps say nothing."""
