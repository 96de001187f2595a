"""Intervals of numbers of fakes and reals together, over source images."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from dfloc.errors import DataError
from dfloc.metrics import bootstrap, intervals, protocols
from dfloc.metrics.intervals import FEWEST, Images, Interval, Training
from dfloc.metrics.metric import Metric
from dfloc.metrics.pairs import summarise_pair
from dfloc.metrics.protocols import Protocol
from dfloc.metrics.table import column

IS_REAL = "is_real"  # the column by which a resampled table is parted again


def interval(
    fakes: pa.Table,
    reals: pa.Table,
    protocol: str,
    key: str,
    valid: pa.Table | None = None,
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> Interval:
    """Return the interval of one number of `summarise_pair`.

    A mean over images that is `of_pair` is a mean over two domains, of which the reals are one (`metrics.intervals`);
    of any other number source images are drawn (`metrics.bootstrap`). A real and the fakes that were made of it stay
    together. What was chosen on validation images stays as it is. No ends where either side has under three.

    Args:
        fakes: as in `summarise_pair`; with the columns draw, seed and stem.
        reals: likewise.
        protocol: its name.
        key: a metric of the pair.
        valid: as in `summarise_pair`.
        level: the share of repetitions in which the true number lies inside.
        num_resamples: how many are drawn of a number that is no mean.

    Raises:
        DataError: as `summarise_pair`, or the pair has no such number.
    """
    rule = protocols.find(protocol)
    found = summarise_pair(fakes, reals, protocol, valid)
    if key not in found:
        raise DataError(f"these fakes and reals have no {key} by {protocol}; known: {', '.join(found) or 'nothing'}")
    metric = rule.per_image.get(key)
    if metric is not None:
        return _of_means(fakes, reals, rule, metric, level)
    few = min(len(np.unique(column(rows, "stem"))) for rows in (fakes, reals))
    if few < FEWEST:
        num = len(np.unique(np.concatenate([column(rows, "stem") for rows in (fakes, reals)])))
        return Interval(found[key], float("nan"), float("nan"), num)
    return bootstrap.interval(
        _marked(fakes, reals), _number(protocol, key, valid), level=level, num_resamples=num_resamples
    )


def _of_means(fakes: pa.Table, reals: pa.Table, rule: Protocol, metric: Metric, level: float) -> Interval:
    stems = [column(rows, "stem") for rows in (fakes, reals)]
    codes = np.split(np.unique(np.concatenate(stems), return_inverse=True)[1], [len(fakes)])
    of_side = [rule.values(rows)[metric.key] for rows in (fakes, reals)]
    sides = [k for k in (0, 1) if not np.isnan(of_side[k]).all()]
    trainings = []
    for draw, seed in sorted({*zip(*(column(fakes, name).tolist() for name in ("draw", "seed")), strict=True)}):
        mine = [(column(rows, "draw") == draw) & (column(rows, "seed") == seed) for rows in (fakes, reals)]
        parts = [Images(of_side[k][mine[k]], codes[k][mine[k]]) for k in sides]
        trainings.append(Training(draw, seed, parts))
    found = intervals.mean(trainings, metric.bounds)
    assert found is not None
    return found.interval(level)


def _marked(fakes: pa.Table, reals: pa.Table) -> pa.Table:
    sides = [rows.append_column(IS_REAL, pa.array(np.full(len(rows), k == 1))) for k, rows in enumerate((fakes, reals))]
    return pa.concat_tables(sides, promote_options="permissive")


def _number(protocol: str, key: str, valid: pa.Table | None) -> Callable[[pa.Table], float]:
    rule = protocols.find(protocol)

    def number(rows: pa.Table) -> float:
        real = column(rows, IS_REAL)
        sides = [rows.filter(pa.array(which)) for which in (~real, real)]
        return rule.of_pair(sides[0], sides[1], valid).get(key, float("nan")) if all(map(len, sides)) else float("nan")

    return number
