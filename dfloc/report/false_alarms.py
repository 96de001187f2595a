"""The column of real images: how many of them a localizer flags, and how much of them it calls fake."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from dfloc.metrics.metric import REALS_AREA, REALS_FLAGGED
from dfloc.report import captions, table
from dfloc.report.cells import is_not_above
from dfloc.report.groups import Group, Study
from dfloc.report.results import Result
from dfloc.report.score import Score
from dfloc.report.table import Cell, Column

T = TypeVar("T")
HEAD = REALS_FLAGGED.label
MEANS = (
    f"{HEAD}: share of real images of which over 1 % of the pixels are called fake, and below it the mean share of "
    "pixels called fake; lower is better, and no other mean counts them."
)

EXPLAINED = "Of explanations none is counted: each reaches its own maximum on every image."


def scored(study: Study) -> dict[str, Score]:
    """Return a score of each domain of real images that any localizer of a study has rows of."""
    found: dict[str, Score] = {}
    for score in study.results.scores():
        if score.of_reals and score.values:
            found.setdefault(score.spec.domain, score)
    return {domain: found[domain] for domain in study.reals if domain in found}


def columns(study: Study, groups: Callable[[T], Sequence[Group]]) -> list[Column[T]]:
    """Return the column of what a row's groups flag; none where nothing of it is scored."""
    return [Column(HEAD, lambda row: cell(study, groups(row)))] if scored(study) else []


def cell(study: Study, groups: Sequence[Group]) -> Cell:
    """Return the share of reals that are flagged with its interval, mean over groups, and the mean area below it."""
    if any(result.is_explained for group in groups for result in group.scored):
        return Cell(table.DASH)
    models = [(group, [*scored(study)]) for group in groups]
    found = study.mean_of(models, REALS_FLAGGED.key)
    area = study.mean_of(models, REALS_AREA.key)
    if found is None or area is None:
        return Cell(next((group.hole for group in groups if not group.scored), "not scored"), mark="hole")
    shown = table.estimate(found, "")
    text, *span = (f"{100 * value:.1f}" for value in shown.exact)
    mark = "bad" if any(group.collapsed for group in groups) else ""
    if not mark and is_not_above([(group, study.tested) for group in groups]):
        mark = "weak"
    words = f"area {100 * area.value:.1f} %"
    return replace(shown, text=f"{text} %", small=words, span=tuple(span), mark=mark).noted(shown.small)


def of_baseline(study: Study, group: Group) -> dict[str, Cell]:
    """Return the cell of a baseline's row, by the column's head; none where there is no such column."""
    return {HEAD: cell(study, [group])} if scored(study) else {}


def of_results(study: Study, results: Sequence[Result]) -> Cell:
    """Return the same as `cell`, the mean over trainings that stand for one point, without an interval."""
    scores = [[each.scores.get(("best", domain)) for domain in scored(study)] for each in results]
    flagged, area = (
        [score.mean(metric.key) if score else None for of in scores for score in of]
        for metric in (REALS_FLAGGED, REALS_AREA)
    )
    shares, areas = ([value for value in values if value is not None] for values in (flagged, area))
    if not shares or len(shares) < len(flagged):
        return Cell("not scored", mark="hole")
    mean = sum(shares) / len(shares)
    words = f"area {100 * sum(areas) / len(areas):.1f} %"
    return Cell(f"{100 * mean:.1f} %", words, exact=(mean,), metric=REALS_FLAGGED)


def source(study: Study) -> list[str]:
    """Return what a caption says of the column, and of the images behind it; nothing where there is none."""
    explained = [EXPLAINED] if any(result.is_explained for result in study.results.all) else []
    return [MEANS, *explained, lists(study)] if scored(study) else []


def lists(study: Study) -> str:
    """Return which real images are scored, in a sentence."""
    found = scored(study).items()
    each = (f"{domain}, {score.num_images} images (list {captions.digest([score])})" for domain, score in found)
    return f"Reals: {'; '.join(each)}."
