"""Is it fake: how the scores of reals and of each domain's fakes lie, and at which threshold they are parted."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from dfloc.metrics.metric import IMAGE_ACCURACY, IMAGE_ACCURACY_CHOSEN, IMAGE_RIGHT, Metric
from dfloc.report import captions, table
from dfloc.report.cells import number
from dfloc.report.chart import GREY, UNIT, Axis, Figure, LegendKey, Lines, Mark, Panel, Series, colours
from dfloc.report.groups import Group, Study
from dfloc.report.models import Model, best
from dfloc.report.ranking import Trained, name
from dfloc.report.score import Score, Values
from dfloc.report.table import Cell, Column, Table
from dfloc.report.words import counted

BINS = 20
MAX_PANELS = 12
THRESHOLD = "image_threshold"
REALS = "reals"


class OnDomain(NamedTuple):
    """A training, tested on a domain."""

    trained: Trained
    domain: str


def histograms(study: Study, found: Sequence[Model]) -> Figure:
    """Return a panel for each training: the shares of test images by score, a line for reals and each domain."""
    kept = next(
        of for n in range(len(found), 0, -1) if len(trained(of := best(study, found, n))) <= MAX_PANELS or n == 1
    )
    shown = [one for one in trained(kept) if one[1].group.scored][:MAX_PANELS]
    left = len(trained(found)) - len(shown)
    colour = colours(study.tested)
    keys = [LegendKey(REALS, GREY, "solid", ""), *(LegendKey(one, colour[one], "solid", "") for one in study.tested)]
    keys += [LegendKey("threshold that validation chooses", "#111111", "dot", "")]
    fewer = f" Of other models ({counted(left, 'training')}) the tables below have the numbers." if left else ""
    return Figure(
        id="fig-scores",
        title="Scores of reals and fakes.",
        caption=f"The share of test images in each of {BINS} bins of the score, which is the probability of fake; one "
        f"panel for each training, best epoch, all seeds together. An image is called fake over 0.5.{fewer}",
        source=captions.provenance(study, [one[1].group for one in shown]),
        panels=[_panel(study, one) for one in shown],
        legend=keys,
        numbers="thresholds",
    )


def thresholds(study: Study, found: Sequence[Model]) -> Table:
    """Return a row for each training: where its threshold comes from, and what 0.5 and that threshold give."""

    def mean(head: str, metric: Metric, *, known: bool) -> Column[Trained]:
        return Column(head, lambda one: table.number(_mean(study, one, metric, known=known)))

    columns: list[Column[Trained]] = [
        *HEADS,
        Column("Chosen on", lambda one: Cell(_chosen_on(one[1].group)), words=True, small=True),
        Column("Threshold", lambda one: table.number(_threshold(one[1].group))),
        mean("At 0.5, ID", IMAGE_ACCURACY, known=True),
        mean("At it, ID", IMAGE_ACCURACY_CHOSEN, known=True),
        mean("At 0.5, OOD", IMAGE_ACCURACY, known=False),
        mean("At it, OOD", IMAGE_ACCURACY_CHOSEN, known=False),
        *(Column(f"Reals flagged, {domain}", partial(_flagged, domain=domain)) for domain in study.reals),
    ]
    shown = trained(found)
    return Table(
        id="thresholds",
        title="Thresholds, and reals wrongly flagged.",
        caption="Balanced accuracy at the score 0.5, and at the threshold that is best on the training's own "
        "validation images, of equally good ones the nearest to 0.5; no test image chooses it. Reals flagged: the "
        "share of test reals that are called fake at 0.5.",
        source=captions.provenance(study, [one[1].group for one in shown]),
        columns=columns,
        rows=table.rows(columns, [[one for one in shown if one[0] is model] for model in found]),
        trials=captions.trials(one[1].group for one in shown),
    )


def measures(study: Study, found: Sequence[Model]) -> Table:
    """Return every cell of train x test with all that the protocol measures of fakes and reals."""
    measured = [metric for metric in study.shown if any(score.number(metric) is not None for score in _scores(study))]
    columns: list[Column[OnDomain]] = [
        Column("Model", lambda one: name(one.trained[0]), words=True),
        Column("Trained on", lambda one: Cell(one.trained[1].name), words=True),
        Column("Test domain", lambda one: Cell(one.domain), words=True),
        *(_number(metric) for metric in measured),
    ]
    domains = [*study.tested, *study.extra]
    return Table(
        id="cells",
        title="Every cell, by all measures.",
        caption="Each row is a training on a domain's fakes beside the reals of its source, best epoch; the mean over "
        "seeds and draws.",
        source=captions.provenance(study, [one[1].group for one in trained(found)]),
        columns=columns,
        rows=table.rows(columns, [[OnDomain(one, domain) for domain in domains] for one in trained(found)]),
        folded=True,
    )


def trained(found: Sequence[Model]) -> list[Trained]:
    """Return every training of some models."""
    return [(model, column) for model in found for column in model.columns]


HEADS = (
    Column[Trained]("Model", lambda one: name(one[0]), words=True),
    Column[Trained]("Trained on", lambda one: Cell(one[1].name), words=True),
)


def flagged(group: Group, domains: Sequence[str]) -> float | None:
    """Return the share of reals that are called fake, mean over lists and trainings; None where none is scored."""
    right = group.score(domains, IMAGE_RIGHT.key)
    return 1 - right.value if right else None


def _flagged(one: Trained, domain: str) -> Cell:
    found = flagged(one[1].group, [domain])
    return table.number(found) if found is not None else Cell(one[1].group.hole, mark="hole")


def _scores(study: Study) -> list[Score]:
    return [score for score in study.results.scores() if score.reals is not None]


def _number(metric: Metric) -> Column[OnDomain]:
    return Column(metric.label, lambda one: table.number(number(one.trained[1].group, one.domain, metric)))


def _mean(study: Study, one: Trained, metric: Metric, *, known: bool) -> float | None:
    domains = [domain for domain in study.tested if one[1].knows(domain) is known]
    values = [value for domain in domains if (value := number(one[1].group, domain, metric)) is not None]
    return sum(values) / len(values) if values and len(values) == len(domains) else None


def _threshold(group: Group) -> float | None:
    """Return the mean over trainings of the threshold that validation chooses; None where it chooses none."""
    of = [score.of_set for result in group.scored for score in result.best.values()]
    found = [numbers[THRESHOLD] for numbers in of if THRESHOLD in numbers]
    return sum(found) / len(found) if found else None


def _chosen_on(group: Group) -> str:
    counts = group.first.trial.spec.valid.counts
    return ", ".join(f"{count:,} {domain}" for domain, count in counts.items())


def _panel(study: Study, one: Trained) -> Panel:
    colour = colours(study.tested)
    lines = [
        _line(REALS, _of(one[1].group, study.reals), GREY, 2.5),
        *(_line(domain, _of(one[1].group, [domain]), colour[domain], 1.5) for domain in study.tested),
    ]
    at = _threshold(one[1].group)
    if at is not None:
        lines.append(Series("threshold that validation chooses", [Mark(at, 0), Mark(at, 1)], "#111111", "dot", "", 1.2))
    said = [
        f"{REALS} {_over(one[1].group, study.reals)}",
        *(f"{each} {_over(one[1].group, [each])}" for each in study.tested),
    ]
    chart = Lines(lines, Axis("score", UNIT, (0, 1)), Axis("share of images", UNIT, (0, 1)))
    title = f"{one[0].name}, trained on {one[1].name}"
    return Panel(title, chart, f"Over 0.5: {', '.join(said)}.")


def _of(group: Group, domains: Sequence[str]) -> Values:
    """Return the scores of all test images of some domains, trainings together."""
    found = [
        score.prob_fake for result in group.scored for each in domains if (score := result.scores.get(("best", each)))
    ]
    return np.concatenate([np.empty(0), *found])


def _line(label: str, scores: Values, colour: str, width: float) -> Series:
    counts, edges = np.histogram(scores, BINS, (0, 1))
    shares = counts / max(1, len(scores))
    marks = [Mark(float(x), float(y)) for x, y in zip(edges, [*shares, shares[-1]], strict=True)] if len(scores) else []
    return Series(label, marks, colour, "solid", "", width, steps=True)


def _over(group: Group, domains: Sequence[str]) -> str:
    scores = _of(group, domains)
    return f"{float((scores > 0.5).mean()):.2f}" if len(scores) else "not scored"
