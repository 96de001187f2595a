"""What a study asks for: its cells, each a trial before any data are looked at."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dfloc.axis import Value
from dfloc.data import dolos
from dfloc.errors import ConfigError
from dfloc.sweep import counts
from dfloc.sweep.counts import Scale
from dfloc.sweep.data import Data
from dfloc.sweep.search_space import Point
from dfloc.sweep.sweep_keys import ExplainAsk, StudyAsk, TrialAsk
from dfloc.sweep.train_keys import TrainAsk
from dfloc.sweep.validation_errors import blamed

Axes = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One trial that a stage asks for; equal to another that asks for the same, wherever that was written.

    Attributes:
        axes: frozen values of every axis: the parent's, the stage's own, `draw`, and `seed` last.
        given: the same values as they were written.
        where: says which `--set` or line gave a field, or the axis that is its value (`Case.where`).
        parent: the cell whose weights it starts from.
        start: the finished trial whose weights it starts from, by the first digits of its fingerprint.
        checkpoint: which of the parent's weights.
        explain: what maps are read off it.
        skipped: images that the parents of the same stage saw (mode `incremental`).
        protocol: the definitions of its metrics; None: the study's.
    """

    stage: str
    case: str
    axes: dict[str, Value]
    given: Axes = field(compare=False)
    train: TrainAsk
    trial: TrialAsk
    where: Callable[..., str] = field(compare=False)
    parent: "Cell | None" = None
    start: str | None = None
    checkpoint: str = "best"
    explain: ExplainAsk | None = None
    skipped: int = 0
    protocol: str | None = None

    def __hash__(self) -> int:
        return hash((self.stage, self.case, frozenset(self.axes.items())))

    @property
    def begun(self) -> str | None:
        """The finished trial that it, or the first of its ancestors, starts from."""
        return self.parent.begun if self.parent else self.start

    @property
    def name(self) -> str:
        """How a person calls it."""
        axes = (f"{axis}={value}" for axis, value in self.axes.items())
        return " ".join(filter(None, [self.stage, self.case, *axes]))

    def blames(self, *fields: str) -> AbstractContextManager[None]:
        """Put before what is said of a wrong value where it was given, as one of these fields."""
        return blamed(lambda: self.where(*(tuple(field.split(".")) for field in fields)))

    @property
    def base(self) -> "Cell | None":
        """The nearest ancestor that is no earlier round of the same stage."""
        base = self.parent
        while base and base.stage == self.stage:
            base = base.parent
        return base


@dataclass(frozen=True)
class Composite:
    """A trial that a stage composes of cells.

    Attributes:
        axes: `draw` and `seed`, and those that its parts have in common.
        rule: argmax | mean.
        parts: by role: `route` and classes, or numbers.
        where: line or `--set` that gave it.
    """

    stage: str
    case: str
    axes: dict[str, Value]
    rule: Literal["argmax", "mean"]
    parts: dict[str, Cell]
    where: str


@dataclass(frozen=True)
class Study:
    """A checked sweep file and its cells, parents before children.

    Attributes:
        composites: that are made of cells.
        notes: what a user and a report must be told of the cells.
        draw: the cells of a point of the search; None: there is no search, or its stage was not asked for.
        cover: cells of the search in which every choice occurs, and whatever its trials may read.
        chosen: by axis of the search and frozen value, the choice as it was written.
        scale: the limit.
        unscaled: cells and cover before that.
    """

    ask: StudyAsk
    cells: list[Cell]
    composites: tuple[Composite, ...] = ()
    notes: tuple[str, ...] = ()
    draw: Callable[[Point], list[Cell]] | None = None
    cover: tuple[Cell, ...] = ()
    chosen: Mapping[tuple[str, Value], Any] = field(default_factory=dict)
    scale: Scale = field(default_factory=lambda: Scale(1, 1))
    unscaled: tuple[Cell, ...] = ()

    @property
    def first(self) -> Cell:
        """Any of its cells, which knows where that was given which all have in common."""
        return next(iter((*self.cells, *self.cover)))


def without_each(cell: Cell, domains: Sequence[str], data: Data) -> list[Cell]:
    """Return a cell once without each domain of its mixture, which is validated on instead (axis `left_out`).

    Real images are of no generator, and stay in each.

    Raises:
        ConfigError: the mixture has fewer than two families of domains.
    """
    if cell.train.labels:
        raise ConfigError(f"stage {cell.stage}: no training domain is left out of a list with labels; leave out labels")
    named = counts.names(cell.train.domains, cell.stage, cell.axes, domains, data)
    mixture = [domain for domain in named if not dolos.is_real(domain)]
    reals = tuple(domain for domain in named if dolos.is_real(domain))
    of = {domain: dolos.family(domain, data.families) for domain in mixture}
    if len({*of.values()}) < 2:
        raise ConfigError(
            f"stage {cell.stage}: leave-one-training-domain-out needs two domains to train on, of different families, "
            f"but there is {', '.join(mixture)}"
        )
    found = []
    for one in mixture:
        rest = tuple(domain for domain in mixture if of[domain] != of[one])
        train = cell.train.model_copy(update={"domains": (*rest, *reals), "valid_domains": (one,)})
        found.append(replace(cell, axes={**cell.axes, "left_out": one}, train=train))
    return found
