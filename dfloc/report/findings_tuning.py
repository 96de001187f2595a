"""What fine-tuning on n images of a new domain takes and costs, what keeps what was known, and what a control says."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dfloc.report import differs
from dfloc.report.budgets import lines
from dfloc.report.cells import NOT_ABOVE, is_not_above
from dfloc.report.controls import REPLAY, SCRATCH, Kind, besides, best_facet, blocks, closest, furthest, main
from dfloc.report.estimate import Estimate
from dfloc.report.finding import Finding
from dfloc.report.groups import Cells, Facet, Group, GroupOn, Sides, Study, less, over, sides
from dfloc.report.words import counted, named

ENOUGH = 0.95  # of what the best n brings


class TunedPoint(NamedTuple):
    """One held-out domain at the n that is spoken of: its base, what was fine-tuned, and the domains of the base."""

    held_out: str
    base: Group | None
    tuned: Group
    seen: Sequence[str]


Beside = tuple[TunedPoint, Group]  # and the point of a control


class TunedCurves(NamedTuple):
    """The scored curves of the facet that validation chooses, and the n that is spoken of.

    Attributes:
        facet: the settings that validation chooses.
        points: each held-out domain's, by n.
        values: the mean over all of them at each n that they share.
        n: the smallest that brings most of what the best does.
        most: the largest n that is planned.
        planned: held-out domains that there should be.
    """

    facet: Facet
    points: Mapping[str, Mapping[int, Group]]
    values: Mapping[int, Estimate]
    n: int
    best: int
    most: int
    planned: int


def spoken_of(study: Study) -> TunedCurves | None:
    """Return what the findings are of; None where no n is scored on every held-out domain that has any."""
    facet = best_facet(study)
    curves = {held_out: curve for of, held_out, curve in blocks(study) if of == facet}
    scored = {
        held_out: {n: group for n, group in curve.items() if group.score([held_out])}
        for held_out, curve in curves.items()
    }
    scored = {held_out: points for held_out, points in scored.items() if any(points)}
    shared = sorted(n for n in set.intersection(*map(set, scored.values())) if n) if scored else []
    means = {n: over([(points[n], held_out) for held_out, points in scored.items()]) for n in shared}
    found = {n: mean for n, mean in means.items() if mean}
    most = max((n for curve in curves.values() for n in curve), default=0)
    return TunedCurves(facet, scored, found, *_enough(study, scored, found), most, len(curves)) if found else None


def findings(study: Study) -> Iterator[Finding]:
    """Yield what fine-tuning on n images of a new domain takes and costs, and what a control says."""
    of = spoken_of(study)
    if of is None:
        return
    n, facet = of.n, of.facet
    points = [TunedPoint(name, curve.get(0), curve[n], study.seen(curve)) for name, curve in of.points.items()]
    first = f"With {' and '.join(named(*axis) for axis in facet)}, {_chosen(study)}: " if facet else ""
    replay, scratch = (_beside(study, kind, points, facet, n) for kind in (REPLAY, SCRATCH))
    said = (
        _gain(study, points, of, first),
        _cost(study, points, of),
        _kept(study, replay, of),
        _anew(study, scratch, of),
        _everywhere(study, points, replay, of),
    )
    yield from (each for each in said if each)


def _chosen(study: Study) -> str:
    """Return why a facet of several is spoken of."""
    compared, planned = len(furthest(study)), len(main(study).facets)
    if compared == 1:
        return "of which most is finished" if planned > 1 else "as all that is fine-tuned"
    return "which validation chooses" + ("" if compared == planned else f" of {compared} that are finished as far")


def _enough(study: Study, curves: Mapping[str, Mapping[int, Group]], values: Mapping[int, Estimate]) -> tuple[int, int]:
    """Return the smallest n that brings most of what the best n does, and the best."""
    best = max(values, key=lambda n: study.first.gain(values[n].value, 0))
    based = [(curve[0], held_out) for held_out, curve in curves.items() if 0 in curve]
    base = over(based) if len(based) == len(curves) else None
    gain = study.first.gain(values[best].value, base.value) if base else 0.0
    if base is None or gain <= 0:
        return best, best
    enough = (n for n in values if study.first.gain(values[n].value, base.value) >= ENOUGH * gain)
    return next(enough, best), best


def _gain(study: Study, points: Sequence[TunedPoint], of: TunedCurves, first: str) -> Finding | None:
    rooted = [(point, point.base) for point in points if point.base]
    found = sides([(point.tuned, point.held_out) for point, _ in rooted], [(b, p.held_out) for p, b in rooted])
    label, place, images = study.first.label, _new(study), f"{counted(of.n, 'image')} of a new {_new(study)}"
    weak = _weak([(point.tuned, [point.held_out]) for point in points])
    if found is None:
        after = over([(point.tuned, point.held_out) for point in points])
        text = f"{first}after {images} {label} on that {place} is {after.value:.2f}{weak}" if after else ""
        return Finding("gain", text, {"n": float(of.n), "after": after}) if after else None
    more = f"; {of.best:,} bring {of.values[of.best].value:.2f}" if of.best != of.n else ""
    moved = f"{label} on that {place} {_moved(found)}{weak}{more}{_part(len(rooted), of)}"
    tried = "the most that were tried" if of.n == of.most else "the most that every domain has"
    help_, suffice = ("helps", "suffices") if of.n == 1 else ("help", "suffice")
    verb = f", {tried}, {help_}" if of.n == max(of.values) else f" {suffice}"
    no = " does not help" if of.n == 1 else " do not help"
    text = f"{images}{verb if study.first.gain(found.change.value, 0) > 0 else no}: {moved}"
    numbers: dict[str, Estimate | float] = {"n": float(of.n), "before": found.second, "after": found.first}
    undecided = [(found.change, "whether that is a change is not decided")]
    return Finding("gain", f"{first}{text}", numbers, undecided, f"{first}with {images} {moved}")


def _cost(study: Study, points: Sequence[TunedPoint], of: TunedCurves) -> Finding | None:
    rooted = [(point, point.base) for point in points if point.base and _scored(point.seen, point.tuned, point.base)]
    found = sides(
        [(point.tuned, domain) for point, _ in rooted for domain in point.seen],
        [(base, domain) for point, base in rooted for domain in point.seen],
    )
    if found is None:
        return None
    lost = "forgets" if study.first.gain(found.change.value, 0) < 0 else "forgets nothing"
    moved = f"on the {_known(study, points)} {study.first.label} {_moved(found)}{_part(len(rooted), of)}"
    how = " with replay" if main(study).kind == REPLAY else ""
    head = f"Fine-tuned{how} on {f'{of.n:,} of them' if of.n > 1 else 'it'}"
    numbers = {"before": found.second, "after": found.first}
    undecided = [(found.change, "whether that is forgetting is not decided")]
    return Finding("cost", f"{head}, the model {lost}: {moved}", numbers, undecided, f"{head}, {moved}")


def _kept(study: Study, replay: Sequence[Beside], of: TunedCurves) -> Finding | None:
    replay = [(point, group) for point, group in replay if _scored(point.seen, point.tuned, group)]
    known = sides(
        [(group, domain) for point, group in replay for domain in point.seen],
        [(point.tuned, domain) for point, _ in replay for domain in point.seen],
    )
    new = sides([(group, p.held_out) for p, group in replay], [(p.tuned, p.held_out) for p, _ in replay])
    if known is None or new is None:
        return None
    verb = "keeps more" if study.first.gain(known.change.value, 0) > 0 else "keeps no more"
    kinds = [_images(point, group) for point, group in replay]
    old, own = (_range(counts) for counts in zip(*kinds, strict=True))
    head = f"Replay, {old} known image{'s' * (old != '1')} among {own} new one{'s' * (own != '1')}"
    rest = f"{_instead(known)} on the {_known(study, [point for point, _ in replay])}, {_instead(new)} on the new one"
    rest += f"{_also(replay, ('train',))}{_part(len(replay), of)}"
    numbers = {"new": new.first, "known": known.first}
    undecided = [
        (known.change, "whether it keeps more is not decided"),
        (new.change, "the difference on the new one is not decided"),
    ]
    return Finding("keep", f"{head}, {verb}: {rest}", numbers, undecided, f"{head}: {rest}")


def _anew(study: Study, scratch: Sequence[Beside], of: TunedCurves) -> Finding | None:
    found = sides([(group, p.held_out) for p, group in scratch], [(p.tuned, p.held_out) for p, _ in scratch])
    if found is None:
        return None
    equal = all(_steps(point.tuned) == _steps(group) for point, group in scratch)
    images = f"{counted(of.n, 'image')}{' with as many steps' if equal else ''}"
    text = f"Without the base, from scratch on the same {images}, {study.first.label} on the new one is "
    text += f"{_instead(found)}{_also(scratch, ('init',))}"
    undecided = [(found.change, "whether the base helps there is not decided")]
    return Finding("control", f"{text}{_part(len(scratch), of)}", {"scratch": found.first}, undecided)


def _everywhere(
    study: Study, points: Sequence[TunedPoint], replay: Sequence[Beside], of: TunedCurves
) -> Finding | None:
    """Return what has the highest mean over all domains, new and known ones."""
    domains, beside = study.tested, {point.held_out: group for point, group in replay}
    points = [point for point in points if not beside or point.held_out in beside]
    scored = [[point.tuned, point.base, beside.get(point.held_out)] for point in points]
    points = [point for point, of_it in zip(points, scored, strict=True) if _scored(domains, *filter(None, of_it))]
    names = {"fine-tuned": main(study).kind.label}
    every: dict[str, Cells] = {
        "fine-tuned": [(point.tuned, domain) for point in points for domain in domains],
        "base": [(point.base, domain) for point in points if point.base for domain in domains],
        "replay": [(beside[point.held_out], domain) for point in points if beside for domain in domains],
    }
    mixed = [line.groups[0] for line in lines(study) if len(line.groups) == 1 and line.groups[0].score(domains)]
    within = [group for group in mixed if _size(group) <= max(map(_seen, points), default=0)]
    if within:
        one = max(within, key=lambda group: group.valid or 0.0)
        every["mixture"] = [(one, domain) for _ in points for domain in domains]
        names["mixture"] = f"one model from scratch on {_size(one):,} mixed images"
    whole = len(points) * len(domains)
    found = {name: value for name, cells in every.items() if len(cells) == whole > 0 and (value := over(cells))}
    if len(found) < 2:
        return None
    ranked = sorted(found, key=lambda name: -study.first.gain(found[name].value, 0))
    runs = max(value.runs for value in found.values())

    def said(name: str) -> str:
        few = f" (of {counted(found[name].runs, 'training')})" if found[name].runs < runs else ""
        return f"{names.get(name, name)} {found[name].value:.2f}{_weak([(g, [d]) for g, d in every[name]])}{few}"

    first, *rest = map(said, ranked)
    head = f"Best over all {len(domains)} domains together" if len(domains) > 1 else f"Best on {domains[0]}"
    text = f"{head}{_part(len(points), of)}: {first}; then {', '.join(rest)}"
    lead = less(every[ranked[0]], every[ranked[1]])
    text += _unlike(every[ranked[0]], every[ranked[1]])
    return Finding("best", text, found, [(lead, "its lead is not decided")])


def _beside(study: Study, kind: Kind, points: Sequence[TunedPoint], facet: Facet, n: int) -> list[Beside]:
    """Return points with what stands beside them, of the control of a kind that differs in the least besides."""
    control = closest(study, kind)
    if control is None:
        return []
    theirs = [(point, control.curve(point.held_out, facet).get(n)) for point in points]
    return [(point, group) for point, group in theirs if group and group.score([point.held_out])]


def _also(found: Sequence[Beside], compared: Sequence[str]) -> str:
    words = differs.words(besides([(point.tuned, group) for point, group in found], compared))
    return f" (it also differs: {words})" if words else ""


def _unlike(first: Cells, second: Cells) -> str:
    found = [(one, other) for (one, _), (other, _) in zip(first, second, strict=True)]
    words = differs.words(besides(found, ("train", "valid", "init")))
    return f"; the first two also differ in {words}" if words else ""


def _moved(found: Sides) -> str:
    before, after = found.second.value, found.first.value
    if f"{before:.2f}" == f"{after:.2f}":
        return f"stays at {after:.2f}"
    return f"{'rises' if after > before else 'falls'} from {before:.2f} to {after:.2f}"


def _instead(found: Sides) -> str:
    return f"{found.first.value:.2f} instead of {found.second.value:.2f}"


def _scored(domains: Sequence[str], *groups: Group) -> bool:
    """Return whether groups are scored on all of some domains, and there are any."""
    return all(group.score(domains) for group in groups)


def _weak(models: Sequence[GroupOn]) -> str:
    return f" ({NOT_ABOVE})" if is_not_above(models) else ""


def _part(count: int, of: TunedCurves) -> str:
    """Return on how many of the held-out domains something is known, where it is not all."""
    return f" (on {count} of {of.planned} held-out domains)" if count < of.planned else ""


def _known(study: Study, points: Sequence[TunedPoint]) -> str:
    """Return what the domains of the base are called: one, or several."""
    return f"known {_new(study)}{'s' * (max(len(point.seen) for point in points) > 1)}"


def _images(point: TunedPoint, group: Group) -> tuple[int, int]:
    """Return how many images of other domains, and of the held-out one, a model was trained on."""
    counts = group.first.trial.spec.train.counts
    own = counts.get(point.held_out, 0)
    return sum(counts.values()) - own, own


def _range(counts: Sequence[int]) -> str:
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


def _size(group: Group) -> int:
    return group.first.trial.spec.train.size


def _seen(point: TunedPoint) -> int:
    """Return on how many images a fine-tuned model and its base were trained together."""
    return _size(point.tuned) + (_size(point.base) if point.base else 0)


def _steps(group: Group) -> int:
    return group.first.trial.spec.steps


def _new(study: Study) -> str:
    """Return what domains differ in: generator or source, where it is one of them alone."""
    parts = [domain.split("/", 1) for domain in study.record.domains]
    sources, generators = ({part[side] for part in parts} for side in (0, -1))
    return "generator" if len(sources) == 1 else "source" if len(generators) == 1 else "domain"
