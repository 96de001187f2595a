"""Numbers of a set as means over its images: what each image adds, to the first order.

A number that is no mean has no interval by the formulas of means. Of its value and influence function (Hampel, Journal
of the American Statistical Association 69, 1974) every image gets a share, so that the mean of the shares is the number
itself and their spread over source images is its own, as far as a straight line follows it.
"""

import numpy as np

from dfloc.metrics.table import Array


def of_image_ap(fake_N: Array, real_M: Array, value: float) -> tuple[Array, Array]:
    """Return what fakes and reals add to average precision, of which each side weighs a half.

    Args:
        fake_N: scores of the fakes, at least one, finite.
        real_M: likewise of the reals.
        value: the average precision that the shares are of: that of balanced draws, say.

    Returns:
        Shares [N] and [M]; the mean over either side is the value.
    """
    levels_K, place_L = np.unique(-np.concatenate([fake_N, real_M]), return_inverse=True)
    place_N, place_M = np.split(place_L, [len(fake_N)])
    fake_K, real_K = (np.bincount(place, minlength=len(levels_K)) / len(place) for place in (place_N, place_M))
    tpr_K, fpr_K = fake_K.cumsum(), real_K.cumsum()
    both_K = tpr_K + fpr_K  # above 0: each level has an image
    by_fake_K = tpr_K / both_K + _from_here(fake_K * fpr_K / both_K**2)
    by_real_K = -_from_here(fake_K * tpr_K / both_K**2)
    sides = (by_fake_K, fake_K, place_N), (by_real_K, real_K, place_M)
    first, second = (value + 2 * (by_K - (share_K * by_K).sum())[place] for by_K, share_K, place in sides)
    return first, second


def of_slope(x_N: Array, y_N: Array) -> Array:
    """Return what images add to the slope of y over x, by least squares; NaN where x is the same of all, or no number.

    Args:
        x_N: of each image.
        y_N: likewise; images where it is NaN add nothing.
    """
    known_N = ~np.isnan(y_N)
    share_N = np.full(len(y_N), np.nan)
    if not known_N.any():
        return share_N
    x_K, y_K = x_N[known_N], y_N[known_N]
    away_K = x_K - x_K.mean()
    spread = (away_K**2).mean()
    if not spread:
        return share_N
    slope = (away_K * (y_K - y_K.mean())).mean() / spread
    share_N[known_N] = slope + away_K * (y_K - y_K.mean() - slope * away_K) / spread
    return share_N


def _from_here(values_K: Array) -> Array:
    """Return the sum of each value and all after it."""
    found: Array = values_K[::-1].cumsum()[::-1]
    return found
