"""A sweep file -> the cells of its stages: every trial that the study asks for, before data is looked at."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from dfloc.errors import ConfigError, did_you_mean
from dfloc.frozen import canonical
from dfloc.sweep import compose
from dfloc.sweep.case import Case, Frame, Spelled, as_json, parent_name
from dfloc.sweep.cell import Cell, Study, without_each
from dfloc.sweep.counts import Scale, largest
from dfloc.sweep.data import Data, Expected
from dfloc.sweep.fields import words_in
from dfloc.sweep.search_space import AxisAsk, Point, SearchAsk, Space
from dfloc.sweep.sweep_file import SweepFile
from dfloc.sweep.sweep_keys import StageAsk, StudyAsk


def expand(
    file: SweepFile,
    only: Sequence[str] = (),
    seeds: int | None = None,
    draws: int | None = None,
    limit: int | None = None,
    data: Data | None = None,
) -> Study:
    """Return a study and its cells.

    Args:
        file: a sweep file with preset, `--set` and domains merged in.
        only: stages to keep, or cases of them (`stage/case`), with the trials that they start from.
        seeds: number of trial seeds; None = as the file has it.
        draws: number of mixture seeds; None = as the file has it.
        limit: scale every count down by one factor, so that the largest one of training is this.
        data: how many images `all` are; none: as many as Dolos has.

    Raises:
        ConfigError: an unknown key or stage, a value of the wrong kind; names file and line.
    """
    try:
        ask = StudyAsk.model_validate(file.values)
    except ValidationError as error:
        raise file.mistake(error, StudyAsk) from None
    wanted = _wanted(ask, only)
    axes = {"draw": range(draws or ask.draws), "seed": range(seeds or ask.seeds)}
    frame = Frame(file, ask, axes, Scale(1, 1), data or Expected("dolos", {}, {}))
    made = _Expansion(frame)
    whole = made.study(wanted, made.notes)
    most = largest([cell.train for cell in (*made.cells, *made.cover)])
    if limit is None:
        return replace(whole, scale=Scale(most, most), unscaled=(*whole.cells, *whole.cover))
    scale = Scale(limit, most)
    scaled = _Expansion(replace(frame, scale=scale))
    dropped = len(made.cells) - len(scaled.cells)
    notes = made.notes
    if limit < most:
        notes += (f"limited to {limit} of {most} images: each count of training and validation by that factor",)
    if dropped:
        notes += (
            f"--limit {limit}: {dropped} of {len(made.cells)} trials fell together with another and were dropped",
        )
    return replace(scaled.study(wanted, notes), scale=scale, unscaled=(*whole.cells, *whole.cover))


class _Expansion:
    """The cells of every stage, parents before children; those of the searched one are made when they are drawn.

    Attributes:
        cover: of the searched stage.
    """

    def __init__(self, frame: Frame):
        file, ask = frame.file, frame.ask
        self._frame, self._ask = frame, ask
        self._by_stage: dict[str, list[Cell]] = {}
        self._spelled: dict[str, Spelled] = {}
        self._searched = _searched(file, ask)
        _refuse_idle(file, ask, {"held_out", *frame.axes})
        for name in _in_order(ask, file):
            made = name == self._searched or bool(ask.stages[name].compose)
            self._by_stage[name] = [] if made else self._stage(name)
        self.composites = compose.composites(frame.file, ask, self._by_stage, frame.axes, frame.data)
        self.cells = [cell for cells in self._by_stage.values() for cell in cells]
        self.cover: tuple[Cell, ...] = ()
        if ask.search and self._searched:
            space = Space(ask.search.space)
            reading = Case(frame, self._searched, "", {}, space.cover([])[0]).reading(space)
            self.cover = tuple(cell for point in space.cover(reading) for cell in self.draw(point))
            _check(file, ask.search, self.cover)
            self._check_ranges(space)
            distinct = ask.search.model_copy(update={"space": self._distinct(ask.search.space)})
            self._ask = ask.model_copy(update={"search": distinct})

    def _check_ranges(self, space: Space) -> None:
        """Refuse a range of whole numbers between whose ends there are some that a field does not take."""
        try:
            for point in space.inside():
                self.draw(point)
        except ConfigError as error:
            raise ConfigError(f"{error}; a range gives every number: write `choices: [...]` for some") from error

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must be told of axes that have one value twice."""
        return tuple(
            f"stage {stage}: {axis} is {value} in {' and '.join(ways)}: that is planned once"
            for stage, spelled in self._spelled.items()
            for (axis, value), ways in spelled.items()
            if len(ways) > 1
        )

    def draw(self, point: Point) -> list[Cell]:
        """Return the cells of a point of the search."""
        cells = self._stage(self._searched, point)
        if self._ask.search and self._ask.search.objective != "valid":
            return [one for cell in cells for one in without_each(cell, self._ask.domains, self._frame.data)]
        return cells

    def _distinct(self, space: Mapping[str, AxisAsk]) -> dict[str, AxisAsk]:
        """Return the axes of a search with each choice once, in the first way in which it was written."""
        others = {axis.of for axis in space.values()}
        again = {(axis, way) for (axis, _), ways in self._spelled[self._searched].items() for way in list(ways)[1:]}
        found = dict(space)
        for name, axis in space.items():
            if name not in others and isinstance(axis.choices, tuple):
                kept = tuple(one for one in axis.choices if (name, as_json(one)) not in again)
                found[name] = axis.model_copy(update={"choices": kept})
        return found

    def study(self, wanted: set[tuple[str, str]], notes: tuple[str, ...] = ()) -> Study:
        """Return the study of some stages and cases, and of what these start from."""
        kept: set[Cell] = set()
        composed = tuple(one for one in self.composites if {(one.stage, ""), (one.stage, one.case)} & wanted)
        parts = {part for one in composed for part in one.parts.values()}
        for cell in self.cells:
            asked = cell in parts or {(cell.stage, ""), (cell.stage, cell.case)} & wanted
            ancestor: Cell | None = cell if asked else None
            while ancestor:
                kept.add(ancestor)
                ancestor = ancestor.parent
        cells = [cell for cell in self.cells if cell in kept]
        if (self._searched, "") not in wanted:
            return Study(self._ask, cells, composed, notes)
        chosen = {key: next(iter(ways.values())) for key, ways in self._spelled[self._searched].items()}
        return Study(self._ask, cells, composed, notes, self.draw, self.cover, chosen)

    def _stage(self, name: str, point: Point | None = None) -> list[Cell]:
        found: list[Cell] = []
        spelled = self._spelled.setdefault(name, {})
        for case in self._ask.stages[name].cases or [""]:
            made = Case(self._frame, name, case, spelled, point)
            parents: Sequence[Cell | None] = self._by_stage[made.before] if made.before else [None]
            found += [cell for parent in parents for cell in made.cells(parent)]
        return found


def _searched(file: SweepFile, ask: StudyAsk) -> str:
    """Return the stage whose trials are drawn, empty where there is none; refuse what such a stage cannot have."""
    if ask.search is None:
        return ""
    name = ask.search.stage
    where = file.where("search", "stage")
    if name not in ask.stages:
        raise ConfigError(f'{where}: unknown stage "{name}"; {did_you_mean(name, ask.stages)}')
    if ask.stages[name].compose:
        raise ConfigError(f"{where}: stage {name} composes trials of others, so nothing is drawn for it")
    if ask.stages[name].cases:
        raise ConfigError(f"{where}: stage {name} has cases; the trials of a search differ by axes of its space alone")
    children = [child for child, stage in ask.stages.items() if name in _parent_names(stage)]
    if children:
        raise ConfigError(f"{where}: stage {children[0]} starts from {name}, whose trials are drawn while it runs")
    return name


def _refuse_idle(file: SweepFile, ask: StudyAsk, known: Collection[str]) -> None:
    """Refuse an axis of the whole file that no stage reads, but for those that are known without it."""
    bodies = [body for stage in ask.stages.values() for body in (stage, *stage.cases.values())]
    read = words_in([ask.trial, *(part for body in bodies for part in (body.train, body.trial, body.parent))])
    for axis in ask.grid:
        if "." not in axis and axis not in {*read, *known}:
            raise ConfigError(
                f'{file.where("grid", axis)}: axis "{axis}" is read by no stage; write `count: {axis}` where it '
                "belongs, or name the field that it changes, as in --set grid.trial.optimizer.lr=[...]"
            )


def _check(file: SweepFile, search: SearchAsk, cover: Sequence[Cell]) -> None:
    """Refuse what a search could not be judged or stopped by."""
    for cell in cover:
        counts = cell.train.valid.values() if isinstance(cell.train.valid, dict) else [cell.train.valid]
        if search.objective == "valid" and len({*counts}) > 1:
            raise ConfigError(
                f"{file.where('search', 'objective')}: the mean over the mixture's domains needs the same number of "
                f"validation images of each; stage {cell.stage} has {', '.join(map(str, counts))}"
            )
        if cell.train.mode != "restart":
            raise ConfigError(
                f"{file.where('search', 'stage')}: the points of a search are trained apart; stage {cell.stage} has "
                f"mode {cell.train.mode}"
            )
    points: dict[str, set[str]] = {}
    for cell in cover:
        point, fixed = ({k: v for k, v in cell.axes.items() if (k in search.space) is one} for one in (True, False))
        asked = cell.train.valid, cell.train.valid_domains or cell.train.domains, cell.axes.get("held_out")
        points.setdefault(canonical(point), set()).add(canonical([fixed, *asked]))
    if len({frozenset(judged) for judged in points.values()}) > 1:
        raise ConfigError(
            f"{file.where('search', 'space')}: every point should be judged by the same validation images, but an axis "
            f"changes them; name them once, by train.valid and train.valid_domains of stage {search.stage}"
        )
    epochs = max(cell.trial.epochs for cell in cover)
    if search.pruner.name != "none" and search.pruner.min_epochs >= epochs:
        raise ConfigError(
            f"{file.where('search', 'pruner', 'min_epochs')}: min_epochs should be less than the {epochs} epochs of a "
            f"trial, but it is {search.pruner.min_epochs}: nothing would be stopped; say search.pruner=none for that"
        )


def _parent_names(stage: StageAsk) -> list[str]:
    """Return the stages that a stage's cases start from."""
    parents = [case.parent or stage.parent for case in stage.cases.values()] or [stage.parent]
    return [name for name in map(parent_name, parents) if name]


def _wanted(ask: StudyAsk, only: Sequence[str]) -> set[tuple[str, str]]:
    """Return (stage, case) of what is to be kept; a case that is empty stands for all of them."""
    wanted: set[tuple[str, str]] = set()
    for name in only or ask.stages:
        stage, slash, case = name.partition("/")
        if stage not in ask.stages:
            raise ConfigError(f'--only {name}: unknown stage "{stage}"; {did_you_mean(stage, ask.stages)}')
        cases = {**ask.stages[stage].cases, **ask.stages[stage].compose}
        if slash and case not in cases:
            has = did_you_mean(case, cases) if cases else "it has none"
            raise ConfigError(f'--only {name}: unknown case "{case}" of stage {stage}; {has}')
        wanted.add((stage, case))
    return wanted


def _in_order(ask: StudyAsk, file: SweepFile) -> list[str]:
    order: list[str] = []
    left = list(ask.stages)
    for name, stage in ask.stages.items():
        for before in _parent_names(stage):
            if before not in ask.stages:
                where = file.where("stages", name, "from")
                raise ConfigError(f'{where}: unknown stage "{before}"; {did_you_mean(before, ask.stages)}')
            if ask.stages[before].compose:
                where = file.where("stages", name, "from")
                raise ConfigError(
                    f"{where}: stage {before} composes trials and has no weights; start from one of its parts"
                )
    while left:
        ready = [name for name in left if {*order}.issuperset(_parent_names(ask.stages[name]))]
        if not ready:
            where = file.where("stages", left[0], "from")
            raise ConfigError(f"{where}: stages {', '.join(left)} start from each other in a circle")
        order.append(ready[0])
        left.remove(ready[0])
    return order
