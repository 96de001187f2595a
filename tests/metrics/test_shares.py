"""Shares of numbers of sets: their mean is the number, their spread that of resampled ones."""

import numpy as np
import pytest
from sklearn import metrics as sk

from dfloc.metrics import image, shares
from dfloc.metrics.intervals import Images, Training, mean


def scores(seed: int, num_fakes: int = 400, num_reals: int = 250) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(1, 1, num_fakes), 1), np.round(rng.normal(0, 1, num_reals), 1)  # many are tied


def weighted(fake: np.ndarray, real: np.ndarray, by_fake: np.ndarray, by_real: np.ndarray) -> float:
    """Return average precision by scikit-learn, each side of weight 1."""
    weight = np.concatenate([by_fake / by_fake.sum(), by_real / by_real.sum()])
    is_fake = np.r_[np.ones(len(fake)), np.zeros(len(real))]
    return float(sk.average_precision_score(is_fake, np.concatenate([fake, real]), sample_weight=weight))


def test_the_mean_of_the_shares_is_the_average_precision():
    fake, real = scores(0)
    value = image.image_ap(fake, real)
    first, second = shares.of_image_ap(fake, real, value)
    assert (first.mean(), second.mean()) == pytest.approx((value, value), abs=1e-12)
    assert value == pytest.approx(weighted(fake, real, np.ones(len(fake)), np.ones(len(real))))


def test_a_share_is_what_more_weight_of_an_image_does():
    """By scikit-learn with a little more weight on one image: the derivative that the shares are made of."""
    fake, real = scores(1, 40, 30)
    value, step = image.image_ap(fake, real), 1e-6
    first, second = shares.of_image_ap(fake, real, value)
    for place in (0, 7, 23):
        more = np.ones(len(fake))
        more[place] += step
        found = (weighted(fake, real, more, np.ones(len(real))) - value) / step
        assert found == pytest.approx((first[place] - value) / 2 / len(fake), rel=1e-3, abs=1e-7)
        more = np.ones(len(real))
        more[place] += step
        found = (weighted(fake, real, np.ones(len(fake)), more) - value) / step
        assert found == pytest.approx((second[place] - value) / 2 / len(real), rel=1e-3, abs=1e-7)


def test_the_interval_of_the_shares_is_that_of_a_bootstrap():
    fake, real = scores(2)
    first, second = shares.of_image_ap(fake, real, image.image_ap(fake, real))
    sides = [Images(first, np.arange(400)), Images(second, 400 + np.arange(250))]
    found = mean([Training(0, 0, sides)]).interval()
    rng = np.random.default_rng(3)
    drawn = [image.image_ap(rng.choice(fake, 400), rng.choice(real, 250)) for _ in range(1500)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert found.estimate == pytest.approx(image.image_ap(fake, real))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_shares_of_a_slope_are_those_of_a_straight_line():
    rng = np.random.default_rng(4)
    x = rng.uniform(0.02, 0.4, 300)
    y = 0.3 + 0.8 * x + rng.normal(0, 0.1, 300)
    found = shares.of_slope(x, y)
    assert found.mean() == pytest.approx(np.polyfit(x, y, 1)[0], abs=1e-10)
    drawn = []
    for _ in range(1500):
        chosen = rng.integers(0, 300, 300)
        drawn.append(np.polyfit(x[chosen], y[chosen], 1)[0])
    assert found.std() / np.sqrt(300) == pytest.approx(np.std(drawn), rel=0.1)


def test_an_image_without_a_number_adds_nothing_and_equal_areas_have_no_slope():
    x, y = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0.2, 0.4, 0.6, np.nan])
    found = shares.of_slope(x, y)
    assert np.isnan(found[3])
    assert found[:3] == pytest.approx(2.0)
    assert np.isnan(shares.of_slope(np.full(4, 0.1), np.arange(4.0))).all()
    assert np.isnan(shares.of_slope(x, np.full(4, np.nan))).all()
