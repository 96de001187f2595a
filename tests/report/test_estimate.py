import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from dfloc.errors import DataError
from dfloc.report.estimate import Run, difference, pooled
from dfloc.report.score import Score
from dfloc.report.table import estimate
from tests.report.studies import Maker

SPEC = Maker().plan("base", {"mini/telea": 4}).evaluations[0]


def score(values, photographs=None) -> Score:
    values = np.asarray(values, dtype=float)
    numbers = np.arange(len(values)) if photographs is None else np.asarray(photographs)
    return Score(SPEC, {"iou": values}, numbers, 0.0, numbers.astype(float), 0.0)


def test_the_mean_over_domains_weighs_domains_not_images():
    run = Run(0, 0, [score([1.0, 1.0, 1.0, 1.0]), score([0.0, 0.5])])
    found = pooled([run])
    assert found is not None
    assert found.value == pytest.approx((1.0 + 0.25) / 2)


def test_images_without_a_number_are_left_out():
    found = pooled([Run(0, 0, [score([0.2, np.nan, 0.4]), score([np.nan] * 3)])])
    assert found is not None
    assert found.value == pytest.approx(0.3)
    assert found.photographs == 2
    assert pooled([Run(0, 0, [score([np.nan])])]) is None
    assert pooled([]) is None


def test_the_interval_of_many_photographs_is_the_normal_one():
    values = np.random.default_rng(0).normal(0.5, 0.1, 900)
    found = pooled([Run(0, 0, [score(values)])])
    assert found is not None
    half = 1.96 * values.std(ddof=1) / np.sqrt(900)
    assert found.low == pytest.approx(values.mean() - half, abs=0.005 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.005 * half)
    assert (found.runs, found.photographs) == (1, 900)


def test_crops_of_one_photograph_stay_together():
    values = np.repeat([0.2, 0.4, 0.6, 0.8], 25)
    apart = pooled([Run(0, 0, [score(values)])])
    together = pooled([Run(0, 0, [score(values, np.repeat(np.arange(4), 25))])])
    assert apart is not None
    assert together is not None
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_what_has_no_spread_within_its_domains_has_no_interval_between_them():
    """Domains are those that were asked for: that they differ says nothing of other photographs."""
    found = pooled([Run(0, 0, [score([0.199] * 9), score([0.801] * 9)])])
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_seed_with_images_without_a_number_weighs_as_much_as_another():
    found = pooled([Run(0, 0, [score([0.2, 0.2, 0.2])]), Run(0, 1, [score([0.8, np.nan, np.nan])])])
    assert found is not None
    assert found.value == pytest.approx(0.5)


def test_two_photographs_have_no_interval_and_the_cell_says_so():
    found = pooled([Run(0, 0, [score([0.2, 0.4])])])
    assert found is not None
    assert not found.known
    assert (estimate(found, "").text, estimate(found, "").small) == ("0.300", "no interval: under 3 source images")


def test_a_difference_of_one_training_a_side_is_no_test():
    values = np.random.default_rng(1).uniform(0, 1, 200)
    one = difference([(Run(0, 0, [score(values)]), Run(0, 0, [score(values - 0.1)]))])
    assert one is not None
    cell = estimate(one, "", signed=True)
    assert (cell.small, math.isnan(cell.p)) == ("on these two trainings", True)
    seeds = np.random.default_rng(2).normal(0.1, 0.001, 3)
    three = difference([(Run(0, k, [score(values)]), Run(0, k, [score(values - by)])) for k, by in enumerate(seeds)])
    assert three is not None
    assert estimate(three, "", signed=True).small == ""
    assert three.p == pytest.approx(ttest_1samp(seeds, 0).pvalue)


def test_seeds_that_differ_widen_the_interval():
    """Three seeds of 0.3, 0.4 and 0.5 without any spread of photographs: Student's t with two degrees of freedom."""
    found = pooled([Run(0, seed, [score([value] * 50)]) for seed, value in enumerate((0.3, 0.4, 0.5))])
    assert found is not None
    assert (found.value, found.runs) == (pytest.approx(0.4), 3)
    half = 4.302653 * 0.1 / 3**0.5
    assert (found.low, found.high) == (pytest.approx(0.4 - half), pytest.approx(0.4 + half))


def test_a_difference_is_paired():
    values = np.random.default_rng(1).uniform(0, 1, 200)
    found = difference([(Run(0, 0, [score(values)]), Run(0, 0, [score(values - 0.1)]))])
    assert found is not None
    assert (found.value, found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    assert difference([]) is None


def test_other_photographs_cannot_be_paired():
    with pytest.raises(DataError, match="same source images on both sides"):
        difference([(Run(0, 0, [score([0.1, 0.2])]), Run(0, 0, [score([0.1, 0.2], [7, 8])]))])
