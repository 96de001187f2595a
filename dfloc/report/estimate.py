"""A number with its interval, from the rows of one or several runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dfloc.metrics import intervals
from dfloc.metrics.intervals import Mean, Training
from dfloc.metrics.metric import Metric
from dfloc.report.score import Score

NO_INTERVAL = "no interval: under 3 source images"


class Run(NamedTuple):
    """One training, as it was scored on some domains."""

    draw: int
    seed: int
    scores: Sequence[Score]


@dataclass(frozen=True)
class Estimate:
    """A mean over images, domains and runs, or a difference of two.

    Attributes:
        value: a fraction.
        low: lower end of the 95 % interval; NaN where a domain has too few photographs to tell.
        high: upper end, likewise.
        runs: seeds and draws that it is the mean of, the same trainings once; with one, the interval is of test
            sampling only.
        photographs: what it rests on.
        planned: runs that there should be.
        p: of a difference of trainings: of the hypothesis that it is 0; NaN with one a side, whose luck nobody knows.
        metric: what it is a mean of, or a difference in.
    """

    value: float
    low: float
    high: float
    runs: int
    photographs: int
    planned: int = 1
    p: float | None = None
    metric: Metric = field(kw_only=True)

    @property
    def known(self) -> bool:
        """Whether it has an interval."""
        return self.low == self.low

    def words(self, sign: str = "") -> str:
        """Return the number and its interval in words; with the sign "+" of those above 0 too."""
        form = f"{sign}.3f"
        span = f"{self.low:{form}} … {self.high:{form}}" if self.known else NO_INTERVAL
        return f"{self.value:{form}} ({span})"

    def less(self, point: float) -> "Estimate":
        """Return the difference to a number whose own uncertainty is not known: the interval is of this one alone."""
        return replace(self, value=self.value - point, low=self.low - point, high=self.high - point)


def average(runs: Sequence[Run], metric: str | None = None) -> Mean | None:
    """Return the mean over runs of the mean over their domains; None where there is none, or no image has a number.

    Args:
        runs: one for each draw and seed.
        metric: a metric of the rows; None: the one that stands for their protocol. Images where it is NaN are left out.
    """
    return intervals.mean([_training(run, metric) for run in runs], _metric(runs, metric).bounds) if runs else None


def pooled(runs: Sequence[Run], metric: str | None = None, planned: int = 1) -> Estimate | None:
    """Return `average` with its interval.

    Args:
        runs: as there.
        metric: as there.
        planned: runs that there should be.
    """
    found = average(runs, metric)
    return _estimate(found, _metric(runs, metric), planned) if found else None


def difference(pairs: Sequence[tuple[Run, Run]], planned: int = 1) -> Estimate | None:
    """Return the mean of the first runs less that of the second, paired by training and photograph.

    Raises:
        DataError: the two runs of a pair were scored on different photographs.
    """
    if not pairs:
        return None
    metric = _metric([one for one, _ in pairs])
    found = intervals.difference([(_training(one), _training(other)) for one, other in pairs], metric.bounds)
    return _estimate(found, metric, planned, tests=True) if found else None


def _training(run: Run, metric: str | None = None) -> Training:
    return Training(run.draw, run.seed, [part for score in run.scores for part in score.images(metric)])


def _metric(runs: Sequence[Run], metric: str | None = None) -> Metric:
    """Return a metric of some runs by one protocol."""
    return next(score.metric(metric) for run in runs for score in run.scores)


def _estimate(found: Mean, metric: Metric, planned: int, *, tests: bool = False) -> Estimate:
    value, low, high, photographs, runs, p = found.interval()
    return Estimate(value, low, high, runs, photographs, planned, p if tests else None, metric=metric)
