"""A case of a stage -> its cells: every axis gets its value."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from dfloc.data import dolos
from dfloc.errors import ConfigError
from dfloc.sweep.ask import CaseAsk, CellAsk, StudyAsk, TrainAsk, TrialAsk
from dfloc.sweep.file import SweepFile
from dfloc.sweep.limit import Scale
from dfloc.sweep.points import Point, Space

Axes = dict[str, Any]

MAX_CELLS = 10_000  # of a case and one parent

# Axes whose values are domains: a short name is understood, and the study must have it.
DOMAIN_AXES = {"held_out", "domain"}

# Parts of a cell that say which maps of which images are read.
READ = (("train",), *(("trial", part) for part in ("maps", "weights", "input", "augment", "epochs")))


@dataclass(frozen=True, eq=False)
class Cell:
    """One trial that a stage asks for.

    Attributes:
        axes: values of every axis: the parent's, the stage's own, `draw`, and `seed` last.
        parent: the cell whose weights it starts from.
        start: the finished trial whose weights it starts from, by the first digits of its fingerprint.
        checkpoint: which of the parent's weights.
        skipped: images that the parents of the same stage saw (mode `incremental`).
    """

    stage: str
    case: str
    axes: Axes
    train: TrainAsk
    trial: TrialAsk
    parent: "Cell | None" = None
    start: str | None = None
    checkpoint: str = "best"
    skipped: int = 0

    @property
    def begun(self) -> str | None:
        """The finished trial that it, or the first of its ancestors, starts from."""
        return self.parent.begun if self.parent else self.start

    @property
    def base(self) -> "Cell | None":
        """The nearest ancestor that is no earlier round of the same stage."""
        base = self.parent
        while base and base.stage == self.stage:
            base = base.parent
        return base


def without_each(cell: Cell, domains: Sequence[str]) -> list[Cell]:
    """Return a cell once without each domain of its mixture, which is validated on instead (axis `left_out`).

    Args:
        cell: of a study.
        domains: the study's.

    Raises:
        ConfigError: the mixture has fewer than two families of domains.
    """
    asked = cell.train.domains
    mixture = [*domains] if asked == "all" else [asked] if isinstance(asked, str) else [*asked]
    if asked == "all_but_held_out":
        held_out = dolos.family(cell.axes["held_out"])
        mixture = [domain for domain in domains if dolos.family(domain) != held_out]
    mixture = [dolos.resolve(domain, domains) for domain in mixture]
    if len({dolos.family(domain) for domain in mixture}) < 2:
        raise ConfigError(
            f"stage {cell.stage}: leave-one-training-domain-out needs two domains to train on, of different families, "
            f"but there is {', '.join(mixture)}"
        )
    found = []
    for one in mixture:
        rest = tuple(domain for domain in mixture if dolos.family(domain) != dolos.family(one))
        train = cell.train.model_copy(update={"domains": rest, "valid_domains": (one,)})
        found.append(replace(cell, axes={**cell.axes, "left_out": one}, train=train))
    return found


class Case:
    """One case of a stage (`""` where it has none), with everything merged that its cells have in common.

    Attributes:
        before: the stage whose cells are the parents; None: there are none, or one finished trial.
    """

    def __init__(
        self,
        file: SweepFile,
        ask: StudyAsk,
        stage: str,
        case: str,
        axes: Mapping[str, Sequence[int]],
        scale: Scale | None,
        point: Point | None = None,
    ):
        asked = ask.stages[stage]
        extra = asked.cases.get(case, CaseAsk())
        self._file, self._stage, self._case, self._scale = file, stage, case, scale
        self._grid: dict[str, Sequence[Any]] = {**_flat({**ask.grid, **asked.grid, **extra.grid}), **axes}
        self._grid |= {axis: [value] for axis, value in (point or {}).items()}
        for axis in DOMAIN_AXES & self._grid.keys():
            self._grid[axis] = [dolos.resolve(str(name), ask.domains) for name in self._grid[axis]]
        self._body: dict[str, Any] = {
            "train": _merged(asked.train, extra.train),
            "trial": _merged(ask.trial, asked.trial, extra.trial),
        }
        self.before = parent_name(extra.parent or asked.parent)
        if extra.parent or asked.parent:
            self._body["from"] = extra.parent or asked.parent
        count = self._body["train"].get("count")
        self._count_axis = count if isinstance(count, str) else None
        self._refuse_idle({*asked.grid, *extra.grid})
        if point and ask.search:
            others = {axis.of for axis in ask.search.space.values()}
            self._refuse_idle({*point} - others, f"{file.where('search', 'space')}: ")

    def reading(self, space: Space) -> set[str]:
        """Return the axes of a search that say which maps of which images are read."""
        dotted = {axis for axis in space.axes if any(axis.split(".")[: len(path)] == [*path] for path in READ)}
        words = set[str]()
        for path in READ:
            value: Any = self._body
            for part in path:
                value = value.get(part, {})
            words |= _words(value)
        return dotted | (words & space.axes.keys())

    def cells(self, parent: Cell | None) -> Iterator[Cell]:
        """Yield the cells of one parent; an axis that the parent has is inherited, never crossed."""
        inherited = parent.axes if parent else {}
        own = {axis: values for axis, values in self._grid.items() if axis not in inherited}
        asked = math.prod(map(len, own.values()))
        if asked > MAX_CELLS:
            axes = ", ".join(f"{axis} ({len(values):,})" for axis, values in own.items() if len(values) > 1)
            raise ConfigError(
                f"{self._file.where('stages', self._stage)}: stage {self._stage} asks for {asked:,} trials by its axes "
                f"{axes}; at most {MAX_CELLS:,} are planned at once, name fewer values"
            )
        combinations = (dict(zip(own, values, strict=True)) for values in itertools.product(*own.values()))
        cells = [self._cell({**inherited, **values}, parent) for values in combinations]
        distinct = {repr(sorted(cell.axes.items())): cell for cell in cells}
        yield from self._chained(list(distinct.values()))

    def _cell(self, axes: Axes, parent: Cell | None) -> Cell:
        bound = _bind(self._body, axes)
        for axis, value in axes.items():
            if "." in axis:
                _put(bound, axis.split("."), value)
        try:
            ask = CellAsk.model_validate(bound)
        except ValidationError as error:
            here = f"stages.{self._stage}"
            raise self._file.mistake(error, (f"{here}.cases.{self._case}", here, "", "search.space"), CellAsk) from None
        seed = axes["seed"] if ask.trial.seed is None else ask.trial.seed
        start, checkpoint = (ask.parent.trial, ask.parent.checkpoint) if ask.parent else (None, "best")
        train = self._scale.ask(ask.train) if self._scale else ask.train
        axes = {**axes, "seed": seed}
        if self._count_axis in axes:
            axes[self._count_axis] = train.count
        trial = ask.trial.model_copy(update={"seed": seed})
        return Cell(self._stage, self._case, axes, train, trial, parent, start, checkpoint)

    def _chained(self, cells: list[Cell]) -> Iterator[Cell]:
        """Give each cell of a continue mode the next smaller count of its own line as parent."""
        last: dict[str, Cell] = {}
        for cell in sorted(cells, key=lambda cell: cell.train.count if isinstance(cell.train.count, int) else 0):
            if cell.train.mode == "restart":
                yield cell
                continue
            if not isinstance(cell.train.count, int) or not (cell.parent or cell.start):
                raise ConfigError(f"stage {cell.stage}: mode {cell.train.mode} needs one `count` for all and a `from`")
            line = repr(sorted((axis, value) for axis, value in cell.axes.items() if axis != self._count_axis))
            before = last.get(line)
            skipped = 0
            if before is not None and cell.train.mode == "incremental":
                assert isinstance(before.train.count, int)
                skipped = before.train.count
            start = None if before else cell.start
            last[line] = replace(cell, parent=before or cell.parent, start=start, skipped=skipped)
            yield last[line]

    def _refuse_idle(self, own: set[str], where: str = "") -> None:
        """Refuse an axis that no field of the stage takes its value from."""
        read = _words(self._body)
        for axis in sorted(axis for axis in own & self._grid.keys() if "." not in axis):
            if axis not in read and axis != "held_out":
                raise ConfigError(
                    f'{where}axis "{axis}" of stage {self._stage} is read by nothing; write `count: {axis}` where it '
                    "belongs, or name the field that it changes, as in "
                    f"--set stages.{self._stage}.grid.trial.optimizer.lr=[...]"
                )


def _words(value: Any) -> set[str]:
    """Return every bare word inside a value."""
    if isinstance(value, Mapping):
        return {word for item in value.values() for word in _words(item)}
    if isinstance(value, list | tuple):
        return {word for item in value for word in _words(item)}
    return {value} if isinstance(value, str) else set()


def _bind(value: Any, axes: Axes) -> Any:
    """Replace every bare axis name by the axis' value."""
    if isinstance(value, str):
        return axes.get(value, value)
    if isinstance(value, Mapping):
        return {key: _bind(item, axes) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bind(item, axes) for item in value]
    return value


def _flat(grid: Mapping[str, Any], prefix: str = "") -> dict[str, list[Any]]:
    """Return axes by dotted name; `grid: {trial: {loss: [...]}}` is the axis `trial.loss`."""
    axes: dict[str, list[Any]] = {}
    for key, value in grid.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            axes |= _flat(value, f"{name}.")
        else:
            values = [value] if isinstance(value, str | int | float) else list(value)
            if not values:
                raise ConfigError(f"axis {name} has no values; give a list, as in --set {name}=[1,2]")
            axes[name] = values
    return axes


def _merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = _merged(result[key], value) if both else value
    return result


def _put(body: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        body[part] = dict(body.get(part, {}))
        body = body[part]
    body[path[-1]] = value


def parent_name(parent: Any) -> str | None:
    """Return the stage that a `from` names; None: it names none, or one finished trial."""
    if not isinstance(parent, Mapping):
        return parent and str(parent)
    name = parent.get("stage")
    return None if name is None or parent.get("trial") else str(name)
