"""Intervals of rows: of a mean by its two-way variance, of any other number of a set by the bootstrap-t."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from dfloc.errors import DataError
from dfloc.metrics import intervals
from dfloc.metrics.intervals import FEWEST, UNBOUNDED, Floats, Images, Interval, Mean, Training
from dfloc.metrics.metric import Bounds
from dfloc.metrics.table import Array, Table, column

Statistic = Callable[[pa.Table], float]


def interval(
    frame: Table,
    value: str | Statistic,
    *,
    bounds: Bounds = UNBOUNDED,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the interval of a number over test photographs and trainings.

    All rows of a photograph stay together, since its crops and fakes are not independent, and trainings share their
    test photographs. With one training the interval speaks of test sampling only.

    A mean has the interval of `metrics.intervals`. Of any other number (IoU over all pixels of a set, say) photographs
    are drawn with replacement, each draw's distance is divided by its own standard error, which leaving out one
    photograph after the other tells (Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 10),
    and the trainings' spread is joined to both sides (Donner and Zou, Stat. Methods in Medical Research 21, 2012).

    Args:
        frame: rows with the columns draw, seed, stem and `value`; rows where it is NaN are left out.
        value: the column whose mean it is, or a function of the rows of one training that is no mean.
        bounds: between which a mean's interval ends: those of its values.
        level: the share of repetitions in which the true number lies inside.
        num_resamples: how many are drawn for a number that is no mean.
        seed: of the resampling.

    Raises:
        DataError: a column is missing, no row has a value, or `level` or `num_resamples` is out of range.
    """
    if isinstance(value, str):
        _check(level, num_resamples)
        return _mean(_trainings([frame], value)[0], value, bounds).interval(level)
    return _studentized([frame], value, level, num_resamples, seed)


def paired_difference(
    a: Table, b: Table, value: str | Statistic, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return the interval of a number of `a` less that of `b`, paired by draw, seed and photograph; args as `interval`.

    Raises:
        DataError: as `interval`, or the two do not have the same draws and seeds and the same photographs.
    """
    names = [{f"draw {draw} seed {seed}" for (draw, seed), _ in _by_training(frame)} for frame in (a, b)]
    names = [names[k] | {f"photograph {stem}" for stem in column(frame, "stem")} for k, frame in enumerate((a, b))]
    if lacks := sorted(names[0] ^ names[1]):
        raise DataError(f"a paired difference needs the same rows on both sides; one lacks {lacks[0]}")
    if isinstance(value, str):
        _check(level, num_resamples)
        means = [_mean(side, value) for side in _trainings([a, b], value)]
        return intervals.combined([1.0, -1.0], means).interval(level)
    return _studentized([a, b], value, level, num_resamples, seed)


def _check(level: float, num_resamples: int) -> None:
    if not 0 < level < 1 or num_resamples < 1:
        raise DataError(f"expected a level in (0, 1) and at least one resample, came {level} and {num_resamples}")


def _mean(trainings: Sequence[Training], value: str, bounds: Bounds = UNBOUNDED) -> Mean:
    for one in trainings:
        if np.isnan(one.domains[0].values).all():
            raise DataError(
                f'expected rows with a "{value}" of each training, draw {one.draw} seed {one.seed} has none'
            )
    found = intervals.mean(trainings, bounds)
    assert found is not None
    return found


def _trainings(frames: Sequence[Table], value: str) -> list[list[Training]]:
    """Return the trainings of each frame, in order, their photographs numbered alike."""
    values = [column(frame, value).astype(np.float64) for frame in frames]
    if any(np.isnan(each).all() for each in values):
        raise DataError(f'expected rows with a "{value}", came none')
    code = np.unique(np.concatenate([column(frame, "stem") for frame in frames]), return_inverse=True)[1]
    codes = np.split(code, np.cumsum([len(frame) for frame in frames])[:-1])
    return [
        [Training(draw, seed, [Images(value[mine], code[mine])]) for (draw, seed), mine in _by_training(frame)]
        for frame, value, code in zip(frames, values, codes, strict=True)
    ]


def _by_training(frame: Table) -> list[tuple[tuple[int, int], Array]]:
    """Return the rows of each draw and seed, in their order."""
    pairs = np.stack([column(frame, "draw"), column(frame, "seed")], axis=1)
    found, code = np.unique(pairs, axis=0, return_inverse=True)
    return [((int(draw), int(seed)), np.flatnonzero(code.ravel() == place)) for place, (draw, seed) in enumerate(found)]


def _studentized(frames: Sequence[Table], statistic: Statistic, level: float, num: int, seed: int) -> Interval:
    """Return the interval of a number of the first frame, less that of the second where there is one."""
    _check(level, num)
    tables = [
        each if isinstance(each, pa.Table) else pa.Table.from_pandas(each, preserve_index=False) for each in frames
    ]
    if not all(map(len, tables)):
        raise DataError("expected rows to compute a number of, came none")
    stems = np.unique(column(tables[0], "stem"))
    names = [name for name, _ in _by_training(tables[0])]
    rows_FRP = [_rows_of(table, stems) for table in tables]

    def of(photographs: Array) -> Floats:
        """Return the number of each training on some photographs."""
        sides = [
            np.array([statistic(table.take(np.concatenate([of_P[p] for p in photographs]))) for of_P in of_RP])
            for table, of_RP in zip(tables, rows_FRP, strict=True)
        ]
        found: Floats = sides[0] - sides[1] if len(sides) > 1 else sides[0]
        return found

    every = np.arange(len(stems))
    value_R = of(every)
    value = float(value_R.mean())
    if len(stems) < FEWEST:
        return Interval(value, float("nan"), float("nan"), len(stems), len(names))
    left_RP = np.stack([of(np.delete(every, p)) for p in every], axis=1)
    photo_P = (left_RP.mean(1, keepdims=True) - left_RP).mean(0) * ((len(stems) - 1) / len(stems)) ** 0.5
    picked_NP = np.random.default_rng(seed).integers(len(stems), size=(num, len(stems)))
    apart_N = np.array([of(picked).mean() for picked in picked_NP]) - value
    spread_N = photo_P[picked_NP].std(1) * len(stems) ** 0.5
    known = (spread_N > 0) & np.isfinite(apart_N)  # a draw may lack what a number is of (every real, say)
    unit_R = intervals.units([draw for draw, _ in names])
    value_U = np.bincount(unit_R, value_R) / np.bincount(unit_R)
    low, high = _joined(value, apart_N[known] / spread_N[known], photo_P, value_U, level)
    return Interval(value, low, high, len(stems), len(names))


def _rows_of(table: pa.Table, stems: Array) -> list[list[Array]]:
    """Return the rows of each training and photograph."""
    photograph = np.searchsorted(stems, column(table, "stem"))
    return [[mine[photograph[mine] == p] for p in range(len(stems))] for _, mine in _by_training(table)]


def _joined(value: float, t_N: Floats, photo_P: Floats, value_U: Floats, level: float) -> tuple[float, float]:
    """Return the ends by the photographs' t, each put out by what the trainings' spread adds."""
    error = float((photo_P**2).sum() ** 0.5)
    ends = np.quantile(t_N, [(1 + level) / 2, (1 - level) / 2]) * error if len(t_N) else np.zeros(2)
    units, more = len(value_U), 0.0
    if units > 1:
        more = intervals.half_width(float(value_U.var(ddof=1)) / units, units - 1, level)
    return value - float(np.hypot(max(ends[0], 0.0), more)), value + float(np.hypot(max(-ends[1], 0.0), more))
