"""How well images are told apart by who made them: recall by class, ranking of each class, what is taken for what.

A label is the place of an image's class among K classes, int [N]; -1 where it is of none of them.
"""

from collections.abc import Sequence

import numpy as np

from dfloc.errors import DataError
from dfloc.metrics.image import refuse
from dfloc.metrics.table import Array


def recall(label_N: Array, called_N: Array, num_classes: int) -> Array:
    """Return the share of each class's images that are called it, [K]; NaN of a class without images."""
    counts_KK = confusion(label_N, called_N, num_classes)
    whole_K = counts_KK.sum(1)
    found: Array = np.divide(counts_KK.diagonal(), whole_K, out=np.full(num_classes, np.nan), where=whole_K > 0)
    return found


def balanced_accuracy(label_N: Array, called_N: Array, num_classes: int) -> float:
    """Return the mean recall over all classes.

    Raises:
        DataError: a class has no image.
    """
    recall_K = recall(label_N, called_N, num_classes)
    _refuse_absent(np.flatnonzero(np.isnan(recall_K)))
    return float(recall_K.mean())


def confusion(label_N: Array, called_N: Array, num_classes: int) -> Array:
    """Return how many images of each class (rows) are called which (columns), int [K, K]; those of none left out."""
    kept = label_N >= 0
    cells = np.bincount(label_N[kept] * num_classes + called_N[kept], minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def macro_ap(score_NK: Array, label_N: Array, *, classes: Sequence[int] | None = None, balanced: bool = False) -> float:
    """Return the mean over classes of average precision of a class's own column, its images against all others.

    Args:
        score_NK: a column for each class; finite.
        label_N: of images of a class each.
        classes: those that the mean is over, by place; None: all.
        balanced: let each class weigh the same, however many images it has; otherwise each image does.

    Raises:
        DataError: a class has no image, or all images, so that there is nothing to rank; or a score is not finite.
    """
    places = range(score_NK.shape[1]) if classes is None else classes
    counts = np.bincount(label_N, minlength=score_NK.shape[1])
    _refuse_absent([place for place in places if not counts[place]])
    if not len({*label_N.tolist()}) > 1:
        raise DataError("expected images of two classes at least to rank, came those of one")
    weight_N = 1 / counts[label_N] if balanced else np.ones(len(label_N))
    return float(np.mean([average_precision(score_NK[:, place], label_N == place, weight_N) for place in places]))


def average_precision(score_N: Array, positive_N: Array, weight_N: Array) -> float:
    """Return average precision with weights, as scikit-learn's: images of equal score together.

    Raises:
        DataError: a score is not finite.
    """
    refuse(score_N, ~np.isfinite(score_N), "of a class", "a finite number")
    order_N = np.lexsort((positive_N, weight_N, -score_N))  # the sums do not depend on the order of rows
    sorted_N = score_N[order_N]
    last_N = np.append(sorted_N[1:] != sorted_N[:-1], True)
    tp_K = np.cumsum(np.where(positive_N, weight_N, 0)[order_N])[last_N]
    all_K = np.cumsum(weight_N[order_N])[last_N]
    return float((np.diff(tp_K, prepend=0) * tp_K / all_K).sum() / tp_K[-1])


def _refuse_absent(places: Sequence[int] | Array) -> None:
    if len(places):
        raise DataError(f"expected images of every class, came none of class {int(places[0])}")
