"""Two steps: what composites have on fakes and with reals, and what a router that is always right would have."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dfloc.engine import route
from dfloc.metrics import routing
from dfloc.metrics.image_rows import FAKE
from dfloc.metrics.metric import IOU
from dfloc.metrics.pairs import reals_of
from dfloc.metrics.routing import RoutingCell
from dfloc.report import captions, cells, table
from dfloc.report.chart import COLOURS, UNIT, Axis, Figure, LegendKey, Lines, Mark, Panel, Series, scale
from dfloc.report.groups import Study
from dfloc.report.page import Section
from dfloc.report.pipelines import Answered, Pipeline, mean_of, numbers, pipelines, scored, wrong
from dfloc.report.published import PIPELINES, PublishedTable
from dfloc.report.results import Result
from dfloc.report.table import Cell, Column, Table

MEAN = "mean"
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
TWO = (
    "A first model says whether, or by which generator, an image is fake; a second one where. Rows of the parts are "
    "joined image by image; nothing is computed anew."
)


class Confused(NamedTuple):
    """A pair of a class and a call behind a composite."""

    pipeline: Pipeline
    cell: RoutingCell


def section(study: Study, published: Sequence[PublishedTable]) -> Section:
    """Return the tables and the figure of a study's composites; without blocks where it has none."""
    found = pipelines(study)
    blocks: list[Table | Figure] = []
    if found and IOU.key in study.protocol.per_image:
        blocks = [two_step(study, found, published), on_reals(study, found)]
        blocks += [one for one in (confused(study, found),) if one.rows]
        figure, numbers = swept(study, found)
        blocks += [figure, numbers] if figure.panels else []
    return Section("routing-study", "One model or two steps?", " ".join([TWO, *holes(study)]), blocks)


def holes(study: Study) -> list[str]:
    """Return a sentence for each composite that waits for a part, or whose part has lost its rows since."""
    said = dict.fromkeys(
        f"{result.trial.name} waits for {part.trial.name}, which {_became(part)}."
        for result in study.results.all
        if result.trial.spec.parts and not result.scores
        for name in result.trial.parents
        if (part := study.results.by_fingerprint.get(name)) is not None and part.state != "done"
    )
    gone = dict.fromkeys(
        f"Behind {result.trial.name} a right router is not told: {part.trial.name} has no rows any more."
        for result in study.results.all
        if result.trial.spec.parts and result.scores
        for name in result.trial.parents
        if (part := study.results.by_fingerprint.get(name)) is not None and not part.scores
    )
    return [*said, *_others(study), *gone]


def _became(part: Result) -> str:
    return {"failed": "failed", "stopped": "was stopped early"}.get(part.state, "is not finished")


def _others(study: Study) -> Iterator[str]:
    """Yield the same of parts that the page's protocol does not score: routers."""
    for result in study.results.all:
        if result.trial.spec.parts and not result.scores:
            for name in result.trial.parents:
                if name not in study.results.by_fingerprint and (state := study.results.state(name)) != "done":
                    words = {"failed": "failed", "stopped": "was stopped early"}.get(state, "is not finished")
                    yield f"{result.trial.name} waits for its router {name[:12]}, which {words}."


def two_step(study: Study, found: Sequence[Pipeline], published: Sequence[PublishedTable]) -> Table:
    """Return the slide's table: fakes, with reals, and what a right router would have, by pipeline and domain."""
    known = {(one, domain): numbers(study, one, domain) for one in found for domain in (*study.tested, None)}

    def column(head: str, key: str) -> Column[Answered]:
        return Column(head, lambda one: table.number(known[one.pipeline, one.domain][key]))

    theirs = [] if study.built_in else [each for each in published if each.axes == PIPELINES]
    columns: list[Column[Answered]] = [
        Column("Pipeline", lambda one: cells.name(one.pipeline.name, [one.pipeline.group]), words=True),
        Column("Test domain", lambda one: Cell(one.domain or MEAN), words=True),
        Column("Fakes", lambda one: cells.score(one.pipeline.group, [one.domain] if one.domain else study.tested)),
        column("With reals", "with_reals"),
        column("Routing recall", "recall"),
        column("Right router", "oracle"),
        column("Routing cost", "cost"),
        *_published(theirs),
    ]
    blocks = [[Answered(one, domain) for domain in (*study.tested, None)] for one in found]
    rows = table.rows(columns, blocks)
    empty = next((of["nothing"] for of in known.values() if of["nothing"] is not None), None)
    if empty is not None:
        said = {"Pipeline": Cell("empty map"), "Test domain": Cell(MEAN)}
        rows.append(table.baseline(columns, said | {"Fakes": table.number(0.0), "With reals": table.number(empty)}))
    context = "Published numbers are context, never subtracted: " if theirs else ""
    statuses = dict.fromkeys(cell.reason for each in theirs for cell in each.cells.values() if cell.reason)
    return Table(
        id="two-step",
        title="One model against two steps: IoU on fakes, and with reals.",
        caption="With reals: the plain mean over a domain's fakes and the reals of its source; a real whose map is "
        "empty has 1, so that half of the number is the share of reals that are left alone, and an empty map for every "
        "image has a half. Routing recall: the share of the domain's fakes that the router calls their class. Right "
        "router: each fake has the map of the part of its own class; routing cost is the difference, which rows of the "
        f"parts tell. {context}{'; '.join(statuses)}",
        source=captions.provenance(study, [one.group for one in found]),
        columns=columns,
        rows=rows,
        best="",
        trials=captions.trials(one.group for one in found),
    )


def _published(theirs: Sequence[PublishedTable]) -> Iterator[Column[Answered]]:
    """Yield a column of the published numbers of fakes, and of those with reals, where there are any."""
    for head, real in (("Published, fakes", False), ("Published, with reals", True)):
        named = [each for each in theirs if ("real" in each.aggregate) is real]

        def cell(one: Answered, named: Sequence[PublishedTable] = named) -> Cell:
            at = one.pipeline.name, one.domain or MEAN
            found = [(each.cells[at], each) for each in named if at in each.cells]
            if not found:
                return Cell(table.DASH, mark="hole")
            words = "; ".join(f"{each.id}, {of.status}" for of, each in found)
            return Cell(f"{found[0][0].value:.3f}", words, exact=(found[0][0].value,))

        if named:
            yield Column(head, cell, muted=True)


def on_reals(study: Study, found: Sequence[Pipeline]) -> Table:
    """Return how many reals each pipeline leaves alone: called real, or misrouted to a part that paints nothing."""
    known = {one: numbers(study, one) for one in found}

    def column(head: str, key: str) -> Column[Pipeline]:
        return Column(head, lambda one: table.number(known[one][key]))

    columns: list[Column[Pipeline]] = [
        Column("Pipeline", lambda one: Cell(one.name), words=True),
        column("Empty map", "empty"),
        column("Called real", "passed"),
        column("Misrouted, map empty", "misrouted"),
    ]
    return Table(
        id="empty-reals",
        title="Reals whose map is empty.",
        caption="The share of test reals whose map calls no pixel fake: those that a router calls real, which have an "
        "empty map by definition, and those that it calls fake and whose part paints nothing. The former are the "
        "router's true negatives, and never more than the whole.",
        source=captions.provenance(study, [one.group for one in found]),
        columns=columns,
        rows=table.rows(columns, [found]),
        best="",
    )


def confused(study: Study, found: Sequence[Pipeline]) -> Table:
    """Return what each wrong call costs, that which costs most first."""
    lines = {one: wrong(study, one) for one in found if one.composed}
    columns: list[Column[Confused]] = [
        Column("Pipeline", lambda one: Cell(one.pipeline.name), words=True),
        Column("Class", lambda one: Cell(one.cell.true), words=True),
        Column("Called", lambda one: Cell(one.cell.called), words=True),
        Column("Images", lambda one: Cell(f"{one.cell.images:,}", exact=(one.cell.images,))),
        Column("Share of the class", lambda one: table.share(one.cell.share)),
        Column("Cost of each", lambda one: table.number(one.cell.cost)),
        Column("Part of the whole cost", lambda one: table.share(mean_of([one.cell.part]))),
    ]
    blocks = [[Confused(one, cell) for cell in of] for one, of in lines.items() if of]
    return Table(
        id="routing-cells",
        title="What each wrong call costs.",
        caption="Test fakes of all domains, trainings together. Cost of each: by how much the map of the part of its "
        "own class is better in the mean. A wrong call can gain, where another part happens to be better.",
        source=captions.provenance(study, [one.group for one in found if one.composed]),
        columns=columns,
        rows=table.rows(columns, blocks),
        best="",
        folded=True,
    )


def swept(study: Study, found: Sequence[Pipeline]) -> tuple[Figure, Table]:
    """Return what every threshold of a detector's score would give, on fakes and with reals, and the same numbers."""
    lines = {one: line for one in found if one.composed and (line := _thresholds(study, one))}
    source = captions.provenance(study, [one.group for one in lines])
    colours = {"fakes": COLOURS[0], "with reals": COLOURS[1]}
    figure = Figure(
        id="fig-routing-thresholds",
        title="What another threshold of the detector would give.",
        caption="Mean IoU over the domains, on fakes and with reals, where an image goes to the localizer if its score "
        "is over the threshold and has an empty map otherwise; 0.5 is what the detector calls. Test images: a picture, "
        "no way to choose one.",
        source=source,
        panels=[_panel(one, line, colours) for one, line in lines.items()],
        legend=[LegendKey(name, colour, "solid", "") for name, colour in colours.items()],
        numbers="routing-thresholds",
    )
    columns: list[Column[tuple[Pipeline, int]]] = [
        Column("Pipeline", lambda one: Cell(one[0].name), words=True),
        Column("Threshold", lambda one: Cell(f"{THRESHOLDS[one[1]]:.2f}")),
        Column("Fakes", lambda one: table.number(lines[one[0]]["fakes"][one[1]])),
        Column("With reals", lambda one: table.number(lines[one[0]]["with reals"][one[1]])),
    ]
    return figure, Table(
        id="routing-thresholds",
        title="Thresholds of the detector.",
        caption="The numbers of the figure above.",
        source=source,
        columns=columns,
        rows=table.rows(columns, [[(one, place) for place in range(len(THRESHOLDS))] for one in lines]),
        best="",
        folded=True,
    )


def _panel(one: Pipeline, line: Mapping[str, Sequence[float]], colours: Mapping[str, str]) -> Panel:
    series = [
        Series(name, [Mark(t, v) for t, v in zip(THRESHOLDS, values, strict=True)], colours[name], "solid", "")
        for name, values in line.items()
    ]
    best = THRESHOLDS[int(np.argmax(line["with reals"]))]
    chart = Lines(series, Axis("threshold of the score", UNIT, (0, 1)), scale(IOU, ""))
    return Panel(one.name, chart, f"With reals it is highest at {best:g}.")


def _thresholds(study: Study, one: Pipeline) -> dict[str, list[float]]:
    """Return the mean over domains and trainings at each threshold; empty where no detector routes."""
    found: dict[str, list[list[float]]] = {"fakes": [], "with reals": []}
    for result in one.group.scored:
        parts = result.trial.spec.parts
        if {*parts} != {route.ROUTE, FAKE}:
            return {}
        for domain in study.tested:
            sides = [_at(study, result, name) for name in (domain, reals_of(domain))]
            if sides[0] is None or sides[1] is None:
                return {}
            (own, num), (real, num_reals) = sides[0], sides[1]
            found["fakes"].append(own)
            both = [(a * num + b * num_reals) / (num + num_reals) for a, b in zip(own, real, strict=True)]
            found["with reals"].append(both)
    return {name: np.mean(values, 0).tolist() for name, values in found.items() if values}


def _at(study: Study, result: Result, domain: str) -> tuple[list[float], int] | None:
    evaluation = scored(result, domain)
    rows = study.results.routers(evaluation) if evaluation else None
    if rows is None:
        return None
    router, part = rows
    return routing.at_threshold(router, part, IOU.key, THRESHOLDS), len(router)
