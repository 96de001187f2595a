"""How many images a score is worth, on curves whose inverse is known."""

import math

import numpy as np
import pytest

from dfloc.metrics.worth import images_for, middle

COUNTS = [8, 32, 128]


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.3, 8), (0.4, 16), (0.5, 32), (0.6, 64), (0.7, 128), (0.29, -math.inf), (0.71, math.inf), (math.nan, math.nan)],
)
def test_between_two_counts_it_is_interpolated_in_their_logarithm(score: float, expected: float) -> None:
    assert images_for(score, COUNTS, [0.3, 0.5, 0.7]) == pytest.approx(expected, nan_ok=True)


def test_a_curve_is_made_to_rise_by_the_nearest_one() -> None:
    """0.6 and 0.5 fall: both become 0.55, which 32 images reach; as many as 20 steps of pooling by hand would."""
    assert images_for(0.55, [8, 32, 64, 128], [0.3, 0.6, 0.5, 0.7]) == 32
    assert images_for(0.625, [8, 32, 64, 128], [0.3, 0.6, 0.5, 0.7]) == pytest.approx(math.sqrt(64 * 128))
    assert images_for(0.58, [8, 32, 64, 128], [0.3, 0.6, 0.5, 0.7]) == pytest.approx(64 * 2 ** (0.03 / 0.15))


@pytest.mark.parametrize("curve", [[0.5, 0.5, 0.5], [0.6, 0.5, 0.4], [0.5, math.nan, 0.7]])
def test_what_does_not_rise_has_no_worth(curve: list[float]) -> None:
    assert math.isnan(images_for(0.5, COUNTS, curve))
    assert math.isnan(images_for(0.5, [8], [0.5]))


def test_the_middle_of_resamples_keeps_what_is_off_the_curve() -> None:
    drawn = np.array([-math.inf] * 5 + [float(k) for k in range(190)] + [math.inf] * 6)
    assert middle(drawn) == (0.0, math.inf)
    assert middle(np.arange(201.0)) == (5, 195)
    assert all(map(math.isnan, middle(np.array([1.0, math.nan]))))
    assert all(map(math.isnan, middle(np.array([]))))
