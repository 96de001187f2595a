"""A sweep file -> the cells of its stages: every trial that the study asks for, before data is looked at."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from dfloc.errors import ConfigError, did_you_mean
from dfloc.sweep.ask import CellAsk, StageAsk, StudyAsk, TrainAsk, TrialAsk
from dfloc.sweep.file import SweepFile
from dfloc.sweep.limit import Scale

Axes = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Cell:
    """One trial that a stage asks for.

    Attributes:
        axes: values of every axis: the parent's, the stage's own, `draw`, and `seed` last.
        parent: the cell whose weights it starts from.
        checkpoint: which of the parent's weights.
        skipped: images that the parents of the same stage saw (mode `incremental`).
    """

    stage: str
    case: str
    axes: Axes
    train: TrainAsk
    trial: TrialAsk
    parent: "Cell | None" = None
    checkpoint: str = "best"
    skipped: int = 0


@dataclass(frozen=True)
class Study:
    """A checked sweep file and its cells, parents before children.

    Attributes:
        notes: what a user and a report must be told of the cells.
    """

    ask: StudyAsk
    cells: list[Cell]
    notes: tuple[str, ...] = ()


def expand(
    file: SweepFile,
    only: Sequence[str] = (),
    seeds: int | None = None,
    draws: int | None = None,
    limit: int | None = None,
) -> Study:
    """Return a study and its cells.

    Args:
        file: a sweep file with preset, `--set` and domains merged in.
        only: stages to keep, with the stages that they start from.
        seeds: number of trial seeds; None = as the file has it.
        draws: number of mixture seeds; None = as the file has it.
        limit: scale every count down in proportion, so that the largest one of each split is this.

    Raises:
        ConfigError: an unknown key or stage, a value of the wrong kind; names file and line.
    """
    try:
        ask = StudyAsk.model_validate(file.values)
    except ValidationError as error:
        raise file.mistake(error, ("",), StudyAsk) from None
    order = _in_order(ask, _with_ancestors(ask, only))
    axes = {"draw": range(draws or ask.draws), "seed": range(seeds or ask.seeds)}
    cells = _all_cells(file, ask, order, axes, None)
    if limit is None:
        return Study(ask, cells)
    scaled = _all_cells(file, ask, order, axes, Scale.of(limit, [cell.train for cell in cells]))
    dropped = len(cells) - len(scaled)
    notes: tuple[str, ...] = (f"limited to {limit} images: every count is scaled in proportion",)
    if dropped:
        notes += (f"--limit {limit}: {dropped} of {len(cells)} trials fell together with another and were dropped",)
    return Study(ask, scaled, notes)


def _all_cells(
    file: SweepFile, ask: StudyAsk, order: Sequence[str], axes: Mapping[str, Sequence[int]], scale: Scale | None
) -> list[Cell]:
    by_stage: dict[str, list[Cell]] = {}
    for name in order:
        by_stage[name] = list(_stage_cells(file, ask, name, by_stage, axes, scale))
    return [cell for cells in by_stage.values() for cell in cells]


def _stage_cells(
    file: SweepFile,
    ask: StudyAsk,
    name: str,
    done: Mapping[str, list[Cell]],
    common: Mapping[str, Sequence[int]],
    scale: Scale | None,
) -> Iterator[Cell]:
    stage = ask.stages[name]
    parents: Sequence[Cell | None] = done[_parent_name(stage)] if stage.parent else [None]
    for case, extra in (stage.cases or {"": {}}).items():
        grid = {**ask.grid, **stage.grid, **extra.get("grid", {}), **common}
        body = {
            "train": _merged(stage.train, extra.get("train", {})),
            "trial": _merged(ask.trial, stage.trial, extra.get("trial", {})),
        }
        if stage.parent:
            body["from"] = extra.get("from", stage.parent)
        where = (f"stages.{name}.cases.{case}", f"stages.{name}") if case else (f"stages.{name}",)
        for parent in parents:
            inherited = parent.axes if parent else {}
            own = {axis: values for axis, values in _flat(grid).items() if axis not in inherited}
            cells = [
                _cell(file, name, case, {**inherited, **dict(zip(own, values, strict=True))}, body, parent, where)
                for values in itertools.product(*own.values())
            ]
            yield from _chained([_scaled(cell, body, scale) for cell in cells] if scale else cells)


def _cell(
    file: SweepFile,
    stage: str,
    case: str,
    axes: Axes,
    body: Mapping[str, Any],
    parent: Cell | None,
    where: tuple[str, ...],
) -> Cell:
    bound = _bind(body, axes)
    for axis, value in axes.items():
        if "." in axis:
            _put(bound, axis.split("."), value)
    try:
        ask = CellAsk.model_validate(bound)
    except ValidationError as error:
        raise file.mistake(error, (*where, ""), CellAsk) from None
    seed = axes["seed"] if ask.trial.seed is None else ask.trial.seed
    checkpoint = ask.parent.checkpoint if ask.parent else "best"
    trial = ask.trial.model_copy(update={"seed": seed})
    return Cell(stage, case, {**axes, "seed": seed}, ask.train, trial, parent, checkpoint)


def _scaled(cell: Cell, body: Mapping[str, Any], scale: Scale) -> Cell:
    """Return a cell with its counts scaled, and with them the axis that a count is taken from."""
    axis = body["train"].get("count")
    train = scale.ask(cell.train)
    axes = {**cell.axes, axis: train.count} if isinstance(axis, str) and axis in cell.axes else cell.axes
    return replace(cell, train=train, axes=axes)


def _chained(cells: list[Cell]) -> Iterator[Cell]:
    """Give each cell of a continue mode the next smaller count of its own line as parent; drop doubles."""
    last: dict[str, Cell] = {}
    seen: set[str] = set()
    counted = sorted(cells, key=lambda cell: cell.train.count if isinstance(cell.train.count, int) else 0)
    for cell in counted:
        own = repr(sorted(cell.axes.items(), key=lambda item: item[0]))
        if own in seen:
            continue
        seen.add(own)
        if cell.train.mode == "restart":
            yield cell
            continue
        if not isinstance(cell.train.count, int) or cell.parent is None:
            raise ConfigError(f"stage {cell.stage}: mode {cell.train.mode} needs one `count` for all and a `from`")
        line = repr(sorted((k, v) for k, v in cell.axes.items() if v != cell.train.count))
        before = last.get(line)
        new = before is not None and cell.train.mode == "incremental"
        skipped = before.train.count if before is not None and new else 0
        assert isinstance(skipped, int)
        chained = replace(cell, parent=before or cell.parent, skipped=skipped)
        last[line] = chained
        yield chained


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


def _parent_name(stage: StageAsk) -> str:
    return str(stage.parent["stage"] if isinstance(stage.parent, Mapping) else stage.parent)


def _with_ancestors(ask: StudyAsk, only: Sequence[str]) -> set[str]:
    wanted: set[str] = set()
    todo = list(only or ask.stages)
    while todo:
        name = todo.pop()
        if name not in ask.stages:
            raise ConfigError(f'unknown stage "{name}"; {did_you_mean(name, ask.stages)}')
        if name not in wanted:
            wanted.add(name)
            todo += [_parent_name(ask.stages[name])] if ask.stages[name].parent else []
    return wanted


def _in_order(ask: StudyAsk, wanted: set[str]) -> list[str]:
    order: list[str] = []
    left = [name for name in ask.stages if name in wanted]
    while left:
        ready = [name for name in left if not ask.stages[name].parent or _parent_name(ask.stages[name]) in order]
        if not ready:
            raise ConfigError(f"stages {', '.join(left)} start from each other in a circle")
        order.append(ready[0])
        left.remove(ready[0])
    return order
