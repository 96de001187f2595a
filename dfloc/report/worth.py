"""How many masks labels of whole images are worth: models on n images with masks and m with labels, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dfloc.data import dolos
from dfloc.metrics.worth import Values, images_for, middle
from dfloc.registry import SOLVED
from dfloc.report import captions, cells, table
from dfloc.report.chart import Axis, Figure, LegendKey, Lines, Panel, Series, looks, mark, scale
from dfloc.report.estimate import Estimate
from dfloc.report.finding import Finding
from dfloc.report.groups import Facet, Group, Study, less, over
from dfloc.report.page import Section
from dfloc.report.resample import MeanOver, averages, resample, shared_runs, there
from dfloc.report.table import Cell, Column, Table
from dfloc.report.words import joined

TEXT = (
    "Each model is trained on n images of one domain with their masks, and beside them on fakes of it and on real "
    "images of which only the label is known: every pixel of a fake counts as fake."
)
RULE = (
    "Worth: by how many images with masks alone the same score is reached, less n, read off the curve of masks alone, "
    "interpolated in the logarithm of n and made to rise; its interval is the middle 95 % of resamples of source "
    "images and trainings. None: the curve does not rise, so that nothing can be read off."
)


class Mixture(NamedTuple):
    """What a model is trained on.

    Attributes:
        domain: of its fakes.
        n: images of it with masks.
        weak: images of it with labels alone.
        m: all images with labels, reals too.
    """

    domain: str
    n: int
    weak: int
    m: int


Mixtures = Mapping[tuple[int, int], Mapping[str, Group]]  # masks, labelled images -> domain -> its model


@dataclass(frozen=True)
class Worth:
    """What labels are worth to one model, over the domains that it is trained on one by one.

    Attributes:
        name: what tells the model from others.
        metric: that stands for the protocol.
        cells: its models; labelled images are fakes and reals.
    """

    name: str
    metric: str
    cells: Mixtures

    @property
    def counts(self) -> list[int]:
        """The numbers of masks that a curve of masks alone has, ascending."""
        return [n for n, m in sorted(self.cells) if not m and n]

    @property
    def labels(self) -> list[int]:
        """The numbers of labelled images, ascending."""
        return sorted({m for _, m in self.cells if m})

    @cached_property
    def groups(self) -> list[Group]:
        """All of its models."""
        return [group for of in self.cells.values() for group in of.values()]

    def score(self, n: int, m: int) -> Estimate | None:
        """Return the mean over the domains, each of its own model."""
        of = self.cells.get((n, m), {})
        return over([(group, domain) for domain, group in of.items()]) if of else None

    def gain(self, n: int, m: int) -> Estimate | None:
        """Return by how much labels move the score of n masks, over the domains that have both."""
        with_labels, alone = (self.cells.get((n, k), {}) for k in (m, 0))
        shared = [domain for domain in with_labels if domain in alone]
        return less([(with_labels[one], one) for one in shared], [(alone[one], one) for one in shared])

    def drawn(self, n: int, m: int) -> tuple[float, Values] | None:
        """Return the worth of labels beside n masks, and that of each resample; None where a number lacks."""
        wanted, known = [(n, m), *((count, 0) for count in self.counts)], self._resampled
        if not all(place in known for place in wanted):
            return None
        rows = np.stack([known[place] for place in wanted], axis=1)  # the numbers first, then each resample
        worth = np.array([images_for(row[0], self.counts, row[1:]) - n for row in rows])
        return float(worth[0]), worth[1:]

    @cached_property
    def _resampled(self) -> dict[tuple[int, int], Values]:
        """The number of each cell that is scored, and behind it that of each resample, the same in all cells."""
        parts = {place: part for place in self.cells if there(part := self._part(*place))}
        if not parts or not shared_runs([*parts.values()]):
            return {}
        values, drawn_NP = averages([*parts.values()]), resample([*parts.values()])
        return {place: np.array([values[k].value, *drawn_NP[:, k]]) for k, place in enumerate(parts)}

    def _part(self, n: int, m: int) -> MeanOver:
        return MeanOver(tuple((group, domain) for domain, group in self.cells.get((n, m), {}).items()), self.metric)

    def words(self, n: int, m: int) -> str:
        """Return the worth in words, with its interval: 60 (31 ... 140), under 8, over 3,000, none."""
        found = self.drawn(n, m)
        if found is None:
            return ""
        value, draws = found
        low, high = middle(draws)
        if value != value or low != low:
            return "none"
        span = f"{self._count(low, n)} … {self._count(high, n)}"
        return self._count(value, n) if low == high else f"{self._count(value, n)} ({span})"

    def _count(self, value: float, n: int) -> str:
        if value == float("-inf"):
            return f"under {self.counts[0] - n:,}"
        return f"over {self.counts[-1] - n:,}" if value == float("inf") else f"{round(value):,}"


@dataclass(frozen=True)
class Mixed:
    """A cell of a model: n masks, m labelled images."""

    of: Worth
    n: int
    m: int


def found(study: Study) -> list[Worth]:
    """Return the models of a study that are trained with labels beside masks, with masks alone and with labels alone.

    One that has no labels, or no two numbers of masks alone, is none.
    """
    sources: dict[tuple[str, str], list[tuple[Group, Mixture]]] = {}
    for group in study.groups:
        if place := _mixture(group):
            sources.setdefault((group.stage, group.case), []).append((group, place))
    every = [one for (_, case), groups in sources.items() for one in _worths(case, groups, study.first.key)]
    return [one for one in every if one.labels and len(one.counts) > 1]


def _worths(case: str, groups: Sequence[tuple[Group, Mixture]], metric: str) -> list[Worth]:
    """Return the models of a case, one for each value of what varies beside the images."""
    counts = {axis for axis, _ in groups[0][0].facet if all(group.axes[axis] in place for group, place in groups)}
    models: dict[Facet, dict[tuple[int, int], dict[str, Group]]] = {}
    for group, (domain, n, _, m) in groups:
        facet = tuple((axis, value) for axis, value in group.facet if axis not in counts)
        models.setdefault(facet, {}).setdefault((n, m), {})[domain] = group
    return [Worth(", ".join(filter(None, [case, joined(facet)])), metric, of) for facet, of in models.items()]


def _mixture(group: Group) -> Mixture | None:
    """Return what a model that learns to localize is trained on; None: fakes of several domains, or labels shuffled.

    A composite is trained on nothing: its lists are its router's.
    """
    spec = group.first.trial.spec
    fakes = [domain for domain, count in spec.train.counts.items() if count and not dolos.is_real(domain)]
    odd = "shuffled" in (spec.targets, spec.labels) or spec.decoder.name in SOLVED or spec.parts
    if odd or spec.task != "localize" or spec.start or len(fakes) != 1:
        return None
    (domain,), reals = fakes, sum(spec.train.counts.values()) - spec.train.counts[fakes[0]]
    n = spec.masked[domain]
    weak = spec.train.counts[domain] - n
    return Mixture(domain, n, weak, weak + reals)


def sections(study: Study) -> Iterator[Section]:
    """Yield the section; it is empty where nothing is trained on labels beside masks."""
    every = found(study)
    yield Section(
        "worth-study", "Masks or labels?", TEXT, [curves(study, every), worths(study, every)] if every else []
    )


def curves(study: Study, every: Sequence[Worth]) -> Figure:
    """Return the score against the number of masks, a line for each number of labels, a panel for each model."""
    names = [_labels(m) for m in sorted({0, *(m for one in every for m in one.labels)})]
    return Figure(
        id="fig-worth",
        title=f"Test {study.first.word} against images with masks.",
        caption="Mean over the domains, each of the model that is trained on it; bars are 95 % intervals. A line for "
        "each number of labelled images beside, fakes and reals together.",
        source=[cells.cross(study), *captions.provenance(study, [group for one in every for group in one.groups])],
        panels=[_panel(study, one, names) for one in every],
        legend=[LegendKey(name, *looks(names)[name]) for name in names],
        numbers="worth",
    )


def _panel(study: Study, one: Worth, names: Sequence[str]) -> Panel:
    series, said, used = [], [], sorted({n for n, _ in one.cells})
    places = {n: float(place) for place, n in enumerate(used)}
    for m in (0, *one.labels):
        there = {n: found for n in used if (found := one.score(n, m))}
        marks = [mark(places[n], found) for n, found in there.items()]
        series.append(Series(_labels(m), marks, *looks(names)[_labels(m)]))
        said.append(f"{_labels(m)}: " + ", ".join(f"{n:,}: {found.value:.2f}" for n, found in there.items()))
    ticks = {place: f"{n:,}" for n, place in places.items()}
    return Panel(
        one.name, Lines(series, Axis("n, images with masks", ticks), scale(study.first, "test")), "; ".join(said)
    )


def worths(study: Study, every: Sequence[Worth]) -> Table:
    """Return the score of each number of masks and labels, what labels move it by, and what they are worth."""
    columns: list[Column[Mixed]] = [
        Column("Model", lambda row: cells.name(row.of.name, row.of.cells[row.n, row.m].values()), words=True),
        Column("n", lambda row: Cell(f"{row.n:,}"), under="with masks"),
        Column("Labelled", lambda row: Cell(f"{row.m:,}"), under="fakes and reals"),
        Column(f"Mean {study.first.label}", _mean),
        Column("Gain", _gain, under="by labels"),
        Column("Worth", lambda row: Cell(row.of.words(row.n, row.m) if row.m else ""), under="masks", words=True),
        *(_on(domain) for domain in study.tested),
    ]
    blocks = [[Mixed(one, n, m) for n, m in sorted(one.cells)] for one in every]
    return Table(
        id="worth",
        title="What labels of whole images are worth in masks.",
        caption=f"{RULE} Gain: the score less that of the same n without labels. A domain's column is the model that "
        "is trained on it.",
        source=captions.provenance(study, [group for one in every for group in one.groups]),
        columns=columns,
        rows=table.rows(columns, blocks),
        trials=captions.trials(group for one in every for group in one.groups),
    )


def _mean(row: Mixed) -> Cell:
    of = row.of.cells[row.n, row.m]
    hole = next((group.hole for group in of.values() if not group.scored), table.DASH)
    return cells.mean(row.of.score(row.n, row.m), hole, [(group, [domain]) for domain, group in of.items()])


def _gain(row: Mixed) -> Cell:
    return table.estimate(row.of.gain(row.n, row.m), table.DASH, signed=True) if row.m and row.n else Cell("")


def _on(domain: str) -> Column[Mixed]:
    def cell(row: Mixed) -> Cell:
        group = row.of.cells[row.n, row.m].get(domain)
        return cells.score(group, [domain]) if group else Cell("")

    return Column(domain, cell, small=True)


def findings(study: Study) -> Iterator[Finding]:
    """Yield what the most labels are worth alone, and beside masks: a sentence or two for each model."""
    for place, one in enumerate(found(study)):
        m, last = one.labels[-1], f"_{place}" if place else ""
        if words := one.words(0, m):
            value, _ = one.drawn(0, m) or (float("nan"), None)
            yield Finding(f"worth{last}", f"{one.name}: {m:,} labels alone are worth {_masks(words)}", {"masks": value})
        beside = [n for n, labels in sorted(one.cells) if labels == m and n and (n, 0) in one.cells]
        pairs = [(one.cells[n, m], one.cells[n, 0]) for n in beside]
        flat = [(first[name], second[name], name) for first, second in pairs for name in first if name in second]
        change = less([(each[0], each[2]) for each in flat], [(each[1], each[2]) for each in flat])
        if change is not None:
            better = "add" if change.value > 0 else "cost"
            moved = f"{better} {abs(change.value):.3f} {study.first.label} (mean over n)"
            text = f"{one.name}: beside masks, {m:,} labels {moved}"
            yield Finding(f"beside{last}", text, {"gain": change}, [(change, "that is not decided")])


def _masks(words: str) -> str:
    return "no number of masks: the curve of masks is flat" if words == "none" else f"{words} masks"


def _labels(m: int) -> str:
    return f"and {m:,} labels" if m else "masks alone"
