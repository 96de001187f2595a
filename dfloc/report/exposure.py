"""Tables of the fine-tuning curves: what is gained, what is lost, and what the controls say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dfloc.config import Checkpoint
from dfloc.report import captions, cells, differs, table
from dfloc.report.controls import FINE_TUNED, SCRATCH, Curves, besides, blocks, controls_of, pairs
from dfloc.report.groups import Facet, Group, Study
from dfloc.report.marks import NOT_ABOVE, is_not_above
from dfloc.report.table import Cell, Row, Table

HEADS = ("Held out", "n", "Valid. labels", "Steps")
MEASURES: tuple[tuple[str | None, Checkpoint], ...] = (
    (None, "best"),
    (None, "last"),
    ("ap", "best"),
    ("ap", "last"),
    ("f1_fixed", "best"),
    ("f1_best", "best"),
)
SHORT_BASELINES = ("all-fake", "mean-mask")


def curves(study: Study) -> Table:
    """Return the numbers of the main figure."""
    domains = study.tested
    rows, used = [], []
    for facet, held_out, curve in blocks(study):
        for place, (n, group) in enumerate(curve.items()):
            used.append(group)
            line = [*_head(facet, held_out, n, group), table.number(group.valid)]
            for domain in domains:
                cell = cells.score(group, [domain])
                line.append(replace(cell, mark=cell.mark or "strong") if domain == held_out else cell)
            rows.append(Row([*line, cells.score(group, domains)], starts=place == 0))
    for words, baseline in captions.solved(study).items():
        numbers = [Cell(words), Cell(""), Cell(""), Cell(""), table.number(baseline.valid)]
        numbers += [cells.score(baseline, [domain]) for domain in domains]
        rows.append(Row([*numbers, cells.score(baseline, domains)], muted=True))
    return Table(
        id="exposure",
        title=f"Test {study.first.label} after fine-tuning on n images of the held-out domain.",
        caption="n = 0 is the base itself; the held-out domain is set in bold. Validation IoU of n = 0 is over the "
        f"base's own domains, else over the held-out domain. {captions.provenance(study, used)}",
        columns=[*HEADS, "Valid. IoU", *domains, "Mean"],
        rows=rows,
        trials=captions.trials(used),
    )


def selected(study: Study) -> Table:
    """Return what validation chooses among all n, beside the oracle."""
    rows, used = [], []
    for facet, held_out, curve in blocks(study):
        tuned = {n: group for n, group in curve.items() if n and group.valid is not None}
        values = {n: found.value for n, group in tuned.items() if (found := group.score([held_out]))}
        if not values:
            continue
        used += list(tuned.values())
        chosen = max(values, key=lambda n: tuned[n].valid or 0.0)
        best_test = study.first.best(values.values())
        oracle = next(n for n, value in values.items() if value == best_test)
        line = [*_head(facet, held_out, chosen, tuned[chosen]), table.number(tuned[chosen].valid)]
        best = replace(table.number(values[oracle]), small=f"at n = {oracle:,}")
        if is_not_above([(tuned[oracle], [held_out])]):
            best = replace(best, small=f"{best.small}; {NOT_ABOVE}", mark="weak")
        rows.append(Row([*line, cells.score(tuned[chosen], [held_out]), best, *_baselines(study, held_out, facet)]))
    return Table(
        id="selected",
        title="The n that validation chooses.",
        caption="Of all n > 0, the one with the highest validation IoU, and its test "
        f"{study.first.label} on the held-out domain. The "
        f"oracle is the best test cell, which nobody could choose. {captions.provenance(study, used)}",
        columns=[
            "Held out",
            "n chosen",
            *HEADS[2:],
            "Valid. IoU",
            f"Test {study.first.label}",
            "Oracle",
            "All fake",
            "Mean mask",
        ],
        rows=rows,
    )


def best_last(study: Study) -> Table:
    """Return the last epoch beside the best one, and AP and F1 beside IoU."""
    rows, used = [], []
    for facet, held_out, curve in blocks(study):
        for place, (n, group) in enumerate(curve.items()):
            used.append(group)
            line = _head(facet, held_out, n, group)
            for metric, checkpoint in MEASURES:
                line.append(cells.score(group, [held_out], metric, checkpoint))
            line += [table.share(group.empty), *_baselines(study, held_out, facet)]
            rows.append(Row(line, starts=place == 0))
    first = study.first.label
    heads = f"{first} best | {first} last | AP best | AP last | F1 at 0.5 | F1 oracle | Empty | "
    heads += f"All fake, {first} | Mean mask, {first}"
    return Table(
        id="best-last",
        title=f"Last epoch beside best, AP and F1 beside {first}, on the held-out domain.",
        caption="Best = the epoch with the highest validation IoU, which spends validation labels; the last epoch "
        "spends none. F1 oracle takes each image's own best threshold. Empty = share of maps without a fake pixel, "
        f"over all test domains. {captions.provenance(study, used)}",
        columns=[*HEADS, *heads.split(" | ")],
        rows=rows,
    )


def controls(study: Study) -> Table:
    """Return fine-tuned beside its controls, on the held-out domain and, where they have a base, on the seen ones."""
    found = controls_of(study)
    rows, used, shown = [], [], list[Group]()
    for facet, held_out, curve in blocks(study):
        theirs = [(one, one.curve(held_out, facet)) for one in found]
        shown += [group for _, points in theirs for group in points.values()]
        seen = study.seen(curve)
        for place, n in enumerate(n for n in curve if n):
            group = curve[n]
            used += [group, *(points[n] for _, points in theirs if n in points)]
            line = [*_head(facet, held_out, n, group), cells.score(group, [held_out])]
            for one, points in theirs:
                line += _against(study, group, points.get(n), [held_out], one)
            line.append(cells.score(group, seen))
            for one, points in theirs:
                line += _against(study, group, points.get(n), seen, one) if one.kind != SCRATCH else []
            rows.append(Row([*line, *_baselines(study, held_out, facet)], starts=place == 0))
    columns, under = _control_heads(study, found)
    return Table(
        id="controls",
        title="Is fine-tuning better than starting anew, and what does replay keep?",
        caption="Scratch: the same n images, no parent. Replay: n more images of the base's own training list. Seen: "
        f"mean of the base's domains. Differences are paired by photograph and training.{_unequal(under)} "
        f"{captions.provenance(study, used)}",
        columns=columns,
        under=under,
        rows=rows,
        trials=captions.trials(shown),
    )


def _control_heads(study: Study, found: Sequence[Curves]) -> tuple[list[str], dict[int, str]]:
    """Return the heads of the controls, and below each difference what differs besides, over all of its cells."""
    columns, under = [*HEADS, "Held out: fine-tuned"], {}
    for seen in (False, True):
        columns += ["Seen: fine-tuned"] if seen else []
        for one in (one for one in found if not seen or one.kind != SCRATCH):
            if words := differs.words(besides(pairs(study, one), one.kind.compared)):
                under[len(columns) + 1] = f"also differs: {words}"
            head = f"Fine-tuned less {one.short}"
            columns += [f"Seen: {one.short}", f"{head}, seen"] if seen else [f"Held out: {one.short}", head]
    return [*columns, "Held out: all fake", "Held out: mean mask"], under


def _unequal(under: Mapping[int, str]) -> str:
    return (
        " In italics: a difference that is no answer, since its sides also differ in what stands below."
        if under
        else ""
    )


def forgetting(study: Study) -> Table:
    """Return what the domains of the base lose."""
    domains = study.tested
    rows, used = [], []
    rooted = [(one.label, one) for one in controls_of(study) if one.kind != SCRATCH]
    for label, found in [(FINE_TUNED.label, None), *rooted]:
        for facet, held_out, curve in blocks(study, found):
            seen = study.seen(curve)
            for place, n in enumerate(n for n in curve if n):
                group = curve[n]
                used.append(group)
                base = study.base(group)
                line = [Cell(label), *_head(facet, held_out, n, group)]
                for domain in domains:
                    hole = Cell("held out" if domain == held_out else "not of the base", mark="hole")
                    line.append(_lost(study, base, group, [domain]) if domain in seen else hole)
                rows.append(Row([*line, _lost(study, base, group, seen)], starts=place == 0))
    return Table(
        id="forgetting",
        title="Forgetting.",
        caption=f"{_less(study)} on the domains that it was trained on, best epochs; positive = "
        "forgotten: the work of the whole fine-tuning, not of one setting. Paired by photograph and training. "
        f"{captions.provenance(study, used)}",
        columns=["Model", *HEADS, *domains, "Mean of seen"],
        rows=rows,
        words=(0, 1),
        notes=captions.baseline_note(study),
        trials=captions.trials(used),
    )


def _head(facet: Facet, held_out: str, n: int, group: Group) -> list[Cell]:
    spec, of = group.first.trial.spec, "of the base" if n == 0 else ""
    counts = [Cell(f"{n:,}"), Cell(f"{spec.valid.size:,}", of), Cell(f"{spec.steps:,}", of)]
    return [cells.name(name_of(facet, held_out), [group]), *counts]


def name_of(facet: Facet, held_out: str) -> str:
    """Return what a curve is called: its held-out domain, and the axes that a user turned on."""
    return ", ".join([held_out, *(f"{axis} = {value}" for axis, value in facet)])


def _against(study: Study, group: Group, other: Group | None, domains: Sequence[str], control: Curves) -> list[Cell]:
    """Return a control's score and the difference; the mark and the words of one that is no answer."""
    if other is None:
        return [Cell("not planned", mark="hole"), Cell(table.DASH, mark="hole")]
    cell = table.estimate(study.less(group, other, domains), table.DASH, signed=True)
    also = differs.words(besides([(group, other)], control.kind.compared))
    if also and cell.exact:
        cell = replace(cell, small="; ".join(filter(None, [cell.small, f"also {also}"])), mark="doubt", p=math.nan)
    return [cells.score(other, domains), cell]


def _lost(study: Study, base: Group | None, group: Group, domains: Sequence[str]) -> Cell:
    if base is None:
        return Cell("not planned", mark="hole")
    sides = (base, group) if study.first.higher_is_better else (group, base)
    return table.estimate(study.less(*sides, domains), group.hole, signed=True)


def _less(study: Study) -> str:
    """Return what forgetting is: the worse less the better where something is forgotten."""
    words = "of the root ancestor less ours" if study.first.higher_is_better else "of ours less the root ancestor's"
    return f"{study.first.label} {words}"


def _baselines(study: Study, domain: str, facet: Facet) -> list[Cell]:
    found = [list(captions.baselines(study, name, facet).values()) for name in SHORT_BASELINES]
    return [cells.baselines(groups, domain) for groups in found]
