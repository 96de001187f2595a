"""Tables of training budgets: which domains, how many images of each, and what that gives on every domain."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from dfloc.metrics.metric import AP
from dfloc.report import captions, cells, differs, table
from dfloc.report.controls import DATA, SCRATCH, besides, kind_of
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Study, mean_valid, over
from dfloc.report.models import budgeted
from dfloc.report.roles import ALONE, WORDS
from dfloc.report.table import Cell, Row, Table


@dataclass(frozen=True)
class Line:
    """One budget: the model that answers for each test domain, which is one and the same or one of its own.

    Attributes:
        models: test domain -> group.
    """

    name: str
    models: Mapping[str, Group]

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

    def cell(self, domains: Sequence[str], metric: str | None, hole: str) -> Cell:
        """Return `score` as a cell, or the hole."""
        return cells.mean(self.score(domains, metric), hole, [(self.models[name], [name]) for name in domains], metric)


def lines(study: Study) -> list[Line]:
    """Return the budgets in the order of the plan, but for those whose number of images of each domain is an axis."""
    return _lines(study, [group for group in budgeted(study) if "count" not in group.told.values()])


def _lines(study: Study, groups: Iterable[Group]) -> list[Line]:
    """Return some models as budgets: those of a case, or a stage, that differ in their one domain are one line."""
    domains = study.tested
    found: dict[tuple[str, str, str, bool], list[Group]] = {}
    for group in groups:
        n = next((value for axis, value in group.axes.items() if group.told.get(axis) == "n"), "")
        rest = [f"{axis} = {value}" for axis, value in group.axes.items() if _is_setting(group, axis)]
        name = ", ".join(filter(None, [group.case, *(rest if not group.case or group.facet else [])]))
        found.setdefault((group.stage, name, str(n), ALONE in group.role), []).append(group)
    made = []
    for (stage, name, n, alone), of in found.items():
        models = {group.role.domain: group for group in of} if alone else dict.fromkeys(domains, of[0])
        if all(domain in models for domain in domains):
            made.append((stage, ", ".join(filter(None, [name, f"{n} of one domain" if n else ""])), models))
    names = [name for _, name, _ in made]
    return [
        Line(name if name and names.count(name) == 1 else ", ".join(filter(None, [stage, name])), models)
        for stage, name, models in made
    ]


def counted(study: Study) -> list[Line]:
    """Return the mixtures whose number of images of each domain is an axis."""
    return _lines(study, [group for group in budgeted(study) if "count" in group.told.values()])


def _is_setting(group: Group, axis: str) -> bool:
    return axis not in WORDS and group.told.get(axis) not in ("domain", "n")


def budgets(study: Study) -> Table:
    """Return the table "Data seen from domains"."""
    found = lines(study)
    return Table(
        id="budgets",
        title="Data seen from domains.",
        caption="Test IoU of each training budget, ranked by validation IoU, which each row measures on its own "
        "validation list. Where a row has a model for each domain, a domain's column is the model trained on it. "
        f"{captions.provenance(study, _all(found))}",
        columns=_columns(study),
        rows=[*_ranked(study, found), *_baseline_rows(study)],
        words=(0, 1, 2),
        trials=captions.trials(_all(found)),
    )


def equal_total(study: Study) -> Table:
    """Return few images of every domain beside as many in all of one domain."""
    rows, found, pairs = [], [], list[tuple[Group, Group]]()
    for total, mixed in _by_total(counted(study)).items():
        single = _single(study, total, mixed[0].groups[0])
        pairs += product(_all(mixed), _all(single))
        block = _ranked(study, [*mixed, *single])
        if not single:
            missing = Cell(f"{total:,} of one domain", "no model of one domain has this total", mark="hole")
            block.append(Row([missing, *[Cell(table.DASH, mark="hole")] * (len(_columns(study)) - 1)]))
        rows += [replace(row, starts=place == 0) for place, row in enumerate(block)]
        found += [*mixed, *single]
    return Table(
        id="equal-total",
        title="Diversity at an equal total: few images of every domain beside as many in all of one.",
        caption="Rows between two rules have the same number of training images; count: images of each domain. "
        "Models of one domain are tested on their own. Ranked by validation IoU, which each row measures on its own "
        f"validation list.{_also(pairs)} {captions.provenance(study, _all(found))}",
        columns=_columns(study),
        rows=[*rows, *_baseline_rows(study)],
        words=(0, 1, 2),
        trials=captions.trials(_all(found)),
    )


def _also(pairs: Sequence[tuple[Group, Group]]) -> str:
    """Return a sentence where models of all domains and of one differ in more than their images."""
    words = differs.words(besides(pairs, ("train",)))
    return f" Models of all domains and of one also differ in {words}." if words else ""


def _by_total(found: Sequence[Line]) -> dict[int, list[Line]]:
    totals: dict[int, list[Line]] = {}
    for line in found:
        for total in line.totals:
            totals.setdefault(total, []).append(line)
    return dict(sorted(totals.items()))


def _single(study: Study, total: int, mixed: Group) -> list[Line]:
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
    domains = study.tested
    rows = []
    for words, group in captions.solved(study).items():
        for metric, label in ((None, study.first.label), (AP.key, AP.label)):
            line = [Cell(words), Cell(label), table.number(None if metric else group.valid)]
            line += [cells.score(group, [domain], metric) for domain in domains]
            rows.append(Row([*line, cells.score(group, domains, metric)], starts=not metric))
    return Table(
        id="baselines",
        title="Baselines.",
        caption=f"{' '.join(words for name, words in captions.EXPLAINED.items() if captions.baselines(study, name))} "
        f"{captions.provenance(study, captions.solved(study).values())}",
        columns=["Baseline", "Metric", "Valid. IoU", *domains, "Mean"],
        rows=rows,
        trials=captions.trials(captions.solved(study).values()),
        words=(0, 1),
    )


def _columns(study: Study) -> list[str]:
    heads = ["Data seen", "Training images", "Maps", "Valid. labels", "Steps", "Valid. IoU"]
    return [*heads, *study.tested, "Mean", "AP, mean"]


def _ranked(study: Study, found: Sequence[Line]) -> list[Row]:
    ranked = sorted(found, key=lambda line: -1.0 if line.valid is None else line.valid, reverse=True)
    return [_row(study, line) for line in ranked]


def _row(study: Study, line: Line) -> Row:
    domains = study.tested
    groups = line.groups
    specs = [group.first.trial.spec for group in groups]
    numbers = [
        cells.name(line.name, groups),
        Cell(_counts(study.record.domains, [spec.train.counts for spec in specs])),
        Cell(" + ".join(recipe.map for recipe in specs[0].maps)),
        Cell(f"{sum(spec.valid.size for spec in specs):,}"),
        Cell(" … ".join(f"{steps:,}" for steps in sorted({spec.steps for spec in specs}))),
        cells.valid(groups),
    ]
    numbers += [cells.score(line.models[domain], [domain]) for domain in domains]
    hole = next((group.hole for group in groups if not group.scored), table.DASH)
    return Row([*numbers, *(line.cell(domains, metric, hole) for metric in (None, AP.key))])


def _baseline_rows(study: Study) -> list[Row]:
    rows: list[Row] = []
    for words, group in captions.solved(study).items():
        row = _row(study, Line(words, dict.fromkeys(study.tested, group)))
        kept = [*row.cells[:2], Cell(""), row.cells[3], Cell("none"), *row.cells[5:]]
        rows.append(Row(kept, starts=not rows, muted=True))
    return rows


def _counts(domains: Sequence[str], counts: Sequence[Mapping[str, int]]) -> str:
    if len(counts) > 1:
        sizes = sorted({sum(each.values()) for each in counts})
        return f"{len(counts)} models x {' … '.join(f'{size:,}' for size in sizes)}"
    (only,) = counts
    values = [only.get(domain, 0) for domain in domains if only.get(domain)]
    return f"{len(values)} x {values[0]:,}" if len(set(values)) == 1 else " + ".join(f"{value:,}" for value in values)


def _all(found: Iterable[Line]) -> list[Group]:
    return [group for line in found for group in line.groups]
