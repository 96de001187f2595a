"""Figures of the exposure study: Plotly panels, one colour for each domain everywhere."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from dfloc.report import beside, captions, differs
from dfloc.report.beside import Pair
from dfloc.report.controls import SCRATCH, TUNED, Control, along, besides, controls_of, pairs
from dfloc.report.estimate import Estimate
from dfloc.report.exposure import blocks, name_of
from dfloc.report.groups import Facet, Group, Model, Study
from dfloc.report.marks import is_degenerate, notes
from dfloc.report.plot import GREY, Figure, Key, Panel, axes, colours, told
from dfloc.report.plot import bars as error_bars
from dfloc.report.table import escape

X = "n, images of the held-out domain"
MEAN_MASK = Key("mean training mask", "#999999", "dot", "")


class Point(NamedTuple):
    """One point of a line: the mean over some models, each of some test domains."""

    n: int
    found: Estimate
    models: Sequence[Model]

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
        figure = axes(X, f"test {study.first.label}")
        for place, domain in enumerate(study.tested):
            strong = domain == held_out
            shift = (place - (len(study.tested) - 1) / 2) * max(curve) * 0.008
            points = _points(curve, [domain])
            _line(figure, domain, points, colour[domain], shift=shift, width=3.5 if strong else 1.5)
        mean = _points(curve, study.tested)
        _line(figure, "mean of all test domains", mean, GREY, dash="dash", width=1.5, bars=False)
        _baseline(figure, study, held_out, facet, max(curve))
        mine = [pair for pair in published if pair.where == name_of(facet, held_out) and pair.n is not None]
        compared += [pair for pair in mine if pair.domain in colour]
        _published(figure, [pair for pair in mine if pair.domain in colour], colour)
        drawn.append(Panel(f"Held out: {name_of(facet, held_out)}", figure, _words(study, held_out, curve)))
    keys = [Key(domain, colour[domain]) for domain in study.record.domains]
    keys += [
        Key("mean of all test domains", GREY, "dash"),
        Key("mean training mask, held-out domain", "#999999", "dot", ""),
    ]
    if published:
        keys += [Key("published", GREY, "", "diamond"), Key("published, doubtful: see hover", GREY, "", "diamond-open")]
    return Figure(
        id="fig-exposure",
        title=f"Test {study.first.label} against n, images of the held-out domain.",
        caption="One panel for each domain that the base never saw, drawn thick; n = 0 is the base itself. Points of "
        "one n are drawn side by side. A cross: over 90 % of the maps empty, all fake or constant, of the trial or on "
        f"that domain. Steps stand in the hover. {beside.quoted(study, compared)}{captions.provenance(study, used)}",
        panels=drawn,
        legend=keys,
        numbers="exposure",
    )


def means(study: Study) -> Figure:
    """Return the mean over the held-out domains: what is gained on the new domain, what is lost on the seen ones."""
    drawn, used = [], []
    for facet in study.facets("finetune"):
        curves = {held_out: study.curve("finetune", held_out, facet) for held_out in study.record.domains}
        curves = {held_out: curve for held_out, curve in curves.items() if curve}
        shared = sorted(set.intersection(*(set(curve) for curve in curves.values()))) if curves else []
        used += [curve[n] for curve in curves.values() for n in shared]
        figure = axes(X, f"test {study.first.label}")
        for label, colour, dash, domains in _kinds(study, curves):
            models = {n: [(curve[n], domains(held_out)) for held_out, curve in curves.items()] for n in shared}
            points = [Point(n, found, models[n]) for n in shared if (found := study.mean_of(models[n]))]
            _line(figure, label, points, colour, dash=dash, width=2.5)
        steps = ", ".join(f"n = {n:,}: {_steps([curve[n] for curve in curves.values()])}" for n in shared)
        words = f"Mean over {len(curves)} held-out domains. Steps at {steps or 'no n'}."
        drawn.append(Panel(name_of(facet, "Mean of the held-out domains"), figure, words))
    return Figure(
        id="fig-mean",
        title="The mean of the panels above.",
        caption=f"For each n, averaged over the held-out domains: {study.first.label} on the held-out domain, on "
        "those that the base was trained on, and on all. An n at which a panel has a hole is left out."
        f"{_more(study)} n = 0 has the steps of the base. A cross: over 90 % of the maps of one of the trials, or "
        f"on its domain, are empty, all fake or constant. {captions.provenance(study, used)}",
        panels=drawn,
        legend=[Key(label, colour, dash) for label, colour, dash, _ in _kinds(study, {})],
        numbers="exposure",
    )


def controls(study: Study) -> Figure:
    """Return fine-tuned beside its controls, on the held-out and on the seen domains."""
    colour = colours(study.record.domains)
    found = controls_of(study)
    drawn, used = [], []
    for facet, held_out, tuned in blocks(study):
        curves = [(TUNED.label, TUNED.shape, tuned)]
        start = {0: tuned[0]} if 0 in tuned else {}
        for one in found:
            curve = one.curve(held_out, facet)
            curves.append((one.label, one.shape, start | curve if curve and one.kind != SCRATCH else curve))
        used += [group for _, _, curve in curves for group in curve.values()]
        places = (("on the held-out domain", [held_out]), ("mean of the seen domains", study.seen(tuned)))
        for words, domains in places:
            figure, said = axes(X, f"test {study.first.label}"), []
            for label, (marker, dash), curve in curves:
                points = _points(curve, domains)
                _line(figure, label, points, colour[held_out], dash=dash, marker=marker)
                said.append(f"{label}: {_series(points)}")
            if domains == [held_out]:
                _baseline(figure, study, held_out, facet, max(tuned))
            drawn.append(Panel(f"Held out: {name_of(facet, held_out)}, {words}", figure, ". ".join(said)))
    shapes = [(TUNED.label, TUNED.shape), *((one.label, one.shape) for one in found)]
    return Figure(
        id="fig-controls",
        title="Fine-tuned beside scratch and replay.",
        caption=f"For each held-out domain, test {study.first.label} on it and on the domains of the base. Scratch: "
        "the same n images, no parent. Replay: n more images of the base's own. A cross: over 90 % of the maps empty, "
        f"all fake or constant.{_unequal(study, found)} {captions.provenance(study, used)}",
        panels=drawn,
        legend=[*(Key(label, GREY, dash, marker) for label, (marker, dash) in shapes), MEAN_MASK],
        numbers="controls",
    )


def _unequal(study: Study, found: Sequence[Control]) -> str:
    """Return a sentence for each control that differs from fine-tuned in more than what it is for."""
    also = {one.label: differs.words(besides(pairs(study, one), one.kind.compared)) for one in found}
    return "".join(
        f" Fine-tuned and {label} also differ in {words}: their distance is no answer."
        for label, words in also.items()
        if words
    )


def _more(study: Study) -> str:
    """Return a sentence where more than n differs along the curves."""
    words = differs.words(along(curve for _, _, curve in blocks(study)))
    return f" Between the smallest n and the others also differ: {words}." if words else ""


def _kinds(
    study: Study, curves: Mapping[str, Mapping[int, Group]]
) -> list[tuple[str, str, str, Callable[[str], list[str]]]]:
    domains = study.tested
    return [
        ("held-out domain", "#000000", "solid", lambda held_out: [held_out]),
        ("seen domains, mean", "#000000", "dot", lambda held_out: study.seen(curves[held_out])),
        ("all test domains, mean", GREY, "dash", lambda _: domains),
    ]


def _points(curve: Mapping[int, Group], domains: Sequence[str]) -> list[Point]:
    return [Point(n, found, [(group, domains)]) for n, group in curve.items() if (found := group.score(domains))]


def _line(
    figure: go.Figure,
    label: str,
    points: Sequence[Point],
    colour: str,
    *,
    shift: float = 0.0,
    dash: str = "solid",
    width: float = 2.0,
    marker: str = "circle",
    bars: bool = True,
) -> None:
    found = [point.found for point in points]
    figure.add_scatter(
        x=[point.n + shift for point in points],
        y=[each.value for each in found],
        name=escape(label),
        mode="lines+markers",
        cliponaxis=False,
        line={"color": colour, "width": width, "dash": dash},
        marker={
            "symbol": ["x" if point.crossed else marker for point in points],
            "size": 5 + width,
            "color": colour,
        },
        error_y=error_bars(found) | {"visible": bars},
        hovertemplate="%{text}<extra></extra>",
        text=[_hover(label, point) for point in points],
    )


def _hover(label: str, point: Point) -> str:
    n, found, models = point
    lines = [f"<b>{escape(label)}</b>, n = {n:,}", f"{found.metric.label} {told(found)}"]
    lines.append(_steps([group for group, _ in models]) + (" of the base" if n == 0 else ""))
    for note, count in Counter(point.notes).items():
        lines.append(f"{note}: {count} of {len(models)} models" if len(models) > 1 else note)
    return "<br>".join([*lines, f"{found.runs} run(s), {found.photographs} photographs"])


def _steps(groups: Sequence[Group]) -> str:
    counts = sorted({group.first.trial.spec.steps for group in groups})
    return f"{' … '.join(f'{count:,}' for count in dict.fromkeys((counts[0], counts[-1])))} steps"


def _baseline(figure: go.Figure, study: Study, domain: str, facet: Facet, end: int) -> None:
    for words, group in captions.baselines(study, "mean-mask", facet).items():
        if found := group.score([domain]):
            text = f"{escape(words)} on {escape(domain)}: {found.value:.3f}"
            line = {"color": "#999999", "width": 1.5, "dash": "dot"}
            figure.add_scatter(x=[0, end], y=[found.value] * 2, mode="lines", line=line, name=text, hoverinfo="name")


def _published(figure: go.Figure, found: Sequence[Pair], colour: Mapping[str, str]) -> None:
    for domain in dict.fromkeys(pair.domain for pair in found):
        mine = [pair for pair in found if pair.domain == domain]
        sound = [pair.published.status == "ok" for pair in mine]
        mine_colour = colour[domain]
        figure.add_scatter(
            x=[pair.n for pair in mine],
            y=[pair.published.value for pair in mine],
            mode="markers",
            name=f"published, {escape(domain)}",
            marker={
                "symbol": ["diamond" if ok else "diamond-open" for ok in sound],
                "size": 8,
                "color": mine_colour,
                "line": {
                    "width": [0.5 if ok else 1.5 for ok in sound],
                    "color": ["white" if ok else mine_colour for ok in sound],
                },
            },
            hovertemplate="%{text}<extra></extra>",
            text=[_published_hover(pair) for pair in mine],
        )


def _published_hover(pair: Pair) -> str:
    text = f"<b>published</b> {escape(pair.domain)}, n = {pair.n:,}: {pair.published.value:.3f}"
    reason = pair.published.reason
    own = [line for words in beside.told(pair) for line in _wrapped(words)]
    head = [f"<i>{pair.published.status}</i>:"] if reason else []
    return "<br>".join([text, *head, *map(escape, [*_wrapped(reason), *own])])


def _wrapped(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + 9]) for i in range(0, len(words), 9)]


def _words(study: Study, held_out: str, curve: Mapping[int, Group]) -> str:
    own, kept = _series(_points(curve, [held_out])), _series(_points(curve, study.seen(curve)))
    return f"{study.first.label} on {held_out}: {own}. Mean of the seen domains: {kept}."


def _series(points: Sequence[Point]) -> str:
    return ", ".join(f"n = {point.n:,}: {point.found.value:.2f}" for point in points) or "no trial is finished"
