"""Mean IoU against what is ordered (a layer, a depth), and all models in one ranking."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from dfloc.report import captions
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Study
from dfloc.report.heatmaps import KINDS
from dfloc.report.models import Model, Part, parts, settings, valued
from dfloc.report.plot import COLOURS, GREY, Figure, Key, Panel, axes, bars, told
from dfloc.report.table import escape

DASH = {"in-domain": "solid", "out-of-domain": "dot"}
MARKER = {"in-domain": "circle", "out-of-domain": "circle-open"}
KEYS = [Key("in-domain (ID)", GREY), Key("out-of-domain (OOD)", GREY, "dot", "circle-open")]


class Place(NamedTuple):
    """Where a part stands in a figure of one axis."""

    panel: str
    line: str
    x: float
    part: Part


def trends(study: Study, found: Sequence[Model]) -> list[Figure]:
    """Return a figure for each axis whose values have an order and whose stage has two of them or more."""
    names = dict.fromkeys(axis for model in found for part in model.parts for axis in settings(part.groups[0]))
    figures = [_trend(study, found, axis) for axis in names]
    return [figure for figure in figures if figure.panels]


def ranking(study: Study, found: Sequence[Model]) -> Figure:
    """Return every model's mean IoU in and out of domain with its interval, ranked by validation IoU."""
    drawn, used = [], []
    for kind, block in parts(study, found).items():
        means = [(part, {words: part.mean(study, which) for words, which in KINDS.items()}) for part in block]
        there = [(part, each) for part, each in means if any(each.values())]
        if there:
            used += [group for part, _ in there for group in part.groups]
            words = "; ".join(f"{part.model.name}: {_said(each)}" for part, each in there)
            drawn.append(
                Panel(f"Trained on {kind}", _dots(there, study.first.label), f"Ranked by validation: {words}.")
            )
    return Figure(
        id="fig-models",
        title="Models, ranked by validation IoU.",
        caption=f"Mean test {study.first.label} over the cells in and out of domain, the model of highest validation "
        f"IoU on top (its validation IoU is the grey tick). {captions.provenance(study, used)}",
        panels=drawn,
        legend=[*KEYS, Key("validation IoU", GREY, "", "tick")],
        numbers="models",
    )


def _trend(study: Study, found: Sequence[Model], axis: str) -> Figure:
    places = [place for model in found for part in model.parts if (place := _place(part, axis))]
    by_panel: dict[str, dict[str, list[Place]]] = {}
    for place in places:
        by_panel.setdefault(place.panel, {}).setdefault(place.line, []).append(place)
    layers = any(isinstance(place.part.groups[0].axes[axis], str) for place in places)
    name = "layer" if layers else axis.rpartition(".")[2]
    drawn, used = [], []
    lines = list(dict.fromkeys(place.line for place in places))
    for panel, by_line in by_panel.items():
        if max(len({place.x for place in line}) for line in by_line.values()) < 2:
            continue
        figure, said = axes(name, f"mean test {study.first.label}"), []
        figure.update_layout(xaxis={"tickvals": sorted({place.x for line in by_line.values() for place in line})})
        for label, line in by_line.items():
            line.sort(key=lambda place: place.x)
            used += [group for place in line for group in place.part.groups]
            said.append(f"{label or panel}: {_line(study, figure, label, line, lines.index(label))}")
        drawn.append(Panel(panel, figure, " ".join(said)))
    keys = [Key(line, COLOURS[place % len(COLOURS)], "solid", "") for place, line in enumerate(lines) if line]
    return Figure(
        id=f"fig-by-{re.sub('[^a-z0-9]+', '-', axis.lower())}",
        title=f"Mean test {study.first.label} by {name}.",
        caption="Means over the cells in and out of domain. " + captions.provenance(study, used),
        panels=drawn,
        legend=[*keys, *KEYS],
        numbers="models",
    )


def _place(part: Part, axis: str) -> Place | None:
    group = part.groups[0]
    value = group.axes.get(axis)
    rest = [valued(name, group.axes[name]) for name in settings(part.groups[0]) if name != axis]
    if isinstance(value, int | float):
        return Place(_head(group, part), ", ".join(rest), float(value), part)
    layer = re.fullmatch(r"(.*?)/?layer(\d+)", value) if isinstance(value, str) else None
    if layer is None:
        return None
    return Place(", ".join([layer[1], part.kind]), ", ".join(filter(None, [group.case, *rest])), float(layer[2]), part)


def _head(group: Group, part: Part) -> str:
    return ", ".join(filter(None, [group.stage, group.case, part.kind]))


def _line(study: Study, figure: go.Figure, label: str, line: Sequence[Place], colour: int) -> str:
    said = []
    for words, which in KINDS.items():
        points = [(place, found) for place in line if (found := place.part.mean(study, which))]
        figure.add_scatter(
            x=[place.x for place, _ in points],
            y=[found.value for _, found in points],
            error_y=bars([found for _, found in points]),
            mode="lines+markers",
            cliponaxis=False,
            line={"color": COLOURS[colour % len(COLOURS)], "width": 2, "dash": DASH[words]},
            marker={"symbol": MARKER[words], "size": 7},
            name=escape(f"{label}, {words}"),
            text=[f"<b>{escape(place.part.model.name)}</b><br>{words}: {told(found)}" for place, found in points],
            hovertemplate="%{text}<extra></extra>",
        )
        said.append(f"{words} " + ", ".join(f"{place.x:g}: {found.value:.2f}" for place, found in points))
    return "; ".join(said) + "."


def _dots(means: Sequence[tuple[Part, dict[str, Estimate | None]]], label: str) -> go.Figure:
    figure = axes(label, "", unit=False)
    names = [escape(part.model.name) for part, _ in means]
    places = list(range(len(names)))
    figure.add_scatter(
        x=[part.valid for part, _ in means],
        y=places,
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 12, "color": "#999999", "line": {"width": 2}},
        hovertemplate="validation IoU %{x:.3f}<extra></extra>",
    )
    for words in KINDS:
        there = [(place, found) for place, (_, each) in enumerate(means) if (found := each[words])]
        figure.add_scatter(
            x=[found.value for _, found in there],
            y=[place for place, _ in there],
            error_x=bars([found for _, found in there]),
            mode="markers",
            marker={"symbol": MARKER[words], "size": 9, "color": COLOURS[0], "line": {"width": 2}},
            text=[f"<b>{names[place]}</b><br>{words}: {told(found)}" for place, found in there],
            hovertemplate="%{text}<extra></extra>",
        )
    ends = {"tickvals": places, "ticktext": names, "range": [len(names) - 0.5, -0.5], "automargin": True, "ticks": ""}
    figure.update_layout(height=70 + 24 * len(names), yaxis=ends, margin={"l": 8})
    figure.update_layout(xaxis={"range": [0, 1], "dtick": 0.2, "showgrid": True})
    return figure


def _said(each: dict[str, Estimate | None]) -> str:
    return ", ".join(f"{words} {found.value:.2f}" for words, found in each.items() if found)
