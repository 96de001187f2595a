"""How well image-level scores tell fakes from reals, each of the two weighing a half however many there are.

Every function takes the scores of the fakes, float [N], and of the reals, float [M], in any order; both at least one,
all finite. Images of equal score stand together, so that no order of rows decides anything. Counts are whole numbers
until the last division.
"""

import numpy as np

from dfloc.errors import DataError
from dfloc.metrics.table import Array

THRESHOLD = 0.5  # an image is called fake where its score is strictly above
BINS = 15


def image_ap(fake_N: Array, real_M: Array) -> float:
    """Return average precision: over distinct scores, recall gained times precision there; 0.5 of a constant score.

    Precision is that of as many fakes as reals; 8,472 reals against 900 fakes give what balanced draws give on average.
    As scikit-learn's with weights 1 / N and 1 / M; scores may be of any scale.
    """
    tp_K, fp_K, _ = _curve(*_checked(fake_N, real_M))
    tpr_K, fpr_K = tp_K / tp_K[-1], fp_K / fp_K[-1]
    return float((np.diff(tpr_K) * tpr_K[1:] / (tpr_K[1:] + fpr_K[1:])).sum())


def image_auc(fake_N: Array, real_M: Array) -> float:
    """Return the area under the ROC curve: the share of pairs in the right order, equal scores counting half."""
    tp_K, fp_K, _ = _curve(*_checked(fake_N, real_M))
    return float((np.diff(fp_K) * (tp_K[1:] + tp_K[:-1])).sum() / (2 * tp_K[-1] * fp_K[-1]))


def image_eer(fake_N: Array, real_M: Array) -> float:
    """Return the error rate where as large a share of reals is called fake as of fakes real, on the ROC's polygon."""
    tp_K, fp_K, _ = _curve(*_checked(fake_N, real_M))
    num_fake, num_real = tp_K[-1], fp_K[-1]
    over_K = fp_K * num_fake + tp_K * num_real - num_fake * num_real  # of false alarms over misses; rises
    after = int(np.argmax(over_K >= 0))
    share = -over_K[after - 1] / (over_K[after] - over_K[after - 1])
    return float((fp_K[after - 1] + share * (fp_K[after] - fp_K[after - 1])) / num_real)


def image_tpr(fake_N: Array, threshold: float = THRESHOLD) -> float:
    """Return the share of fakes that are called fake."""
    return float((_finite(fake_N, "fakes") > threshold).mean())


def image_tnr(real_M: Array, threshold: float = THRESHOLD) -> float:
    """Return the share of reals that are called real."""
    return float((_finite(real_M, "reals") <= threshold).mean())


def image_accuracy(fake_N: Array, real_M: Array, threshold: float = THRESHOLD) -> float:
    """Return the balanced accuracy, (TPR + TNR) / 2."""
    return (image_tpr(fake_N, threshold) + image_tnr(real_M, threshold)) / 2


def image_threshold(fake_N: Array, real_M: Array) -> float:
    """Return the threshold of the best balanced accuracy; of equally good ones the nearest to 0.5, then the lower.

    Tried are 0.5, and midway between neighbouring scores, 0 and 1. Scores are probabilities.
    """
    fake_N, real_M = _probabilities(fake_N, real_M)
    tp_K, fp_K, level_K = _curve(fake_N, real_M)
    high_K, low_K = np.append(1.0, level_K), np.append(level_K, 0.0)
    middle_K = low_K + (high_K - low_K) / 2
    middle_K = np.where(middle_K < high_K, middle_K, low_K)  # between neighbouring floats there is no middle
    right_K = tp_K * len(real_M) + (len(real_M) - fp_K) * len(fake_N)
    kept_K = (low_K < high_K) | (np.arange(len(low_K)) == 0)  # below a score of 0 nothing can be put
    half = int((fake_N > THRESHOLD).sum()) * len(real_M) + int((real_M <= THRESHOLD).sum()) * len(fake_N)
    tried = np.append(middle_K[kept_K], THRESHOLD)
    right = np.append(right_K[kept_K], half)
    return float(tried[np.lexsort((tried, np.abs(tried - THRESHOLD), -right))[0]])


def image_brier(fake_N: Array, real_M: Array) -> float:
    """Return the Brier score: the mean squared distance of a probability from 1 (fakes) and from 0 (reals)."""
    fake_N, real_M = _probabilities(fake_N, real_M)
    return float((((1 - fake_N) ** 2).mean() + (real_M**2).mean()) / 2)


def image_ece(fake_N: Array, real_M: Array, bins: int = BINS) -> float:
    """Return the expected calibration error of a probability of fake over bins of equal weight.

    The mean over bins, by their weight, of how far the mean probability is from the share of fakes. An image lies in
    the bin of the middle of all that have its score: a bin is never parted by the order of rows.

    Source: Nixon et al., Measuring Calibration in Deep Learning, 2019 (bins of equal mass).
    """
    fake_N, real_M = _probabilities(fake_N, real_M)
    tp_K, fp_K, level_K = _curve(fake_N, real_M)
    fake_K, real_K = np.diff(tp_K) * len(real_M), np.diff(fp_K) * len(fake_N)  # weights, as whole numbers
    mass_K, whole = fake_K + real_K, 2 * len(fake_N) * len(real_M)
    bin_K = (2 * mass_K.cumsum() - mass_K) * bins // (2 * whole)
    apart_B = np.bincount(bin_K, level_K * mass_K, bins) - np.bincount(bin_K, fake_K, bins)
    return float(np.abs(apart_B).sum() / whole)


def _curve(fake_N: Array, real_M: Array) -> tuple[Array, Array, Array]:
    """Return how many fakes and reals score at least each distinct score, falling, after 0 and 0; and these scores."""
    score_L = np.concatenate([fake_N, real_M])
    order_L = np.argsort(-score_L)
    sorted_L = score_L[order_L]
    last_L = np.append(sorted_L[1:] != sorted_L[:-1], True)
    tp_L = np.cumsum(order_L < len(fake_N), dtype=np.int64)
    fp_L = np.arange(1, len(score_L) + 1) - tp_L
    return np.append(0, tp_L[last_L]), np.append(0, fp_L[last_L]), sorted_L[last_L]


def _checked(fake_N: Array, real_M: Array) -> tuple[Array, Array]:
    return _finite(fake_N, "fakes"), _finite(real_M, "reals")


def _probabilities(fake_N: Array, real_M: Array) -> tuple[Array, Array]:
    pair = _checked(fake_N, real_M)
    for values, name in zip(pair, ("fakes", "reals"), strict=True):
        refuse(values, (values < 0) | (values > 1), f"of the {name}", "a probability in [0, 1]")
    return pair


def _finite(scores: Array, name: str) -> Array:
    """Return scores as float64 [N].

    Raises:
        DataError: there are none, they are no numbers in one row, or one is not finite.
    """
    try:
        values = np.asarray(scores, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"expected scores of {name} as numbers, came {np.asarray(scores).dtype}") from error
    if values.ndim != 1 or not len(values):
        raise DataError(f"expected scores of {name} as [N], at least one, came {list(values.shape)}")
    refuse(values, ~np.isfinite(values), f"of the {name}", "a finite number")
    return values


def refuse(values: Array, bad: Array, where: str, expected: str) -> None:
    """Return if no value is bad.

    Raises:
        DataError: one is; says which, and what was expected.
    """
    if bad.any():
        index = int(bad.argmax())
        raise DataError(f"score {index} {where} is {values[index]:g}, expected {expected}")
