"""Figures of the exposure study: one colour for each domain everywhere."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from dfloc.report import captions, differs
from dfloc.report.cells import cross, is_degenerate, notes
from dfloc.report.chart import COLOURS, GREY, Axis, Figure, LegendKey, Lines, Mark, Panel, Series, colours, mark, scale
from dfloc.report.controls import (
    REPLAY,
    SCRATCH,
    Curves,
    along,
    besides,
    blocks,
    closest,
    controls_of,
    main,
    name_of,
    pairs,
    rooted,
)
from dfloc.report.estimate import Estimate
from dfloc.report.exposure import lost
from dfloc.report.groups import Facet, Group, GroupOn, Study
from dfloc.report.place import Pair, quoted
from dfloc.report.words import counted

X = Axis("n, images of the held-out domain")
PALE = "#999999"
MEAN_MASK = LegendKey("mean training mask", PALE, "dot", "")
SIDE = 2.5  # pixels between points of one n


CurvesOf = Mapping[str, Mapping[int, Group]]  # held-out domain -> n -> group


class LinePoint(NamedTuple):
    """One point of a line: the mean over some models, each of some test domains."""

    n: int
    found: Estimate
    models: Sequence[GroupOn]

    @property
    def notes(self) -> list[str]:
        """What must be said of each model's maps."""
        return [note for group, domains in self.models for note in notes(group, domains)]

    @property
    def crossed(self) -> bool:
        """Whether the maps of a model say nothing."""
        return any(is_degenerate(group, domains) for group, domains in self.models)


def panels(study: Study, published: Sequence[Pair]) -> Figure:
    """Return IoU on each test domain against n, one panel for each held-out domain."""
    colour = colours([*dict.fromkeys([*study.record.domains, *study.tested])])
    drawn, used, compared = [], [], list[Pair]()
    for facet, held_out, curve in blocks(study):
        used += list(curve.values())
        lines = []
        for place, domain in enumerate(study.tested):
            width, shift = 3.5 if domain == held_out else 1.5, (place - (len(study.tested) - 1) / 2) * SIDE
            line = _line(domain, _points(curve, [domain]), colour[domain], width=width)
            lines.append(replace(line, shift=shift))
        mean = _line("mean of all test domains", _points(curve, study.tested), GREY, dash="dash", width=1.5)
        lines += [replace(mean, bars=False), *_baseline(study, held_out, facet, max(curve))]
        mine = [pair for pair in published if pair.where == name_of(facet, held_out) and pair.place.n is not None]
        compared += [pair for pair in mine if pair.col in colour]
        lines += _published([pair for pair in mine if pair.col in colour], colour)
        title = f"Held out: {name_of(facet, held_out)}"
        drawn.append(Panel(title, _lines(study, lines), _words(study, held_out, curve)))
    keys = [LegendKey(domain, colour[domain]) for domain in study.record.domains]
    keys += [
        LegendKey("mean of all test domains", GREY, "dash"),
        LegendKey("mean training mask, held-out domain", PALE, "dot", ""),
    ]
    if compared:
        shapes = {"published": "diamond", "published, doubtful: see hover": "diamond-open"}
        keys += [LegendKey(label, GREY, "", shape) for label, shape in shapes.items()]
    return Figure(
        id="fig-exposure",
        title=f"Test {study.first.word} against n, images of the held-out domain.",
        caption=f"One panel for each domain that the base never saw, drawn thick{_zero(study)}. Points of one n are "
        f"drawn side by side. Steps stand in the hover. {quoted(study, compared)}",
        source=[cross(study), *captions.provenance(study, used)],
        panels=drawn,
        legend=keys,
        numbers="exposure",
    )


def _lines(study: Study, series: Sequence[Series]) -> Lines:
    return Lines(series, X, scale(study.first, "test"))


def means(study: Study) -> Figure:
    """Return the mean over the held-out domains: what is gained on the new domain, what is lost on the seen ones."""
    drawn, used, legend = [], [], dict[str, LegendKey]()
    for facet in main(study).facets:
        planned = {held_out: curve for own, held_out, curve in blocks(study) if own == facet}
        curves = {name: curve for name, curve in planned.items() if _is_begun(curve, name)} or planned
        shared = _shared(curves)
        used += [curve[n] for curve in curves.values() for n in shared]
        lines = _mean_lines(study, curves, _replayed(study, facet, curves))
        legend |= {line.name: LegendKey(line.name, line.colour, line.dash, line.marker) for line in lines}
        steps = ", ".join(f"n = {n:,}: {_steps([curve[n] for curve in curves.values()])}" for n in shared)
        whole = len(curves) == len(planned)
        of = "the held-out domains" if whole else f"{len(curves)} of {counted(len(planned), 'held-out domain')}"
        words = f"Mean over {counted(len(curves), 'held-out domain') if whole else of}. Steps at {steps or 'no n'}."
        drawn.append(Panel(name_of(facet, f"Mean of {of}"), _lines(study, lines), words))
    replayed = any(REPLAY.label in one for one in legend)
    beside = " With replay: images of the base's own beside." if replayed else ""
    return Figure(
        id="fig-mean",
        title=f"Test {study.first.word} against n, mean over the held-out domains.",
        caption=f"For each n: {study.first.word} on the held-out domain, on "
        f"those that the base was trained on (known), and on all; bars are 95 % intervals.{beside} An n that lacks a "
        "held-out domain is left out, and so is a held-out domain of which nothing fine-tuned is scored yet."
        f"{_more(study)}{' n = 0 has the steps of the base.' if rooted(study) else ''}",
        source=[cross(study), *captions.provenance(study, used)],
        panels=drawn,
        legend=[*legend.values()],
        numbers="exposure",
    )


def _mean_lines(study: Study, curves: CurvesOf, replayed: CurvesOf) -> list[Series]:
    """Return the means of the main curves over their held-out domains, and those of replay on new and known ones."""
    seen = {held_out: study.seen(curve) for held_out, curve in curves.items()}
    new = {held_out: [held_out] for held_out in curves}
    every = dict.fromkeys(curves, study.tested)
    label, blue, square = REPLAY.label, COLOURS[0], REPLAY.shape[0]
    found = [
        _mean_line(study, "held-out domain", curves, new, "#000000", "solid"),
        _mean_line(study, "known domains, mean", curves, seen, "#000000", "dot"),
        _mean_line(study, "all test domains, mean", curves, every, GREY, "dash"),
    ]
    if replayed:
        found.append(_mean_line(study, f"held-out domain, {label}", replayed, new, blue, "solid", square))
        found.append(_mean_line(study, f"known domains, {label}", replayed, seen, blue, "dot", square))
    return found


def _mean_line(
    study: Study,
    label: str,
    curves: CurvesOf,
    domains: Mapping[str, Sequence[str]],
    colour: str,
    dash: str,
    marker: str = "circle",
) -> Series:
    of = {n: [(curve[n], domains[held_out]) for held_out, curve in curves.items()] for n in _shared(curves)}
    points = [LinePoint(n, found, models) for n, models in of.items() if (found := study.mean_of(models))]
    return _line(label, points, colour, dash=dash, width=2.5, marker=marker)


def _replayed(study: Study, facet: Facet, curves: CurvesOf) -> CurvesOf:
    """Return the curves of replay at the same held-out domains; none where one lacks."""
    control = closest(study, REPLAY)
    found = {held_out: control.curve(held_out, facet) for held_out in curves} if control else {}
    return found if found and all(found.values()) else {}


def _shared(curves: CurvesOf) -> list[int]:
    return sorted(set.intersection(*map(set, curves.values()))) if curves else []


def _zero(study: Study) -> str:
    return "; n = 0 is the base itself" if rooted(study) else ""


def _is_begun(curve: Mapping[int, Group], held_out: str) -> bool:
    return any(n and group.score([held_out]) for n, group in curve.items())


def controls(study: Study) -> Figure:
    """Return fine-tuned beside its controls, on the held-out and on the known domains."""
    colour = colours(study.record.domains)
    found, own = controls_of(study), main(study)
    drawn, used = [], []
    for facet, held_out, tuned in blocks(study):
        curves = [(own.label, own.shape, tuned)]
        start = {0: tuned[0]} if 0 in tuned else {}
        for one in found:
            curve = one.curve(held_out, facet)
            curves.append((one.label, one.shape, start | curve if curve and one.kind != SCRATCH else curve))
        used += [group for _, _, curve in curves for group in curve.values()]
        places = (("on the held-out domain", [held_out]), ("mean of the known domains", study.seen(tuned)))
        for words, domains in places:
            lines, said = [], []
            for label, (marker, dash), curve in curves:
                points = _points(curve, domains)
                lines.append(_line(label, points, colour[held_out], dash=dash, marker=marker))
                said.append(f"{label}: {_series(points)}")
            if domains == [held_out]:
                lines += _baseline(study, held_out, facet, max(tuned))
            title = f"Held out: {name_of(facet, held_out)}, {words}"
            drawn.append(Panel(title, _lines(study, lines), ". ".join(said)))
    return Figure(
        id="fig-controls",
        title="With replay beside scratch." if own.kind == REPLAY else "Fine-tuned beside scratch and replay.",
        caption=f"For each held-out domain, test {study.first.word} on it and on the domains of the base. Scratch: "
        "the same n images, no parent. Replay: n more images of the base's own."
        f"{_unequal(study, found)}",
        source=[cross(study), *captions.provenance(study, used)],
        panels=drawn,
        legend=[*map(_key, [own, *found]), MEAN_MASK],
        numbers="controls",
    )


def forgetting(study: Study) -> Figure:
    """Return what the domains of the base lose against n, one panel for each held-out domain, a line for each kind."""
    colour = colours(study.record.domains)
    kinds = rooted(study)
    lines: dict[str, list[Series]] = {}
    said: dict[str, list[str]] = {}
    used = list[Group]()
    for of in kinds:
        marker, dash = of.shape
        for facet, held_out, curve in blocks(study, of):
            seen = study.seen(curve)
            tuned = {n: group for n, group in curve.items() if n}
            points = [
                LinePoint(n, less, [(group, seen)]) for n, group in tuned.items() if (less := lost(study, group, seen))
            ]
            name = f"Held out: {name_of(facet, held_out)}"
            lines.setdefault(name, []).append(_line(of.label, points, colour[held_out], dash=dash, marker=marker))
            said.setdefault(name, []).append(f"{of.label}: {_series(points)}")
            used += tuned.values()
    axis = _signed(f"test {study.first.word} lost", [mark for of in lines.values() for one in of for mark in one.marks])
    return Figure(
        id="fig-forgetting",
        title="Forgetting against n, images of the held-out domain.",
        caption=f"Test {study.first.word} that the domains of the base lose by fine-tuning, mean over them; above 0 "
        "something is forgotten.",
        panels=[Panel(name, Lines(of, X, axis), ". ".join(said[name])) for name, of in lines.items()],
        legend=[*map(_key, kinds)],
        numbers="forgetting",
        source=[cross(study), *captions.provenance(study, used)],
    )


def _key(of: Curves) -> LegendKey:
    marker, dash = of.shape
    return LegendKey(of.label, GREY, dash, marker)


def _signed(label: str, marks: Sequence[Mark]) -> Axis:
    """Return the axis of differences, from a fifth below the least to a fifth above the largest, with 0 among them."""
    every = [end for mark in marks for end in (mark.value, *(mark.span or ()))]
    low, high = math.floor(5 * min([0.0, *every])), math.ceil(5 * max([0.2, *every]))
    return Axis(label, {place / 5: f"{place / 5:.1f}" for place in range(low, high + 1)}, (low / 5, high / 5))


def _unequal(study: Study, found: Sequence[Curves]) -> str:
    """Return a sentence for each control that differs from fine-tuned in more than what it is for."""
    also = {one.label: differs.words(besides(pairs(study, one), one.kind.compared)) for one in found}
    return "".join(
        f" {main(study).label.capitalize()} and {label} also differ in {words}: their distance is no answer."
        for label, words in also.items()
        if words
    )


def _more(study: Study) -> str:
    """Return a sentence where more than n differs along the curves."""
    words = differs.words(along(curve for _, _, curve in blocks(study)))
    return f" Between the smallest n and the others also differ: {words}." if words else ""


def _points(curve: Mapping[int, Group], domains: Sequence[str]) -> list[LinePoint]:
    return [LinePoint(n, found, [(group, domains)]) for n, group in curve.items() if (found := group.score(domains))]


def _line(
    label: str,
    points: Sequence[LinePoint],
    colour: str,
    *,
    dash: str = "solid",
    width: float = 2.0,
    marker: str = "circle",
) -> Series:
    marks = [mark(point.n, point.found, _notes(point), "x" if point.crossed else "") for point in points]
    return Series(label, marks, colour, dash, marker, width, size=5 + width)


def _notes(point: LinePoint) -> list[str]:
    n, found, models = point
    lines = [_steps([group for group, _ in models]) + (" of the base" if n == 0 else "")]
    for note, count in Counter(point.notes).items():
        lines.append(f"{note}: {count} of {len(models)} models" if len(models) > 1 else note)
    return [*lines, f"{found.runs} run(s), {found.photographs} source images"]


def _steps(groups: Sequence[Group]) -> str:
    counts = sorted({group.first.trial.spec.steps for group in groups})
    return f"{' … '.join(f'{count:,}' for count in counts[:1] + counts[1:][-1:])} step{'s' * (counts != [1])}"


def _baseline(study: Study, domain: str, facet: Facet, end: int) -> Iterator[Series]:
    for words, group in captions.baselines(study, "mean-mask", facet).items():
        if found := group.score([domain]):
            ends = [Mark(n, found.value) for n in (0, end)]
            yield Series(f"{words} on {domain}", ends, PALE, "dot", "", 1.5)


def _published(found: Sequence[Pair], colour: Mapping[str, str]) -> Iterator[Series]:
    for domain in dict.fromkeys(pair.col for pair in found):
        marks = [_quoted(pair) for pair in found if pair.col == domain]
        yield Series(f"published, {domain}", marks, colour[domain], "", "diamond", size=8)


def _quoted(pair: Pair) -> Mark:
    source = pair.published
    assert pair.place.n is not None
    shape = "" if source.status == "ok" else "diamond-open"
    reason = [f"{source.status}: {source.reason}"] if source.reason else []
    return Mark(pair.place.n, source.value, None, shape, [*reason, *pair.told()])


def _words(study: Study, held_out: str, curve: Mapping[int, Group]) -> str:
    own, kept = _series(_points(curve, [held_out])), _series(_points(curve, study.seen(curve)))
    return f"{study.first.label} on {held_out}: {own}. Mean of the known domains: {kept}."


def _series(points: Sequence[LinePoint]) -> str:
    return ", ".join(f"n = {point.n:,}: {point.found.value:.2f}" for point in points) or "no point is finished"
