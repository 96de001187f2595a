"""Tables of the fine-tuning curves: what is gained, what is lost, and what the controls say."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dfloc.config import Checkpoint
from dfloc.report import captions, table
from dfloc.report.groups import Facet, Group, Study
from dfloc.report.table import Cell, Row, Table

CURVES = {"finetune": "fine-tuned", "replay": "with replay", "scratch": "from scratch"}
SHORT_BASELINES = ("all-fake", "mean-mask")


def blocks(study: Study, stage: str = "finetune") -> Iterator[tuple[Facet, str, dict[int, Group]]]:
    """Yield (facet, held-out domain, groups by n), in the order of the study's domains."""
    for facet in study.facets(stage):
        for held_out in study.record.domains:
            if curve := study.curve(stage, held_out, facet):
                yield facet, held_out, curve


def curves(study: Study) -> Table:
    """Return the numbers of the main figure."""
    domains = study.record.domains
    rows, used = [], []
    for facet, held_out, curve in blocks(study):
        for place, (n, group) in enumerate(curve.items()):
            used.append(group)
            cells = [*_head(facet, held_out, n, group), table.number(group.valid)]
            for domain in domains:
                cell = _score(group, [domain])
                cells.append(replace(cell, mark=cell.mark or "strong") if domain == held_out else cell)
            rows.append(Row([*cells, _score(group, domains)], starts=place == 0))
    for name, words in captions.BASELINES.items():
        if baseline := captions.baseline(study, name):
            cells = [Cell(words), Cell(""), Cell(""), table.number(baseline.valid)]
            cells += [_score(baseline, [domain]) for domain in domains]
            rows.append(Row([*cells, _score(baseline, domains)], muted=True))
    return Table(
        id="exposure",
        title="Test IoU after fine-tuning on n images of the held-out domain.",
        caption="n = 0 is the base itself; the held-out domain is set in bold. Validation IoU of n = 0 is over the "
        f"base's own domains, else over the held-out domain. {captions.provenance(study, used)}",
        columns=["Held out", "n", "Steps", "Valid. IoU", *domains, "Mean"],
        rows=rows,
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
        oracle = max(values, key=lambda n: values[n])
        cells = [*_head(facet, held_out, chosen, tuned[chosen]), table.number(tuned[chosen].valid)]
        cells += [_score(tuned[chosen], [held_out]), Cell(f"{values[oracle]:.3f}", f"at n = {oracle:,}")]
        rows.append(Row([*cells, *_baselines(study, held_out)]))
    return Table(
        id="selected",
        title="The n that validation chooses.",
        caption="Of all n > 0, the one with the highest validation IoU, and its test IoU on the held-out domain. The "
        f"oracle is the best test cell, which nobody could choose. {captions.provenance(study, used)}",
        columns=["Held out", "n chosen", "Steps", "Valid. IoU", "Test IoU", "Oracle", "All fake", "Mean mask"],
        rows=rows,
    )


def best_last(study: Study) -> Table:
    """Return the last epoch beside the best one, and AP and F1 beside IoU."""
    rows, used = [], []
    for facet, held_out, curve in blocks(study):
        for place, (n, group) in enumerate(curve.items()):
            used.append(group)
            cells = _head(facet, held_out, n, group)
            cells += [_score(group, [held_out]), _score(group, [held_out], "iou", "last")]
            cells += [_score(group, [held_out], "ap"), _score(group, [held_out], "ap", "last")]
            cells += [_score(group, [held_out], metric) for metric in ("f1_fixed", "f1_best")]
            rows.append(Row([*cells, table.share(group.empty), *_baselines(study, held_out)], starts=place == 0))
    heads = "IoU best | IoU last | AP best | AP last | F1 at 0.5 | F1 oracle | Empty | All fake, IoU | Mean mask, IoU"
    return Table(
        id="best-last",
        title="Last epoch beside best, AP and F1 beside IoU, on the held-out domain.",
        caption="Best = the epoch with the highest validation IoU, which spends validation labels; the last epoch "
        "spends none. F1 oracle takes each image's own best threshold. Empty = share of maps without a fake pixel, "
        f"over all test domains. {captions.provenance(study, used)}",
        columns=["Held out", "n", "Steps", *heads.split(" | ")],
        rows=rows,
    )


def controls(study: Study) -> Table:
    """Return fine-tuned beside scratch and replay."""
    rows, used = [], []
    for facet, held_out, curve in blocks(study):
        scratch, replay = (study.curve(stage, held_out, facet) for stage in ("scratch", "replay"))
        seen = [domain for domain in study.record.domains if domain != held_out]
        for place, n in enumerate(n for n in curve if n):
            group = curve[n]
            used += [found for found in (group, scratch.get(n), replay.get(n)) if found]
            name, number, steps = _head(facet, held_out, n, group)
            if n in scratch:
                steps = replace(steps, small=f"scratch {scratch[n].first.trial.spec.steps:,}")
            cells = [name, number, steps, _score(group, [held_out])]
            cells += _against(study, group, scratch.get(n), [held_out])
            cells += _against(study, group, replay.get(n), [held_out])
            cells += [_score(group, seen), *_against(study, group, replay.get(n), seen)]
            rows.append(Row([*cells, *_baselines(study, held_out)], starts=place == 0))
    heads = "Held out: fine-tuned | Held out: scratch | Fine-tuned less scratch"
    heads += " | Held out: replay | Fine-tuned less replay | Seen: fine-tuned | Seen: replay"
    heads += " | Fine-tuned less replay, seen | Held out: all fake | Held out: mean mask"
    return Table(
        id="controls",
        title="Is fine-tuning better than starting anew, and what does replay keep?",
        caption="Scratch: the same n images, no parent, the base's epochs. Replay: n more images of the base's own "
        "training list. Seen: mean of the base's domains. Differences by a bootstrap paired by photograph. "
        f"{captions.provenance(study, used)}",
        columns=["Held out", "n", "Steps", *heads.split(" | ")],
        rows=rows,
    )


def forgetting(study: Study) -> Table:
    """Return what the domains of the base lose."""
    domains = study.record.domains
    rows, used = [], []
    for stage in ("finetune", "replay"):
        for facet, held_out, curve in blocks(study, stage):
            seen = [domain for domain in domains if domain != held_out]
            for place, n in enumerate(n for n in curve if n):
                group = curve[n]
                used.append(group)
                base = study.base(group)
                cells = [Cell(CURVES[stage]), *_head(facet, held_out, n, group)]
                cells += [
                    _lost(study, base, group, [d]) if d in seen else Cell("held out", mark="hole") for d in domains
                ]
                rows.append(Row([*cells, _lost(study, base, group, seen)], starts=place == 0))
    return Table(
        id="forgetting",
        title="Forgetting.",
        caption="IoU of the root ancestor less ours on the domains that it was trained on, best epochs; positive = "
        f"forgotten. A bootstrap paired by photograph. {captions.provenance(study, used)}",
        columns=["Model", "Held out", "n", "Steps", *domains, "Mean of seen"],
        rows=rows,
        words=(0, 1),
        notes=captions.baseline_note(study),
    )


def _head(facet: Facet, held_out: str, n: int, group: Group) -> list[Cell]:
    collapsed = group.collapsed
    name = Cell(name_of(facet, held_out), "COLLAPSED" if collapsed else "", mark="bad" if collapsed else "")
    return [name, Cell(f"{n:,}"), Cell(f"{group.first.trial.spec.steps:,}", "of the base" if n == 0 else "")]


def name_of(facet: Facet, held_out: str) -> str:
    """Return what a curve is called: its held-out domain, and the axes that a user turned on."""
    return ", ".join([held_out, *(f"{axis} = {value}" for axis, value in facet)])


def _score(group: Group, domains: Sequence[str], metric: str = "iou", checkpoint: Checkpoint = "best") -> Cell:
    return table.estimate(group.score(domains, metric, checkpoint), group.hole, planned=len(group.results))


def _against(study: Study, group: Group, control: Group | None, domains: Sequence[str]) -> list[Cell]:
    if control is None:
        return [Cell("not planned", mark="hole"), Cell(table.DASH, mark="hole")]
    return [_score(control, domains), table.estimate(study.less(group, control, domains), table.DASH, signed=True)]


def _lost(study: Study, base: Group | None, group: Group, domains: Sequence[str]) -> Cell:
    found = study.less(base, group, domains) if base else None
    return table.estimate(found, group.hole, signed=True)


def _baselines(study: Study, domain: str) -> list[Cell]:
    groups = [captions.baseline(study, name) for name in SHORT_BASELINES]
    found = [group.score([domain]) if group else None for group in groups]
    return [table.number(estimate.value if estimate else None) for estimate in found]
