"""Can it be learned without masks? Localizers of labels of whole fakes, of local fakes, and of masks, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dfloc.data import dolos
from dfloc.metrics.metric import IMAGE_AP, PBCA
from dfloc.registry import SOLVED
from dfloc.report import captions, cells, false_alarms, setups, table
from dfloc.report.chart import COLOURS, Axis, Figure, LegendKey, Lines, Panel, Series, mark, scale
from dfloc.report.estimate import Estimate
from dfloc.report.finding import Finding
from dfloc.report.groups import Group, Study, less
from dfloc.report.models import case_of
from dfloc.report.page import Section
from dfloc.report.table import Cell, Column, Table
from dfloc.report.words import counted, joined

KINDS: Mapping[str, str] = {"A": "labels of whole fakes", "B": "labels of local fakes", "C": "masks"}
TEXT = (
    "Labels say of a whole image whether it is fake; masks say where. What learns from labels alone is tested by the "
    "masks of the same local fakes as the others."
)
RESIZED = (
    "A method with labels and with masks may differ in more than that: Dolos resizes by Lanczos and flips where labels "
    "are learned, and does neither where masks are; so do the recipes of this study that follow it."
)


class Taught(NamedTuple):
    """A localizer, and what it learns from (`KINDS`)."""

    group: Group
    kind: str

    @property
    def name(self) -> str:
        """What it is called: its stage and case, and the axes that vary."""
        return ", ".join(filter(None, [case_of(self.group), joined(self.group.facet)]))

    @property
    def trained(self) -> str:
        """What it is trained on."""
        counts = self.group.first.trial.spec.train.counts
        return ", ".join(f"{count:,} {domain}" for domain, count in counts.items() if count)


def found(study: Study) -> list[Taught]:
    """Return the localizers of a study by what they learn from, in the order of the plan; none where all have masks."""
    every = []
    beside = any(result.trial.spec.labelled for result in study.results.all)  # which `worth` is about
    for group in study.groups if study.protocol.reads == "map" and not beside else ():
        spec = group.first.trial.spec
        kind = setups.setup(spec, study.record.kinds)
        if kind and spec.decoder.name not in SOLVED:
            every.append(Taught(group, kind))
    return every if any(one.kind != setups.MASKS for one in every) else []


def sections(study: Study) -> Iterator[Section]:
    """Yield the section; it is empty where nothing is learned from labels."""
    every = found(study)
    blocks: list[Figure | Table] = [dots(study, every), compared(study, every)] if every else []
    yield Section("supervision-study", "Labels or masks?", TEXT, blocks)


def dots(study: Study, every: Sequence[Taught]) -> Figure:
    """Return the score of each localizer, a panel for each test domain, a colour for each kind of supervision."""
    kinds = [kind for kind in KINDS if any(one.kind == kind for one in every)]
    return Figure(
        id="fig-supervision",
        title=f"Test {study.first.word} by what is learned from.",
        caption="Local fakes alone, reals never; best epoch, bars are 95 % intervals.",
        source=[cells.cross(study), *captions.provenance(study, [one.group for one in every])],
        panels=[_panel(study, of, kinds, words) for words, of in _panels(study, every).items()],
        legend=[LegendKey(KINDS[kind], _colour(kind), "") for kind in kinds],
        numbers="supervision",
    )


def _panels(study: Study, every: Sequence[Taught]) -> dict[tuple[str, str], list[Taught]]:
    """Return the localizers of each panel, by stage and test domain."""
    stages = dict.fromkeys(one.group.stage for one in every)
    by_stage = {stage: [one for one in every if one.group.stage == stage] for stage in stages}
    return {(stage, domain): of for stage, of in by_stage.items() for domain in study.tested}


def _panel(study: Study, every: Sequence[Taught], kinds: Sequence[str], at: tuple[str, str]) -> Panel:
    stage, domain = at
    names = {float(place): one.name for place, one in enumerate(every)}
    series, said = [], []
    for kind in kinds:
        there = [
            (place, one, of)
            for place, one in enumerate(every)
            if one.kind == kind and (of := one.group.score([domain]))
        ]
        series.append(Series(KINDS[kind], [mark(place, of) for place, _, of in there], _colour(kind), "", size=9))
        said += [f"{one.name} ({KINDS[kind]}): {of.value:.2f}" for _, one, of in there]
    chart = Lines(series, scale(study.first, "test"), Axis("Model", names), sideways=True)
    return Panel(f"{stage}, tested on {domain}", chart, "; ".join(said) + ".")


def _colour(kind: str) -> str:
    return COLOURS[[*KINDS].index(kind)]


def compared(study: Study, every: Sequence[Taught]) -> Table:
    """Return the numbers: IoU and PBCA of local fakes, AP of these against reals."""
    columns: list[Column[Taught]] = [
        Column("Model", lambda one: cells.name(one.name, [one.group]), words=True),
        Column("Learns from", lambda one: Cell(KINDS[one.kind]), words=True),
        Column("Trained on", lambda one: Cell(one.trained), words=True, small=True),
        *(column for domain in study.tested for column in _on(study, domain)),
        *false_alarms.columns(study, lambda one: [one.group]),
    ]
    blocks: dict[str, list[Taught]] = {}
    for one in every:
        blocks.setdefault(one.group.stage, []).append(one)
    baselines = [{"Model": Cell(words)} | _of_baseline(study, group) for words, group in captions.solved(study).items()]
    return Table(
        id="supervision",
        title="Localizers of labels and of masks.",
        caption="IoU and PBCA: local fakes alone, reals never. AP: these fakes against the reals, by the score that "
        "the protocol has for each kind of model (of maps their mean, of what calls the whole image its logit): each "
        f"is a ranking of its own. {RESIZED}",
        source=[*captions.provenance(study, [one.group for one in every]), *false_alarms.source(study)],
        columns=columns,
        rows=[*table.rows(columns, blocks.values()), *(table.baseline(columns, each) for each in baselines)],
        trials=captions.trials(one.group for one in every),
    )


def _on(study: Study, domain: str) -> list[Column[Taught]]:
    def ap(one: Taught) -> Cell:
        value = cells.number(one.group, domain, IMAGE_AP)
        return table.number(value) if value is not None else Cell(table.DASH)

    head = "" if len(study.tested) == 1 else f" on {domain}"
    return [
        Column(f"{study.first.label}{head}", lambda one: cells.score(one.group, [domain])),
        Column(f"{PBCA.label}{head}", lambda one: cells.score(one.group, [domain], PBCA.key)),
        Column(f"AP{head}", ap, under="against reals"),
    ]


def _of_baseline(study: Study, group: Group) -> dict[str, Cell]:
    found = {
        column.head: column.cell(Taught(group, setups.MASKS))
        for domain in study.tested
        for column in _on(study, domain)
    }
    return found | false_alarms.of_baseline(study, group)


def findings(study: Study) -> Iterator[Finding]:
    """Yield what is reached without masks, what a decoder owes to the kind of fakes, and what is above all fake."""
    every = found(study)
    if not every:
        return
    own = [one for one in every if _is_own(study, one)] or every
    scores = {kind: _scores(study, [one for one in own if one.kind == kind]) for kind in KINDS}
    ranges = [(kind, min(of), max(of), len(of)) for kind, of in scores.items() if of]
    if len(ranges) > 1:
        said = [f"{_learned(kind, num)} {study.first.label} {_span(low, high)}" for kind, low, high, num in ranges]
        numbers = {
            f"{kind}_{end}": value
            for kind, *ends, _ in ranges
            for end, value in zip(("least", "most"), ends, strict=True)
        }
        yield Finding("supervision", "; ".join(said), numbers)
    yield from _moved(study, every)
    weak = [one for one in own if one.kind != setups.MASKS and one.group.score(study.tested)]
    above = [one for one in weak if not cells.is_not_above([(one.group, study.tested)])]
    if weak:
        text = f"{len(above)} of {counted(len(weak), 'localizer')} of labels are above calling all fake"
        yield Finding("above", text, {"above": float(len(above)), "of": float(len(weak))})


def _moved(study: Study, every: Sequence[Taught]) -> Iterator[Finding]:
    """Yield for each decoder what labels of local instead of whole fakes move, where both differ in nothing else."""
    pairs: dict[str, tuple[Taught, Taught]] = {}
    for one in every:
        for other in every:
            if (one.kind, other.kind) == ("B", "A") and _is_own(study, one) and _alike(one.group, other.group):
                pairs.setdefault(other.name, (one, other))
    for place, (one, other) in enumerate(pairs.values()):
        change = less([(one.group, name) for name in study.tested], [(other.group, name) for name in study.tested])
        if change is not None:
            how = "gains" if change.value > 0 else "loses"
            text = (
                f"{one.name} {how} {abs(change.value):.2f} over {other.name}: labels of local fakes, not of whole ones"
            )
            yield Finding(
                f"local{f'_{place}' if place else ''}", text, {"ours": change}, [(change, "that is not decided")]
            )


def _is_own(study: Study, one: Taught) -> bool:
    """Return whether a localizer is trained on what it is tested on: its source and, of local fakes, their family."""
    lists = (setups.trained(one.group.first.trial.spec), study.tested)
    sources = [{domain.partition("/")[0] for domain in of} for of in lists]
    fakes = [[domain for domain in of if not dolos.is_real(domain)] for of in lists]
    made = [{dolos.family(domain, study.record.families) for domain in of} for of in fakes]
    return sources[0] == sources[1] and (one.kind == "A" or made[0] == made[1])


def _alike(one: Group, other: Group) -> bool:
    """Return whether two trainings differ in their images alone, of the same source."""
    first, second = (group.first.trial.spec for group in (one, other))
    sources = [{domain.partition("/")[0] for domain in setups.trained(spec)} for spec in (first, second)]
    blank = {"train": first.train, "valid": first.valid, "lineage": first.lineage}
    return sources[0] == sources[1] and first.model_copy(update=blank) == second.model_copy(update=blank)


def _scores(study: Study, of: Sequence[Taught]) -> list[float]:
    values: list[Estimate | None] = [one.group.score(study.tested) for one in of]
    return [value.value for value in values if value]


def _learned(kind: str, num: int) -> str:
    return f"{counted(num, 'localizer')} of {KINDS[kind]} {'have' if num > 1 else 'has'}"


def _span(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}" if round(high, 2) > round(low, 2) else f"{low:.2f}"
