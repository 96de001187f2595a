"""What was planned under one sweep: the union of every start, from which tracking and report draw."""

from itertools import chain, product
from typing import Any

from pydantic import Field, field_validator
from upath import UPath

from dfloc import config, storage
from dfloc.axis import Value, frozen
from dfloc.config import EvaluationSpec, Frozen, Real, TrialSpec
from dfloc.errors import WorkspaceError


class DomainFacts(Frozen):
    """What a report says of a domain's split: images, and the photographs that an interval rests on."""

    images: int
    photographs: int


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
    return any(config.fingerprint(key | {"semantics": one}) == fingerprint for one in versions)


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
    def name(self) -> str:
        """How a person calls it: stage, case and axes (a draw only where there are several)."""
        axes = [f"{key}={value}" for key, value in self.axes.items() if key != "draw" or value]
        return " ".join(part for part in (self.stage, self.case, *axes) if part)


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


class SweepRecord(Frozen):
    """One sweep: (name, preset, data name, limit), and the union of what was planned under it.

    Attributes:
        sweep: its full name, `<name>-<preset>-<data>` and `-limit<N>`.
        limit_rule: how a limit scales counts: 1 = those of training and of validation by a factor each, as of old; 2 =
            all by one, the limit over the largest training count. 1 where there is no limit.
        domains: the study's local domains, in the order of its tables.
        tables: ids of published tables that the study stands beside.
        facts: domain -> split -> counts.
        notes: sentences that a report must show (limited, overlap between splits, polarity).
        synthetic: numbers that say nothing about Dolos: built-in data or random weights.
        weights: digest of a backbone's weights -> the word by which the sweep named them.
        search: what is searched; none where every trial is written in the sweep's file.
    """

    version: int = 1
    sweep: str
    name: str
    title: str
    preset: str
    data: str
    limit: int | None = None
    limit_rule: int = 1
    domains: tuple[str, ...]
    protocol: str
    tables: tuple[str, ...] = ()
    facts: dict[str, dict[str, DomainFacts]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    weights: dict[str, str] = Field(default_factory=dict)
    trials: tuple[PlannedTrial, ...] = ()
    search: SearchRecord | None = None

    def merged(self, old: "SweepRecord | None") -> "SweepRecord":
        """Return this record with the old one's trials that it does not have itself, at the end."""
        if old is None:
            return self
        mine = {(trial.stage, trial.case, trial.fingerprint): trial for trial in self.trials}
        kept = [trial for trial in old.trials if (trial.stage, trial.case, trial.fingerprint) not in mine]
        notes = tuple(dict.fromkeys((*self.notes, *old.notes)))
        weights = old.weights | self.weights
        return self.model_copy(update={"trials": (*self.trials, *kept), "notes": notes, "weights": weights})

    def save(self, folder: UPath) -> None:
        """Write `plan.json` into the sweep's folder, whole."""
        path = folder / "plan.json"
        storage.put(path, storage.sealed(self, path))

    @classmethod
    def load(cls, folder: UPath) -> "SweepRecord | None":
        """Read `plan.json`; None where the sweep was never planned.

        Raises:
            WorkspaceError: it is damaged, or a trial in it is not the one that it is named as.
        """
        path = folder / "plan.json"
        cure = "delete it and start the sweep again"
        if not path.exists():
            return None
        record = storage.get_model(cls, path, cure)
        odd = [trial for trial in record.trials if not is_named(trial.spec, trial.fingerprint)]
        if odd and not storage.is_sealed(path):
            raise WorkspaceError(f"{path} is damaged: trial {odd[0].fingerprint[:12]} has another spec; {cure}")
        return record
