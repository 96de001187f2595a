"""Tables of training budgets: which domains, how many images of each, and what that gives on every domain."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from dfloc.config import TrialSpec
from dfloc.metrics.metric import AP, Metric
from dfloc.report import captions, cells, differs, false_alarms, table
from dfloc.report.controls import DATA, SCRATCH, besides, kind_of
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Study, mean_valid, over
from dfloc.report.models import budgeted, case_of
from dfloc.report.roles import ALONE, WORDS
from dfloc.report.table import Cell, Column, Row, Table
from dfloc.report.words import named

Measured = tuple[str, Group, Metric | None]  # a baseline by a metric; None: the one that stands for the protocol


@dataclass(frozen=True)
class Budget:
    """One budget: the model that answers for each test domain, which is one and the same or one of its own.

    Attributes:
        models: test domain -> group.
        solved: it is a baseline.
    """

    name: str
    models: Mapping[str, Group]
    solved: bool = False

    @property
    def groups(self) -> list[Group]:
        """The models, each once."""
        return list({id(group): group for group in self.models.values()}.values())

    @property
    def valid(self) -> float | None:
        """Mean validation IoU, each model on its own validation list; None where they have no run in common."""
        return mean_valid(self.groups)

    @property
    def totals(self) -> set[int]:
        """How many images its models are trained on."""
        return {group.first.trial.spec.train.size for group in self.groups}

    def score(self, domains: Sequence[str], metric: str | None = None) -> Estimate | None:
        """Return the mean over domains, each answered by its own model; None where one is missing."""
        return over([(self.models[domain], domain) for domain in domains], metric)

    def cell(self, domains: Sequence[str], metric: str | None) -> Cell:
        """Return `score` as a cell, or the hole."""
        hole = next((group.hole for group in self.groups if not group.scored), table.DASH)
        return cells.mean(self.score(domains, metric), hole, [(self.models[name], [name]) for name in domains], metric)


def lines(study: Study) -> list[Budget]:
    """Return the budgets in the order of the plan, but for those whose number of images of each domain is an axis."""
    return _lines(study, [group for group in budgeted(study) if "count" not in group.told.values()])


def _lines(study: Study, groups: Iterable[Group]) -> list[Budget]:
    """Return some models as budgets: those of a case, or a stage, that differ in their one domain are one line."""
    domains = study.tested
    found: dict[tuple[str, str, str, bool], list[Group]] = {}
    for group in groups:
        n = next((value for axis, value in group.axes.items() if group.told.get(axis) == "n"), "")
        rest = [named(axis, value) for axis, value in group.axes.items() if _is_setting(group, axis)]
        name = ", ".join(filter(None, [case_of(group), *(rest if not group.case or group.facet else [])]))
        found.setdefault((group.stage, name, str(n), ALONE in group.role), []).append(group)
    made = []
    for (stage, name, n, alone), of in found.items():
        models = {group.role.domain: group for group in of} if alone else dict.fromkeys(domains, of[0])
        if all(domain in models for domain in domains):
            made.append((stage, ", ".join(filter(None, [name, f"{n} of one domain" if n else ""])), models))
    names = [name for _, name, _ in made]
    return [
        Budget(name if name and names.count(name) == 1 else ", ".join(filter(None, [stage, name])), models)
        for stage, name, models in made
    ]


def counted(study: Study) -> list[Budget]:
    """Return the mixtures whose number of images of each domain is an axis."""
    return _lines(study, [group for group in budgeted(study) if "count" in group.told.values()])


def _is_setting(group: Group, axis: str) -> bool:
    return axis not in WORDS and group.told.get(axis) not in ("domain", "n")


def budgets(study: Study) -> Table:
    """Return the table "Data seen from domains"."""
    found, columns = lines(study), _columns(study)
    return Table(
        id="budgets",
        title="Data seen from domains.",
        caption=f"Test {study.first.word} of each training budget, ranked by validation {study.measure}, which each "
        "row measures on its own validation list. Where a row has a model for each domain, a domain's column is the "
        "model trained on it.",
        source=[*captions.provenance(study, _all(found)), *false_alarms.source(study)],
        columns=columns,
        rows=[*(table.row(columns, line) for line in _ranked(found)), *_baseline_rows(study, columns)],
        trials=captions.trials(_all(found)),
    )


def equal_total(study: Study) -> Table:
    """Return few images of every domain beside as many in all of one domain."""
    columns, rows, found, pairs = _columns(study), list[Row](), list[Budget](), list[tuple[Group, Group]]()
    for total, mixed in _by_total(counted(study)).items():
        single = _single(study, total, mixed[0].groups[0])
        pairs += product(_all(mixed), _all(single))
        rows += table.rows(columns, [_ranked([*mixed, *single])])
        if not single:
            missing = Cell(f"{total:,} of one domain", "no model of one domain has this total", mark="hole")
            rows.append(Row([missing, *[Cell(table.DASH, mark="hole") for _ in columns[1:]]]))
        found += [*mixed, *single]
    return Table(
        id="equal-total",
        title="Diversity at an equal total: few images of every domain beside as many in all of one.",
        caption="Rows between two rules have the same number of training images; count: images of each domain. "
        f"Models of one domain are tested on their own. Ranked by validation {study.measure}, which each row "
        f"measures on its own validation list.{_also(pairs)}",
        source=[*captions.provenance(study, _all(found)), *false_alarms.source(study)],
        columns=columns,
        rows=[*rows, *_baseline_rows(study, columns)],
        trials=captions.trials(_all(found)),
    )


def _also(pairs: Sequence[tuple[Group, Group]]) -> str:
    """Return a sentence where models of all domains and of one differ in more than their images."""
    words = differs.words(besides(pairs, ("train",)))
    return f" Models of all domains and of one also differ in {words}." if words else ""


def _by_total(found: Sequence[Budget]) -> dict[int, list[Budget]]:
    totals: dict[int, list[Budget]] = {}
    for line in found:
        for total in line.totals:
            totals.setdefault(total, []).append(line)
    return dict(sorted(totals.items()))


def _single(study: Study, total: int, mixed: Group) -> list[Budget]:
    """Return the budgets of one domain that have a total, else the models from scratch that have it.

    Of several stages of those, the one that differs from a mixture in the fewest settings; of those the first.
    """
    sources: dict[tuple[str, str], list[Group]] = {}
    for group in (group for group in study.groups if kind_of(group.role) is SCRATCH):
        sources.setdefault((group.stage, group.case), []).append(group)
    scratch = min(sources.values(), key=lambda of: len(besides([(mixed, of[0])], DATA)), default=[])
    for found in (lines(study), _lines(study, scratch)):
        if alike := [line for line in found if len(line.groups) > 1 and line.totals == {total}]:
            return alike
    return []


def baselines(study: Study) -> Table:
    """Return what looks at no image or learns nothing."""

    def score(head: str, domains: Sequence[str]) -> Column[Measured]:
        return Column(head, lambda each: cells.score(each[1], domains, each[2] and each[2].key))

    columns: list[Column[Measured]] = [
        Column("Baseline", lambda each: Cell(each[0]), words=True),
        Column("Metric", lambda each: Cell((each[2] or study.first).label), words=True),
        Column(f"Valid. {study.measure}", lambda each: table.number(None if each[2] else each[1].valid)),
        *(score(domain, [domain]) for domain in study.tested),
        score("Mean", study.tested),
        *false_alarms.columns(study, lambda each: [each[1]]),
    ]
    solved = captions.solved(study)
    metrics = (None, AP) if study.protocol.reads == "map" else (None,)
    blocks = [[(words, group, metric) for metric in metrics] for words, group in solved.items()]
    return Table(
        id="baselines",
        title="Baselines.",
        caption=f"{' '.join(words for name, words in captions.EXPLAINED.items() if captions.baselines(study, name))}",
        source=[*captions.provenance(study, solved.values()), *false_alarms.source(study)],
        columns=columns,
        rows=table.rows(columns, blocks),
        best="column",
        trials=captions.trials(solved.values()),
    )


def _columns(study: Study) -> list[Column[Budget]]:
    def on(domain: str) -> Column[Budget]:
        return Column(domain, lambda line: cells.score(line.models[domain], [domain]))

    def steps(line: Budget) -> str:
        return " … ".join(f"{steps:,}" for steps in sorted({spec.steps for spec in _specs(line)}))

    def maps(line: Budget) -> str:
        return " + ".join(recipe.map for recipe in _specs(line)[0].maps)

    return [
        Column("Data seen", lambda line: cells.name(line.name, line.groups), words=True),
        Column("Training images", lambda line: Cell(_counts(study.record.domains, line)), words=True),
        Column("Maps", lambda line: Cell("" if line.solved else maps(line)), words=True, small=True),
        Column("Valid. labels", lambda line: Cell(f"{sum(spec.valid.size for spec in _specs(line)):,}"), small=True),
        Column("Steps", lambda line: Cell("none" if line.solved else steps(line)), small=True),
        Column(f"Valid. {study.measure}", lambda line: cells.valid(line.groups)),
        *map(on, study.tested),
        Column("Mean", lambda line: line.cell(study.tested, None)),
        Column("AP, mean", lambda line: line.cell(study.tested, AP.key)),
        *false_alarms.columns(study, lambda line: line.groups),
    ]


def _specs(line: Budget) -> list[TrialSpec]:
    return [group.first.trial.spec for group in line.groups]


def _ranked(found: Sequence[Budget]) -> list[Budget]:
    return sorted(found, key=lambda line: -1.0 if line.valid is None else line.valid, reverse=True)


def _baseline_rows(study: Study, columns: Sequence[Column[Budget]]) -> list[Row]:
    solved = captions.solved(study).items()
    found = [Budget(words, dict.fromkeys(study.tested, group), solved=True) for words, group in solved]
    return [table.row(columns, line, starts=place == 0, muted=True) for place, line in enumerate(found)]


def _counts(domains: Sequence[str], line: Budget) -> str:
    counts = [spec.train.counts for spec in _specs(line)]
    if len(counts) > 1:
        sizes = sorted({sum(each.values()) for each in counts})
        return f"{len(counts)} models x {' … '.join(f'{size:,}' for size in sizes)}"
    (only,) = counts
    values = [only.get(domain, 0) for domain in domains if only.get(domain)]
    return f"{len(values)} x {values[0]:,}" if len(set(values)) == 1 else " + ".join(f"{value:,}" for value in values)


def _all(found: Iterable[Budget]) -> list[Group]:
    return [group for line in found for group in line.groups]
