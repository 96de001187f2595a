"""What fine-tuning on n images of a new domain takes and costs, what keeps what was known, and what a control says."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dfloc.report import differs
from dfloc.report.budgets import lines
from dfloc.report.controls import REPLAY, SCRATCH, Kind, besides, best_facet, blocks, closest
from dfloc.report.estimate import Estimate
from dfloc.report.finding import Finding
from dfloc.report.groups import Facet, Group, Study, less, over
from dfloc.report.words import named

ENOUGH = 0.95  # of what the best n brings
Cells = Sequence[tuple[Group, str]]  # trainings, each on a test domain


class Point(NamedTuple):
    """One held-out domain at the n that is spoken of: its base, what was fine-tuned, and the domains of the base."""

    held_out: str
    base: Group | None
    tuned: Group
    seen: Sequence[str]


class Curves(NamedTuple):
    """The scored curves of the facet that validation chooses, and the n that is spoken of.

    Attributes:
        points: each held-out domain's, by n.
        values: the mean over all of them at each n that they share.
        n: the smallest that brings most of what the best does.
    """

    points: Mapping[str, Mapping[int, Group]]
    values: Mapping[int, Estimate]
    n: int
    best: int


def spoken_of(study: Study) -> Curves | None:
    """Return what the findings are of; None where no n is scored on every held-out domain that has any."""
    curves = {held_out: curve for of, held_out, curve in blocks(study) if of == best_facet(study)}
    scored = {
        held_out: {n: group for n, group in curve.items() if group.score([held_out])}
        for held_out, curve in curves.items()
    }
    scored = {held_out: points for held_out, points in scored.items() if any(points)}
    shared = sorted(n for n in set.intersection(*map(set, scored.values())) if n) if scored else []
    values = {n: over([(points[n], held_out) for held_out, points in scored.items()]) for n in shared}
    found = {n: value for n, value in values.items() if value}
    return Curves(scored, found, *_enough(study, scored, found)) if found else None


def findings(study: Study) -> Iterator[Finding]:
    """Yield what fine-tuning on n images of a new domain takes and costs, and what a control says."""
    of, facet = spoken_of(study), best_facet(study)
    if of is None:
        return
    n = of.n
    points = [Point(name, curve.get(0), curve[n], study.seen(curve)) for name, curve in of.points.items()]
    first = [f"With {' and '.join(named(*axis) for axis in facet)}, which validation chooses: "] if facet else []
    for sentence in (_gain(study, points, of), _cost(study, points, n)):
        if sentence:
            yield sentence._replace(text="".join([*first, sentence.text]))
            first = []
    replay = _beside(study, REPLAY, points, facet, n)
    if kept := _kept(study, replay, n):
        yield kept
    scratch = _beside(study, SCRATCH, points, facet, n)
    for found in (_anew(study, scratch, n), _everywhere(study, points, replay)):
        if found:
            yield found


def _enough(study: Study, curves: Mapping[str, Mapping[int, Group]], values: Mapping[int, Estimate]) -> tuple[int, int]:
    """Return the smallest n that brings most of what the best n does, and the best."""
    best = next(n for n in values if values[n].value == study.first.best(one.value for one in values.values()))
    based = [(curve[0], held_out) for held_out, curve in curves.items() if 0 in curve]
    base = over(based) if len(based) == len(curves) else None
    gain = study.first.gain(values[best].value, base.value) if base else 0.0
    if base is None or gain <= 0:
        return best, best
    return next(n for n in values if study.first.gain(values[n].value, base.value) >= ENOUGH * gain), best


def _gain(study: Study, points: Sequence[Point], of: Curves) -> Finding | None:
    tuned = [(point.tuned, point.held_out) for point in points]
    based = [(point.base, point.held_out) for point in points if point.base]
    before, change = over(based), less(tuned, based) if len(based) == len(points) else None
    after, label, place, images = over(tuned), study.first.label, _new(study), f"{of.n:,} images of a new {_new(study)}"
    if after is None:
        return None
    numbers: dict[str, Estimate | float] = {"n": float(of.n), "after": after}
    if before is None or change is None:
        return Finding("gain", f"After {images} {label} on that {place} is {after.value:.2f}", numbers)
    numbers |= {"before": before}
    found = [(change, "whether they change it is not decided")]
    moved = f"{label} on that {place} {_moved(before, after)}"
    if study.first.gain(change.value, 0) <= 0:
        return Finding("gain", f"{images} do not help: {moved}", numbers, found)
    if of.n == max(of.values):
        return Finding("gain", f"{images}, the most that were tried, help: {moved}", numbers, found)
    more = f"; {of.best:,} bring {of.values[of.best].value:.2f}" if of.best != of.n else ""
    return Finding("gain", f"{images} suffice: {moved}{more}", numbers, found)


def _cost(study: Study, points: Sequence[Point], n: int) -> Finding | None:
    tuned = [(point.tuned, domain) for point in points for domain in point.seen]
    based = [(point.base, domain) for point in points if point.base for domain in point.seen]
    change = less(tuned, based) if len(tuned) == len(based) else None
    before, after = over(based), over(tuned)
    if change is None or before is None or after is None:
        return None
    lost = "forgets" if study.first.gain(change.value, 0) < 0 else "forgets nothing"
    moved = f"{study.first.label} {_moved(before, after)}"
    text = f"Fine-tuned on {n:,} of them, the model {lost}: on the known {_new(study)}s {moved}"
    return Finding("cost", text, {"before": before, "after": after}, [(change, "whether it forgets is not decided")])


def _kept(study: Study, replay: Sequence[tuple[Point, Group]], n: int) -> Finding | None:
    tuned = [(point.tuned, domain) for point, _ in replay for domain in point.seen]
    kept = [(group, domain) for point, group in replay for domain in point.seen]
    new, known = over([(group, point.held_out) for point, group in replay]), over(kept)
    change, instead = less(kept, tuned), over(tuned)
    if new is None or known is None or instead is None or change is None:
        return None
    verb = "keeps more" if study.first.gain(change.value, 0) > 0 else "keeps no more"
    before = over([(point.tuned, point.held_out) for point, _ in replay])
    beside = f" instead of {before.value:.2f}" if before else ""
    text = f"Replay, {n:,} known images among the {n:,} new ones, {verb}: {known.value:.2f} instead of "
    text += f"{instead.value:.2f} on the known {_new(study)}s, {new.value:.2f}{beside} on the new one"
    found = [(change, "whether it does is not decided")]
    return Finding("keep", f"{text}{_also(replay, ('train',))}", {"new": new, "known": known}, found)


def _anew(study: Study, scratch: Sequence[tuple[Point, Group]], n: int) -> Finding | None:
    anew = [(group, point.held_out) for point, group in scratch]
    tuned = [(point.tuned, point.held_out) for point, _ in scratch]
    change, found, beside = less(tuned, anew), over(anew), over(tuned)
    if found is None or change is None or beside is None:
        return None
    equal = all(_steps(point.tuned) == _steps(group) for point, group in scratch)
    text = f"Without the base, from scratch on the same {n:,} images{' with as many steps' if equal else ''}, "
    text += f"{study.first.label} on the new one is {found.value:.2f} instead of {beside.value:.2f}"
    words = "whether the base helps there is not decided"
    return Finding("control", f"{text}{_also(scratch, ('init',))}", {"scratch": found}, [(change, words)])


def _everywhere(study: Study, points: Sequence[Point], replay: Sequence[tuple[Point, Group]]) -> Finding | None:
    """Return what has the highest mean over all domains, new and known ones."""
    domains = study.tested
    names = dict[str, str]()
    every: dict[str, Cells] = {
        "fine-tuned": [(point.tuned, domain) for point in points for domain in domains],
        "base": [(point.base, domain) for point in points if point.base for domain in domains],
    }
    every["replay"] = [(group, domain) for _, group in replay for domain in domains]
    mixed = [line.groups[0] for line in lines(study) if len(line.groups) == 1 and line.groups[0].score(domains)]
    within = [group for group in mixed if _size(group) <= max(map(_seen, points))] or mixed
    if within:
        one = max(within, key=lambda group: group.valid or 0.0)
        every["mixture"] = [(one, domain) for _ in points for domain in domains]
        names["mixture"] = f"one model from scratch on {_size(one):,} mixed images"
    whole = len(points) * len(domains)
    found = {name: value for name, of in every.items() if len(of) == whole and (value := over(of))}
    if len(found) < 2:
        return None
    ranked = sorted(found, key=lambda name: -study.first.gain(found[name].value, 0))
    first, *rest = (f"{names.get(name, name)} {found[name].value:.2f}" for name in ranked)
    text = f"Best over all {len(domains)} domains together: {first} ({', '.join(rest)})"
    lead = less(every[ranked[0]], every[ranked[1]])
    return Finding("best", text, found, [(lead, "its lead is not decided")] if lead else [])


def _beside(study: Study, kind: Kind, points: Sequence[Point], facet: Facet, n: int) -> list[tuple[Point, Group]]:
    """Return points with what stands beside them, of the control of a kind that differs in the least besides."""
    control = closest(study, kind)
    if control is None:
        return []
    theirs = [(point, control.curve(point.held_out, facet).get(n)) for point in points]
    return [(point, group) for point, group in theirs if group and group.score([point.held_out])]


def _also(found: Sequence[tuple[Point, Group]], compared: Sequence[str]) -> str:
    words = differs.words(besides([(point.tuned, group) for point, group in found], compared))
    return f" (it also differs: {words})" if words else ""


def _moved(before: Estimate, after: Estimate) -> str:
    if f"{before.value:.2f}" == f"{after.value:.2f}":
        return f"stays at {after.value:.2f}"
    return f"{'rises' if after.value > before.value else 'falls'} from {before.value:.2f} to {after.value:.2f}"


def _size(group: Group) -> int:
    return group.first.trial.spec.train.size


def _seen(point: Point) -> int:
    """Return on how many images a fine-tuned model and its base were trained together."""
    return _size(point.tuned) + (_size(point.base) if point.base else 0)


def _steps(group: Group) -> int:
    return group.first.trial.spec.steps


def _new(study: Study) -> str:
    """Return what domains differ in: generator or source, where it is one of them alone."""
    parts = [domain.split("/", 1) for domain in study.record.domains]
    sources, generators = ({part[side] for part in parts} for side in (0, -1))
    return "generator" if len(sources) == 1 else "source" if len(generators) == 1 else "domain"
