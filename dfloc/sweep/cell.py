"""A case of a stage -> its cells: every axis gets its value."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from dfloc import registry
from dfloc.axis import Value, frozen
from dfloc.config import LossSpec
from dfloc.data import dolos
from dfloc.errors import ConfigError
from dfloc.sweep.ask import AugmentAsk, CaseAsk, CellAsk, DecoderAsk, StudyAsk, TrainAsk, TrialAsk
from dfloc.sweep.counts import DOMAIN_AXES, numbered
from dfloc.sweep.data import Data
from dfloc.sweep.file import SweepFile
from dfloc.sweep.limit import Scale
from dfloc.sweep.points import Point, Space

Axes = dict[str, Any]
Path = tuple[str, ...]

MAX_CELLS = 10_000  # of a case and one parent

# Parts of a cell that say which maps of which images are read.
READ = (("train",), *(("trial", part) for part in ("maps", "weights", "input", "augment", "epochs")))


@dataclass(frozen=True, eq=False)
class Cell:
    """One trial that a stage asks for.

    Attributes:
        axes: frozen values of every axis: the parent's, the stage's own, `draw`, and `seed` last.
        given: the same values as they were written.
        where: says which `--set` or line gave a field, or the axis that is its value.
        parent: the cell whose weights it starts from.
        start: the finished trial whose weights it starts from, by the first digits of its fingerprint.
        checkpoint: which of the parent's weights.
        skipped: images that the parents of the same stage saw (mode `incremental`).
    """

    stage: str
    case: str
    axes: dict[str, Value]
    given: Axes
    train: TrainAsk
    trial: TrialAsk
    where: Callable[[Path], str]
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
        held_out = dolos.family(str(cell.axes["held_out"]))
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
        spelled: by axis and frozen value, every way in which the value was written, as JSON and as it was read.
    """

    def __init__(
        self,
        file: SweepFile,
        ask: StudyAsk,
        stage: str,
        case: str,
        axes: Mapping[str, Sequence[int]],
        scale: Scale | None,
        data: Data,
        point: Point | None = None,
    ):
        asked = ask.stages[stage]
        extra = asked.cases.get(case, CaseAsk())
        self._file, self._stage, self._case, self._scale = file, stage, case, scale
        self._domains, self._data = ask.domains, data
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
        self.spelled: dict[tuple[str, Value], dict[str, Any]] = {}
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
        inherited = parent.given if parent else {}
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
        distinct: dict[tuple[tuple[str, Value], ...], Cell] = {}
        for cell in cells:
            distinct.setdefault(tuple(sorted(cell.axes.items())), cell)
        yield from self._chained(list(distinct.values()))

    def notes(self) -> Iterator[str]:
        """Yield what a user must be told of axes that have one value twice."""
        for (axis, value), ways in self.spelled.items():
            if len(ways) > 1:
                yield f"stage {self._stage}: {axis} is {value} in {' and '.join(ways)}: that is planned once"

    def where(self, field: Path) -> str:
        """Return which `--set` or line gave a field of a cell, or the axis that is its value."""
        return self._file.place([*self._given(field), *self._prefixed(field)])

    def _given(self, field: Path) -> list[str]:
        """Return where the values of the axis stand that a field, or a part of it, takes its value from."""
        heads = (f"stages.{self._stage}.cases.{self._case}.grid", f"stages.{self._stage}.grid", "grid", "search.space")
        axes = [axis for axis in self._grid if any(field[: len(one)] == one for one in _fields(self._body, axis))]
        return [f"{head}.{axis}" for axis in axes for head in heads]

    def _prefixed(self, field: Path) -> list[str]:
        here = f"stages.{self._stage}"
        return [".".join([*head, *field]) for head in ([f"{here}.cases.{self._case}"], [here], [])]

    def _cell(self, axes: Axes, parent: Cell | None) -> Cell:
        bound = _bind(self._body, axes)
        for axis, value in axes.items():
            if "." in axis:
                _put(bound, axis.split("."), value)
        try:
            ask = CellAsk.model_validate(bound)
        except ValidationError as error:
            raise self._file.mistake(error, CellAsk, self.where) from None
        seed = axes["seed"] if ask.trial.seed is None else ask.trial.seed
        start, checkpoint = (ask.parent.trial, ask.parent.checkpoint) if ask.parent else (None, "best")
        train = numbered(ask.train, self._stage, axes, self._domains, self._data)
        train = self._scale.ask(train) if self._scale else train
        values = self._frozen(axes, ask.model_copy(update={"train": train}), parent) | {"seed": seed}
        axes, trial = {**axes, "seed": seed}, ask.trial.model_copy(update={"seed": seed})
        return Cell(self._stage, self._case, values, axes, train, trial, self.where, parent, start, checkpoint)

    def _frozen(self, axes: Axes, ask: CellAsk, parent: Cell | None) -> dict[str, Value]:
        """Return each axis' value as the field has it that takes it: a default that is spelled out is none."""
        values = dict(parent.axes) if parent else {}
        for axis, value in axes.items():
            fields = _fields(self._body, axis)
            if fields or axis not in values:
                values[axis] = frozen(_plain(_reached(ask, fields[0])) if fields else value)
            if not parent or axis not in parent.given:
                self.spelled.setdefault((axis, values[axis]), {})[json.dumps(value, sort_keys=True)] = value
        return values

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


def _fields(body: Any, axis: str) -> list[Path]:
    """Return the fields that take their value from an axis: the one that it is named after, or where its name stands.

    A mapping of its name alone is taken whole: `loss: l` and `loss: {name: l}` are the same.
    """
    if "." in axis:
        return [tuple(axis.split("."))]
    if isinstance(body, str):
        return [()] if body == axis else []
    if body in ({"name": axis}, {"stage": axis}):
        return [()]
    inside = body.items() if isinstance(body, Mapping) else enumerate(body) if isinstance(body, list | tuple) else ()
    return [(str(key), *rest) for key, item in inside for rest in _fields(item, axis)]


def _reached(value: Any, field: Path) -> Any:
    """Return what a field of a checked cell holds."""
    for part in field:
        if isinstance(value, BaseModel):
            value = getattr(value, "parent" if part == "from" else part)
        else:
            value = value[part if isinstance(value, Mapping) else int(part)]
    return value


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; of what has a name, what it reads and what differs from its default."""
    if isinstance(value, AugmentAsk) and value.name == "none":
        return None
    if not isinstance(value, BaseModel):
        return value
    fields = value.model_dump(mode="json", exclude_defaults=True)
    tables = {LossSpec: registry.LOSS_FIELDS, DecoderAsk: registry.DECODER_FIELDS}
    read = tables.get(type(value), {}).get(str(fields.get("name")))
    return fields if read is None else {key: item for key, item in fields.items() if key in read | {"name"}}


def _bind(value: Any, axes: Axes) -> Any:
    """Replace every bare axis name by the axis' value."""
    if isinstance(value, str):
        return axes.get(value, value)
    if isinstance(value, Mapping):
        bound = {key: _bind(item, axes) for key, item in value.items()}
        whole = next((item for item in bound.values() if isinstance(item, Mapping)), None)
        return whole if whole is not None and list(bound) in (["name"], ["stage"]) else bound
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
