import math

import numpy as np
import pytest
from scipy import stats

from dfloc.errors import DataError
from dfloc.metrics.intervals import UNBOUNDED, Images, Mean, Training, combined, difference, holm, mean
from dfloc.metrics.metric import Bounds
from tests.metrics.repeated import covered, trainings


def of(values_RP: np.ndarray, draws: list[int] | None = None, bounds: Bounds = UNBOUNDED) -> Mean:
    """Return the mean of one value for each training and photograph."""
    photographs = np.arange(values_RP.shape[1])
    found = mean(
        [
            Training(draws[place] if draws else 0, place, [Images(values_P, photographs)])
            for place, values_P in enumerate(values_RP)
        ],
        bounds,
    )
    assert found is not None
    return found


def test_one_training_has_the_interval_of_students_t_over_photographs():
    values = np.random.default_rng(0).uniform(0.2, 0.8, 12)
    found = of(values[None]).interval()
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert found[:5] == pytest.approx((values.mean(), low, high, 12, 1))
    assert math.isnan(found.p)
    narrow = of(values[None]).interval(0.5)
    assert narrow.high - narrow.low == pytest.approx((high - low) * stats.t.ppf(0.75, 11) / stats.t.ppf(0.975, 11))


def test_several_trainings_have_the_variance_of_the_two_way_layout():
    """Mean squares of a crossed layout without repetitions, from the textbook, and Satterthwaite's freedom."""
    rng = np.random.default_rng(1)
    x = 0.5 + rng.normal(0, 0.02, (4, 1)) + rng.normal(0, 0.1, (1, 9)) + rng.normal(0, 0.03, (4, 9))
    rows = 9 * x.mean(1).var(ddof=1)
    columns = 4 * x.mean(0).var(ddof=1)
    rest = ((x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()) ** 2).sum() / (3 * 8)
    variance = (rows + columns - rest) / 36
    freedom = (rows + columns - rest) ** 2 / (rows**2 / 3 + columns**2 / 8 + rest**2 / 24)
    assert rows > rest < columns
    found = of(x).interval()
    half = stats.t.ppf(0.975, freedom) * variance**0.5
    assert found[:5] == pytest.approx((x.mean(), x.mean() - half, x.mean() + half, 9, 4))
    assert found.p == pytest.approx(2 * stats.t.sf(x.mean() / variance**0.5, freedom))


def test_trainings_that_agree_more_than_photographs_let_expect_do_not_narrow_it():
    values = np.random.default_rng(2).uniform(0.2, 0.8, 30)
    one, three = of(values[None]).interval(), of(np.stack([values] * 3)).interval()
    assert three.low >= one.low - 0.01
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.03)


def test_seeds_of_one_draw_are_not_repetitions_of_it():
    """Two draws that differ, three seeds each that agree: as two numbers, not as six."""
    x = np.repeat([[0.4], [0.6]], 3, axis=0) + np.zeros((6, 8))
    found = of(x, draws=[0, 0, 0, 1, 1, 1], bounds=(0, 1)).interval()
    half = stats.t.ppf(0.975, 1) * np.std([0.4, 0.6], ddof=1) / 2**0.5
    assert half > 0.5
    assert (found.low, found.high) == (0.0, 1.0), "no further than a fraction can lie"
    assert of(x).interval().low > 0.35


def test_images_of_a_photograph_go_together_and_weigh_as_images():
    """Photographs of 3, 1 and 2 images: the linearized variance of a ratio of sums, by hand."""
    values, photographs = np.array([0.9, 0.6, 0.6, 0.2, 0.5, 0.3]), np.array([0, 0, 0, 1, 2, 2])
    found = mean([Training(0, 0, [Images(values, photographs)])], bounds=(0, 1))
    centre = 3.1 / 6
    apart = np.array([2.1 - 3 * centre, 0.2 - centre, 0.8 - 2 * centre]) / 6
    half = stats.t.ppf(0.975, 2) * (1.5 * (apart**2).sum()) ** 0.5
    assert found is not None
    assert found.interval()[:3] == pytest.approx((centre, max(0, centre - half), min(1, centre + half)))


def test_domains_of_other_photographs_add_their_variances():
    rng = np.random.default_rng(3)
    one, other = rng.uniform(0, 1, 20), rng.uniform(0, 1, 20)
    found = mean([Training(0, 0, [Images(one, np.arange(20)), Images(other, np.arange(20, 40))])])
    variance = (one.var(ddof=1) / 20 + other.var(ddof=1) / 20) / 4
    assert found is not None
    interval = found.interval()
    assert interval.high - interval.low == pytest.approx(2 * stats.t.ppf(0.975, 19) * variance**0.5)
    assert interval.num_photographs == 40


def test_domains_of_the_same_photographs_share_their_luck():
    values = np.random.default_rng(4).uniform(0, 1, 20)
    part = Images(values, np.arange(20))
    one, both = (mean([Training(0, 0, domains)]) for domains in ([part], [part, part]))
    assert one is not None
    assert both is not None
    assert both.interval()[:3] == pytest.approx(one.interval()[:3])


@pytest.mark.parametrize("photographs", [[0, 0, 0, 0], [0, 1, 0, 1]])
def test_below_three_photographs_there_is_no_interval(photographs):
    found = mean([Training(0, 0, [Images(np.array([0.1, 0.2, 0.3, 0.4]), np.array(photographs))])])
    assert found is not None
    interval = found.interval()
    assert interval.estimate == pytest.approx(0.25)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_a_domain_of_two_photographs_spoils_the_mean_with_another_of_many():
    few, many = Images(np.array([0.1, 0.2]), np.array([0, 1])), Images(np.linspace(0, 1, 50), np.arange(50))
    found = mean([Training(0, 0, [few, many])])
    assert found is not None
    assert math.isnan(found.interval().low)


def test_a_difference_is_that_of_the_paired_values():
    rng = np.random.default_rng(5)
    hard, by = rng.uniform(0.3, 0.6, 40), rng.normal(0.1, 0.02, 40)
    sides = [[Training(0, 0, [Images(values, np.arange(40))])] for values in (hard + by, hard)]
    found = difference(list(zip(*sides, strict=True)))
    assert found is not None
    assert found.interval()[:3] == pytest.approx(stats_interval(by))
    with pytest.raises(DataError, match="the same source images on both sides"):
        difference([(sides[0][0], Training(0, 0, [Images(hard, np.arange(1, 41))]))])
    assert difference([]) is None


def stats_interval(values: np.ndarray) -> tuple[float, float, float]:
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return values.mean(), low, high


def test_a_weighted_sum_is_the_mean_of_the_weighted_values():
    rng = np.random.default_rng(6)
    one, other = rng.uniform(0, 1, (3, 20)), rng.uniform(0, 1, (3, 20))
    found = combined([0.25, -0.5], [of(one), of(other)]).interval()
    assert found[:3] == pytest.approx(of(0.25 * one - 0.5 * other).interval()[:3])
    with pytest.raises(DataError, match="different trainings"):
        combined([1, -1], [of(one), of(other[:2])])


def test_what_is_nan_is_left_out_and_nothing_is_none():
    part = Images(np.array([0.2, math.nan, 0.4, 0.6]), np.arange(4))
    found = mean([Training(0, 0, [part, Images(np.array([math.nan]), np.array([9]))])])
    assert found is not None
    assert (found.value, len(found.photographs)) == (pytest.approx(0.4), 3)
    assert mean([Training(0, 0, [Images(np.array([math.nan]), np.array([0]))])]) is None
    assert mean([]) is None


def test_holm_rejects_as_in_his_procedure():
    """By hand: 0.01 <= 0.05 / 4, 0.02 > 0.05 / 3, so that the second and all after it stand."""
    assert holm([0.02, 0.01, 0.04, 0.03]) == [False, True, False, False]
    assert holm([0.001, 0.01, 0.02, 0.04]) == [True] * 4
    assert holm([math.nan, 0.001]) == [False, True]
    assert holm([]) == []


@pytest.mark.parametrize(("photographs", "skewed", "low"), [(30, False, 0.905), (30, True, 0.905), (8, True, 0.87)])
def test_photographs_are_covered(photographs, skewed, low):
    """A sample of benchmarks/coverage.py, which has the acceptance's 1,500 runs."""
    rng = np.random.default_rng(7)
    found = np.mean([covered(mean(trainings(rng, photographs, 1, 0.0, skewed)[0]), 0.7) for _ in range(400)])
    assert low - 0.02 < found < 0.975


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.03), (3, 0.01), (5, 0.03)])
def test_seeds_are_covered_and_equal_recipes_are_seldom_called_different(seeds, spread):
    rng = np.random.default_rng(8)
    inside, apart = [], []
    for _ in range(250):
        one, effect = trainings(rng, 60, seeds, spread)
        other, _ = trainings(rng, 60, seeds, spread, effect=effect)
        inside.append(covered(mean(one), 0.7))
        apart.append(not covered(difference(list(zip(one, other, strict=True))), 0.0))
    assert 0.88 < np.mean(inside) < 0.99
    assert np.mean(apart) < 0.09


def test_what_has_no_p_value_is_not_among_the_tested() -> None:
    nan = float("nan")
    assert holm([nan, 0.03, nan, nan]) == [False, True, False, False]
    assert holm([0.03, nan, 0.02]) == [True, False, True]
    assert holm([nan]) == [False]
