"""Intervals of numbers of fakes and reals together, over source images."""

import itertools
from collections.abc import Callable, Sequence

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
    """Return the interval of one number of `summarise_pair`; args, returns and raises as `several`."""
    return several(fakes, reals, protocol, [key], valid, level=level, num_resamples=num_resamples)[key]


def several(
    fakes: pa.Table,
    reals: pa.Table,
    protocol: str,
    keys: Sequence[str],
    valid: pa.Table | None = None,
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> dict[str, Interval]:
    """Return the intervals of several numbers of `summarise_pair`, by key; the same draws serve all of them.

    A mean over images that is `of_pair` is a mean over two domains, of which the reals are one (`metrics.intervals`);
    of any other number source images are drawn (`metrics.bootstrap`). A real and the fakes that were made of it stay
    together. What was chosen on validation images stays as it is. No ends where either side has under three.

    Args:
        fakes: as in `summarise_pair`; with the columns draw, seed and stem.
        reals: likewise.
        protocol: its name.
        keys: metrics of the pair.
        valid: as in `summarise_pair`.
        level: the share of repetitions in which the true number lies inside.
        num_resamples: how many are drawn of a number that is no mean.

    Raises:
        DataError: as `summarise_pair`, or the pair has no such number.
    """
    rule = protocols.find(protocol)
    found = summarise_pair(fakes, reals, protocol, valid)
    if lacking := [key for key in keys if key not in found]:
        known = ", ".join(found) or "nothing"
        raise DataError(f"these fakes and reals have no {lacking[0]} by {protocol}; known: {known}")
    drawn: list[dict[str, float]] = []
    return {
        key: _of_means(fakes, reals, rule, rule.per_image[key], level)
        if key in rule.per_image
        else _of_set(fakes, reals, rule, key, found[key], _number(rule, key, valid, drawn), level, num_resamples)
        for key in keys
    }


def _of_set(
    fakes: pa.Table,
    reals: pa.Table,
    rule: Protocol,
    key: str,
    value: float,
    number: Callable[[pa.Table], float],
    level: float,
    num_resamples: int,
) -> Interval:
    few = min(len(np.unique(column(rows, "stem"))) for rows in (fakes, reals))
    if few < FEWEST:
        num = len(np.unique(np.concatenate([column(rows, "stem") for rows in (fakes, reals)])))
        return Interval(value, float("nan"), float("nan"), num)
    found = bootstrap.interval(_marked(fakes, reals), number, level=level, num_resamples=num_resamples)
    least, most = next((each.bounds for each in rule.metrics if each.key == key), intervals.UNBOUNDED)
    return found._replace(low=max(found.low, least), high=min(found.high, most))


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


def _number(
    rule: Protocol, key: str, valid: pa.Table | None, drawn: list[dict[str, float]]
) -> Callable[[pa.Table], float]:
    """Return what a resampled table is worth; draws, which come in one order for every key, are measured once."""
    place = itertools.count()

    def number(rows: pa.Table) -> float:
        at = next(place)
        if at == len(drawn):
            real = column(rows, IS_REAL)
            sides = [rows.filter(pa.array(which)) for which in (~real, real)]
            drawn.append(rule.of_pair(sides[0], sides[1], valid) if all(map(len, sides)) else {})
        return drawn[at].get(key, float("nan"))

    return number
