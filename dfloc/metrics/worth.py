"""How many masks a score is worth: the place of a number on a curve of scores against images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Values = NDArray[np.float64]


def images_for(score: float, counts: Sequence[int], curve: Sequence[float]) -> float:
    """Return the fewest images that score as much, by a curve that is made to rise.

    Between two counts it is interpolated in the logarithm of the count. The curve is made monotone by the nearest
    rising one in squares (Barlow et al., Statistical Inference under Order Restrictions, 1972).

    Args:
        score: a fraction.
        counts: images at the points of the curve, 1 and more, ascending.
        curve: their scores.

    Returns:
        Images; -inf where the score is under that of the fewest, inf where it is over that of the most, NaN where the
        curve does not rise, or a number is NaN.
    """
    values = np.asarray(curve, dtype=np.float64)
    if len(values) < 2 or np.isnan(values).any() or score != score:
        return float("nan")
    rising = np.asarray(isotonic_regression(values).x)
    if not rising[-1] > rising[0]:
        return float("nan")
    if score < rising[0]:
        return float("-inf")
    if score > rising[-1]:
        return float("inf")
    after = int(np.searchsorted(rising, score))
    if after == 0:
        return float(counts[0])
    low, high = rising[after - 1], rising[after]
    share = (score - low) / (high - low)
    logs = np.log(np.asarray(counts, dtype=np.float64))
    return float(np.exp(logs[after - 1] + share * (logs[after] - logs[after - 1])))


def middle(drawn: Values, level: float = 0.95) -> tuple[float, float]:
    """Return between which values the middle of resamples lies, infinite ones too; NaN where one is NaN.

    Args:
        drawn: a number in each resample.
        level: the share of resamples inside.
    """
    if not len(drawn) or np.isnan(drawn).any():
        return float("nan"), float("nan")
    ordered, tail = np.sort(drawn), (1 - level) / 2
    first = int(np.floor(tail * (len(ordered) - 1)))
    return float(ordered[first]), float(ordered[len(ordered) - 1 - first])
