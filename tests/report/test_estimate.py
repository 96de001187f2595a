import numpy as np
import pytest

from dfloc.errors import DataError
from dfloc.report.estimate import Run, difference, pooled
from dfloc.report.results import Score
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
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert (found.runs, found.photographs) == (1, 900)


def test_crops_of_one_photograph_stay_together():
    values = np.repeat([0.2, 0.4, 0.6, 0.8], 25)
    apart = pooled([Run(0, 0, [score(values)])])
    together = pooled([Run(0, 0, [score(values, np.repeat(np.arange(4), 25))])])
    assert apart is not None
    assert together is not None
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_seeds_that_differ_widen_the_interval():
    low, high = score([0.3] * 50), score([0.7] * 50)
    found = pooled([Run(0, 0, [low]), Run(0, 1, [high])])
    assert found is not None
    assert (found.value, found.runs) == (pytest.approx(0.5), 2)
    assert (found.low, found.high) == (pytest.approx(0.3), pytest.approx(0.7))


def test_a_difference_is_paired():
    values = np.random.default_rng(1).uniform(0, 1, 200)
    found = difference([(Run(0, 0, [score(values)]), Run(0, 0, [score(values - 0.1)]))])
    assert found is not None
    assert (found.value, found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    assert difference([]) is None


def test_other_photographs_cannot_be_paired():
    with pytest.raises(DataError, match="same rows on both sides"):
        difference([(Run(0, 0, [score([0.1, 0.2])]), Run(0, 0, [score([0.1, 0.2], [7, 8])]))])
