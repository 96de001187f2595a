import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dfloc.errors import DataError
from dfloc.metrics.bootstrap import interval, paired_difference


def frame(values: list[float], stems: list[str], draw: int | list[int] = 0, seed: int | list[int] = 0) -> pd.DataFrame:
    return pd.DataFrame({"draw": draw, "seed": seed, "stem": stems, "iou": values})


def test_one_photograph_has_no_width():
    got = interval(frame([0.2, 0.4, 0.9], ["a"] * 3), "iou")
    assert got == pytest.approx((0.5, 0.5, 0.5, 1))


def test_two_photographs_have_three_means():
    data = frame([0.0, 1.0], ["a", "b"])
    assert interval(data, "iou") == pytest.approx((0.5, 0, 1, 2))
    # A resample is 0 with probability 1/4, so the middle 40 % are all at 0.5.
    assert interval(data, "iou", level=0.4) == pytest.approx((0.5, 0.5, 0.5, 2))


def test_rows_of_a_photograph_stay_together():
    values = [0.0] * 50 + [1.0] * 50
    together = interval(frame(values, ["a"] * 50 + ["b"] * 50), "iou")
    apart = interval(frame(values, [str(k) for k in range(100)]), "iou")
    assert (together.low, together.high, together.num_photographs) == (0, 1, 2)
    assert 0.35 < apart.low < 0.45
    assert 0.55 < apart.high < 0.65
    assert apart.num_photographs == 100


def test_photographs_weigh_by_their_rows():
    # Means of the resamples {aa, ab, bb} with 3 rows of a and 1 of b: 1, 3/4, 0.
    got = interval(frame([1, 1, 1, 0], ["a", "a", "a", "b"]), "iou", level=0.4)
    assert (got.estimate, got.low, got.high) == pytest.approx((0.75, 0.75, 0.75))


def test_seeds_are_resampled():
    stems = ["a", "b"] * 2
    data = frame([0.2, 0.2, 0.8, 0.8], stems, seed=[0, 0, 1, 1])
    assert interval(data, "iou") == pytest.approx((0.5, 0.2, 0.8, 2))
    by_draw = frame([0.2, 0.2, 0.8, 0.8], stems, draw=[0, 0, 1, 1])
    assert interval(by_draw, "iou") == pytest.approx((0.5, 0.2, 0.8, 2))


def test_seeds_are_drawn_within_their_draws():
    """Draw 0 has one seed, of mean 0, draw 1 three, of mean 1: 0, 3/4 or 1, with probability 1/4, 1/2, 1/4."""
    data = frame([0, 1, 1, 1], ["a"] * 4, draw=[0, 1, 1, 1], seed=[0, 0, 1, 2])
    assert interval(data, "iou", level=0.4) == pytest.approx((0.75, 0.75, 0.75, 1))
    assert interval(data, "iou") == pytest.approx((0.75, 0, 1, 1))
    four_seeds = data.assign(draw=0, seed=range(4))  # at most one in four of value 1: 5 %; none: 0.4 %
    assert interval(four_seeds, "iou") == pytest.approx((0.75, 0.25, 1, 1))


def test_photographs_are_shared_by_runs():
    """Runs that agree on each photograph leave the interval as it is: photographs are not drawn anew per run."""
    rng = np.random.default_rng(0)
    values, stems = rng.random(40), [f"p{k}" for k in range(40)]
    one = interval(frame(values.tolist(), stems), "iou", num_resamples=4000)
    many = [frame(values.tolist(), stems, seed=k) for k in range(5)]
    five = interval(pd.concat(many), "iou", num_resamples=4000)
    assert five.high - five.low == pytest.approx(one.high - one.low, rel=0.07)


def test_width_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(size=400)
    got = interval(frame(values.tolist(), [str(k) for k in range(400)]), "iou", num_resamples=4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert got.estimate == pytest.approx(values.mean())
    assert got.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert got.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_coverage_on_photographs_with_rows_of_their_own_level():
    rng, hits = np.random.default_rng(2), 0
    stems = [f"p{k // 5}" for k in range(150)]
    for trial in range(200):
        values = np.repeat(rng.normal(0.5, 0.2, 30), 5) + rng.normal(0, 0.1, 150)
        got = interval(frame(values.tolist(), stems), "iou", num_resamples=300, seed=trial)
        hits += got.low <= 0.5 <= got.high
    assert 0.87 < hits / 200 < 0.99


def test_nan_rows_are_left_out():
    got = interval(frame([0.2, math.nan, 0.2], ["a", "a", "b"]), "iou")
    assert got == pytest.approx((0.2, 0.2, 0.2, 2))


def test_same_seed_same_interval_and_any_row_order():
    data = frame(np.random.default_rng(3).random(30).tolist(), [f"p{k}" for k in range(30)])
    first = interval(data, "iou", seed=5)
    assert interval(data.sample(frac=1, random_state=0), "iou", seed=5) == pytest.approx(first)
    assert interval(pa.Table.from_pandas(data), "iou", seed=5) == first
    assert interval(data, "iou", seed=6) != first


def correlated() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(4)
    hard, stems = rng.normal(0.5, 0.3, 60), [f"p{k}" for k in range(60)]
    return (frame((hard + shift + rng.normal(0, 0.02, 60)).tolist(), stems) for shift in (0.1, 0))


def test_paired_is_narrower_than_unpaired():
    a, b = correlated()
    paired = paired_difference(a, b, "iou")
    alone = [interval(each, "iou") for each in (a, b)]
    unpaired = math.hypot(*(each.high - each.low for each in alone))
    assert paired.estimate == pytest.approx(a.iou.mean() - b.iou.mean())
    assert paired.high - paired.low < 0.2 * unpaired
    assert 0 < paired.low < paired.estimate < paired.high
    assert paired.num_photographs == 60


def test_paired_difference_is_the_interval_of_the_differences():
    a, b = correlated()
    assert paired_difference(a, b.sample(frac=1, random_state=0), "iou") == pytest.approx(
        interval(a.assign(iou=a.iou - b.iou), "iou")
    )


def test_equal_trials_differ_by_nothing():
    a, _ = correlated()
    assert paired_difference(a, a, "iou") == pytest.approx((0, 0, 0, 60))


def test_errors():
    data = frame([0.1, 0.2], ["a", "b"])
    with pytest.raises(DataError, match='column "stem"'):
        interval(data.drop(columns="stem"), "iou")
    with pytest.raises(DataError, match='column "ap"'):
        interval(data, "ap")
    with pytest.raises(DataError, match="came none"):
        interval(data[:0], "iou")
    with pytest.raises(DataError, match="came none"):
        interval(frame([math.nan], ["a"]), "iou")
    for wrong in ({"level": 1.0}, {"level": 0}, {"num_resamples": 0}):
        with pytest.raises(DataError, match="expected a level"):
            interval(data, "iou", **wrong)
    with pytest.raises(DataError, match="one lacks photograph b"):
        paired_difference(data, data[:1], "iou")
    with pytest.raises(DataError, match="one lacks draw 0 seed 1"):
        paired_difference(pd.concat([data, data.assign(seed=1)]), data, "iou")
