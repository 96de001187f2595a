"""A number with its interval, from the rows of one or several runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dfloc.metrics.bootstrap import Interval, interval, paired_difference
from dfloc.report.results import Score, Values


class Run(NamedTuple):
    """One training, as it was scored on some domains."""

    draw: int
    seed: int
    scores: Sequence[Score]


class _Rows(NamedTuple):
    draw: int
    seed: int
    values: Values
    photographs: NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A mean over images, runs and domains.

    Attributes:
        value: a fraction.
        low: lower end of the 95 % interval.
        high: upper end.
        runs: seeds and draws that it is the mean of, the same trainings once; with one, the interval is of test
            sampling only.
        photographs: what was resampled.
        planned: runs that there should be.
    """

    value: float
    low: float
    high: float
    runs: int
    photographs: int
    planned: int = 1

    def less(self, point: float) -> "Estimate":
        """Return the difference to a number whose own uncertainty is not known: the interval is of this one alone."""
        return replace(self, value=self.value - point, low=self.low - point, high=self.high - point)


def pooled(runs: Sequence[Run], metric: str = "iou", planned: int = 1) -> Estimate | None:
    """Return the mean over runs of the mean over their domains; None where there is none, or no image has a number.

    Args:
        runs: one for each draw and seed.
        metric: a metric of the rows; images where it is NaN are left out.
        planned: runs that there should be.
    """
    rows = [_flat(run, metric) for run in runs]
    if not sum(row.values.size for row in rows):
        return None
    return _estimate(interval(_table(rows), "value"), len(runs), planned)


def difference(pairs: Sequence[tuple[Run, Run]], planned: int = 1) -> Estimate | None:
    """Return the mean IoU of the first runs less that of the second, paired by photograph.

    Raises:
        DataError: the two runs of a pair were scored on different photographs.
    """
    if not pairs:
        return None
    first, second = ([_flat(pair[side], "iou") for pair in pairs] for side in (0, 1))
    return _estimate(paired_difference(_table(first), _table(second), "value"), len(pairs), planned)


def _flat(run: Run, metric: str) -> _Rows:
    """Return values whose plain mean is the mean of the domains' means, and their photographs."""
    known = [(score, ~np.isnan(score.values[metric])) for score in run.scores]
    kept = [(score.values[metric][has], score.photographs[has]) for score, has in known if has.any()]
    total = sum(values.size for values, _ in kept)
    scaled = [values * (total / (len(kept) * values.size)) for values, _ in kept]
    photographs = [photographs for _, photographs in kept]
    none = np.empty(0), np.empty(0, dtype=np.int64)
    return _Rows(run.draw, run.seed, *((np.concatenate(scaled), np.concatenate(photographs)) if kept else none))


def _table(runs: Sequence[_Rows]) -> pa.Table:
    sizes = [run.values.size for run in runs]
    return pa.table(
        {
            "draw": np.repeat([run.draw for run in runs], sizes),
            "seed": np.repeat([run.seed for run in runs], sizes),
            "stem": np.concatenate([run.photographs for run in runs]),
            "value": np.concatenate([run.values for run in runs]),
        }
    )


def _estimate(found: Interval, runs: int, planned: int) -> Estimate:
    return Estimate(found.estimate, found.low, found.high, runs, found.num_photographs, planned)
