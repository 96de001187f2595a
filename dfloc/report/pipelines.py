"""Two steps: ways from an image to its map, and their numbers on fakes, with reals and behind a right router."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfloc.config import EvaluationSpec
from dfloc.metrics import routing
from dfloc.metrics.metric import IOU
from dfloc.metrics.pairs import reals_of
from dfloc.metrics.routing import OnReals, Routed, RoutingCell
from dfloc.report.groups import Group, Study
from dfloc.report.results import Result
from dfloc.report.roles import COMPOSED, MIXTURE, WORDS
from dfloc.report.words import named


@dataclass(frozen=True, eq=False)
class Pipeline:
    """One way from an image to its map: a model, or a composite.

    Attributes:
        group: its trials.
        composed: whether these are composites.
    """

    group: Group
    composed: bool

    @property
    def name(self) -> str:
        """What it is called: by its case, or its stage."""
        if self.composed:
            return self.group.case
        axes = (named(axis, value) for axis, value in self.group.axes.items() if axis not in WORDS)
        return ", ".join([" ".join(filter(None, [self.group.stage, self.group.case])), *axes])


class Answered(NamedTuple):
    """A pipeline on a test domain; None: the mean over the study's."""

    pipeline: Pipeline
    domain: str | None


def composed(study: Study) -> list[Pipeline]:
    """Return the composites of a study, in the order of its plan."""
    return [Pipeline(group, composed=True) for group in study.groups if COMPOSED in group.role]


def pipelines(study: Study) -> list[Pipeline]:
    """Return the models of several domains that stand alone, then the composites; without these none of them."""
    two = composed(study)
    one = [Pipeline(group, composed=False) for group in study.groups if MIXTURE in group.role]
    return [*one, *two] if two else []


def routed(study: Study, pipeline: Pipeline, domain: str) -> list[Routed]:
    """Return what routing costs on a domain, for each training; empty where there is no router or nothing is scored."""
    evaluations = [scored(result, domain) for result in pipeline.group.scored if pipeline.composed]
    return [found for one in evaluations if one and (found := study.results.routed(one, IOU.key))]


def with_reals(study: Study, pipeline: Pipeline, domain: str) -> list[OnReals]:
    """Return what each training has on a domain's fakes and the reals of its source together."""
    found = []
    for result in pipeline.group.scored:
        fakes, reals = scored(result, domain), scored(result, reals_of(domain))
        if fakes and reals:
            tables = study.results.rows(fakes), study.results.rows(reals)
            found.append(routing.with_reals(*tables, IOU.key))
    return found


def mean_of(values: Sequence[float]) -> float | None:
    """Return a mean; None of nothing, or where one is no number."""
    mean = sum(values) / len(values) if values else float("nan")
    return mean if mean == mean else None


def over(study: Study, one: Answered, value: Callable[[str], float | None]) -> float | None:
    """Return a number of a domain; of None the mean over all of the study's, None where one lacks."""
    if one.domain:
        return value(one.domain)
    found = [value(domain) for domain in study.tested]
    there = [number for number in found if number is not None]
    return mean_of(there) if len(there) == len(found) else None


def numbers(study: Study, pipeline: Pipeline, domain: str | None = None) -> dict[str, float | None]:
    """Return recall, oracle, cost, with_reals and empty of a pipeline, on a domain or in the mean over the study's."""
    one = Answered(pipeline, domain)

    def of_routed(value: Callable[[Routed], float]) -> float | None:
        return over(study, one, lambda name: mean_of([value(each) for each in routed(study, pipeline, name)]))

    def of_reals(value: Callable[[OnReals], float]) -> float | None:
        return over(study, one, lambda name: mean_of([value(each) for each in with_reals(study, pipeline, name)]))

    return {
        "recall": of_routed(lambda each: each.recall),
        "oracle": of_routed(lambda each: each.oracle),
        "cost": of_routed(lambda each: each.cost),
        "with_reals": of_reals(lambda each: each.together),
        "empty": of_reals(lambda each: each.empty),
        "passed": of_reals(lambda each: each.passed),
        "misrouted": of_reals(lambda each: each.misrouted),
        "nothing": of_reals(lambda each: each.nothing),
    }


def wrong(study: Study, one: Pipeline) -> list[RoutingCell]:
    """Return the wrong calls behind a composite."""
    every = [each for domain in study.tested for each in routed(study, one, domain)]
    return [cell for cell in routing.cells(every) if cell.true != cell.called] if every else []


def dearest(study: Study, one: Pipeline) -> RoutingCell | None:
    """Return the wrong call that costs most; None where there is none that costs anything."""
    found = wrong(study, one)
    return found[0] if found and found[0].cost > 0 else None


def scored(result: Result, domain: str) -> EvaluationSpec | None:
    """Return the evaluation of a training's best weights on a domain; None: it has no rows."""
    score = result.best.get(domain)
    return score.spec if score else None
