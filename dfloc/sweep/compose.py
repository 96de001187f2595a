"""`compose`: a router's choice among maps of other trials, or their mean -> composites, and trials of these."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from dfloc.axis import Value
from dfloc.config import DecoderSpec, InitFrom, Lineage, LossSpec, OptimizerSpec, ScheduleSpec, TrialSpec
from dfloc.data import dolos
from dfloc.errors import ConfigError, did_you_mean
from dfloc.frozen import canonical
from dfloc.metrics import protocols
from dfloc.metrics.image_rows import FAKE, REAL
from dfloc.planned import PlannedTrial
from dfloc.registry import COMPOSITE
from dfloc.sweep import counts
from dfloc.sweep.cell import Cell, Composite
from dfloc.sweep.data import Data, said
from dfloc.sweep.sweep_file import SweepFile
from dfloc.sweep.sweep_keys import ComposeAsk, StudyAsk

ROUTE = "route"
REPEATED = ("draw", "seed")
MOST = 100  # parts of one mean


class Place(NamedTuple):
    """A mixture draw and a trial seed."""

    draw: int
    seed: int


def composites(
    file: SweepFile,
    ask: StudyAsk,
    by_stage: Mapping[str, Sequence[Cell]],
    axes: Mapping[str, Sequence[int]],
    data: Data,
) -> tuple[Composite, ...]:
    """Return what the stages of a study compose: of every draw and seed, parts of the same one.

    Args:
        file: what says where a mistake stands.
        ask: the study.
        by_stage: the cells of the stages that train.
        axes: `draw` and `seed`.
        data: which families domains are of.

    Raises:
        ConfigError: an unknown stage, case or class, a class without a part, a part of another task or that is not one
            trial; names the line.
    """
    found: list[Composite] = []
    for stage, asked in ask.stages.items():
        for name, one in asked.compose.items():
            made = _Composing(file, ask, by_stage, data, stage, name)
            places = [Place(draw, seed) for draw in axes["draw"] for seed in axes["seed"]]
            found += made.routed(one, places) if one.rule == "argmax" else made.averaged(one, places)
    return tuple(found)


class _Composing:
    """One composite of a stage, as it is written."""

    def __init__(
        self,
        file: SweepFile,
        ask: StudyAsk,
        by_stage: Mapping[str, Sequence[Cell]],
        data: Data,
        stage: str,
        name: str,
    ):
        self._file, self._ask, self._by_stage, self._data = file, ask, by_stage, data
        self._stage, self._name = stage, name

    def routed(self, ask: ComposeAsk, places: Sequence[Place]) -> Iterator[Composite]:
        """Yield a composite for each place: its router, and a part for each class of it but real."""
        if ask.route is None:
            self._refuse("route", "rule argmax needs a router; name a detector or a classifier by route: STAGE")
        for key in ("parts", "over"):
            if key in ask.model_fields_set:
                self._refuse(key, f"{key} is of rule: mean; with a router name a part by its class, or by rest")
        routers = self._cells(ROUTE, str(ask.route))
        for place in places:
            router = self._one(ROUTE, str(ask.route), _at(routers, place))
            if router.trial.task == "localize":
                self._refuse(ROUTE, f"{ask.route} localizes, but a router detects or attributes: set its trial.task")
            parts = {ROUTE: router}
            for name, word in self._words(ask, self._classes(router)).items():
                part = self._one(name, word, self._of_class(name, word, _at(self._cells(name, word), place)))
                self._refuse_task(name, word, part)
                parts[name] = part
            yield self._made(ask, dict(place._asdict()), parts)

    def averaged(self, ask: ComposeAsk, places: Sequence[Place]) -> Iterator[Composite]:
        """Yield a composite for each place, or for each value of the axis alone that is not averaged over."""
        if ask.route or ask.rest or ask.classes:
            given = next(iter([*ask.classes, *(key for key in ("route", "rest") if key in ask.model_fields_set)]))
            self._refuse(given, f"{given} is of rule: argmax; a mean has parts: [STAGE, ...]")
        if not ask.parts:
            self._refuse("rule", "rule mean needs parts; name stages of localizers by parts: [STAGE, ...]")
        made: set[str] = set()
        for place in places:
            cells = [cell for word in ask.parts for cell in self._members(word, ask.over, place)]
            if len(cells) > MOST:
                self._refuse("parts", f"a mean is of {MOST} trials at most, but these are {len(cells)}")
            axes: dict[str, Value] = {axis: value for axis, value in place._asdict().items() if axis != ask.over}
            if canonical(axes) not in made:
                made.add(canonical(axes))
                numbered = {str(number): cell for number, cell in enumerate(cells)}
                yield self._made(ask, {"draw": 0, "seed": 0} | axes, numbered)

    def _members(self, word: str, over: str | None, place: Place) -> list[Cell]:
        """Return the trials of a part: one, or all that differ in an axis alone."""
        cells = self._cells("parts", word)
        for cell in cells:
            self._refuse_task("parts", word, cell)
        if over in REPEATED:
            cells = [cell for cell in cells if all(_is_at(cell, axis, place) for axis in REPEATED if axis != over)]
        else:
            cells = _at(cells, place)
        if over is None:
            return [self._one("parts", word, cells)]
        if over not in (known := {axis for cell in cells for axis in cell.axes}):
            self._refuse("over", f'{word} has no axis "{over}"; {did_you_mean(over, known)}')
        alike = {canonical([cell.case, {**cell.axes, over: 0}]): cell for cell in cells}
        if len(alike) > 1:
            self._one("parts", word, list(alike.values()))
        return cells

    def _made(self, ask: ComposeAsk, axes: dict[str, Value], parts: dict[str, Cell]) -> Composite:
        return Composite(self._stage, self._name, axes, ask.rule, parts, self._where())

    def _words(self, ask: ComposeAsk, classes: Sequence[str]) -> dict[str, str]:
        """Return whose maps each class has."""
        if REAL in ask.classes:
            self._refuse(REAL, "an image that is called real has an empty map; leave real out")
        for name in ask.classes:
            if name not in classes:
                self._refuse(name, f'{ask.route} tells no class "{name}" apart; {did_you_mean(name, classes)}')
        lacking = [name for name in classes if name not in ask.classes]
        if lacking and ask.rest is None:
            names = ", ".join(lacking)
            self._refuse(None, f"no part has the maps of {names}; add {lacking[0]}: STAGE, or rest: STAGE for all")
        if ask.rest is not None and not lacking:
            self._refuse("rest", "every class has a part of its own, so rest would be read by nothing; leave it out")
        return {name: ask.classes.get(name) or str(ask.rest) for name in classes}

    def _classes(self, router: Cell) -> list[str]:
        """Return what a router tells apart but real."""
        if router.trial.task == "detect":
            return [FAKE]
        domains = counts.names(router.train.domains, router.stage, router.axes, self._ask.domains, self._data)
        fakes = [domain for domain in domains if not dolos.is_real(domain)]
        in_order = [*(domain for domain in self._ask.domains if domain in fakes), *fakes]
        return list(dict.fromkeys(dolos.family(domain, self._data.families) for domain in in_order))

    def _cells(self, key: str, word: str) -> list[Cell]:
        """Return the cells of `stage` or `stage/case`."""
        stage, slash, case = word.partition("/")
        if stage not in self._ask.stages:
            self._refuse(key, f'unknown stage "{stage}"; {did_you_mean(stage, self._ask.stages)}')
        if self._ask.stages[stage].compose:
            itself = "itself" if stage == self._stage and case in ("", self._name) else f"{word}, a composite"
            self._refuse(key, f"a composite is made of trained trials, not of {itself}; name the stages of its parts")
        if self._ask.search and stage == self._ask.search.stage:
            self._refuse(key, f"the trials of {stage} are drawn by a search; name a stage whose trials are known")
        cases = self._ask.stages[stage].cases
        if slash and case not in cases:
            has = did_you_mean(case, cases) if cases else "it has none"
            self._refuse(key, f'unknown case "{case}" of stage {stage}; {has}')
        return [cell for cell in self._by_stage[stage] if not slash or cell.case == case]

    def _of_class(self, name: str, word: str, cells: list[Cell]) -> list[Cell]:
        """Return the cells whose axis `domain` is of a class; all of them where there is no such axis or class."""
        if name == FAKE or not any("domain" in cell.axes for cell in cells):
            return cells
        families = self._data.families
        of = {
            cell: dolos.family(counts.full_name(str(cell.axes["domain"]), self._ask.domains, self._data), families)
            for cell in cells
            if "domain" in cell.axes
        }
        found = [cell for cell in cells if of.get(cell) == name]
        if not found:
            has = ", ".join(dict.fromkeys(of.values()))
            self._refuse(name, f"{word} has no trial of {name}, only of {has}; name another stage for it")
        return found

    def _one(self, key: str, word: str, cells: Sequence[Cell]) -> Cell:
        """Return the only cell of some."""
        if not cells:
            self._refuse(key, f"{word} has no trial of this seed and draw")
        if len(cells) > 1:
            self._refuse_several(key, word, cells)
        return cells[0]

    def _refuse_several(self, key: str, word: str, cells: Sequence[Cell]) -> NoReturn:
        stage, cases = cells[0].stage, list(dict.fromkeys(cell.case for cell in cells))
        if len(cases) > 1:
            self._refuse(key, f"{word} is {len(cells)} trials; name a case, such as {stage}/{cases[0]}")
        values = {axis: {canonical(cell.axes.get(axis)) for cell in cells} for axis in cells[0].axes}
        axes = [axis for axis, seen in values.items() if len(seen) > 1]
        cure = f"average them by rule: mean, over: {axes[0]}" if len(axes) == 1 else "make a case of the one you mean"
        self._refuse(key, f"{word} is {len(cells)} trials, which differ in {' and '.join(axes)}; {cure}")

    def _refuse_task(self, key: str, word: str, part: Cell) -> None:
        if part.trial.task != "localize":
            self._refuse(key, f"{word} calls images ({part.trial.task}), but a part gives a map: name a localizer")
        if part.protocol not in (None, self._ask.evaluate.protocol):
            own, theirs = self._ask.evaluate.protocol, part.protocol
            self._refuse(key, f"{word} is scored by {theirs}, the composite by {own}; leave its evaluate.protocol out")

    def _where(self, *keys: str) -> str:
        return self._file.where("stages", self._stage, "compose", self._name, *keys)

    def _refuse(self, key: str | None, why: str) -> NoReturn:
        """Raise what is wrong with a composite, and where."""
        raise ConfigError(f"{self._where(*filter(None, [key]))}: {self._stage}/{self._name}: {why}")


def _at(cells: Sequence[Cell], place: Place) -> list[Cell]:
    """Return the cells of a draw and seed; one whose seed is pinned stands for every seed."""
    own = [cell for cell in cells if _is_at(cell, "draw", place)]
    return [cell for cell in own if _is_at(cell, "seed", place)] or own


def _is_at(cell: Cell, axis: str, place: Place) -> bool:
    return bool(cell.axes[axis] == getattr(place, axis))


def trial(composite: Composite, parts: Mapping[str, PlannedTrial], data: Data) -> PlannedTrial:
    """Return the trial of a composite, without evaluations: its fingerprint follows from those of its parts.

    It is trained on nothing; what its router (of a mean its first part) is trained on stands as its lists.

    Raises:
        ConfigError: its router is scored by no protocol of images, so that nobody knows what it calls them.
    """
    first = next(iter(parts.values()))
    if composite.rule == "argmax" and not any(_calls(each.protocol) for each in first.evaluations if not each.explain):
        raise ConfigError(
            f"{composite.where}: router {first.stage} is scored by no protocol of images, so that nobody knows what it "
            f"calls them; add stages.{first.stage}.evaluate={{protocol: image-1}}"
        )
    seen = {name for part in parts.values() for name in (*part.spec.lineage.seen, *part.spec.train.counts)}
    lineage = Lineage(seen=tuple(sorted(seen)), base=first.spec.lineage.base, families=said(data, seen))
    spec = TrialSpec(
        train=first.spec.train,
        valid=first.spec.valid,
        maps=(),
        decoder=DecoderSpec(name=COMPOSITE, rule=composite.rule),
        loss=LossSpec(name="bce"),
        optimizer=OptimizerSpec(name="adamw"),
        schedule=ScheduleSpec(name="constant"),
        epochs=1,
        batch=64,
        init={role: InitFrom(parent=part.fingerprint) for role, part in parts.items()},
        lineage=lineage,
    )
    axes = dict(sorted(composite.axes.items()))
    return PlannedTrial(fingerprint=spec.fingerprint, stage=composite.stage, case=composite.case, axes=axes, spec=spec)


def hole(composite: Composite, lacking: Sequence[Cell]) -> str:
    """Return what must be said of a composite whose parts the data cannot give."""
    names = " and ".join(dict.fromkeys(cell.name for cell in lacking))
    return f"{composite.stage}/{composite.case} is left out: it waits for {names}, for which the data lack a domain"


def waiting(trials: Sequence[PlannedTrial], failed: Collection[str]) -> Iterator[str]:
    """Yield what composites wait for that failed before."""
    names = {trial.fingerprint: trial.name for trial in trials}
    for trial in (each for each in trials if each.spec.parts):
        if lost := [names.get(part, part[:12]) for part in trial.parents if part in failed]:
            yield f"{trial.name} waits for {' and '.join(lost)}, which failed"


def _calls(protocol: str) -> bool:
    return protocols.find(protocol).reads == "image"
