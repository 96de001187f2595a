"""IoU against the share of an image that is fake."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from dfloc.metrics.metric import Metric
from dfloc.metrics.sets import AREAS, by_area
from dfloc.report import captions
from dfloc.report.chart import Axis, Figure, LegendKey, Lines, Mark, Panel, Series, looks, scale
from dfloc.report.groups import Group, Study
from dfloc.report.models import Model, best, heads, wide
from dfloc.report.table import DASH, Cell, Column, Table, rows

PROTOCOLS = ("dolos-2024", "dfloc-1")
MAX_MODELS = 3
NAMES = [f"{100 * low:g} to {100 * high:g} %" for low, high in pairwise(AREAS)]

Bins = Sequence[tuple[float | None, int]]
AreaLine = tuple[str, str, str, Bins]  # a model, a test domain, training data


def wanted(study: Study) -> bool:
    """Return whether a study's document shows it: those of Dolos, and our own protocol."""
    return study.record.protocol in PROTOCOLS


def figure(study: Study, found: Sequence[Model]) -> Figure:
    """Return a panel for each of the best models and each test domain, a line for each training."""
    shown = best(study, wide(found) or found, MAX_MODELS)
    labels = heads(shown)
    drawn, used = [], []
    for model in shown:
        for domain in study.tested:
            lines = {column.name: bins(column.group, domain) for column in model.columns}
            lines = {label: line for label, line in lines.items() if any(count for _, count in line)}
            if lines:
                used += model.groups
                drawn.append(_panel(f"{model.name}, tested on {domain}", lines, labels, study.first))
    return Figure(
        id="fig-areas",
        title="Test IoU by the share of the image that is fake.",
        caption="Means over the images whose fake area is in a bin (over its lower end, at most its upper), best "
        "epoch; how many images they are stands in the hover and in the table. The models of highest validation IoU.",
        source=captions.provenance(study, used),
        panels=drawn,
        legend=[LegendKey(label, *looks(labels)[label]) for label in labels],
        numbers="areas",
    )


def table(study: Study, found: Sequence[Model]) -> Table:
    """Return the numbers of the figure, of all models."""
    blocks = [
        [(model.name, domain, one.name, bins(one.group, domain)) for one in model.columns]
        for model in found
        for domain in study.tested
    ]
    columns: list[Column[AreaLine]] = [
        Column("Model", lambda line: Cell(line[0]), words=True),
        Column("Test domain", lambda line: Cell(line[1]), words=True),
        Column("Trained on", lambda line: Cell(line[2]), words=True),
        *(_bin(place, name) for place, name in enumerate(NAMES)),
    ]
    return Table(
        id="areas",
        title="Test IoU by the share of the image that is fake.",
        caption="In small print: images in the bin, over all runs.",
        source=captions.provenance(study, [group for model in found for group in model.groups]),
        columns=columns,
        rows=rows(columns, blocks),
        folded=True,
    )


def bins(group: Group, domain: str) -> Bins:
    """Return the mean IoU and the number of images of each bin, over all runs; None where there are none."""
    scores = [result.scores["best", domain] for result in group.scored if ("best", domain) in result.scores]
    none = np.empty(0)
    area = np.concatenate([none, *(score.areas for score in scores)])
    value = np.concatenate([none, *(score.of() for score in scores)])
    found = by_area(pa.table({"mask_area": area, "value": value}), "value")
    return [(each.mean, each.num_images) for each in found]


def _panel(title: str, lines: Mapping[str, Bins], labels: Sequence[str], metric: Metric) -> Panel:
    series, said = [], []
    for label, line in lines.items():
        there = [(place, value, count) for place, (value, count) in enumerate(line) if value is not None]
        marks = [Mark(place, value, notes=[f"{count:,} images"]) for place, value, count in there]
        series.append(Series(label, marks, *looks(labels)[label], size=6))
        said.append(f"{label}: " + ", ".join(f"{NAMES[place]} {value:.2f}" for place, value, _ in there))
    ticks = {float(place): name.removesuffix(" %") for place, name in enumerate(NAMES)}
    x = Axis("share of the image that is fake, %", ticks, (-0.3, len(NAMES) - 0.7))
    return Panel(title, Lines(series, x, scale(metric, "test")), "; ".join(said) + ".")


def _bin(place: int, name: str) -> Column[AreaLine]:
    def cell(line: AreaLine) -> Cell:
        value, count = line[3][place]
        return Cell(f"{value:.3f}", f"{count:,}", exact=(value,)) if value is not None else Cell(DASH, mark="hole")

    return Column(name, cell)
