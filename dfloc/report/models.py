"""Models that are trained on one domain, on all but one or on all of them, and tested on each: their columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dfloc.config import TrialSpec
from dfloc.data import dolos
from dfloc.frozen import canonical
from dfloc.report import recipe, words
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Study, common_runs, mean_valid, scored_places
from dfloc.report.roles import COMPOSED, MIXTURE, SOLVED, WORDS
from dfloc.report.score import Score
from dfloc.summary import relation

ONE, WITHOUT, ALL = "one domain", "all but one", "several domains"
ONWARD = "further domains, from a trained model"
OWN = frozenset({"train", "valid", "seed", "epochs", "epoch_steps", "lineage", "init"})

Which = Callable[["MatrixColumn", str], bool]


@dataclass(frozen=True, eq=False)
class MatrixColumn:
    """The training data of one cell: `<domain>`, `without-<domain>`, `train_all_4`, or domains joined.

    Attributes:
        kind: one domain | all but one | several domains | further domains, from a trained model; of another task than
            the study's first trial, which is told.
        said: families of domains that a person gave.
    """

    name: str
    kind: str
    group: Group
    said: Mapping[str, str]

    def knows(self, domain: str) -> bool:
        """Return whether a test domain is in-domain: it or an ancestor was trained on one of its family."""
        return relation(self.group.first.trial.spec, domain, self.said) == "in"


def every(_: MatrixColumn, __: str) -> bool:
    """Choose all cells."""
    return True


def known(column: MatrixColumn, domain: str) -> bool:
    """Choose cells that are in-domain (ID)."""
    return column.knows(domain)


def unknown(column: MatrixColumn, domain: str) -> bool:
    """Choose cells that are out-of-domain (OOD)."""
    return relation(column.group.first.trial.spec, domain, column.said) == "out"


KINDS: Mapping[str, Which] = {"in-domain": known, "out-of-domain": unknown}


@dataclass(frozen=True, eq=False)
class Part:
    """The columns of a model that are of one kind: a row of the table of models."""

    model: "Model"
    kind: str
    columns: Sequence[MatrixColumn]

    @property
    def groups(self) -> list[Group]:
        """The trainings."""
        return [column.group for column in self.columns]

    @property
    def valid(self) -> float | None:
        """Mean validation IoU of the trainings; None where they have no run in common."""
        return mean_valid(self.groups)

    def cells(self, study: Study, which: Which) -> list[tuple[Group, list[str]]]:
        """Return each training with the test domains of it that are chosen."""
        chosen = [(one.group, [name for name in study.tested if which(one, name)]) for one in self.columns]
        return [(group, domains) for group, domains in chosen if domains]

    def mean(self, study: Study, which: Which, metric: str | None = None) -> Estimate | None:
        """Return the mean over the chosen cells; None where there are none or one is a hole."""
        return study.mean_of(self.cells(study, which), metric)

    def over(self, study: Study, which: Which, value: Callable[[Score], float | None]) -> float | None:
        """Return the mean over the chosen cells of what a score says, runs averaged first; None as `mean`."""
        flat = [(group, domain) for group, domains in self.cells(study, which) for domain in domains]
        found = []
        for scores in zip(*(run.scores for run in common_runs(flat)), strict=True):
            values = [number for score in scores if (number := value(score)) is not None]
            found.append(sum(values) / len(values) if values else None)
        there = [number for number in found if number is not None]
        return sum(there) / len(there) if there and len(there) == len(found) else None

    def everywhere(self, study: Study, value: Callable[[Score], float | None]) -> float | None:
        """Return the mean over all test domains, the study's own and others, where a score says it; None: nowhere."""
        found = []
        for result in (group.runs[place] for place in scored_places(self.groups) for group in self.groups):
            scores = [result.scores.get(("best", name)) for name in (*study.tested, *study.extra, *study.reals)]
            found += [number for score in scores if score and (number := value(score)) is not None]
        return sum(found) / len(found) if found else None

    @property
    def hours(self) -> float | None:
        """What its trainings took together; None where none is finished."""
        return sum(seconds for seconds, _ in costs) / 3600 if (costs := self._costs) else None

    @property
    def images_per_second(self) -> float | None:
        """Training images that were read in a second of training; None where none is finished."""
        seconds = sum(seconds for seconds, _ in self._costs)
        return sum(images for _, images in self._costs) / seconds if seconds else None

    @property
    def _costs(self) -> list[tuple[float, float]]:
        done = [result.done.cost for group in self.groups for result in group.results if result.done]
        return [(cost.seconds, cost.seconds * cost.images_per_second) for cost in done]

    @property
    def hole(self) -> str:
        """What to write where a mean is missing."""
        return next((group.hole for group in self.groups if not group.scored), "unfinished")


@dataclass(frozen=True, eq=False)
class Model:
    """Trainings that differ in their data alone (and in how long they are trained on it)."""

    name: str
    columns: Sequence[MatrixColumn]

    @property
    def spec(self) -> TrialSpec:
        """The spec of its first training."""
        return self.columns[0].group.first.trial.spec

    @property
    def groups(self) -> list[Group]:
        """The trainings."""
        return [column.group for column in self.columns]

    @cached_property
    def parts(self) -> list[Part]:
        """Its columns by kind, in order."""
        kinds = dict.fromkeys(column.kind for column in self.columns)
        return [Part(self, kind, [column for column in self.columns if column.kind == kind]) for kind in kinds]

    def column(self, name: str) -> MatrixColumn | None:
        """Return the column of some training data."""
        return next((column for column in self.columns if column.name == name), None)


def models(study: Study) -> list[Model]:
    """Return the models of a study in the order of the plan.

    Two stages are of one model where all settings but data and length agree, as many images of each domain are taken,
    and no column would stand twice. What a curve, a budget or a search is made of has tables of its own.
    """
    blocks: dict[tuple[str, str, str, str], list[Group]] = {}
    elsewhere = {id(group) for group in budgeted(study)}
    for group in fresh(study):
        if id(group) not in elsewhere and not (tunes(study) and group.role.exposed):
            own = {axis: str(group.axes[axis]) for axis in settings(group)}
            key = (_settings(group), group.stage, group.case, canonical(own))
            blocks.setdefault(key, []).append(group)
    merged: dict[str, list[list[Group]]] = {}
    for (same, *_), groups in blocks.items():
        names = {_column(study, group).name for group in groups}
        there = merged.setdefault(same, [])
        free = (one for one in there if not names & {_column(study, group).name for group in one})
        target = next(free, None)
        if target is None:
            there.append(list(groups))
        else:
            target += groups
    found = sorted((one for many in merged.values() for one in many), key=lambda one: study.groups.index(one[0]))
    return [
        Model(name, [_column(study, group) for group in groups])
        for name, groups in zip(_names(found), found, strict=True)
    ]


def tunes(study: Study) -> bool:
    """Return whether a study fine-tunes on new domains."""
    return any(group.role.started and group.role.exposed for group in study.groups)


def fresh(study: Study) -> list[Group]:
    """Return the models that are no point of a curve, fine-tuned or its base.

    None of a search is there, nor what is solved or composed.
    """
    searched = {one.stage for one in study.record.searches}
    curves = [group for group in study.groups if group.role.started and group.role.exposed]
    shown = {*curves, *map(study.base, curves)}
    return [
        group
        for group in study.groups
        if group.stage not in searched and group not in shown and group.role.kinds.isdisjoint((SOLVED, COMPOSED))
    ]


def budgeted(study: Study) -> list[Group]:
    """Return the mixtures of a fine-tuning study that hold no domain out, and what their stages have beside them.

    They say what else the images could have gone to.
    """
    found = [group for group in fresh(study) if not group.role.held_out] if tunes(study) else []
    mixed = {group.stage for group in found if MIXTURE in group.role}
    return [group for group in found if group.stage in mixed]


def budgets(study: Study) -> list[Model]:
    """Return the models of a study's budgets, which have a table of their own, with all their mixtures."""
    blocks: dict[str, list[Group]] = {}
    for group in (group for group in budgeted(study) if "count" not in group.told.values()):
        blocks.setdefault(canonical(group.first.trial.spec.model_dump(mode="json", exclude=set(OWN))), []).append(group)
    return [Model(_described(groups[0]), [_column(study, group) for group in groups]) for groups in blocks.values()]


def parts(study: Study, found: Sequence[Model]) -> dict[str, list[Part]]:
    """Return the parts of all models by kind, each ranked by validation IoU; those without one last."""
    kinds: dict[str, list[Part]] = {}
    for part in (part for model in found for part in model.parts):
        kinds.setdefault(part.kind, []).append(part)
    return {kind: sorted(each, key=_rank, reverse=True) for kind, each in kinds.items()}


def best(study: Study, found: Sequence[Model], most: int) -> list[Model]:
    """Return the models of highest validation IoU of their kind of training data, in the order of the plan."""
    if len(found) <= most:
        return list(found)
    ranks: dict[int, int] = {}
    for block in parts(study, found).values():
        for rank, part in enumerate(block):
            ranks[id(part.model)] = min(rank, ranks.get(id(part.model), rank))
    chosen = {id(model) for model in sorted(found, key=lambda model: ranks[id(model)])[:most]}
    return [model for model in found if id(model) in chosen]


def foreign(study: Study, found: Sequence[MatrixColumn]) -> list[str]:
    """Return the sources of photographs that are trained on and not tested on; by family they count as in-domain."""
    tested = {domain.partition("/")[0] for domain in study.tested}
    trained = {domain.partition("/")[0] for one in found for domain in one.group.first.trial.spec.train.counts}
    return sorted(trained - tested)


def settings(group: Group) -> list[str]:
    """Return the axes of a group that are settings of its model, by name: a record that was read has no order."""
    return sorted(axis for axis in group.axes if axis not in WORDS and group.told.get(axis) != "domain")


def wide(found: Sequence[Model]) -> list[Model]:
    """Return the models of several trainings: each has a matrix."""
    return [model for model in found if len(model.columns) > 1]


def narrow(found: Sequence[Model]) -> dict[str, list[tuple[Model, MatrixColumn]]]:
    """Return what is the only training data of some models, and all models that are trained on it."""
    alone = dict.fromkeys(model.columns[0].name for model in found if len(model.columns) == 1)
    return {name: [(model, column) for model in found if (column := model.column(name)) is not None] for name in alone}


def heads(found: Sequence[Model]) -> list[str]:
    """Return the names of all columns, each once."""
    return list(dict.fromkeys(column.name for model in found for column in model.columns))


def _rank(part: Part) -> float:
    return -1.0 if part.valid is None else part.valid


def _settings(group: Group) -> str:
    spec = group.first.trial.spec
    counts = sorted(set(spec.train.counts.values()))
    return canonical([spec.model_dump(mode="json", exclude=set(OWN)), counts, group.role.started])


def _column(study: Study, group: Group) -> MatrixColumn:
    name, kind = _data(study, group)
    task = group.first.trial.spec.task
    kind = kind if task == study.task else f"{kind}, {task}"  # their validation measures are not compared
    return MatrixColumn(name, kind, group, study.record.families)


def _data(study: Study, group: Group) -> tuple[str, str]:
    """Return the name and kind of a group's training data: of the fakes alone, where photographs stand beside them."""
    every = group.first.trial.spec.train.counts
    counts = {domain: count for domain, count in every.items() if not dolos.is_real(domain)} or every
    held_out = group.role.held_out
    if group.role.started:
        return f"then {' + '.join(counts)}", ONWARD
    if held_out and relation(group.first.trial.spec, held_out, study.record.families) != "in":
        return f"without-{held_out}", WITHOUT
    if len(counts) == 1:
        return next(iter(counts)), ONE
    if set(counts) == set(study.record.domains):
        return f"train_all_{len(counts)}", ALL
    return " + ".join(counts), ALL


def _names(found: Sequence[Sequence[Group]]) -> list[str]:
    """Return a name for each model: its case and axes, else what it is; the stage too where two are called the same."""
    names = [_longest([_words(group) for group in groups]) or _described(groups[0]) for groups in found]
    twice = {name for name in names if names.count(name) > 1}
    names = [f"{groups[0].stage}, {name}" if name in twice else name for name, groups in zip(names, found, strict=True)]
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        names[place] = f"{name} ({seen[name]})" if seen[name] > 1 else name
    return names


def _longest(found: Sequence[list[str]]) -> str:
    """Return the words that are most, however long each is."""
    most: list[str] = max(found, key=len)
    return ", ".join(most)


def _words(group: Group) -> list[str]:
    said = [case_of(group), *(words.named(axis, group.axes[axis]) for axis in settings(group))]
    return [*dict.fromkeys(filter(None, said))]


def case_of(group: Group) -> str:
    """Return what the case of a group is called; empty where it is of none."""
    return words.case(group.case, group.first.trial.spec) if group.case else ""


def _described(group: Group) -> str:
    spec = group.first.trial.spec
    return ", ".join(filter(None, [recipe.maps(spec), recipe.decoder(spec)]))
