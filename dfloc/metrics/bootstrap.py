"""Intervals by resampling: draw and seed first, then photographs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dfloc.errors import DataError
from dfloc.metrics.table import Array, Table, column


class Interval(NamedTuple):
    """An estimate with its percentile interval.

    Attributes:
        estimate: the mean over the rows, or the difference of two.
        low: lower end.
        high: upper end.
        num_photographs: how many photographs it rests on.
    """

    estimate: float
    low: float
    high: float
    num_photographs: int


def interval(frame: Table, value: str, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0) -> Interval:
    """Return the bootstrap interval of the mean of a column over test photographs and trainings.

    Each resample draws mixture draws, within each of them trial seeds, and, for all of these alike, photographs, with
    replacement: all rows of a photograph stay together, since its crops and fakes are not independent, and trainings
    share their test photographs (the pigeonhole bootstrap, Owen 2007). With one draw and seed the interval speaks of
    test sampling only.

    Args:
        frame: rows with the columns draw, seed, stem and `value`; rows where it is NaN are left out.
        value: the column.
        level: the share of resamples inside.
        num_resamples: how many are drawn.
        seed: of the resampling.

    Raises:
        DataError: a column is missing, no row has a value, or `level` or `num_resamples` is out of range.
    """
    return _resample([frame], value, level, num_resamples, seed)


def paired_difference(
    a: Table, b: Table, value: str, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return the interval of the mean of `a` less that of `b`: the same draws, seeds and photographs drawn in both.

    Raises:
        DataError: as `interval`, or the two do not have the same draws and seeds and the same photographs.
    """
    return _resample([a, b], value, level, num_resamples, seed)


def _resample(frames: Sequence[Table], value: str, level: float, num_resamples: int, seed: int) -> Interval:
    """Return the interval of the first frame's mean, less the second's where there is one."""
    if not 0 < level < 1 or num_resamples < 1:
        raise DataError(f"expected a level in (0, 1) and at least one resample, came {level} and {num_resamples}")
    values = [column(frame, value).astype(np.float64) for frame in frames]
    if any(np.isnan(each).all() for each in values):
        raise DataError(f'expected rows with a "{value}" to resample, came none')
    draw_R, runs = _runs(frames)
    num_photographs, photographs = _photographs(frames)
    generator = np.random.default_rng(seed)
    weight_NR = _run_weights(draw_R, num_resamples, generator)
    picked_NP = generator.integers(num_photographs, size=(num_resamples, num_photographs), dtype=np.int32)
    weight_NP = _multiplicity(picked_NP, num_photographs)
    estimate, resampled_N = 0.0, np.zeros(num_resamples)
    for sign, each, run, photograph in zip((1, -1), values, runs, photographs, strict=False):
        total_RP, count_RP = _cells(each, run, photograph, (len(draw_R), num_photographs))
        estimate += sign * total_RP.sum() / count_RP.sum()
        total_N, count_N = (((weight_NP @ cell_RP.T) * weight_NR).sum(1) for cell_RP in (total_RP, count_RP))
        resampled_N += sign * np.divide(total_N, count_N, out=np.full(num_resamples, np.nan), where=count_N > 0)
    low, high = np.nanquantile(resampled_N, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high), num_photographs)


def _runs(frames: Sequence[Table]) -> tuple[Array, list[Array]]:
    """Return the draw of each run (a draw and seed), 0, 1, ... in order, and each frame's run by row."""
    pairs = [np.stack([column(frame, "draw"), column(frame, "seed")], axis=1) for frame in frames]
    pair_R2, run = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
    runs = _by_frame(run.ravel(), frames, [f"draw {draw} seed {seed}" for draw, seed in pair_R2])
    return np.unique(pair_R2[:, 0], return_inverse=True)[1], runs


def _photographs(frames: Sequence[Table]) -> tuple[int, list[Array]]:
    """Return the number of photographs, and each frame's photograph by row."""
    stems, photograph = np.unique(np.concatenate([column(frame, "stem") for frame in frames]), return_inverse=True)
    return len(stems), _by_frame(photograph, frames, [f"photograph {stem}" for stem in stems])


def _by_frame(code: Array, frames: Sequence[Table], names: Sequence[str]) -> list[Array]:
    """Split codes of all rows by frame; each frame must have them all."""
    parts = np.split(code, np.cumsum([len(frame) for frame in frames])[:-1])
    for part in parts:
        missing = np.flatnonzero(np.bincount(part, minlength=len(names)) == 0)
        if len(missing):
            raise DataError(f"a paired difference needs the same rows on both sides; one lacks {names[missing[0]]}")
    return parts


def _cells(values: Array, run: Array, photograph: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Return the sum and the number of values of each run and photograph, without the NaN."""
    known = ~np.isnan(values)
    cell = np.ravel_multi_index((run[known], photograph[known]), shape)
    size = shape[0] * shape[1]
    total, count = np.bincount(cell, values[known], size), np.bincount(cell, minlength=size)
    return total.reshape(shape), count.reshape(shape).astype(np.float64)


def _run_weights(draw_R: Array, num_resamples: int, generator: np.random.Generator) -> Array:
    """Draw draws, and within each as many seeds as it has; return how often each run came, [resamples, runs]."""
    seeds_D = np.bincount(draw_R)
    first_D = np.cumsum(seeds_D) - seeds_D
    draw_ND = generator.integers(len(seeds_D), size=(num_resamples, len(seeds_D)))
    first_ND1, seeds_ND1 = first_D[draw_ND, None], seeds_D[draw_ND, None]
    uniform_NDS = generator.random((num_resamples, len(seeds_D), int(seeds_D.max())))
    run_NDS = first_ND1 + (uniform_NDS * seeds_ND1).astype(np.int64)
    surplus_NDS = np.arange(seeds_D.max()) >= seeds_ND1
    return _multiplicity(np.where(surplus_NDS, len(draw_R), run_NDS).reshape(num_resamples, -1), len(draw_R))


def _multiplicity(index_NK: Array, size: int) -> Array:
    """Return how often each index below `size` stands in each row, [rows, size]; `size` itself is not counted."""
    num_rows = len(index_NK)
    flat = index_NK + (size + 1) * np.arange(num_rows)[:, None]
    count = np.bincount(flat.ravel(), minlength=num_rows * (size + 1))
    return count.reshape(num_rows, size + 1)[:, :size].astype(np.float64)
