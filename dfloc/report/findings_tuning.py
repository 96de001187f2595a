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


def findings(study: Study) -> Iterator[Finding]:
    """Yield what fine-tuning on n images of a new domain takes and costs, and what a control says."""
    facet = best_facet(study)
    curves = [(held_out, curve) for of, held_out, curve in blocks(study) if of == facet]
    scored = [
        (held_out, {n: group for n, group in curve.items() if group.score([held_out])}) for held_out, curve in curves
    ]
    scored = [(held_out, curve) for held_out, curve in scored if any(curve)]
    shared = sorted(n for n in set.intersection(*(set(curve) for _, curve in scored)) if n) if scored else []
    if not shared:
        return
    values = {n: over([(curve[n], held_out) for held_out, curve in scored]) for n in shared}
    n, best = _enough(study, scored, {n: found for n, found in values.items() if found})
    points = [Point(held_out, curve.get(0), curve[n], study.seen(curve)) for held_out, curve in scored]
    first = [f"With {' and '.join(named(*axis) for axis in facet)}, which validation chooses: "] if facet else []
    for sentence in (_gain(study, points, n, best, values), _cost(study, points)):
        if sentence:
            yield sentence._replace(text="".join([*first, sentence.text]))
            first = []
    replay = _beside(study, REPLAY, points, facet, n)
    if kept := _kept(replay):
        yield kept
    if scratch := _beside(study, SCRATCH, points, facet, n):
        yield _anew(study, scratch, n)
    if found := _everywhere(study, points, replay):
        yield found


def _enough(
    study: Study, curves: Sequence[tuple[str, Mapping[int, Group]]], values: Mapping[int, Estimate]
) -> tuple[int, int]:
    """Return the smallest n that brings most of what the best n does, and the best."""
    best = next(n for n in values if values[n].value == study.first.best(one.value for one in values.values()))
    based = [(curve[0], held_out) for held_out, curve in curves if 0 in curve]
    base = over(based) if len(based) == len(curves) else None
    gain = study.first.gain(values[best].value, base.value) if base else 0.0
    if base is None or gain <= 0:
        return best, best
    return next(n for n in values if study.first.gain(values[n].value, base.value) >= ENOUGH * gain), best


def _gain(
    study: Study, points: Sequence[Point], n: int, best: int, values: Mapping[int, Estimate | None]
) -> Finding | None:
    tuned = [(point.tuned, point.held_out) for point in points]
    after, label, place = over(tuned), study.first.label, _new(study)
    if after is None:
        return None
    numbers: dict[str, Estimate | float] = {"n": float(n), "after": after}
    much = f"; {best:,} bring {values[best].value:.2f}" if best != n and values[best] else ""  # type: ignore[union-attr]
    before = over([(point.base, point.held_out) for point in points if point.base])
    based = [(point.base, point.held_out) for point in points if point.base]
    change = less(tuned, based) if len(based) == len(points) else None
    if before is None or change is None:
        return Finding("gain", f"With {n:,} images of a new {place} {label} on it is {after.value:.2f}{much}", numbers)
    verb = "lift" if change.value > 0 else "lower"
    text = f"{n:,} images of a new {place} {verb} {label} on it from {before.value:.2f} to {after.value:.2f}{much}"
    return Finding("gain", text, numbers | {"before": before}, [(change, "whether they change it is not decided")])


def _cost(study: Study, points: Sequence[Point]) -> Finding | None:
    tuned = [(point.tuned, domain) for point in points for domain in point.seen]
    based = [(point.base, domain) for point in points if point.base for domain in point.seen]
    change = less(tuned, based) if len(tuned) == len(based) else None
    before, after = over(based), over(tuned)
    if change is None or before is None or after is None:
        return None
    words = f"{before.value:.2f} {_moves(change)} {after.value:.2f} on the known ones"
    worse = study.first.gain(change.value, 0) < 0
    text = f"Fine-tuning forgets: {words}" if worse else f"Fine-tuning forgets nothing: {words}"
    return Finding("cost", text, {"before": before, "after": after}, [(change, "whether it forgets is not decided")])


def _kept(replay: Sequence[tuple[Point, Group]]) -> Finding | None:
    tuned = [(point.tuned, domain) for point, _ in replay for domain in point.seen]
    kept = [(group, domain) for point, group in replay for domain in point.seen]
    new, known = over([(group, point.held_out) for point, group in replay]), over(kept)
    change = less(kept, tuned)
    said = [f"{found.value:.2f} on {words}" for found, words in ((new, "the new"), (known, "the known ones")) if found]
    if not said:
        return None
    text = f"With as many old images among the new ones (replay) it has {' and '.join(said)}{_also(replay, ('train',))}"
    numbers = {name: found for name, found in (("new", new), ("known", known)) if found}
    return Finding("keep", text, numbers, [(change, "whether that keeps more is not decided")] if change else [])


def _anew(study: Study, scratch: Sequence[tuple[Point, Group]], n: int) -> Finding:
    anew = [(group, point.held_out) for point, group in scratch]
    change, found = less([(point.tuned, point.held_out) for point, _ in scratch], anew), over(anew)
    also = _also(scratch, ("init",))
    steps = "with equal steps" if all(_steps(point.tuned) == _steps(group) for point, group in scratch) else ""
    text = f"From scratch {steps or f'on the same {n:,} images'} {study.first.label} on the new one is "
    text += f"{found.value:.2f}{also}" if found else "not there"
    words = "whether fine-tuning owes its base anything is not decided"
    return Finding("control", text, {"scratch": found} if found else {}, [(change, words)] if change else [])


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


def _moves(change: Estimate) -> str:
    return "rises to" if change.value > 0 else "falls to"


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
