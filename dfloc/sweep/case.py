"""A case of a stage -> its cells: every axis gets its value."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from dfloc.axis import Value, frozen
from dfloc.data import dolos
from dfloc.errors import ConfigError
from dfloc.frozen import canonical
from dfloc.sweep.cell import Axes, Cell
from dfloc.sweep.counts import HELD_OUT, Scale, in_full, numbered
from dfloc.sweep.data import Data
from dfloc.sweep.fields import Path, bind, fields_of, merged, plain, put, reached, words_in
from dfloc.sweep.search_space import Point, Space
from dfloc.sweep.sweep_file import SweepFile
from dfloc.sweep.sweep_keys import CaseAsk, CellAsk, StudyAsk
from dfloc.sweep.validation_errors import blamed
from dfloc.sweep.yaml_text import shown

Spelled = dict[tuple[str, Value], dict[str, Any]]  # axis and value -> each way it is written, as JSON and as read

MAX_CELLS = 10_000  # of a case and one parent

# Parts of a cell that say which maps of which images are read.
READ = (("train",), *(("trial", part) for part in ("maps", "weights", "input", "augment", "epochs")))


@dataclass(frozen=True)
class Frame:
    """What all cases of a study are expanded by.

    Attributes:
        axes: `draw` and `seed`, which every case has.
        scale: of `--limit`.
        data: how many images `all` are, and which other domains there are.
    """

    file: SweepFile
    ask: StudyAsk
    axes: Mapping[str, Sequence[int]]
    scale: Scale
    data: Data


class Case:
    """One case of a stage (`""` where it has none), with everything merged that its cells have in common.

    What ways of writing a value it comes across goes into `spelled`.

    Attributes:
        before: the stage whose cells are the parents; None: there are none, or one finished trial.
    """

    def __init__(self, frame: Frame, stage: str, case: str, spelled: Spelled, point: Point | None = None):
        ask, point = frame.ask, point or {}
        asked = ask.stages[stage]
        extra = asked.cases.get(case, CaseAsk())
        self._frame, self._stage, self._case, self._spelled = frame, stage, case, spelled
        self._file, self._domains, self._data = frame.file, ask.domains, frame.data
        self._grid = self._values({**ask.grid, **asked.grid, **extra.grid}, point)
        parent = extra.parent or asked.parent
        self.before = parent_name(parent)
        self._body: dict[str, Any] = {
            "train": merged(asked.train, extra.train),
            "trial": merged(ask.trial, asked.trial, extra.trial),
            "evaluate": merged(_explain(ask), asked.evaluate, extra.evaluate),
            **({"from": parent} if parent else {}),
        }
        if self.before in ask.stages:  # also where an axis is called as the stage
            whole: Mapping[str, Any] = parent if isinstance(parent, Mapping) else {}
            self._body["from"] = {key: value for key, value in whole.items() if key != "stage"}
        self._refuse_parents()
        others = {axis.of for axis in ask.search.space.values()} if ask.search else set()
        self._refuse_idle({*asked.grid, *extra.grid, *(point.keys() - others)})

    def _values(self, grid: Mapping[str, Any], point: Point) -> dict[str, Sequence[Any]]:
        """Return the values of every axis: of the grid as written, of the frame, and of the point, one each."""
        axes = self._frame.axes
        for axis in sorted(grid.keys() & {*axes, *point}):
            raise ConfigError(f"{self._file.place(self._in_grids(axis))}: {_taken(axis, axes)}")
        listed = {axis: _listed(values) for axis, values in grid.items()}
        found: dict[str, Sequence[Any]] = {**listed, **axes, **{axis: [value] for axis, value in point.items()}}
        for axis, values in found.items():
            if not values:
                where = self._file.place(self._in_grids(axis))
                raise ConfigError(f"{where}: axis {axis} has no values; name one at least")
        if HELD_OUT in found:
            found[HELD_OUT] = [self._held_out(name) for name in found[HELD_OUT]]
        return found

    def _held_out(self, name: Any) -> str:
        with self._blames(HELD_OUT):
            if not isinstance(name, str):
                raise ConfigError(f"axis {HELD_OUT} should have names of domains, but one value is {shown(name)}")
            full = dolos.resolve(name, self._domains)
        self._spelled.setdefault((HELD_OUT, full), {})[as_json(name)] = name
        return full

    def reading(self, space: Space) -> set[str]:
        """Return the axes of a search that say which maps of which images are read."""
        dotted = {axis for axis in space.axes if any(axis.split(".")[: len(path)] == [*path] for path in READ)}
        words = set[str]()
        for path in READ:
            value: Any = self._body
            for part in path:
                value = value.get(part, {})
            words |= words_in(value)
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
        cells = [cell for cell in cells if not cell.train.is_empty] or self._refuse_empty(cells)
        distinct: dict[frozenset[tuple[str, Value]], Cell] = {}
        for cell in cells:
            distinct.setdefault(frozenset(cell.axes.items()), cell)
        yield from self._chained(list(distinct.values()))

    def where(self, *fields: Path) -> str:
        """Return which `--set` or line gave the first of some fields that was given, or the axis that is its value."""
        axes = [axis for axis in self._grid for field in fields if self._is_of(axis, field)]
        given = [place for axis in axes for place in self._in_grids(axis)]
        written = (f"{head}{'.'.join(field)}" for field in fields for head in self._heads)
        return self._file.place([*given, *written])

    @property
    def _heads(self) -> tuple[str, str, str]:
        """What the cells of the case are written below, the most special place first."""
        return f"stages.{self._stage}.cases.{self._case}.", f"stages.{self._stage}.", ""

    def _blames(self, axis: str) -> AbstractContextManager[None]:
        """Put before what is said of an axis where it was given."""
        return blamed(lambda: self._file.place(self._in_grids(axis)))

    def _in_grids(self, axis: str) -> list[str]:
        return [*(f"{head}grid.{axis}" for head in self._heads), f"search.space.{axis}"]

    def _is_of(self, axis: str, field: Path) -> bool:
        """Return whether a field, or what it is a part of, takes its value from an axis."""
        return any(field[: len(one)] == one for one in fields_of(self._body, axis))

    def _cell(self, axes: Axes, parent: Cell | None) -> Cell:
        bound = bind(self._body, axes)
        if self.before in self._frame.ask.stages:
            bound["from"]["stage"] = self.before
        for axis in sorted((axis for axis in axes if "." in axis), key=lambda axis: axis.count(".")):
            with self._blames(axis):
                put(bound, axis.split("."), axes[axis])
        try:
            ask = CellAsk.model_validate(bound)
        except ValidationError as error:
            raise self._file.mistake(error, CellAsk, self.where) from None
        seed = axes["seed"] if ask.trial.seed is None else ask.trial.seed
        start, checkpoint = (ask.parent.trial, ask.parent.checkpoint) if ask.parent else (None, "best")
        train = in_full(ask.train, self._domains, self._data)
        with blamed(lambda: self.where(("train", "domains"), ("train", "count"), ("train", "valid"))):
            train = numbered(train, self._stage, axes, self._domains, self._data)
        train = self._frame.scale.ask(train)
        precision = ask.trial.precision
        if precision == "auto":
            precision = "bf16" if self._frame.ask.device == "cuda" else "fp32"
        trial = ask.trial.model_copy(update={"seed": seed, "precision": precision})
        values = self._frozen(axes, ask.model_copy(update={"train": train, "trial": trial}), parent) | {"seed": seed}
        axes = {**axes, "seed": seed}
        explain = ask.evaluate.explain if ask.evaluate.explain and ask.evaluate.explain.name != "none" else None
        asked = self._stage, self._case, values, axes, train, trial, self.where
        return Cell(*asked, parent, start, checkpoint, explain, protocol=ask.evaluate.protocol)

    def _frozen(self, axes: Axes, ask: CellAsk, parent: Cell | None) -> dict[str, Value]:
        """Return each axis' value as the field has it that takes it: a default that is spelled out is none."""
        values = dict(parent.axes) if parent else {}
        for axis, value in axes.items():
            fields = fields_of(self._body, axis)
            if fields or axis not in values:
                values[axis] = frozen(plain(reached(ask, fields[0])) if fields else value)
            if axis != HELD_OUT and (not parent or axis not in parent.given):
                self._spelled.setdefault((axis, values[axis]), {})[as_json(value)] = value
        return values

    def _chained(self, cells: list[Cell]) -> Iterator[Cell]:
        """Give each cell of a continue mode the next smaller count of its own line as parent."""
        last: dict[str, Cell] = {}
        count_axis = self._body["train"].get("count")
        for cell in sorted(cells, key=lambda cell: cell.train.count if isinstance(cell.train.count, int) else 0):
            if cell.train.mode == "restart":
                yield cell
                continue
            if not isinstance(cell.train.count, int) or not (cell.parent or cell.start):
                where = cell.where(("train", "mode"))
                needs = "needs one `count` for all and a `from`"
                raise ConfigError(f"{where}: stage {cell.stage}: mode {cell.train.mode} {needs}")
            line = canonical({axis: value for axis, value in cell.axes.items() if axis != count_axis})
            before = last.get(line)
            skipped = 0
            if before is not None and cell.train.mode == "incremental":
                assert isinstance(before.train.count, int)
                skipped = before.train.count
            start = None if before else cell.start
            last[line] = replace(cell, parent=before or cell.parent, start=start, skipped=skipped)
            yield last[line]

    def _refuse_empty(self, cells: Sequence[Cell]) -> list[Cell]:
        """Refuse a case none of whose cells asks for an image; one of several that does not is left out."""
        if cells:
            where = cells[0].where(("train", "count"), ("train", "labels", "count"))
            raise ConfigError(f"{where}: stage {self._stage} trains on no image, with masks or with labels")
        return []

    def _refuse_parents(self) -> None:
        """Refuse an axis whose value would be the stage to start from, or a trial beside one."""
        heads = [("from",), ("from", "stage"), *([("from", "trial")] if self.before else [])]
        for axis in self._grid:
            if any(field in heads for field in fields_of(self._body, axis)):
                raise ConfigError(
                    f"{self._file.place(self._in_grids(axis))}: axis {axis} of stage {self._stage} cannot say what is "
                    "started from: that is one stage for all; make a stage or a case of each, with its own `from`"
                )

    def _refuse_idle(self, own: set[str]) -> None:
        """Refuse an axis that no field of the stage takes its value from."""
        read = words_in(self._body)
        for axis in sorted(axis for axis in own & self._grid.keys() if "." not in axis):
            where = self._file.place(self._in_grids(axis))
            if axis not in read and axis != HELD_OUT:
                raise ConfigError(
                    f'{where}: axis "{axis}" of stage {self._stage} is read by nothing; write `count: {axis}` where it '
                    "belongs, or name the field that it changes, as in "
                    f"--set stages.{self._stage}.grid.trial.optimizer.lr=[...]"
                )


def _explain(ask: StudyAsk) -> dict[str, Any]:
    """Return what of a study's `evaluate` a stage may say otherwise."""
    explain = ask.evaluate.explain
    return {"explain": explain.model_dump(exclude_none=True)} if explain else {}


def _listed(values: Any) -> list[Any]:
    """Return the values of an axis; one that stands alone is a list too."""
    return [values] if isinstance(values, str | int | float) else list(values)


def _taken(axis: str, axes: Mapping[str, Any]) -> str:
    """Return why an axis cannot stand in a grid."""
    if axis not in axes:
        return f"axis {axis} stands in grid and in search.space; leave it out of one of them"
    pinned = ", or name the seed by trial.seed" if axis == "seed" else ""
    return f"axis {axis} is no key of a grid: write `{axis}s: 2` for two of them, or --{axis}s 2{pinned}"


def as_json(value: Any) -> str:
    """Return a value as a sweep file may have it."""
    return json.dumps(value, ensure_ascii=False)


def parent_name(parent: Any) -> str | None:
    """Return the stage that a `from` names; None: it names none, or one finished trial."""
    if not isinstance(parent, Mapping):
        return parent and str(parent)
    name = parent.get("stage")
    return None if name is None or parent.get("trial") else str(name)
