"""What a sweep plans: its trials, and what its search draws from."""

from collections.abc import Collection
from itertools import chain, product
from typing import Any

from pydantic import Field, field_validator

from dfloc import trial_names
from dfloc.axis import Value, frozen
from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.frozen import Frozen, Real, canonical
from dfloc.frozen import fingerprint as digest_of


def is_of_today(spec: TrialSpec, fingerprint: str) -> bool:
    """Return whether a spec has a fingerprint by the semantics of today; no, where a component is not here."""
    try:
        return spec.fingerprint == fingerprint
    except KeyError:
        return False


def is_named(spec: TrialSpec, fingerprint: str) -> bool:
    """Return whether a spec is that of a fingerprint, by the semantics of today or of another version of dfloc.

    One of a component that is not here cannot be told, and is.
    """
    try:
        key = spec.key
    except KeyError:
        return True
    now = key["semantics"]
    others = product(*(range(number + 2) for number in now.values()))
    versions = chain([now], (dict(zip(now, numbers, strict=True)) for numbers in others))
    return any(digest_of(key | {"semantics": one}) == fingerprint for one in versions)


class PlannedTrial(Frozen):
    """One trial as one stage of a sweep wants it.

    Attributes:
        fingerprint: its name in the ledger.
        stage: the stage's name.
        case: the name of the case inside the stage (a row of a table); empty where the stage has none.
        axes: every axis' frozen value: those of the parent, of the stage, and `seed` and `draw`.
        parent: fingerprint of the trial that it starts from.
        spec: the resolved spec.
        evaluations: what it is scored on, each with its key in the ledger.
    """

    fingerprint: str
    stage: str
    case: str = ""
    axes: dict[str, Value] = Field(default_factory=dict)
    parent: str | None = None
    spec: TrialSpec
    evaluations: tuple[EvaluationSpec, ...] = ()

    @field_validator("axes", mode="before")
    @classmethod
    def _frozen(cls, axes: object) -> object:
        """Freeze lists and mappings, as older records have them."""
        return {axis: frozen(value) for axis, value in axes.items()} if isinstance(axes, dict) else axes

    @property
    def parents(self) -> tuple[str, ...]:
        """Fingerprints of the trials that must be finished first: the one it starts from, or a composite's parts."""
        parts = dict.fromkeys(part.parent for part in self.spec.parts.values())
        return (self.parent,) if self.parent else tuple(parts)

    @property
    def called(self) -> trial_names.TrialName:
        """How a person calls it, and the words by which it is found."""
        return trial_names.of(self.stage, self.case, self.axes)

    @property
    def name(self) -> str:
        """The one name that it has on screen, in MLflow, in reports and in commands."""
        return self.called.text

    @property
    def repetition(self) -> tuple[int, int]:
        """Its mixture draw and trial seed."""
        return int(self.axes.get("draw", 0)), int(self.axes.get("seed", self.spec.seed))

    @property
    def recipe(self) -> str:
        """What its repetitions have in common: stage, case and every axis but seed and draw."""
        axes = {axis: value for axis, value in self.axes.items() if axis not in ("seed", "draw")}
        return canonical([self.stage, self.case, axes])

    @property
    def protocols(self) -> tuple[str, ...]:
        """Whose scores are asked of it, the newest start's first."""
        return tuple(dict.fromkeys(each.protocol for each in self.evaluations))

    def with_those_of(self, older: "PlannedTrial") -> "PlannedTrial":
        """Return the trial with the evaluations that an older start asked of it, and a newer one does not ask anew."""
        mine = {_slot(each) for each in self.evaluations}
        more = [each for each in older.evaluations if _slot(each) not in mine]
        return self.model_copy(update={"evaluations": (*self.evaluations, *more)}) if more else self


def cell(trial: PlannedTrial, searched: Collection[str]) -> str:
    """Return what a trial stands for in its study: stage, case and the value of every axis, whatever kind it is of.

    Args:
        trial: of a study.
        searched: its stages whose trials a search draws.
    """
    dropped = {trial_names.POINT} if trial.stage in searched else set[str]()
    axes = {axis: value for axis, value in trial.axes.items() if axis not in dropped}
    return canonical([trial.stage, trial.case, axes])


class SearchAxis(Frozen):
    """What a search may draw for one axis: one of some choices, or a number of a range.

    Attributes:
        choices: values of any kind; with `of`, those of each value of that other axis.
        low: smallest number of a range.
        high: largest number of a range.
        log: a range is drawn evenly in its logarithm.
        whole: a range gives whole numbers alone.
        of: the axis on whose value the choices depend.
    """

    choices: tuple[Any, ...] | dict[str, tuple[Any, ...]] = ()
    low: Real | None = None
    high: Real | None = None
    log: bool = False
    whole: bool = False
    of: str | None = None


class SearchRecord(Frozen):
    """What a sweep searches, and what it has drawn so far.

    Attributes:
        stage: the stage whose trials are drawn.
        objective: valid | leave-one-training-domain-out.
        trials: points to draw.
        axes: what is drawn, by the axis' name.
        rungs: epochs after which a trial may be stopped.
        factor: of the trials that reached a rung, one in so many goes on.
        points: fingerprints of the trials of each point, in the order in which they were drawn.
        exhausted: there is no other point.
        importance: share of the objective's variance that each axis explains; empty until there are enough points.
        weighed: over how many points that is.
    """

    stage: str
    objective: str
    trials: int
    axes: dict[str, SearchAxis]
    rungs: tuple[int, ...] = ()
    factor: int = 1
    points: tuple[tuple[str, ...], ...] = ()
    exhausted: bool = False
    importance: dict[str, float] = Field(default_factory=dict)
    weighed: int = 0


def _slot(evaluation: EvaluationSpec) -> tuple[str, ...]:
    """Return what an evaluation is of a trial, whatever its images are."""
    return (
        evaluation.checkpoint,
        evaluation.domain,
        evaluation.split,
        evaluation.condition,
        evaluation.protocol,
    )
