"""Tables of the fine-tuning curves: what is gained, what is lost, and what the controls say."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dfloc.config import Checkpoint, TrialSpec
from dfloc.report import captions, cells, differs, false_alarms, table
from dfloc.report.cells import NOT_ABOVE, is_not_above
from dfloc.report.controls import SCRATCH, Curves, besides, blocks, controls_of, main, name_of, pairs, rooted
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Facet, Group, Study
from dfloc.report.table import STRONG, Cell, Column, Table

SHORT_BASELINES = {"all-fake": "all fake", "mean-mask": "mean mask"}


@dataclass(frozen=True)
class CurvePoint:
    """A point of a curve, or a baseline, which has no n: a row.

    Attributes:
        name: of the curve.
        seen: the tested domains that its base was trained on.
    """

    name: str
    group: Group
    n: int | None = None
    held_out: str = ""
    facet: Facet = ()
    seen: Sequence[str] = ()

    @property
    def of(self) -> str:
        """Small print of what is not of a fine-tuning."""
        return "of the base" if self.n == 0 else ""


def _curves(study: Study, of: Curves | None = None) -> list[list[CurvePoint]]:
    """Return the points of some curves, of the main ones unless told."""
    return [
        [CurvePoint(name_of(facet, domain), group, n, domain, facet, study.seen(curve)) for n, group in curve.items()]
        for facet, domain, curve in blocks(study, of)
    ]


def _counted(label: str, count: Callable[[TrialSpec], int]) -> Column[CurvePoint]:
    def cell(point: CurvePoint) -> Cell:
        return Cell("") if point.n is None else Cell(f"{count(point.group.first.trial.spec):,}", point.of)

    return Column(label, cell, small=True)


def _name(point: CurvePoint) -> Cell:
    return Cell(point.name) if point.n is None else cells.name(point.name, [point.group])


HELD_OUT = Column("Held out", _name, words=True)
N = Column[CurvePoint]("n", lambda point: Cell("" if point.n is None else f"{point.n:,}"))
HEADS = (
    HELD_OUT,
    N,
    _counted("Valid. labels", lambda spec: spec.valid.size),
    _counted("Steps", lambda spec: spec.steps),
)


def _valid(study: Study) -> Column[CurvePoint]:
    return Column(f"Valid. {study.measure}", lambda point: table.number(point.group.valid))


def curves(study: Study) -> Table:
    """Return the numbers of the main figure."""
    shown, based = _curves(study), bool(rooted(study))
    columns = [
        *HEADS,
        _valid(study),
        *(_on(domain) for domain in study.tested),
        Column[CurvePoint]("Mean", lambda point: cells.score(point.group, study.tested)),
        *_flagged(study),
    ]
    solved = [CurvePoint(words, group) for words, group in captions.solved(study).items()]
    used = _groups(shown)
    return Table(
        id="exposure",
        title=f"Test {study.first.word} after fine-tuning on n images of the held-out domain.",
        caption=f"{'n = 0 is the base itself; the' if based else 'The'} held-out domain is {STRONG}. Validation "
        f"{study.measure} {'of n = 0 is over the domains of the base, else ' if based else 'is '}over the held-out "
        "domain.",
        source=[*captions.provenance(study, used), *false_alarms.source(study)],
        columns=columns,
        rows=[*table.rows(columns, shown), *(table.row(columns, point, muted=True) for point in solved)],
        trials=captions.trials(used),
    )


def selected(study: Study) -> Table:
    """Return what validation chooses among all n, beside the oracle."""
    chosen, oracles, used = [], dict[str, CurvePoint](), list[Group]()
    for points in _curves(study):
        tuned = [point for point in points if point.n and point.group.valid is not None]
        values = [(point, found.value) for point in tuned if (found := point.group.score([point.held_out]))]
        if not values:
            continue
        used += [point.group for point in tuned]
        best_test = study.first.best(value for _, value in values)
        chosen.append(max((point for point, _ in values), key=lambda point: point.group.valid or 0.0))
        oracles[chosen[-1].name] = next(point for point, value in values if value == best_test)
    columns = [
        HELD_OUT,
        replace(N, head="n chosen"),
        *HEADS[2:],
        _valid(study),
        Column[CurvePoint](f"Test {study.first.label}", lambda point: cells.score(point.group, [point.held_out])),
        Column[CurvePoint]("Oracle", lambda point: _oracle(oracles[point.name])),
        *_flagged(study),
        *_baselines(study, "{}"),
    ]
    return Table(
        id="selected",
        title="The n that validation chooses.",
        caption=f"Of all n > 0, the one with the highest validation {study.measure}, and its test "
        f"{study.first.label} on the held-out domain. The "
        f"oracle is the best test cell, which nobody could choose.",
        source=[*captions.provenance(study, used), *false_alarms.source(study)],
        columns=columns,
        rows=[table.row(columns, point) for point in chosen],
    )


def best_last(study: Study) -> Table:
    """Return the last epoch beside the best one, and AP and F1 beside IoU."""
    shown, first, maps = _curves(study), study.first.label, study.protocol.reads == "map"
    columns = [
        *HEADS,
        _measured(f"{first} best"),
        _measured(f"{first} last", checkpoint="last"),
        *(OF_MAPS if maps else ()),
        *_baselines(study, f"{{}}, {first}"),
    ]
    return Table(
        id="best-last",
        title=f"Last epoch beside best{f', AP and F1 beside {first}' if maps else ''}, on the held-out domain.",
        caption=f"Best = the epoch with the highest validation {study.measure}, which spends validation labels; the "
        f"last epoch spends none.{EMPTY if maps else ''}",
        source=captions.provenance(study, _groups(shown)),
        columns=columns,
        rows=table.rows(columns, shown),
    )


def controls(study: Study) -> Table:
    """Return fine-tuned beside its controls, on the held-out domain and, where they have a base, on the seen ones."""
    found, tuned = controls_of(study), main(study)
    shown = [[point for point in points if point.n] for points in _curves(study)]
    theirs = [one.curve(held_out, facet) for facet, held_out, _ in blocks(study) for one in found]
    every = [group for points in theirs for group in points.values()]
    others = [other for points in shown for point in points for one in found if (other := _of(one, point))]
    columns: list[Column[CurvePoint]] = [
        *HEADS,
        Column(f"Held out: {tuned.short}", lambda point: cells.score(point.group, [point.held_out])),
        *(column for one in found for column in _against(study, one, seen=False)),
        Column(f"Seen: {tuned.short}", lambda point: cells.score(point.group, point.seen)),
        *(column for one in found if one.kind != SCRATCH for column in _against(study, one, seen=True)),
        *_baselines(study, "Held out: {}"),
    ]
    return Table(
        id="controls",
        title="Is fine-tuning better than starting anew, and what does replay keep?",
        caption="Scratch: the same n images, no parent. Replay: n more images of the base's own training list. Seen: "
        f"mean of the base's domains. Differences are paired by source image and training.{_unequal(columns)}",
        source=captions.provenance(study, [*_groups(shown), *others]),
        columns=columns,
        rows=table.rows(columns, shown),
        trials=captions.trials(every),
    )


def _flagged(study: Study) -> list[Column[CurvePoint]]:
    return false_alarms.columns(study, lambda point: [point.group])


def _unequal(columns: Sequence[Column[CurvePoint]]) -> str:
    return (
        " In italics: a difference that is no answer, since its sides also differ in what stands below."
        if any(column.under for column in columns)
        else ""
    )


def forgetting(study: Study) -> Table:
    """Return what the domains of the base lose."""
    columns, rows, used = list[Column[CurvePoint]](), list[table.Row](), list[Group]()
    for found in rooted(study):
        shown = [[point for point in points if point.n] for points in _curves(study, found)]
        columns = _losses(study, found.label)
        rows += table.rows(columns, shown)
        used += _groups(shown)
    return Table(
        id="forgetting",
        title="Forgetting.",
        caption=f"{_less(study)} on the domains that it was trained on, best epochs; positive = "
        "forgotten: the work of the whole fine-tuning, not of one setting. Paired by source image and training.",
        source=captions.provenance(study, used),
        columns=columns,
        rows=rows,
        notes=captions.baseline_note(study),
        trials=captions.trials(used),
    )


def _losses(study: Study, label: str) -> list[Column[CurvePoint]]:
    def lost_by(point: CurvePoint, domains: Sequence[str]) -> Cell:
        if study.base(point.group) is None:
            return Cell("not planned", mark="hole")
        return table.estimate(lost(study, point.group, domains), point.group.hole, signed=True)

    def on(domain: str) -> Column[CurvePoint]:
        def cell(point: CurvePoint) -> Cell:
            hole = Cell("held out" if domain == point.held_out else "not of the base", mark="hole")
            return lost_by(point, [domain]) if domain in point.seen else hole

        return Column(domain, cell)

    return [
        Column("Model", lambda _: Cell(label), words=True),
        *HEADS,
        *map(on, study.tested),
        Column("Mean of seen", lambda point: lost_by(point, point.seen)),
    ]


def lost(study: Study, group: Group, domains: Sequence[str]) -> Estimate | None:
    """Return by how much a group's root ancestor is better than it, mean over domains; None: a hole, or no ancestor."""
    base = study.base(group)
    if base is None:
        return None
    return study.less(*((base, group) if study.first.higher_is_better else (group, base)), domains)


def _groups(shown: Sequence[Sequence[CurvePoint]]) -> list[Group]:
    return [point.group for points in shown for point in points]


def _on(domain: str) -> Column[CurvePoint]:
    """Return the scores on a domain, marked where it is the held-out one."""

    def cell(point: CurvePoint) -> Cell:
        found = cells.score(point.group, [domain])
        return replace(found, mark=found.mark or "strong") if domain == point.held_out else found

    return Column(domain, cell)


def _measured(label: str, metric: str | None = None, checkpoint: Checkpoint = "best") -> Column[CurvePoint]:
    return Column(label, lambda point: cells.score(point.group, [point.held_out], metric, checkpoint))


OF_MAPS = (
    _measured("AP best", "ap"),
    _measured("AP last", "ap", "last"),
    _measured("F1 at 0.5", "f1_fixed"),
    _measured("F1 oracle", "f1_best"),
    Column[CurvePoint]("Empty", lambda point: table.share(point.group.empty)),
)
EMPTY = (
    " F1 oracle takes each image's own best threshold. Empty = share of predictions without a fake pixel, over all "
    "test domains."
)


def _oracle(point: CurvePoint) -> Cell:
    found = point.group.score([point.held_out])
    best = replace(table.number(found.value if found else None), small=f"at n = {point.n:,}")
    if is_not_above([(point.group, [point.held_out])]):
        return replace(best, small=f"{best.small}; {NOT_ABOVE}", mark="weak")
    return best


def _of(control: Curves, point: CurvePoint) -> Group | None:
    return control.curve(point.held_out, point.facet).get(point.n or 0)


def _against(study: Study, control: Curves, *, seen: bool) -> list[Column[CurvePoint]]:
    """Return a control's scores, on the held-out domain or the seen ones, and what fine-tuning is better by."""

    def domains(point: CurvePoint) -> Sequence[str]:
        return point.seen if seen else [point.held_out]

    def score(point: CurvePoint) -> Cell:
        other = _of(control, point)
        return cells.score(other, domains(point)) if other else Cell("not planned", mark="hole")

    def less(point: CurvePoint) -> Cell:
        other = _of(control, point)
        if other is None:
            return Cell(table.DASH, mark="hole")
        cell = table.estimate(study.less(point.group, other, domains(point)), table.DASH, signed=True)
        also = differs.words(besides([(point.group, other)], control.kind.compared))
        if not also or not cell.exact:
            return cell
        return replace(cell.noted(f"also {also}"), mark="doubt", p=math.nan)

    words = differs.words(besides(pairs(study, control), control.kind.compared))
    head, end = ("Seen", ", seen") if seen else ("Held out", "")
    return [
        Column(f"{head}: {control.short}", score),
        Column(
            f"{_capital(main(study).short)} less {control.short}{end}",
            less,
            under=f"also differs: {words}" if words else "",
        ),
    ]


def _less(study: Study) -> str:
    """Return what forgetting is: the worse less the better where something is forgotten."""
    words = "of the root ancestor less ours" if study.first.higher_is_better else "of ours less the root ancestor's"
    return f"{study.first.label} {words}"


def _baselines(study: Study, heads: str) -> list[Column[CurvePoint]]:
    """Return the baselines on the held-out domain, each with its name in the pattern of a head."""

    def column(name: str, words: str) -> Column[CurvePoint]:
        def cell(point: CurvePoint) -> Cell:
            return cells.baselines(list(captions.baselines(study, name, point.facet).values()), point.held_out)

        return Column(_capital(heads.format(words)), cell, muted=True)

    return [column(*each) for each in SHORT_BASELINES.items()]


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
