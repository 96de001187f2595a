"""False alarms: what a map calls fake of a real image, which has no fake pixel to find."""

import numpy as np

from dfloc.metrics.metric import REALS_AREA, REALS_FLAGGED, Metric
from dfloc.metrics.protocols import COUNTS
from dfloc.metrics.table import Array, Table, column, known

OVER = 0.01  # share of an image's pixels that are called fake, above which it is flagged
ALARMS: dict[str, Metric] = {metric.key: metric for metric in (REALS_FLAGGED, REALS_AREA)}


def alarms(rows: Table) -> dict[str, Array]:
    """Return what the maps of real images call fake, by key, float64 for each row.

    Args:
        rows: of images without a fake pixel; `tp` and `fn` are counted like the others.

    Returns:
        `reals_flagged`: 1 where over 1 % of the pixels are called fake, else 0; `reals_area`: the share of the pixels
        that are. Nothing for rows of images as a whole, which have no maps, or explanations for maps, which reach
        their own maximum on every image.

    Raises:
        DataError: a column is missing.
    """
    if (known(rows, "score") and not known(rows, COUNTS[0])) or known(rows, "explain"):
        return {}
    tp, fp, fn, tn = (column(rows, name).astype(np.int64) for name in COUNTS)
    called, pixels = tp + fp, tp + fp + fn + tn
    flagged = called > OVER * pixels
    return {REALS_FLAGGED.key: flagged.astype(np.float64), REALS_AREA.key: called / pixels}


def means(rows: Table) -> dict[str, float]:
    """Return the mean over images of each."""
    return {key: float(values.mean()) for key, values in alarms(rows).items()}
