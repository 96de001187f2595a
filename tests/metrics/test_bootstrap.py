import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from dfloc.errors import DataError
from dfloc.metrics.bootstrap import interval, paired_difference


def frame(values: list[float], stems: list[str], draw: int | list[int] = 0, seed: int | list[int] = 0) -> pd.DataFrame:
    return pd.DataFrame({"draw": draw, "seed": seed, "stem": stems, "iou": values})


def many(num: int = 60, seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).uniform(0.2, 0.9, num)
    return frame(values.tolist(), [f"p{k}" for k in range(num)])


def test_the_mean_of_one_training_has_students_interval():
    data = many()
    low, high = stats.t.interval(0.95, 59, data.iou.mean(), stats.sem(data.iou))
    assert interval(data, "iou")[:5] == pytest.approx((data.iou.mean(), low, high, 60, 1))
    assert interval(data, "iou", level=0.5).high < high


def test_rows_of_a_photograph_stay_together():
    values = [0.1] * 50 + [0.5] * 50 + [0.9] * 50
    together = interval(frame(values, ["a"] * 50 + ["b"] * 50 + ["c"] * 50), "iou", bounds=(0, 1))
    apart = interval(frame(values, [str(k) for k in range(150)]), "iou")
    assert (together.low, together.high, together.num_photographs) == (0, 1, 3)
    assert 0.43 < apart.low < apart.high < 0.57
    assert apart.num_photographs == 150


def test_seeds_and_draws_are_trainings():
    stems = ["a", "b", "c"] * 3
    values = [0.4] * 3 + [0.5] * 3 + [0.6] * 3
    half = stats.t.ppf(0.975, 2) * 0.1 / 3**0.5
    for by in ({"seed": [0] * 3 + [1] * 3 + [2] * 3}, {"draw": [0] * 3 + [1] * 3 + [2] * 3}):
        found = interval(frame(values, stems, **by), "iou")
        assert found[:5] == pytest.approx((0.5, 0.5 - half, 0.5 + half, 3, 3))


def test_a_seed_weighs_as_much_as_another_whatever_its_rows():
    found = interval(frame([0.2, 0.8, 0.8, 0.8], ["a", "a", "b", "c"], seed=[0, 1, 1, 1]), "iou")
    assert found.estimate == pytest.approx(0.5)


def test_nan_rows_are_left_out_and_two_photographs_have_no_interval():
    found = interval(frame([0.2, math.nan, 0.2], ["a", "a", "b"]), "iou")
    assert (found.estimate, found.num_photographs) == (pytest.approx(0.2), 2)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_any_row_order_and_either_kind_of_table_give_the_same():
    data = many(30)
    first = interval(data, "iou")[:5]
    assert interval(data.sample(frac=1, random_state=0), "iou")[:5] == pytest.approx(first)
    assert interval(pa.Table.from_pandas(data), "iou")[:5] == pytest.approx(first)


def test_a_paired_difference_is_the_interval_of_the_differences():
    rng = np.random.default_rng(4)
    b = many(60, 1)
    a = b.assign(iou=b.iou + 0.05 + rng.normal(0, 0.02, 60))
    found = paired_difference(a, b.sample(frac=1, random_state=0), "iou")
    by = a.iou - b.iou
    low, high = stats.t.interval(0.95, 59, by.mean(), stats.sem(by))
    assert found[:5] == pytest.approx((by.mean(), low, high, 60, 1))
    assert paired_difference(a, a, "iou")[:3] == pytest.approx((0, 0, 0))


def test_a_paired_difference_of_a_number_of_the_set_leaves_the_shared_photographs_out() -> None:
    """Medians of values that differ by 0.1 on each photograph, however they are drawn."""
    b = many(40, 9)
    found = paired_difference(b.assign(iou=b.iou + 0.1), b, median, num_resamples=50)
    assert found[:3] == pytest.approx((0.1, 0.1, 0.1))
    alone = interval(b, median, num_resamples=50)
    assert alone.high - alone.low > 0.05


def median(rows: pa.Table) -> float:
    return float(np.median(rows["iou"].to_numpy()))


def test_a_mean_as_a_number_of_the_set_has_nearly_the_interval_of_the_mean():
    data = many(100, 5)
    exact = interval(data, "iou")
    drawn = interval(data, lambda rows: float(rows["iou"].to_numpy().mean()), num_resamples=3000)
    assert drawn.estimate == pytest.approx(exact.estimate)
    half = exact.high - exact.estimate
    assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.1 * half)


def test_a_number_of_the_set_is_drawn_anew_by_its_seed():
    data = many(40, 6)
    first = interval(data, median, num_resamples=200, seed=5)
    assert interval(data, median, num_resamples=200, seed=5)[:3] == first[:3]
    assert interval(data, median, num_resamples=200, seed=6)[:3] != first[:3]
    assert first.low < first.estimate < first.high


def test_a_ratio_of_sums_is_covered():
    """IoU over all pixels of 40 photographs whose masks are of very different size; its truth from 100,000 of them."""
    rng = np.random.default_rng(7)

    def drawn(num: int) -> pa.Table:
        union = rng.lognormal(6, 0.5, num)
        right = union * np.clip(0.7 + rng.normal(0, 0.1, num), 0, 1)
        zero = np.zeros(num, np.int64)
        return pa.table({"draw": zero, "seed": zero, "stem": np.arange(num), "right": right, "union": union})

    def pooled(rows: pa.Table) -> float:
        return float(rows["right"].to_numpy().sum() / rows["union"].to_numpy().sum())

    truth = pooled(drawn(100_000))
    found = [interval(drawn(40), pooled, num_resamples=150, seed=k) for k in range(100)]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.88


def test_trainings_widen_a_number_of_the_set_and_seeds_of_a_draw_count_once():
    data = many(40, 8)
    one = interval(data, median)
    apart = [data.assign(seed=k, iou=data.iou + by) for k, by in enumerate((-0.1, 0.0, 0.1))]
    three = interval(pd.concat(apart), median)
    least = stats.t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert (three.estimate, three.num_trainings) == (pytest.approx(one.estimate), 3)
    assert three.high - three.estimate == pytest.approx(math.hypot(least, one.high - one.estimate), rel=0.1)
    twice = pd.concat([each.assign(draw=each.seed, seed=seed) for each in apart for seed in (0, 1)])
    assert interval(twice, median)[1:3] == pytest.approx(three[1:3], abs=0.02)


def test_errors():
    data = frame([0.1, 0.2], ["a", "b"])
    with pytest.raises(DataError, match='column "stem"'):
        interval(data.drop(columns="stem"), "iou")
    with pytest.raises(DataError, match='column "ap"'):
        interval(data, "ap")
    for value in ("iou", median):
        with pytest.raises(DataError, match="came none"):
            interval(data[:0], value)
    with pytest.raises(DataError, match="came none"):
        interval(frame([math.nan], ["a"]), "iou")
    with pytest.raises(DataError, match="seed 1 has none"):
        interval(frame([0.1, math.nan], ["a", "b"], seed=[0, 1]), "iou")
    for wrong in ({"level": 1.0}, {"level": 0}, {"num_resamples": 0}):
        with pytest.raises(DataError, match="expected a level"):
            interval(data, "iou", **wrong)
    with pytest.raises(DataError, match="one lacks photograph b"):
        paired_difference(data, data[:1], "iou")
    with pytest.raises(DataError, match="one lacks draw 0 seed 1"):
        paired_difference(pd.concat([data, data.assign(seed=1)]), data, "iou")


def test_the_lines_of_the_page_on_statistics_run_and_a_trial_less_itself_is_nothing() -> None:
    page = (Path(__file__).parents[2] / "docs/STATISTICS.md").read_text(encoding="utf-8")
    lines = page.partition("```python\n")[2].partition("```")[0].strip().splitlines()
    calls = [line for line in lines if line.startswith(("interval(", "paired_difference("))]
    rows = many(40, 10).assign(tp=range(40), fp=7, fn=3)
    given = {"rows": rows, "other": rows}
    exec("\n".join(line for line in lines if line not in calls), given)
    alone, pooled, *differences = (eval(call, given) for call in calls)
    assert alone.low < rows.iou.mean() < alone.high
    assert pooled.estimate == pytest.approx(rows.tp.sum() / (rows.tp.sum() + 400))
    assert [one[:3] for one in differences] == [pytest.approx((0, 0, 0))] * 2
